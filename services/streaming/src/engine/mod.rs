//! Behaviour of the service: who may open a session, how it stands, and what it may read.

mod admission;
pub mod asset;
pub mod check;
mod info;
pub mod neighbours;
mod playing;
pub mod presentations;
pub mod session;
mod session_rows;
pub mod sessions;

use std::{fmt, sync::Arc};

use streamgate_core::{Caller, ids::SessionId, page::Page, time::now_ms};
use streamgate_store::{BlobStore, Database, Outbox};

use self::{
    admission::Denials,
    neighbours::{Accounts, Gates, Presentations, Titles, Tokens},
    presentations::PresentationCache,
    session::{ENDED_BY_CALLER, Live, Session, State},
    sessions::{Filter, Sessions},
};
pub use self::{admission::Opened, info::Info};
use crate::{Config, Error, Metrics, Result};

/// What the engine works with.
#[derive(Clone)]
pub struct Deps {
    /// Knows titles.
    pub titles: Arc<dyn Titles>,
    /// Answers gates.
    pub gates: Arc<dyn Gates>,
    /// Knows who is an operator.
    pub accounts: Arc<dyn Accounts>,
    /// Knows what was made.
    pub presentations: Arc<dyn Presentations>,
    /// Signs and checks tokens.
    pub tokens: Arc<dyn Tokens>,
    /// Holds the media.
    pub blobs: Arc<dyn BlobStore>,
    /// Holds the sessions.
    pub database: Database,
    /// Tells what became of them.
    pub outbox: Outbox,
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
    denials: Denials,
}

/// Which sessions a list holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only those of this playback id, unless empty.
    pub playback_id: String,
    /// Only those of this title, unless empty.
    pub content_id: String,
    /// Only those that play now.
    pub active_only: bool,
}

impl Engine {
    /// An engine of `deps`. `public_url` is where viewers reach the platform.
    #[must_use]
    pub fn new(deps: Deps, config: Config, public_url: &str) -> Self {
        let sessions = Sessions::new(deps.database.clone(), deps.outbox.clone());
        let presentations = PresentationCache::new(Arc::clone(&deps.presentations), &config);
        Self {
            deps,
            config,
            public_url: public_url.trim_end_matches('/').to_owned(),
            sessions,
            presentations,
            denials: Denials::default(),
        }
    }

    /// One of the caller's sessions, or of a title of the caller's.
    ///
    /// # Errors
    /// `UnknownSession` when there is none, or it is somebody else's and of somebody else's title.
    pub async fn session(&self, caller: &Caller, session_id: &str) -> Result<Session> {
        Ok(self.own(caller, session_id).await?.snapshot())
    }

    /// Ends one of the caller's sessions, or of a title of the caller's. Ending it again changes nothing.
    ///
    /// # Errors
    /// `UnknownSession` when there is none, or it is somebody else's and of somebody else's title.
    pub async fn end(&self, caller: &Caller, session_id: &str) -> Result<Session> {
        let live = self.own(caller, session_id).await?;
        if self.sessions.close(&live, State::Ended, ENDED_BY_CALLER, Vec::new()).await? {
            self.deps.metrics.session_closed(ENDED_BY_CALLER);
        }
        Ok(live.snapshot())
    }

    /// Sessions, newest first. Without a title, those of the caller; with one, those of that title if it is the
    /// caller's. An operator sees all.
    ///
    /// # Errors
    /// A page that can't be read.
    pub async fn list(&self, caller: &Caller, wanted: Wanted, size: u32, token: &str) -> Result<(Vec<Session>, String)> {
        let account = match caller.account() {
            _ if caller.is_operator() || caller.is_service() => None,
            Some(account) => Some(account.id.to_string()),
            None => return Err(Error::SignInFirst { unmet: Vec::new() }),
        };
        let by_title = !wanted.content_id.is_empty();
        let filter = Filter {
            viewer: account.clone().filter(|_| !by_title),
            owner: account.filter(|_| by_title),
            playback_id: wanted.playback_id,
            content_id: wanted.content_id,
            active_at: wanted.active_only.then(now_ms),
        };
        let fingerprint = filter.fingerprint();
        let page = Page::parse(size, token, &fingerprint).map_err(|failure| Error::Invalid(Box::new(failure)))?;
        let rows = self.sessions.list(&filter, &page).await?;
        Ok(page.cut(rows, sessions::place, &fingerprint))
    }

    /// Ends every session of a title that is gone.
    ///
    /// # Errors
    /// What the store says.
    pub async fn title_deleted(&self, content_id: &str) -> Result<()> {
        self.deps.titles.forget(content_id);
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
        let opened = live.opened();
        let viewer = opened.account_id.as_deref();
        let mine = viewer.is_some_and(|viewer| caller.may_act_for(viewer)) || caller.may_act_for(&opened.owner);
        if mine { Ok(live) } else { Err(Error::UnknownSession) }
    }
}
