//! Who may open a session, and which one somebody has already.

use std::{sync::Arc, time::Duration};

use streamgate_core::{
    Account, Caller, ErrorKind, Role,
    ids::{PlaybackId, SessionId},
    time::{UnixMillis, now_ms},
};
use streamgate_media::choice::Choice;
use streamgate_proto::streamgate::events::v1::{AccessDenied, event::Payload};

use super::{
    Engine,
    neighbours::{GateQuestion, Title, TokenClaims, Verdict},
    session::{Live, Session, Standing, State},
};
use crate::{Error, Result};

/// A refusal is told once in this time for one viewer and title: asking again and again must not fill the outbox.
const TELL_DENIAL_EVERY: Duration = Duration::from_secs(60);
/// Viewers and titles whose refusal is remembered for that.
const MOST_DENIALS: u64 = 10_000;

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

/// Refusals that were told lately.
#[derive(Debug)]
pub(super) struct Denials(moka::future::Cache<(String, String), ()>);

impl Default for Denials {
    fn default() -> Self {
        Self(moka::future::Cache::builder().max_capacity(MOST_DENIALS).time_to_live(TELL_DENIAL_EVERY).build())
    }
}

impl Denials {
    async fn is_news(&self, viewer: &str, playback_id: &str) -> bool {
        self.0.entry((viewer.to_owned(), playback_id.to_owned())).or_insert(()).await.is_fresh()
    }
}

impl Engine {
    /// Checks the gate of a title for the caller and opens a session.
    ///
    /// # Errors
    /// Why the caller may not play it.
    pub async fn open(&self, caller: &Caller, playback_id: &str, choice: &Choice) -> Result<Opened> {
        let live = self.admit(caller, playback_id).await?;
        let token = self.token_of(&live).await?;
        let mut query = format!("token={token}");
        if !choice.is_all() {
            query = format!("{query}&{}", choice.query());
        }
        Ok(Opened {
            hls_url: format!("{}/play/{playback_id}.m3u8?{query}", self.public_url),
            dash_url: format!("{}/play/{playback_id}.mpd?{query}", self.public_url),
            session_id: live.opened().id.clone(),
            expires_ms: live.opened().expires_ms,
            token,
        })
    }

    /// The session that the caller plays under: the one that runs and lasts for at least `left_ms`, or a new one. A player that
    /// comes back to its playlist again and again stays in one session.
    ///
    /// # Errors
    /// Why the caller may not play it.
    pub(super) async fn enter(&self, caller: &Caller, playback_id: &str, left_ms: i64) -> Result<Arc<Live>> {
        match self.running(caller, playback_id, left_ms).await? {
            Some(live) => Ok(live),
            None => self.admit(caller, playback_id).await,
        }
    }

    /// A token for a session, as long as it lasts.
    ///
    /// # Errors
    /// `Neighbour`.
    pub(super) async fn token_of(&self, live: &Live) -> Result<String> {
        self.deps.tokens.issue(&claims_of(live.opened())).await.map_err(Error::neighbour("issue a playback token"))
    }

