//! The clock: jobs that are queued by themselves, and the forgetting of old ones.

use std::time::Duration;

use streamgate_core::time::{UnixMillis, now_ms};
use tokio_util::sync::CancellationToken;

use super::{Queue, Schedules, Submit};
use crate::{Error, Metrics, jobs::Registry, webhooks::Webhooks};

/// Old jobs are forgotten this often.
const PRUNE_EVERY_MS: i64 = 60_000;
/// Schedules are looked at this often: another worker may have made one.
const LONGEST_NAP: Duration = Duration::from_secs(5);
const SHORTEST_NAP: Duration = Duration::from_millis(50);

/// Fills a queue by the clock.
#[derive(Debug, Clone)]
pub struct Scheduler {
    queue: Queue,
    schedules: Schedules,
    webhooks: Webhooks,
    registry: Registry,
    metrics: Metrics,
}

impl Scheduler {
    /// Queues what `registry` has an interval for, and what operators have scheduled.
    #[must_use]
    pub fn new(queue: Queue, webhooks: Webhooks, registry: Registry, metrics: Metrics) -> Self {
        Self { schedules: Schedules::new(queue.clone(), registry.clone()), queue, webhooks, registry, metrics }
    }

    /// Works until `stop`.
    ///
    /// # Errors
    /// When the database can't be used; nothing is lost, the times are stored.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let mut pruned_ms = 0;
        loop {
            let mut next = i64::MAX;
            for (submit, every) in self.registry.schedules() {
                next = next.min(self.queue.tick(submit, every, now_ms()).await?);
            }
            while self.schedules.fire_next(now_ms()).await? {}
            next = next.min(self.schedules.next_time().await?.unwrap_or(i64::MAX));
            self.metrics.oldest_queued_seconds.set(self.queue.oldest_wait(now_ms()).await?.as_secs_f64());
            if now_ms() - pruned_ms >= PRUNE_EVERY_MS {
                pruned_ms = now_ms();
                self.metrics.pruned.inc_by(self.queue.prune(pruned_ms).await?);
                self.webhooks.prune(pruned_ms).await?;
            }
            let left = u64::try_from(next.saturating_sub(now_ms())).unwrap_or(0);
            let nap = Duration::from_millis(left).clamp(SHORTEST_NAP, LONGEST_NAP);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(nap) => {}
            }
        }
    }
}

impl Queue {
    /// Queues a job of an interval when its time has come, unless the one before has not ended; says
    /// when to look again.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn tick(&self, submit: Submit, every: Duration, now: UnixMillis) -> Result<UnixMillis, Error> {
        let following = now.saturating_add(i64::try_from(every.as_millis()).unwrap_or(i64::MAX));
        let look = sqlx::query_scalar("SELECT next_ms FROM schedules WHERE name = $1").bind(&submit.job_type);
        let next: Option<i64> = look.fetch_optional(self.database().pool()).await?;
        // A shorter interval, or a clock set back, must not leave the schedule asleep.
        if next.is_some_and(|next| next.min(following) > now) {
            return Ok(next.unwrap_or(following).min(following));
        }
        let mut tx = self.database().begin().await?;
        let claimed = sqlx::query(
            "INSERT INTO schedules (name, next_ms) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET next_ms = excluded.next_ms \
             WHERE schedules.next_ms <= $3 OR schedules.next_ms > excluded.next_ms",
        )
        .bind(&submit.job_type)
        .bind(following)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        if claimed.rows_affected() == 1 {
            let unique_key = Some(format!("interval:{}", submit.job_type));
            self.submit_in(&mut tx, Submit { unique_key, ..submit }, now).await?;
        }
        tx.commit().await?;
        self.wake();
        Ok(following)
    }
}
