//! The queue of a service's own events for one consumer.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use prost::Message as _;
use sqlx::Row as _;
use streamgate_client::Mesh;
use streamgate_core::{Failure, ServiceName, events, time::now_ms};
use streamgate_proto::streamgate::events::v1::{DeliverRequest, Event, event::Payload};
use tokio::sync::watch;

use super::{
    dead,
    queue::{Outcome, Queue, Receipt, Waiting},
};
use crate::{
    database::{Database, Transaction},
    error::Result,
};

/// The consumer that stands for the broker, which tells everybody.
pub(super) const BROKER: &str = "nats";

/// Which way events leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// To each consumer by itself.
    Grpc,
    /// To the broker once.
    Broker,
}

impl Route {
    pub(super) fn consumers(self, payload: &Payload) -> Vec<&'static str> {
        match self {
            Self::Grpc => events::consumers(payload).iter().map(|name| name.as_str()).collect(),
            Self::Broker => vec![BROKER],
        }
    }
}

/// Whom an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// All its consumers, through a broker.
    Everybody,
    /// One consumer.
    One(ServiceName),
}

impl Addressee {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Everybody => BROKER,
            Self::One(name) => name.as_str(),
        }
    }
}

/// Reaches consumers. The mesh does, and a broker; tests have their own.
#[async_trait]
pub trait Delivery: Send + Sync + 'static {
    /// Returns once the event's effect, or the event itself, is durable at the other end. `again`
    /// asks a consumer to handle it even when it has.
    async fn deliver(&self, to: Addressee, event: Event, again: bool) -> Result<Receipt, Failure>;
}

#[async_trait]
impl Delivery for Mesh {
    async fn deliver(&self, to: Addressee, event: Event, again: bool) -> Result<Receipt, Failure> {
        let Addressee::One(to) = to else {
            return Err(Failure::invalid_field("event", "is for a broker, and none is configured"));
        };
        match self.events(to).deliver(DeliverRequest { event: Some(event), again }).await {
            Ok(_) => Ok(Receipt::default()),
            Err(status) => Err(Failure::from(&status)),
        }
    }
}

#[async_trait]
impl<D: Delivery + ?Sized> Delivery for Arc<D> {
    async fn deliver(&self, to: Addressee, event: Event, again: bool) -> Result<Receipt, Failure> {
        (**self).deliver(to, event, again).await
    }
}

/// Rows of `outbox_deliveries` for one consumer.
pub(super) struct Outgoing {
    pub(super) db: Database,
    pub(super) to: Addressee,
    pub(super) delivery: Arc<dyn Delivery>,
}

#[async_trait]
impl Queue for Outgoing {
    fn db(&self) -> &Database {
        &self.db
    }

    fn consumer(&self) -> &str {
        self.to.as_str()
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.db.committed_events()
    }

