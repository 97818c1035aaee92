//! Behaviour of the service: who may open a session, how it stands, and what it may read.

pub mod asset;
pub mod check;
pub mod neighbours;
pub mod presentations;
pub mod session;
pub mod sessions;

use std::{fmt, sync::Arc};

use streamgate_core::{
    Caller, Role,
    ids::{PlaybackId, SessionId},
    page::Page,
    time::{UnixMillis, now_ms},
};
use streamgate_store::{BlobStore, Database};

use self::{
    neighbours::{GateQuestion, Gates, Presentations, Title, Titles, TokenClaims, Tokens, Verdict},
    presentations::PresentationCache,
    session::{ENDED_BY_CALLER, Live, Session, Standing, State},
    sessions::Sessions,
};
use crate::{Config, Error, Metrics, Result};

/// What the engine works with.
#[derive(Clone)]
pub struct Deps {
    /// Knows titles.
    pub titles: Arc<dyn Titles>,
    /// Answers gates.
    pub gates: Arc<dyn Gates>,
    /// Knows what was made.
    pub presentations: Arc<dyn Presentations>,
    /// Signs and checks tokens.
    pub tokens: Arc<dyn Tokens>,
    /// Holds the media.
    pub blobs: Arc<dyn BlobStore>,
    /// Holds the sessions.
    pub database: Database,
    /// Counts.
    pub metrics: Metrics,
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps").finish_non_exhaustive()
    }
}

/// The service without its wire.
#[derive(Debug)]
pub struct Engine {
    deps: Deps,
    config: Config,
    /// Where viewers reach the platform, without a slash at the end.
    public_url: String,
    sessions: Sessions,
    presentations: PresentationCache,
}

/// A session that was just opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its id.
    pub session_id: String,
    /// Its token.
    pub token: String,
    /// Where players begin, with the token.
    pub hls_url: String,
    /// The same for DASH.
    pub dash_url: String,
    /// When it ends.
    pub expires_ms: UnixMillis,
}

impl Engine {
    /// An engine of `deps`. `public_url` is where viewers reach the platform.
    #[must_use]
    pub fn new(deps: Deps, config: Config, public_url: &str) -> Self {
        let sessions = Sessions::new(deps.database.clone());
        let presentations = PresentationCache::new(Arc::clone(&deps.presentations), &config);
        Self { deps, config, public_url: public_url.trim_end_matches('/').to_owned(), sessions, presentations }
    }

    /// Checks the gate of a title for the caller and opens a session.
    ///
    /// # Errors
    /// Why the caller may not play it.
    pub async fn open(&self, caller: &Caller, playback_id: &str) -> Result<Opened> {
        let opened = self.admit(caller, playback_id).await;
        match &opened {
            Ok(_) => self.deps.metrics.session_opened("granted"),
            Err(error) => self.deps.metrics.session_opened(error.reason()),
        }
        opened
    }

    async fn admit(&self, caller: &Caller, playback_id: &str) -> Result<Opened> {
        if playback_id.parse::<PlaybackId>().is_err() {
            return Err(Error::UnknownTitle);
        }
        let resolved = self.deps.titles.resolve(playback_id).await.map_err(Error::neighbour("look up a playback id"))?;
        let title = resolved.ok_or(Error::UnknownTitle)?;
        let privileged = is_privileged(caller, &title);
        if !privileged {
            self.ask_gate(caller, &title).await?;
        }
        let session = self.store_session(caller, playback_id, title, privileged).await?;
        let claims = claims_of(&session);
        let token = self.deps.tokens.issue(&claims).await.map_err(Error::neighbour("issue a playback token"))?;
        tracing::info!(session_id = %session.id, playback_id, privileged, "session opened");
        Ok(Opened {
            hls_url: format!("{}/play/{playback_id}.m3u8?token={token}", self.public_url),
            dash_url: format!("{}/play/{playback_id}.mpd?token={token}", self.public_url),
            session_id: claims.session_id,
            expires_ms: claims.expires_ms,
            token,
        })
    }

    async fn ask_gate(&self, caller: &Caller, title: &Title) -> Result<()> {
        let account = caller.account();
        let Some(gate) = title.gate.clone() else {
            return Err(if account.is_some() { Error::GateMissing } else { Error::SignInFirst { unmet: Vec::new() } });
        };
        let question = GateQuestion { gate, wallet: account.and_then(|account| account.wallet.clone()) };
        let answers = self.deps.gates.evaluate(vec![question]).await.unwrap_or_else(|failure| {
            tracing::warn!(reason = %failure.reason, error = %failure, "a gate could not be asked");
            vec![Verdict::Unknown]
        });
        match answers.into_iter().next() {
            Some(Verdict::Granted) => Ok(()),
            Some(Verdict::Denied(unmet)) if account.is_none() => Err(Error::SignInFirst { unmet }),
            Some(Verdict::Denied(unmet)) => Err(Error::GateNotMet { unmet }),
            Some(Verdict::Unknown) | None => Err(Error::OwnershipUnknown),
        }
    }

