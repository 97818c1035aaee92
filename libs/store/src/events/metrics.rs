//! What can be measured of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use sqlx::Row as _;
use streamgate_core::time::now_ms;

use crate::{database::Database, error::Result};

/// Who was to take an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    consumer: String,
}

/// Metrics of one service's events. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EventMetrics {
    delivered: Family<To, Counter>,
    failed: Family<To, Counter>,
    died: Family<To, Counter>,
    pending: Family<To, Gauge>,
    oldest_seconds: Family<To, Gauge>,
    dead: Gauge,
    republished: Counter,
    /// Everybody for whom something has waited.
    known: Arc<Mutex<BTreeSet<String>>>,
}

impl EventMetrics {
    /// Registers all of them. `consumer` is who was to take the event: a service, or the broker as "nats".
    pub fn register(&self, registry: &mut Registry) {
        registry.register("events_delivered", "Events that a consumer, or the broker, has taken", self.delivered.clone());
        registry.register("events_failed_deliveries", "Attempts to deliver an event that failed", self.failed.clone());
        registry.register("events_given_up", "Events that became dead letters", self.died.clone());
        registry.register("events_pending", "Events that wait for a consumer", self.pending.clone());
        registry.register("events_oldest_pending_seconds", "Age of the oldest event that waits", self.oldest_seconds.clone());
        registry.register("events_dead_letters", "Dead letters that wait for an operator", self.dead.clone());
        registry.register("events_republished", "Events told again because the broker had lost them", self.republished.clone());
    }

    pub(super) fn delivered(&self, consumer: &str) {
        self.delivered.get_or_create(&to(consumer)).inc();
    }

    pub(super) fn failed(&self, consumer: &str) {
        self.failed.get_or_create(&to(consumer)).inc();
    }

    pub(super) fn died(&self, consumer: &str) {
        self.died.get_or_create(&to(consumer)).inc();
    }

    pub(super) fn republished(&self, events: u64) {
        self.republished.inc_by(events);
    }

    /// Reads from the database how much waits, and for how long.
    pub(super) async fn observe(&self, db: &Database, own: &str) -> Result<()> {
        let rows = sqlx::query(
            "SELECT d.consumer, COUNT(*), MIN(e.created_ms) FROM outbox_deliveries d JOIN outbox_events e ON e.seq = d.seq
             WHERE d.dead = 0 GROUP BY d.consumer
             UNION ALL SELECT $1, COUNT(*), COALESCE(MIN(received_ms), 0) FROM inbox_queue",
        )
        .bind(own)
        .fetch_all(db.pool())
        .await?;
        // Who waits for nothing any more is a 0 in the charts: neither the last value nor a gap.
        let known: BTreeSet<String> = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut waiting: BTreeMap<String, (i64, i64)> = known.into_iter().map(|consumer| (consumer, (0, 0))).collect();
        for row in &rows {
            let (consumer, count, oldest): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let seconds = if count == 0 { 0 } else { (now_ms() - oldest).max(0) / 1000 };
            waiting.insert(consumer, (count, seconds));
        }
        for (consumer, (count, seconds)) in &waiting {
            self.pending.get_or_create(&to(consumer)).set(*count);
            self.oldest_seconds.get_or_create(&to(consumer)).set(*seconds);
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).extend(waiting.into_keys());
        self.dead.set(sqlx::query_scalar("SELECT COUNT(*) FROM dead_letters").fetch_one(db.pool()).await?);
        Ok(())
    }
}

fn to(consumer: &str) -> To {
    To { consumer: consumer.to_owned() }
}