    async fn heads(&self, limit: i64) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "SELECT d.subject FROM outbox_deliveries d JOIN
                 (SELECT min(seq) AS seq FROM outbox_deliveries WHERE consumer = $1 AND dead = 0 GROUP BY subject) h ON h.seq = d.seq
             WHERE d.consumer = $1 AND d.next_ms <= $2 ORDER BY d.seq LIMIT $3",
        )
        .bind(self.to.as_str())
        .bind(now_ms())
        .bind(limit)
        .fetch_all(self.db.pool())
        .await?)
    }

    async fn next_ms(&self) -> Result<Option<i64>> {
        Ok(sqlx::query_scalar(
            "SELECT min(d.next_ms) FROM outbox_deliveries d JOIN
                 (SELECT min(seq) AS seq FROM outbox_deliveries WHERE consumer = $1 AND dead = 0 GROUP BY subject) h ON h.seq = d.seq
             WHERE d.consumer = $1",
        )
        .bind(self.to.as_str())
        .fetch_one(self.db.pool())
        .await?)
    }

    async fn oldest(&self, subject: &str, limit: i64) -> Result<Vec<Waiting>> {
        let rows = sqlx::query(
            "SELECT d.seq, d.attempts, d.strikes, d.again, e.body FROM outbox_deliveries d JOIN outbox_events e ON e.seq = d.seq
             WHERE d.consumer = $1 AND d.subject = $2 AND d.dead = 0 ORDER BY d.seq LIMIT $3",
        )
        .bind(self.to.as_str())
        .bind(subject)
        .bind(limit)
        .fetch_all(self.db.pool())
        .await?;
        read_waiting(&rows)
    }

    async fn deliver(&self, event: Event, again: bool) -> Result<Receipt, Failure> {
        self.delivery.deliver(self.to, event, again).await
    }

    async fn move_head(&self, tx: &mut Transaction, subject: &str, from_ms: RangeInclusive<i64>, to_ms: i64) -> Result<bool> {
        let moved = sqlx::query(
            "UPDATE outbox_deliveries SET next_ms = $3 WHERE consumer = $1 AND next_ms BETWEEN $4 AND $5 AND seq =
                 (SELECT min(seq) FROM outbox_deliveries WHERE consumer = $1 AND subject = $2 AND dead = 0)",
        )
        .bind(self.to.as_str())
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
            Outcome::Done(receipt) => {
                if let Some(stream_seq) = receipt.stream_seq {
                    let query = sqlx::query("UPDATE outbox_events SET stream_seq = $1 WHERE seq = $2");
                    query.bind(stream_seq).bind(waiting.seq).execute(&mut **tx).await?;
                }
                self.forget(tx, waiting.seq).await
            }
            Outcome::Retry { wait, strike } => {
                let query = sqlx::query(
                    "UPDATE outbox_deliveries SET attempts = attempts + 1, strikes = strikes + $1, next_ms = $2
                     WHERE consumer = $3 AND seq = $4",
                );
                let query = query.bind(i64::from(*strike)).bind(after(*wait)).bind(self.to.as_str());
                query.bind(waiting.seq).execute(&mut **tx).await?;
                Ok(())
            }
            Outcome::Dead(failure) => {
                let query = sqlx::query("SELECT id, subject FROM outbox_events WHERE seq = $1").bind(waiting.seq);
                let row = query.fetch_one(&mut **tx).await?;
                let letter = dead::Letter {
                    event_id: row.try_get(0)?,
                    subject: row.try_get(1)?,
                    consumer: self.to.as_str(),
                    incoming: false,
                    waiting,
                };
                letter.keep(tx, failure).await?;
                self.forget(tx, waiting.seq).await
            }
        }
    }
}

impl Outgoing {
    async fn forget(&self, tx: &mut Transaction, seq: i64) -> Result<()> {
        sqlx::query("DELETE FROM outbox_deliveries WHERE consumer = $1 AND seq = $2")
            .bind(self.to.as_str())
            .bind(seq)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// When something is due that waits so long from now.
pub(super) fn after(wait: std::time::Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn read_waiting(rows: &[sqlx::any::AnyRow]) -> Result<Vec<Waiting>> {
    let read = |row: &sqlx::any::AnyRow| {
        Ok(Waiting {
            seq: row.try_get(0)?,
            attempts: row.try_get(1)?,
            strikes: row.try_get(2)?,
            again: row.try_get::<i64, _>(3)? != 0,
            body: row.try_get(4)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(crate::error::Error::from)
}

/// Hands what still waits for a broker to each consumer by itself: the broker was configured away.
pub(super) async fn take_back_from_broker(db: &Database) -> Result<()> {
    let waiting: Option<i64> = sqlx::query_scalar("SELECT CAST(1 AS BIGINT) FROM outbox_deliveries WHERE consumer = $1 LIMIT 1")
        .bind(BROKER)
        .fetch_optional(db.pool())
        .await?;
    if waiting.is_none() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    let rows = sqlx::query(
        "SELECT e.seq, e.subject, e.body FROM outbox_deliveries d JOIN outbox_events e ON e.seq = d.seq WHERE d.consumer = $1",
    )
    .bind(BROKER)
    .fetch_all(&mut *tx)
    .await?;
    for row in &rows {
        let event = Event::decode(row.try_get::<Vec<u8>, _>(2)?.as_slice()).unwrap_or_default();
        for consumer in event.payload.as_ref().map_or_else(Vec::new, |payload| Route::Grpc.consumers(payload)) {
            sqlx::query(
                "INSERT INTO outbox_deliveries (consumer, seq, subject, next_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(consumer)
            .bind(row.try_get::<i64, _>(0)?)
            .bind(row.try_get::<String, _>(1)?)
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
        }
    }
    sqlx::query("DELETE FROM outbox_deliveries WHERE consumer = $1").bind(BROKER).execute(&mut *tx).await?;
    tx.commit().await
}