    async fn store_session(&self, caller: &Caller, playback_id: &str, title: Title, privileged: bool) -> Result<Session> {
        let now = now_ms();
        let account = caller.account();
        let session = Session {
            id: SessionId::new().into(),
            playback_id: playback_id.to_owned(),
            content_id: title.content_id,
            account_id: account.map(|account| account.id.to_string()),
            wallet: account.and_then(|account| account.wallet.clone()),
            privileged,
            // Who plays by right plays under no gate.
            opened_gate: if privileged { String::new() } else { title.gate_hash.clone() },
            created_ms: now,
            expires_ms: now + i64::from(self.config.session_seconds) * 1000,
            standing: Standing {
                state: State::Active,
                reason: String::new(),
                unmet: Vec::new(),
                gate_hash: title.gate_hash,
                checked_ms: now,
            },
        };
        Ok(self.sessions.add(session).await?.snapshot())
    }

    /// One of the caller's sessions.
    ///
    /// # Errors
    /// `UnknownSession` when there is none, or it is somebody else's.
    pub async fn session(&self, caller: &Caller, session_id: &str) -> Result<Session> {
        Ok(self.own(caller, session_id).await?.snapshot())
    }

    /// Ends one of the caller's sessions. Ending it again changes nothing.
    ///
    /// # Errors
    /// `UnknownSession` when there is none, or it is somebody else's.
    pub async fn end(&self, caller: &Caller, session_id: &str) -> Result<Session> {
        let live = self.own(caller, session_id).await?;
        if self.sessions.close(&live, State::Ended, ENDED_BY_CALLER, Vec::new()).await? {
            self.deps.metrics.session_closed(ENDED_BY_CALLER);
        }
        Ok(live.snapshot())
    }

    /// The caller's sessions, newest first; an operator sees all.
    ///
    /// # Errors
    /// A page that can't be read.
    pub async fn list(&self, caller: &Caller, playback_id: &str, size: u32, token: &str) -> Result<(Vec<Session>, String)> {
        let all = caller.is_operator() || caller.is_service();
        let account = caller.account().map(|account| account.id.as_str()).filter(|_| !all);
        let filter = format!("account={}&playback_id={playback_id}", account.unwrap_or("*"));
        let page = Page::parse(size, token, &filter).map_err(|failure| Error::Invalid(Box::new(failure)))?;
        let rows = self.sessions.list(account, playback_id, &page).await?;
        Ok(page.cut(rows, sessions::place, &filter))
    }

    /// Ends every session of a title that is gone.
    ///
    /// # Errors
    /// What the store says.
    pub async fn title_deleted(&self, content_id: &str) -> Result<()> {
        self.presentations.forget(content_id).await;
        let closed = self.sessions.close_title(content_id, session::TITLE_DELETED).await?;
        for _ in 0..closed {
            self.deps.metrics.session_closed(session::TITLE_DELETED);
        }
        tracing::info!(content_id, sessions = closed, "sessions of a deleted title ended");
        Ok(())
    }

    async fn own(&self, caller: &Caller, session_id: &str) -> Result<Arc<Live>> {
        let live = if session_id.parse::<SessionId>().is_ok() { self.sessions.find(session_id).await? } else { None };
        let live = live.ok_or(Error::UnknownSession)?;
        let mine = match &live.opened().account_id {
            Some(owner) => caller.may_act_for(owner),
            None => caller.is_operator() || caller.is_service(),
        };
        if mine { Ok(live) } else { Err(Error::UnknownSession) }
    }
}

/// The owner and operators play whatever the gate says. A service is neither: it may carry anybody's request.
fn is_privileged(caller: &Caller, title: &Title) -> bool {
    caller.account().is_some_and(|account| account.role == Role::Operator || account.id.as_str() == title.owner)
}

fn claims_of(session: &Session) -> TokenClaims {
    let subject = session.wallet.clone().or_else(|| session.account_id.clone());
    TokenClaims {
        session_id: session.id.clone(),
        playback_id: session.playback_id.clone(),
        content_id: session.content_id.clone(),
        subject: subject.unwrap_or_default(),
        gate_hash: session.opened_gate.clone(),
        expires_ms: session.expires_ms,
    }
}