    /// The session that runs for this account, if it was opened by the same rights and its gate still holds.
    async fn running(&self, caller: &Caller, playback_id: &str, left_ms: i64) -> Result<Option<Arc<Live>>> {
        let account = caller.account();
        let ends_after = now_ms() + left_ms;
        let Some(live) = self.sessions.running(account.map(|account| account.id.as_str()), playback_id, ends_after).await? else {
            return Ok(None);
        };
        let opened = live.opened();
        let wallet = account.and_then(|account| account.wallet.as_ref());
        if opened.wallet.as_ref() != wallet || opened.privileged != is_privileged(account, &opened.owner) {
            return Ok(None);
        }
        match self.go_on(&live).await {
            Ok(()) => {
                live.touch(now_ms());
                Ok(Some(live))
            }
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Internal) => Err(error),
            // It is over. The gate is asked anew, so that a refusal says what is missing now.
            Err(_) => Ok(None),
        }
    }

    async fn admit(&self, caller: &Caller, playback_id: &str) -> Result<Arc<Live>> {
        let admitted = self.try_admit(caller, playback_id).await;
        match &admitted {
            Ok(live) => {
                self.deps.metrics.session_opened("granted");
                tracing::info!(session_id = %live.opened().id, playback_id, privileged = live.opened().privileged, "session opened");
            }
            Err(error) => self.deps.metrics.session_opened(error.reason()),
        }
        admitted
    }

    async fn try_admit(&self, caller: &Caller, playback_id: &str) -> Result<Arc<Live>> {
        if playback_id.parse::<PlaybackId>().is_err() {
            return Err(Error::UnknownTitle);
        }
        let resolved = self.deps.titles.resolve(playback_id).await.map_err(Error::neighbour("look up a playback id"))?;
        let title = resolved.ok_or(Error::UnknownTitle)?;
        let privileged = is_privileged(caller.account(), &title.owner);
        if !privileged && let Err(error) = self.ask_gate(caller, &title).await {
            self.tell_denied(caller, playback_id, title, &error).await;
            return Err(error);
        }
        let session = self.session_of(caller, playback_id, title, privileged);
        let replaced = match &session.account_id {
            Some(account) => self.sessions.surplus(account, self.config.sessions_per_account, now_ms()).await?,
            None => Vec::new(),
        };
        for live in replaced {
            self.close(&live, State::Ended, super::session::REPLACED, Vec::new()).await?;
        }
        self.sessions.add(session).await
    }

    /// Asks whether the caller meets the gate of a title now.
    ///
    /// # Errors
    /// Why not, or that it can't be told.
    pub(super) async fn ask_gate(&self, caller: &Caller, title: &Title) -> Result<()> {
        let account = caller.account();
        let Some(gate) = title.gate.clone() else {
            return Err(if account.is_some() { Error::GateMissing } else { Error::SignInFirst { unmet: Vec::new() } });
        };
        let question = GateQuestion { gate, wallet: account.and_then(|account| account.wallet.clone()) };
        match self.deps.gates.evaluate(vec![question]).await.into_iter().next() {
            Some(Verdict::Granted) => Ok(()),
            Some(Verdict::Denied(unmet)) if account.is_none() => Err(Error::SignInFirst { unmet }),
            Some(Verdict::Denied(unmet)) => Err(Error::GateNotMet { unmet }),
            Some(Verdict::Unknown) | None => Err(Error::OwnershipUnknown),
        }
    }

    fn session_of(&self, caller: &Caller, playback_id: &str, title: Title, privileged: bool) -> Session {
        let now = now_ms();
        let account = caller.account();
        Session {
            id: SessionId::new().into(),
            playback_id: playback_id.to_owned(),
            content_id: title.content_id,
            owner: title.owner,
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
        }
    }

    /// A refusal is an answer whether or not it could be written down.
    async fn tell_denied(&self, caller: &Caller, playback_id: &str, title: Title, error: &Error) {
        if !matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unauthenticated) {
            return;
        }
        let viewer = caller.account().map(|account| account.id.to_string()).unwrap_or_default();
        if !self.denials.is_news(&viewer, playback_id).await {
            return;
        }
        let denied = AccessDenied {
            playback_id: playback_id.to_owned(),
            content_id: title.content_id,
            viewer,
            owner: title.owner,
            reason: error.reason().to_owned(),
            gate_hash: title.gate_hash,
        };
        if let Err(error) = self.sessions.tell(playback_id, Payload::AccessDenied(denied)).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a refusal could not be told");
        }
    }
}

/// The owner and operators play whatever the gate says. A service is neither: it may carry anybody's request.
pub(super) fn is_privileged(account: Option<&Account>, owner: &str) -> bool {
    account.is_some_and(|account| account.role == Role::Operator || account.id.as_str() == owner)
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
