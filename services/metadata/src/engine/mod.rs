//! The behaviour: titles, their gates, their public ids, and the search over them.

mod changes;
mod contents;
mod events;
mod filter;
mod gates;
mod index;
mod lists;
mod playback;
mod purge;
mod requests;
mod rows;
mod search;
mod status;
pub mod text;

use std::sync::Arc;

use sqlx::{Any, Row as _, pool::PoolConnection};
use streamgate_core::{Caller, ids::ContentId};
use streamgate_store::{Database, Outbox, Transaction};

pub use changes::Changes;
pub use filter::{Direction, Filter, Order};
pub(crate) use index::tag_key;
pub use lists::List;
pub use playback::{PlaybackInfo, ResolvedPlayback};
pub use rows::{Content, StoredGate};
pub use search::{Facet, FacetName, Search};
pub use status::{BadStatus, Change, JobNews, Stage, Status};

use crate::{Config, Error, Metrics};

/// One page of titles.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContentPage {
    /// The titles, in order.
    pub contents: Vec<Content>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
    /// What was counted among all matches of a search.
    pub facets: Vec<Facet>,
    /// Whether nothing matched as it was typed, so that these match words that look alike.
    pub is_corrected: bool,
}

/// Keeps titles in a database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    db: Database,
    outbox: Outbox,
    metrics: Metrics,
    config: Config,
    changes: Changes,
    text: Arc<dyn text::TextIndex>,
}

impl Engine {
    /// Over an open database, whose outbox tells the other services; near caches hear of `changes`.
    #[must_use]
    pub fn new(db: Database, outbox: Outbox, metrics: Metrics, config: Config, changes: Changes) -> Self {
        let text = Arc::from(text::index_of(db.kind()));
        Self { db, outbox, metrics, config, changes, text }
    }

    /// The database's plan for a list, one line a step; for the test that looks at it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_of_list(&self, list: &List, explain: &'static str) -> Result<Vec<String>, Error> {
        let sql = lists::query(list, None, 25)?;
        self.plan(sql, explain).await
    }

    async fn plan(&self, sql: filter::Sql, explain: &'static str) -> Result<Vec<String>, Error> {
        let rows = sql.plan(explain).fetch_all(self.db.pool()).await?;
        // What is done stands in the last column, on both engines.
        Ok(rows.iter().map(|row| row.try_get(row.len() - 1)).collect::<Result<_, _>>()?)
    }

    /// The same for a search.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_of_search(&self, search: &Search, explain: &'static str) -> Result<Vec<String>, Error> {
        let Some(wanted) = text::Wanted::of(&search.words, search.filter.owner.as_deref()) else { return Ok(Vec::new()) };
        let sql = search::query(self.text.as_ref(), search, &wanted, 25, 0);
        self.plan(sql, explain).await
    }

    async fn reader(&self) -> Result<PoolConnection<Any>, Error> {
        Ok(self.db.pool().acquire().await?)
    }

    /// The live title `id`, if the caller may act on it. A foreign title is an unknown one.
    async fn find_for(&self, tx: &mut Transaction, caller: &Caller, id: &ContentId) -> Result<Content, Error> {
        let content = rows::find(&mut *tx, id).await?;
        if content.delete_ms.is_some() || !caller.may_act_for(&content.owner) {
            return Err(Error::UnknownContent(id.to_string()));
        }
        Ok(content)
    }
}
