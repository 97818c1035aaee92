//! The audit log: entries are added under one lock, listed, and walked.

mod chain;

pub use chain::{Entry, Walk};

use std::time::{Duration, Instant};

use streamgate_core::{page::Page, time::UnixMillis};
use streamgate_store::{Database, Transaction};

use super::filter::Filter;
use crate::Error;

/// Entries of one call to append.
pub const MAX_BATCH: usize = 500;
/// Entries that are read at once while the chain is walked.
pub const WALK_ROWS: i64 = 1_000;
/// How long one call walks: its caller's deadline is some seconds, and a log of years takes longer.
const WALK_TIME: Duration = Duration::from_secs(3);

const SELECT: &str = "SELECT sequence, entry_id, time_ms, service, method, actor, actor_role, actor_wallet, object, outcome, reason, \
                      request_id, missing_before, previous_hash, hash FROM audit_entries";

/// What a caller wants to see.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only this actor.
    pub actor: String,
    /// Only this service.
    pub service: String,
    /// Only this RPC.
    pub method: String,
    /// Only this object.
    pub object: String,
    /// Only this outcome.
    pub outcome: Option<i64>,
    /// Only this request.
    pub request_id: String,
    /// Not before.
    pub start_ms: Option<UnixMillis>,
    /// Before.
    pub end_ms: Option<UnixMillis>,
}

/// An entry's sequence, and the hash that it had when somebody looked.
pub type Place = (i64, String);

/// What walking the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Entries that this walk found to fit.
    pub checked: i64,
    /// The first that does not, and why.
    pub broken: Option<(i64, String)>,
    /// Where time ran out before the head: the next walk starts there.
    pub next: Option<Place>,
    /// The newest entry and its hash, as they are remembered apart from the entries.
    pub head: Place,
}

/// The audit log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    db: Database,
    walk_time: Duration,
}

impl Audit {
    /// The log in `db`.
    #[must_use]
    pub const fn new(db: Database) -> Self {
        Self { db, walk_time: WALK_TIME }
    }

    /// The same log, that is walked for this long in one call.
    #[must_use]
    pub const fn walked_for(mut self, walk_time: Duration) -> Self {
        self.walk_time = walk_time;
        self
    }

