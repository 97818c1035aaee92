//! Carries committed events to their consumers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, future, stream};
use prost::Message as _;
use rand::Rng as _;
use sqlx::Row as _;
use streamgate_client::Mesh;
use streamgate_core::{ErrorKind, Failure, ServiceName, time::now_ms};
use streamgate_proto::streamgate::events::v1::{DeliverRequest, Event};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    database::Database,
    error::{Error, Result},
};

/// First wait after a failed delivery; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Longest time one delivery may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// Deliveries to one consumer at once, each of another subject.
const AT_ONCE: usize = 8;
/// Deliveries read from the database at once.
const BATCH: i64 = 64;
/// Failed tries after which a person should look, and again after each further so many.
const TRIES_TO_WARN: i64 = 20;

/// Reaches consumers. The mesh does; tests have their own.
#[async_trait]
pub trait Delivery: Send + Sync + 'static {
    /// Returns once the event's effect is durable at the consumer.
    async fn deliver(&self, to: ServiceName, event: Event) -> Result<(), Failure>;
}

#[async_trait]
impl Delivery for Mesh {
    async fn deliver(&self, to: ServiceName, event: Event) -> Result<(), Failure> {
        let request = DeliverRequest { event: Some(event), ..Default::default() };
        match self.events(to).deliver(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(Failure::from(&status)),
        }
    }
}

#[async_trait]
impl<D: Delivery + ?Sized> Delivery for Arc<D> {
    async fn deliver(&self, to: ServiceName, event: Event) -> Result<(), Failure> {
        (**self).deliver(to, event).await
    }
}

/// Delivers until `stop`.
pub(crate) async fn run<D: Delivery>(db: Database, delivery: D, stop: CancellationToken) {
    let consumers = ServiceName::ALL.map(|consumer| Consumer { name: consumer, db: db.clone(), delivery: &delivery });
    let loops = consumers.iter().map(|consumer| consumer.run(stop.clone()));
    future::join_all(loops).await;
}

struct Consumer<'a, D> {
    name: ServiceName,
    db: Database,
    delivery: &'a D,
}

/// The next event of one subject for one consumer.
struct Waiting {
    seq: i64,
    attempts: i64,
    body: Vec<u8>,
}

