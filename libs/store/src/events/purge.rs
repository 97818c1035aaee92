//! Drops what is old enough, a bounded number of rows at a time.

use streamgate_core::time::now_ms;

use crate::{database::Database, error::Result};

/// Rows dropped in one change: it must not hold others up for long.
const BATCH: i64 = 500;
/// How long it is remembered that an event was handled, beyond the time that senders keep it.
const REMEMBER_MS: i64 = 60 * 24 * 60 * 60 * 1000;
/// How long a dead letter waits for somebody to look at it.
const KEEP_DEAD_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Drops events that have arrived everywhere and are older than `retain_ms`, dead letters that
/// nobody wanted, and the memory of events that can't come again. Gives how many rows went.
pub(super) async fn purge(db: &Database, retain_ms: i64) -> Result<u64> {
    let now = now_ms();
    let mut gone = batches(
        db,
        now.saturating_sub(KEEP_DEAD_MS),
        "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE dead_ms < $1 ORDER BY dead_ms LIMIT $2)",
    )
    .await?;
    gone += batches(
        db,
        now.saturating_sub(retain_ms),
        "DELETE FROM outbox_events WHERE seq IN (SELECT e.seq FROM outbox_events e WHERE e.created_ms < $1
             AND NOT EXISTS (SELECT 1 FROM outbox_deliveries d WHERE d.seq = e.seq)
             AND NOT EXISTS (SELECT 1 FROM dead_letters l WHERE l.event_id = e.id)
             ORDER BY e.created_ms LIMIT $2)",
    )
    .await?;
    gone += batches(
        db,
        now.saturating_sub(REMEMBER_MS.saturating_add(retain_ms)),
        "DELETE FROM inbox_events WHERE id IN (SELECT id FROM inbox_events WHERE seen_ms < $1 ORDER BY seen_ms LIMIT $2)",
    )
    .await?;
    Ok(gone)
}

async fn batches(db: &Database, before: i64, delete: &'static str) -> Result<u64> {
    let mut gone = 0;
    loop {
        let mut tx = db.begin_shared().await?;
        let deleted = sqlx::query(delete).bind(before).bind(BATCH).execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        gone += deleted;
        if deleted < BATCH.unsigned_abs() {
            return Ok(gone);
        }
        // Between two batches others have their turn.
        tokio::task::yield_now().await;
    }
}
