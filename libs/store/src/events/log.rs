//! What a service has told, and telling it again.

use prost::Message as _;
use sqlx::Row as _;
use streamgate_core::{ServiceName, events::consumers, time::now_ms};
use streamgate_proto::streamgate::events::v1::Event;

use crate::{
    database::{Database, Transaction},
    error::{Error, Result},
};

/// Events read in one go while they are looked through.
const BATCH: i64 = 500;
/// Events looked through in one call of a replay, whether they concern the consumer or not.
const LOOK_THROUGH: i64 = 100_000;

/// An event of the log.
#[derive(Debug, Clone)]
pub(super) struct Logged {
    pub(super) seq: i64,
    pub(super) event: Event,
    pub(super) waiting_for: Vec<String>,
}

/// Events after `after`, oldest first; only those about `subject` unless it is empty.
pub(super) async fn list(db: &Database, after: i64, subject: &str, limit: i64) -> Result<Vec<Logged>> {
    let rows =
        sqlx::query("SELECT seq, body FROM outbox_events WHERE seq > $1 AND ($2 = '' OR subject = $2) ORDER BY seq LIMIT $3")
            .bind(after)
            .bind(subject)
            .bind(limit)
            .fetch_all(db.pool())
            .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let (seq, body): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        let query = sqlx::query_scalar("SELECT consumer FROM outbox_deliveries WHERE seq = $1 AND dead = 0 ORDER BY consumer");
        let waiting_for = query.bind(seq).fetch_all(db.pool()).await?;
        events.push(Logged { seq, event: read(seq, &body)?, waiting_for });
    }
    Ok(events)
}

fn read(seq: i64, body: &[u8]) -> Result<Event> {
    Event::decode(body).map_err(|_| Error::Corrupt(format!("event {seq} of the outbox")))
}

/// Which events to tell again, and to whom.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    pub(super) consumer: ServiceName,
    pub(super) from_seq: i64,
    pub(super) from_ms: i64,
    pub(super) again: bool,
    pub(super) at_most: u32,
}

/// How far a replay came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) queued: u32,
    /// Where to go on; absent when nothing is left.
    pub(super) next_seq: Option<i64>,
}

/// Queues events for one consumer again, in the order in which they were told.
pub(super) async fn replay(tx: &mut Transaction, wanted: &Replay) -> Result<Replayed> {
    let (mut queued, mut seen, mut next_seq) = (0, 0, wanted.from_seq);
    loop {
        let rows = sqlx::query(
            "SELECT seq, subject, body FROM outbox_events WHERE seq >= $1 AND created_ms >= $2 ORDER BY seq LIMIT $3",
        )
        .bind(next_seq)
        .bind(wanted.from_ms)
        .bind(BATCH)
        .fetch_all(&mut **tx)
        .await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let seq: i64 = row.try_get(0)?;
            if queued >= wanted.at_most || seen >= LOOK_THROUGH {
                tx.mark_events();
                return Ok(Replayed { queued, next_seq: Some(seq) });
            }
            next_seq = seq + 1;
            seen += 1;
            let event = read(seq, &row.try_get::<Vec<u8>, _>(2)?)?;
            if event.payload.as_ref().is_some_and(|payload| consumers(payload).contains(&wanted.consumer)) {
                queue(tx, wanted, seq, &row.try_get::<String, _>(1)?).await?;
                queued += 1;
            }
        }
    }
    tx.mark_events();
    Ok(Replayed { queued, next_seq: None })
}

async fn queue(tx: &mut Transaction, wanted: &Replay, seq: i64, subject: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO outbox_deliveries (consumer, seq, subject, next_ms, again) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (consumer, seq) DO UPDATE SET next_ms = excluded.next_ms, again = excluded.again, dead = 0",
    )
    .bind(wanted.consumer.as_str())
    .bind(seq)
    .bind(subject)
    .bind(now_ms())
    .bind(i64::from(wanted.again))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
