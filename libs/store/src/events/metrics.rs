//! What can be measured of events.

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
             UNION ALL SELECT $1, COUNT(*), MIN(received_ms) FROM inbox_queue HAVING COUNT(*) > 0",
        )
        .bind(own)
        .fetch_all(db.pool())
        .await?;
        // Those that wait for nothing any more must not keep their last value.
        self.pending.clear();
        self.oldest_seconds.clear();
        for row in &rows {
            let (consumer, count, oldest): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let consumer = to(&consumer);
            self.pending.get_or_create(&consumer).set(count);
            self.oldest_seconds.get_or_create(&consumer).set((now_ms() - oldest).max(0) / 1000);
        }
        self.dead.set(sqlx::query_scalar("SELECT COUNT(*) FROM dead_letters").fetch_one(db.pool()).await?);
        Ok(())
    }
}

fn to(consumer: &str) -> To {
    To { consumer: consumer.to_owned() }
}
