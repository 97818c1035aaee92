//! The audit log: entries are added under one lock, listed, and walked.

mod chain;

pub use chain::{Entry, Walk};

use streamgate_core::{page::Page, time::UnixMillis};
use streamgate_store::{Database, Transaction};

use super::filter::Filter;
use crate::Error;

/// Entries of one call to append.
pub const MAX_BATCH: usize = 500;
/// Entries that are read at once while the chain is walked.
const WALK_ROWS: i64 = 1_000;

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

/// What walking the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Entries that fit.
    pub checked: i64,
    /// The first that does not, and why.
    pub broken: Option<(i64, String)>,
    /// The newest entry and its hash, as they are remembered apart from the entries.
    pub head: (i64, String),
}

/// The audit log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    db: Database,
}

impl Audit {
    /// The log in `db`.
    #[must_use]
    pub const fn new(db: Database) -> Self {
        Self { db }
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

    /// Walks the whole chain. `anchor` is a sequence with the hash it is known to have had.
    ///
    /// # Errors
    /// What the database says.
    pub async fn verify(&self, anchor: Option<(i64, String)>) -> Result<Verdict, Error> {
        let remembered = self.head().await?;
        let mut walk = Walk::default();
        let mut broken = None;
        'walk: while walk.checked < remembered.0 {
            let query = format!("{SELECT} WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence LIMIT {WALK_ROWS}");
            let rows: Vec<Entry> = sqlx::query_as(sqlx::AssertSqlSafe(query))
                .bind(walk.checked)
                .bind(remembered.0)
                .fetch_all(self.db.pool())
                .await?;
            if rows.is_empty() {
                broken = Some((walk.checked + 1, format!("entry {} is missing", walk.checked + 1)));
                break;
            }
            for entry in &rows {
                let step = walk.step(entry).and_then(|()| against(anchor.as_ref(), entry));
                if let Err(words) = step {
                    broken = Some((entry.sequence.min(walk.checked + 1), words));
                    break 'walk;
                }
            }
        }
        let broken = broken.or_else(|| end_of(&walk, &remembered, anchor.as_ref()));
        Ok(Verdict { checked: walk.checked, broken, head: remembered })
    }

    async fn head(&self) -> Result<(i64, String), Error> {
        let row: Option<(i64, String)> =
            sqlx::query_as("SELECT sequence, hash FROM audit_head WHERE id = 1").fetch_optional(self.db.pool()).await?;
        Ok(row.unwrap_or_default())
    }
}

/// Whether an entry is still the one whose hash was kept elsewhere.
fn against(anchor: Option<&(i64, String)>, entry: &Entry) -> Result<(), String> {
    match anchor {
        Some((sequence, hash)) if *sequence == entry.sequence && *hash != entry.hash => {
            Err(format!("entry {sequence} is not the one that the anchor was taken from"))
        }
        _ => Ok(()),
    }
}

/// What only shows at the end: entries that were cut off.
fn end_of(walk: &Walk, head: &(i64, String), anchor: Option<&(i64, String)>) -> Option<(i64, String)> {
    if walk.last_hash != head.1 {
        return Some((walk.checked, format!("entry {} is not the newest that was written", walk.checked)));
    }
    let (sequence, _) = anchor?;
    (*sequence > walk.checked).then(|| (walk.checked + 1, format!("entries {} to {sequence} are missing", walk.checked + 1)))
}

async fn head(tx: &mut Transaction) -> Result<(i64, String), Error> {
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