    /// Adds entries in their order; one that is there already is left out. Gives how many were new.
    ///
    /// # Errors
    /// What the database says; then none was added.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<usize, Error> {
        // One writer at a time, in all processes: the chain has one end.
        let mut tx = self.db.begin().await?;
        let (mut sequence, mut hash) = head(&mut tx).await?;
        let before = sequence;
        for entry in entries {
            let known: Option<(i64,)> = sqlx::query_as("SELECT sequence FROM audit_entries WHERE entry_id = $1")
                .bind(&entry.entry_id)
                .fetch_optional(&mut *tx)
                .await?;
            if known.is_some() {
                continue;
            }
            let entry = entry.chained(sequence + 1, &hash);
            insert(&mut tx, &entry).await?;
            (sequence, hash) = (entry.sequence, entry.hash);
        }
        sqlx::query("UPDATE audit_head SET sequence = $1, hash = $2 WHERE id = 1")
            .bind(sequence)
            .bind(hash)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(usize::try_from(sequence - before).unwrap_or_default())
    }

    /// Entries, newest first.
    ///
    /// # Errors
    /// A wrong page, or what the database says.
    pub async fn list(&self, wanted: &Wanted, size: u32, token: &str) -> Result<(Vec<Entry>, String), Error> {
        let mut filter = Filter::default();
        filter.text("actor = {}", &wanted.actor);
        filter.text("service = {}", &wanted.service);
        filter.text("method = {}", &wanted.method);
        filter.text("object = {}", &wanted.object);
        filter.text("request_id = {}", &wanted.request_id);
        filter.number("outcome = {}", wanted.outcome);
        filter.number("time_ms >= {}", wanted.start_ms);
        filter.number("time_ms < {}", wanted.end_ms);
        let words = filter.words();
        let page = Page::parse(size, token, &words)?;
        let after = page.after.as_deref().and_then(|after| after.parse().ok());
        filter.number("sequence < {}", after);
        let tail = format!("ORDER BY sequence DESC LIMIT {}", page.size + 1);
        let rows: Vec<Entry> = filter.query(SELECT, &tail).fetch_all(self.db.pool()).await?;
        Ok(page.cut(rows, |entry| entry.sequence.to_string(), &words))
    }

    /// Walks the chain from where an earlier walk stopped, until its head or until time runs out. `anchor` is a sequence with
    /// the hash it is known to have had.
    ///
    /// # Errors
    /// What the database says.
    pub async fn verify(&self, start: Option<Place>, anchor: Option<Place>) -> Result<Verdict, Error> {
        let (begun, head) = (Instant::now(), self.head().await?);
        let places: Vec<&Place> = start.iter().chain(&anchor).collect();
        let (sequence, hash) = start.clone().unwrap_or_default();
        let mut walk = Walk { sequence, hash };
        let mut broken = self.before(sequence, anchor.as_ref()).await?;
        let is_due = |walk: &Walk| walk.sequence > sequence && begun.elapsed() >= self.walk_time;
        while broken.is_none() && walk.sequence < head.0 && !is_due(&walk) {
            broken = self.walk_on(&mut walk, head.0, &places).await?;
        }
        let is_at_end = walk.sequence >= head.0;
        if is_at_end {
            broken = broken.or_else(|| end_of(&walk, &head, &places));
        }
        let next = (broken.is_none() && !is_at_end).then_some((walk.sequence, walk.hash));
        Ok(Verdict { checked: walk.sequence - sequence, broken, next, head })
    }

    /// Takes the next entries, `last` at the most; says what does not fit.
    async fn walk_on(&self, walk: &mut Walk, last: i64, places: &[&Place]) -> Result<Option<(i64, String)>, Error> {
        let query = format!("{SELECT} WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence LIMIT {WALK_ROWS}");
        let rows: Vec<Entry> =
            sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(walk.sequence).bind(last).fetch_all(self.db.pool()).await?;
        if rows.is_empty() {
            return Ok(Some((walk.sequence + 1, format!("entry {} is missing", walk.sequence + 1))));
        }
        for entry in &rows {
            let step = walk.step(entry).and_then(|()| against(places, entry));
            if let Err(words) = step {
                return Ok(Some((entry.sequence.min(walk.sequence + 1), words)));
            }
        }
        Ok(None)
    }

    /// Compares an anchor that this walk does not come by, as the walk before it may not have known it.
    async fn before(&self, start: i64, anchor: Option<&Place>) -> Result<Option<(i64, String)>, Error> {
        let Some((sequence, hash)) = anchor.filter(|(sequence, _)| *sequence <= start) else { return Ok(None) };
        let found: Option<(String,)> = sqlx::query_as("SELECT hash FROM audit_entries WHERE sequence = $1")
            .bind(sequence)
            .fetch_optional(self.db.pool())
            .await?;
        Ok(match found {
            None => Some((*sequence, format!("entry {sequence} is missing"))),
            Some((now,)) if now != *hash => Some((*sequence, not_of_anchor(*sequence))),
            Some(_) => None,
        })
    }

    async fn head(&self) -> Result<Place, Error> {
        let row: Option<(i64, String)> =
            sqlx::query_as("SELECT sequence, hash FROM audit_head WHERE id = 1").fetch_optional(self.db.pool()).await?;
        Ok(row.unwrap_or_default())
    }
}

/// Whether an entry is still the one whose hash was kept elsewhere.
fn against(places: &[&Place], entry: &Entry) -> Result<(), String> {
    let differs = places.iter().any(|(sequence, hash)| *sequence == entry.sequence && *hash != entry.hash);
    if differs { Err(not_of_anchor(entry.sequence)) } else { Ok(()) }
}

fn not_of_anchor(sequence: i64) -> String {
    format!("entry {sequence} is not the one that the anchor was taken from")
}

/// What only shows at the end: entries that were cut off.
fn end_of(walk: &Walk, head: &Place, places: &[&Place]) -> Option<(i64, String)> {
    let last = places.iter().map(|(sequence, _)| *sequence).max().unwrap_or_default();
    if last > head.0 {
        return Some((head.0 + 1, format!("entries {} to {last} are missing", head.0 + 1)));
    }
    (walk.hash != head.1).then(|| (walk.sequence, format!("entry {} is not the newest that was written", walk.sequence)))
}

async fn head(tx: &mut Transaction) -> Result<Place, Error> {
    let row: Option<(i64, String)> =
        sqlx::query_as("SELECT sequence, hash FROM audit_head WHERE id = 1").fetch_optional(&mut **tx).await?;
    Ok(row.unwrap_or_default())
}

async fn insert(tx: &mut Transaction, entry: &Entry) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO audit_entries (sequence, entry_id, time_ms, service, method, actor, actor_role, actor_wallet, object, outcome, \
         reason, request_id, missing_before, previous_hash, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(entry.sequence)
    .bind(&entry.entry_id)
    .bind(entry.time_ms)
    .bind(&entry.service)
    .bind(&entry.method)
    .bind(&entry.actor)
    .bind(&entry.actor_role)
    .bind(&entry.actor_wallet)
    .bind(&entry.object)
    .bind(entry.outcome)
    .bind(&entry.reason)
    .bind(&entry.request_id)
    .bind(entry.missing_before)
    .bind(&entry.previous_hash)
    .bind(&entry.hash)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
