//! The behaviour: titles, their gates, their public ids, and the search over them.

mod contents;
mod events;
mod gates;
mod lists;
mod playback;
mod rows;
mod search;
mod status;

use sqlx::{Any, pool::PoolConnection};
use streamgate_core::{Caller, ids::ContentId};
use streamgate_store::{Database, Outbox, Transaction};

pub use playback::{PlaybackInfo, ResolvedPlayback};
pub use rows::{Content, StoredGate};
pub use status::{BadStatus, Change, JobNews, Stage, Status};

use crate::{Config, Error, Metrics};

/// The queries that read more than one title, for the test that looks at their plans.
pub const QUERIES: [&str; 5] =
    [lists::LIST_ALL, lists::LIST_BY_STATUS, lists::LIST_BY_OWNER, lists::LIST_BY_OWNER_STATUS, search::SEARCH];

/// One page of titles.
#[derive(Debug, Clone, PartialEq)]
pub struct ContentPage {
    /// The titles, in order.
    pub contents: Vec<Content>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

/// Keeps titles in a database.
#[derive(Debug, Clone)]
pub struct Engine {
    db: Database,
    outbox: Outbox,
    metrics: Metrics,
    config: Config,
}

impl Engine {
    /// Over an open database, whose outbox tells the other services.
    #[must_use]
    pub const fn new(db: Database, outbox: Outbox, metrics: Metrics, config: Config) -> Self {
        Self { db, outbox, metrics, config }
    }

    async fn reader(&self) -> Result<PoolConnection<Any>, Error> {
        Ok(self.db.pool().acquire().await?)
    }

    /// The live title `id`, if the caller may act on it. A foreign title is an unknown one.
    async fn find_for(&self, tx: &mut Transaction, caller: &Caller, id: &ContentId) -> Result<Content, Error> {
        let content = rows::find(&mut *tx, id).await?;
        if content.deleted || !caller.may_act_for(&content.owner) {
            return Err(Error::UnknownContent(id.to_string()));
        }
        Ok(content)
    }
}