impl<D: Delivery> Consumer<'_, D> {
    async fn run(&self, stop: CancellationToken) {
        let mut committed = self.db.committed_events();
        let mut database_tries = 0;
        while !stop.is_cancelled() {
            // Marked as seen before reading: a commit after this line wakes the wait below.
            committed.borrow_and_update();
            let wait = match self.deliver_due(&stop).await {
                Ok(next) => {
                    database_tries = 0;
                    next
                }
                Err(error) => {
                    database_tries += 1;
                    tracing::warn!(consumer = %self.name, error = %chain(&error), "the outbox can't be read or written; trying again");
                    Some(backoff(database_tries))
                }
            };
            rest(wait, &mut committed, &stop).await;
        }
    }

    /// Delivers all that is due. Gives how long to wait for the next retry, if there is one.
    async fn deliver_due(&self, stop: &CancellationToken) -> Result<Option<Duration>> {
        loop {
            let due = self.due().await?;
            if due.is_empty() {
                return self.next_retry().await;
            }
            let results = stream::iter(due).map(|waiting| self.deliver(waiting)).buffer_unordered(AT_ONCE);
            let mut results = std::pin::pin!(results);
            while let Some(result) = results.next().await {
                result?;
            }
            if stop.is_cancelled() {
                return Ok(None);
            }
        }
    }

    /// The oldest living event of each subject whose time has come.
    async fn due(&self) -> Result<Vec<Waiting>> {
        let rows = sqlx::query(
            "SELECT d.seq, d.attempts, e.body FROM outbox_deliveries d JOIN outbox_events e ON e.seq = d.seq
             WHERE d.consumer = $1 AND d.dead = 0 AND d.next_ms <= $2 AND d.seq = (
                 SELECT min(f.seq) FROM outbox_deliveries f WHERE f.consumer = $1 AND f.subject = d.subject AND f.dead = 0)
             ORDER BY d.seq LIMIT $3",
        )
        .bind(self.name.as_str())
        .bind(now_ms())
        .bind(BATCH)
        .fetch_all(self.db.pool())
        .await?;
        rows.iter()
            .map(|row| Ok(Waiting { seq: row.try_get(0)?, attempts: row.try_get(1)?, body: row.try_get(2)? }))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(Error::from)
    }

    async fn next_retry(&self) -> Result<Option<Duration>> {
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT min(next_ms) FROM outbox_deliveries d WHERE consumer = $1 AND dead = 0 AND seq = (
                 SELECT min(f.seq) FROM outbox_deliveries f WHERE f.consumer = $1 AND f.subject = d.subject AND f.dead = 0)",
        )
        .bind(self.name.as_str())
        .fetch_one(self.db.pool())
        .await?;
        Ok(next.map(|at| Duration::from_millis(u64::try_from(at - now_ms()).unwrap_or(0).max(1))))
    }

    async fn deliver(&self, waiting: Waiting) -> Result<()> {
        let Ok(event) = Event::decode(waiting.body.as_slice()) else {
            return self.park(&waiting, &Failure::invalid_field("event", "can't be read")).await;
        };
        let id = event.id.clone();
        let answer = timeout(DEADLINE, self.delivery.deliver(self.name, event)).await;
        let failure = match answer {
            Ok(Ok(())) => return self.done(waiting.seq).await,
            Ok(Err(failure)) => failure,
            Err(_) => Failure::new(ErrorKind::DeadlineExceeded, "deadline_exceeded", "the consumer did not answer in time"),
        };
        if is_poison(failure.kind) {
            tracing::error!(consumer = %self.name, event_id = id, reason = %failure.reason, error = %failure.message,
                "an event was refused for good and is parked");
            return self.park(&waiting, &failure).await;
        }
        self.retry(&waiting, &id, &failure).await
    }

    async fn done(&self, seq: i64) -> Result<()> {
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM outbox_deliveries WHERE consumer = $1 AND seq = $2")
            .bind(self.name.as_str())
            .bind(seq)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM outbox_events WHERE seq = $1 AND NOT EXISTS (SELECT 1 FROM outbox_deliveries WHERE seq = $1)")
            .bind(seq)
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    async fn park(&self, waiting: &Waiting, failure: &Failure) -> Result<()> {
        let mut tx = self.db.begin().await?;
        sqlx::query(
            "UPDATE outbox_deliveries SET dead = 1, attempts = attempts + 1, error = $1 WHERE consumer = $2 AND seq = $3",
        )
        .bind(format!("{}: {}", failure.reason, failure.message))
        .bind(self.name.as_str())
        .bind(waiting.seq)
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    async fn retry(&self, waiting: &Waiting, id: &str, failure: &Failure) -> Result<()> {
        let attempts = waiting.attempts + 1;
        if attempts % TRIES_TO_WARN == 0 {
            tracing::warn!(consumer = %self.name, event_id = id, attempts, reason = %failure.reason, error = %failure.message,
                "an event can't be delivered yet");
        }
        let wait = failure.retry_after.map_or_else(|| backoff(attempts), |hint| hint.min(LONGEST_WAIT));
        let mut tx = self.db.begin().await?;
        sqlx::query("UPDATE outbox_deliveries SET attempts = $1, next_ms = $2, error = $3 WHERE consumer = $4 AND seq = $5")
            .bind(attempts)
            .bind(now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(0)))
            .bind(format!("{}: {}", failure.reason, failure.message))
            .bind(self.name.as_str())
            .bind(waiting.seq)
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }
}

/// Waits for a commit with events, for the next retry, or for the end.
async fn rest(wait: Option<Duration>, committed: &mut watch::Receiver<u64>, stop: &CancellationToken) {
    let retry = async {
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = committed.changed() => {}
        () = retry => {}
    }
}

/// Whether the event itself is wrong, so that no retry will help.
const fn is_poison(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidArgument | ErrorKind::OutOfRange | ErrorKind::TooLarge)
}

/// The wait after so many failed tries: doubled each time up to the longest, and half of it random,
/// so that the tries of many events do not fall together.
fn backoff(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(16);
    let full = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_seconds_and_no_further() {
        for attempts in 1..200 {
            let wait = backoff(attempts);
            assert!(wait >= FIRST_WAIT / 2 && wait <= LONGEST_WAIT, "{attempts}: {wait:?}");
        }
        assert!(backoff(100) >= LONGEST_WAIT / 2);
    }
}
