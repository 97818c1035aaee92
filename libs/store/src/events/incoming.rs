//! The queue of other services' events that a broker brought.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use sqlx::Row as _;
use streamgate_core::{Failure, ServiceName, time::now_ms};
use streamgate_proto::streamgate::events::v1::Event;
use tokio::sync::watch;

use super::{
    dead,
    inbox::EventHandler,
    outgoing::{after, read_waiting},
    queue::{Outcome, Queue, Receipt, Waiting},
    server,
};
use crate::{
    database::{Database, Transaction},
    error::Result,
};

/// Rows of `inbox_queue`, and the service's own handler.
pub(super) struct Incoming {
    pub(super) db: Database,
    pub(super) own: ServiceName,
    pub(super) handler: Arc<dyn EventHandler>,
    pub(super) arrived: watch::Sender<u64>,
}

/// An event as a broker's message has it.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) id: String,
    pub(super) subject: String,
    pub(super) body: Vec<u8>,
    pub(super) again: bool,
}

/// Queues what came, and notes how far the stream was read, in one change. What waits already or
/// was handled is left out. Gives false, and changes nothing, when another replica has read on.
pub(super) async fn take_over(
    db: &Database,
    stream: &super::nats::Position,
    next: i64,
    arrivals: &BTreeMap<i64, Arrival>,
) -> Result<bool> {
    let mut tx = db.begin().await?;
    let moved = sqlx::query("UPDATE event_streams SET sequence = $1 WHERE role = 'received' AND identity = $2 AND sequence = $3")
        .bind(next)
        .bind(&stream.identity)
        .bind(stream.sequence)
        .execute(&mut *tx)
        .await?;
    if moved.rows_affected() != 1 {
        return Ok(false);
    }
    let now = now_ms();
    for arrival in arrivals.values() {
        sqlx::query(
            "INSERT INTO inbox_queue (id, subject, body, next_ms, again, received_ms)
             SELECT $1, $2, $3, $4, $5, $4 WHERE $5 = 1 OR NOT EXISTS (SELECT 1 FROM inbox_events WHERE id = $1)
             ON CONFLICT DO NOTHING",
        )
        .bind(&arrival.id)
        .bind(&arrival.subject)
        .bind(arrival.body.clone())
        .bind(now)
        .bind(i64::from(arrival.again))
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(true)
}

#[async_trait]
impl Queue for Incoming {
    fn db(&self) -> &Database {
        &self.db
    }

    fn consumer(&self) -> &str {
        self.own.as_str()
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.arrived.subscribe()
    }

    async fn heads(&self, limit: i64) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "SELECT q.subject FROM inbox_queue q JOIN (SELECT min(seq) AS seq FROM inbox_queue GROUP BY subject) h ON h.seq = q.seq
             WHERE q.next_ms <= $1 ORDER BY q.seq LIMIT $2",
        )
        .bind(now_ms())
        .bind(limit)
        .fetch_all(self.db.pool())
        .await?)
    }

    async fn next_ms(&self) -> Result<Option<i64>> {
        Ok(sqlx::query_scalar(
            "SELECT min(q.next_ms) FROM inbox_queue q JOIN (SELECT min(seq) AS seq FROM inbox_queue GROUP BY subject) h
             ON h.seq = q.seq",
        )
        .fetch_one(self.db.pool())
        .await?)
    }

    async fn oldest(&self, subject: &str, limit: i64) -> Result<Vec<Waiting>> {
        let rows =
            sqlx::query("SELECT seq, attempts, strikes, again, body FROM inbox_queue WHERE subject = $1 ORDER BY seq LIMIT $2")
                .bind(subject)
                .bind(limit)
                .fetch_all(self.db.pool())
                .await?;
        read_waiting(&rows)
    }

    async fn deliver(&self, event: Event, again: bool) -> Result<Receipt, Failure> {
        server::handle(Some(&self.db), self.handler.as_ref(), event, again).await?;
        Ok(Receipt::default())
    }

    async fn move_head(&self, tx: &mut Transaction, subject: &str, from_ms: RangeInclusive<i64>, to_ms: i64) -> Result<bool> {
        let moved = sqlx::query(
            "UPDATE inbox_queue SET next_ms = $2 WHERE next_ms BETWEEN $3 AND $4 AND seq =
                 (SELECT min(seq) FROM inbox_queue WHERE subject = $1)",
        )
        .bind(subject)
        .bind(to_ms)
        .bind(*from_ms.start())
        .bind(*from_ms.end())
        .execute(&mut **tx)
        .await?;
        Ok(moved.rows_affected() == 1)
    }

    async fn settle(&self, tx: &mut Transaction, waiting: &Waiting, outcome: &Outcome) -> Result<()> {
        match outcome {
            Outcome::Retry { wait, strike } => {
                sqlx::query(
                    "UPDATE inbox_queue SET attempts = attempts + 1, strikes = strikes + $1, next_ms = $2 WHERE seq = $3",
                )
                .bind(i64::from(*strike))
                .bind(after(*wait))
                .bind(waiting.seq)
                .execute(&mut **tx)
                .await?;
                return Ok(());
            }
            Outcome::Done(_) => {}
            Outcome::Dead(failure) => {
                let query = sqlx::query("SELECT id, subject FROM inbox_queue WHERE seq = $1").bind(waiting.seq);
                let row = query.fetch_one(&mut **tx).await?;
                let letter = dead::Letter {
                    event_id: row.try_get(0)?,
                    subject: row.try_get(1)?,
                    consumer: self.own.as_str(),
                    incoming: true,
                    waiting,
                };
                letter.keep(tx, failure).await?;
            }
        }
        sqlx::query("DELETE FROM inbox_queue WHERE seq = $1").bind(waiting.seq).execute(&mut **tx).await?;
        Ok(())
    }
}
