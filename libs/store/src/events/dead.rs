//! Events that a consumer could not take.

use sqlx::Row as _;
use streamgate_core::{ErrorKind, Failure, time::now_ms};

use super::queue::Waiting;
use crate::{
    database::{Database, Transaction},
    error::Result,
};

/// Longest explanation that is kept.
const MAX_DETAIL_CHARS: usize = 1_000;

/// An event that is about to become a dead letter.
pub(super) struct Letter<'a> {
    pub(super) event_id: String,
    pub(super) subject: String,
    pub(super) consumer: &'a str,
    pub(super) incoming: bool,
    pub(super) waiting: &'a Waiting,
}

/// A dead letter as it is kept.
#[derive(Debug, Clone)]
pub(super) struct DeadLetter {
    pub(super) id: String,
    pub(super) event_id: String,
    pub(super) consumer: String,
    pub(super) incoming: bool,
    pub(super) subject: String,
    pub(super) body: Vec<u8>,
    pub(super) attempts: i64,
    pub(super) reason: String,
    pub(super) detail: String,
    pub(super) dead_ms: i64,
}

impl Letter<'_> {
    /// Keeps it, with why nobody could take it.
    pub(super) async fn keep(&self, tx: &mut Transaction, failure: &Failure) -> Result<()> {
        let detail: String = failure.message.chars().take(MAX_DETAIL_CHARS).collect();
        sqlx::query(
            "INSERT INTO dead_letters (id, event_id, consumer, incoming, subject, body, attempts, reason, detail, dead_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (id) DO UPDATE SET attempts = dead_letters.attempts + excluded.attempts, reason = excluded.reason,
                 detail = excluded.detail, dead_ms = excluded.dead_ms",
        )
        .bind(format!("{}:{}", self.event_id, self.consumer))
        .bind(&self.event_id)
        .bind(self.consumer)
        .bind(i64::from(self.incoming))
        .bind(&self.subject)
        .bind(self.waiting.body.clone())
        .bind(self.waiting.attempts + 1)
        .bind(failure.reason.as_ref())
        .bind(detail)
        .bind(now_ms())
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

/// Dead letters in the order in which they died, after `(dead_ms, id)`.
pub(super) async fn list(db: &Database, after: &(i64, String), limit: i64) -> Result<Vec<DeadLetter>> {
    let rows = sqlx::query(
        "SELECT id, event_id, consumer, incoming, subject, body, attempts, reason, detail, dead_ms FROM dead_letters
         WHERE (dead_ms, id) > ($1, $2) ORDER BY dead_ms, id LIMIT $3",
    )
    .bind(after.0)
    .bind(&after.1)
    .bind(limit)
    .fetch_all(db.pool())
    .await?;
    rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(crate::error::Error::from)
}

fn read(row: &sqlx::any::AnyRow) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        id: row.try_get(0)?,
        event_id: row.try_get(1)?,
        consumer: row.try_get(2)?,
        incoming: row.try_get::<i64, _>(3)? != 0,
        subject: row.try_get(4)?,
        body: row.try_get(5)?,
        attempts: row.try_get(6)?,
        reason: row.try_get(7)?,
        detail: row.try_get(8)?,
        dead_ms: row.try_get(9)?,
    })
}

/// Puts a dead letter back into its queue, as if it were new. It comes after events of its subject
/// that went on meanwhile.
pub(super) async fn retry(tx: &mut Transaction, id: &str) -> Result<(), Failure> {
    let letter = take(tx, id).await?;
    let now = now_ms();
    if letter.incoming {
        sqlx::query(
            "INSERT INTO inbox_queue (id, subject, body, next_ms, received_ms) VALUES ($1, $2, $3, $4, $4) ON CONFLICT DO NOTHING",
        )
        .bind(&letter.event_id)
        .bind(&letter.subject)
        .bind(letter.body)
        .bind(now)
        .execute(&mut **tx)
        .await
        .map_err(crate::Error::from)?;
        return Ok(());
    }
    let added = sqlx::query(
        "INSERT INTO outbox_deliveries (consumer, seq, subject, next_ms)
         SELECT $1, seq, subject, $2 FROM outbox_events WHERE id = $3 ON CONFLICT DO NOTHING",
    )
    .bind(&letter.consumer)
    .bind(now)
    .bind(&letter.event_id)
    .execute(&mut **tx)
    .await
    .map_err(crate::Error::from)?;
    tracing::debug!(event_id = letter.event_id, queued = added.rows_affected(), "a dead letter is tried again");
    tx.mark_events();
    Ok(())
}

/// Takes a dead letter away.
pub(super) async fn take(tx: &mut Transaction, id: &str) -> Result<DeadLetter, Failure> {
    let row = sqlx::query(
        "DELETE FROM dead_letters WHERE id = $1
         RETURNING id, event_id, consumer, incoming, subject, body, attempts, reason, detail, dead_ms",
    )
    .bind(id)
    .fetch_optional(&mut **tx)
    .await
    .map_err(crate::Error::from)?;
    match row {
        Some(row) => Ok(read(&row).map_err(crate::Error::from)?),
        None => Err(Failure::new(ErrorKind::NotFound, "dead_letter_not_found", "there is no such dead letter")),
    }
}
