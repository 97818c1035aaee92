//! Schedules: jobs that are queued by themselves, and the forgetting of old ones.

use std::time::Duration;

use streamgate_core::time::now_ms;
use tokio_util::sync::CancellationToken;

use super::Queue;
use crate::{Error, Metrics, jobs::Registry};

/// Old jobs are forgotten this often, and a schedule is looked at least this often.
const LONGEST_NAP: Duration = Duration::from_secs(60);
const SHORTEST_NAP: Duration = Duration::from_millis(50);

/// Fills a queue by the clock.
#[derive(Debug, Clone)]
pub struct Scheduler {
    queue: Queue,
    registry: Registry,
    metrics: Metrics,
}

impl Scheduler {
    /// Queues what `registry` has a schedule for.
    #[must_use]
    pub const fn new(queue: Queue, registry: Registry, metrics: Metrics) -> Self {
        Self { queue, registry, metrics }
    }

    /// Works until `stop`.
    ///
    /// # Errors
    /// When the database can't be used; nothing is lost, the times are stored.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let mut next = i64::MAX;
            for (job_type, every) in self.registry.schedules() {
                next = next.min(self.queue.tick(job_type, every, now_ms()).await?);
            }
            self.metrics.pruned.inc_by(self.queue.prune(now_ms()).await?);
            let left = u64::try_from(next.saturating_sub(now_ms())).unwrap_or(0);
            let nap = Duration::from_millis(left).clamp(SHORTEST_NAP, LONGEST_NAP);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(nap) => {}
            }
        }
    }
}
