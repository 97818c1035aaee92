//! Asks all nine, again and again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::future::join_all;
use streamgate_core::{ServiceName, time::now_ms};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Probe, Reachable, Scrape, Seen, exposition};
use crate::{Config, Metrics};

/// Asks, and notes the answers.
#[derive(Clone)]
pub struct Poller {
    probe: Arc<dyn Probe>,
    seen: Seen,
    metrics: Metrics,
    config: Config,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Poller {
    /// Asks through `probe` and notes in `seen`.
    #[must_use]
    pub fn new(probe: Arc<dyn Probe>, seen: Seen, metrics: Metrics, config: Config) -> Self {
        // A service that was never reached must be a 0 in the charts, and not a gap.
        for service in ServiceName::ALL {
            metrics.set_up(service, false);
        }
        Self { probe, seen, metrics, config }
    }

    /// Asks for health until `stop`.
    ///
    /// # Errors
    /// Never: a service that can't be asked is an answer too.
    pub async fn watch_health(self, stop: CancellationToken) -> Result<(), Infallible> {
        let rounds = repeat(self.config.health_interval(), &stop, || self.ask_health());
        rounds.await;
        Ok(())
    }

    /// Reads metrics until `stop`.
    ///
    /// # Errors
    /// Never: what can't be read stays as it was.
    pub async fn watch_metrics(self, stop: CancellationToken) -> Result<(), Infallible> {
        let rounds = repeat(self.config.metrics_interval(), &stop, || self.read_metrics());
        rounds.await;
        Ok(())
    }

    /// Asks all nine for health, at once.
    pub async fn ask_health(&self) {
        join_all(ServiceName::ALL.map(|service| self.ask_one(service))).await;
    }

    async fn ask_one(&self, service: ServiceName) {
        let begun = Instant::now();
        let answer = tokio::time::timeout(self.config.health_timeout(), self.probe.health(service)).await;
        let answer = answer.unwrap_or_else(|_| Err("it did not answer in time".to_owned()));
        let is_up = answer == Ok(Reachable::Serving);
        self.metrics.set_up(service, is_up);
        if self.seen.note_health(service, answer, begun.elapsed(), now_ms()) {
            tracing::info!(service = %service, is_up, "the health of a service changed");
        }
    }

    /// Reads the metrics of all nine, at once.
    pub async fn read_metrics(&self) {
        join_all(ServiceName::ALL.map(|service| self.read_one(service))).await;
    }

    async fn read_one(&self, service: ServiceName) {
        match self.probe.metrics(service).await {
            Ok(text) => {
                let read = exposition::parse(&text);
                if read.skipped > 0 {
                    tracing::debug!(service = %service, lines = read.skipped, "some lines are no samples");
                }
                self.seen.note_scrape(service, Scrape { at_ms: now_ms(), samples: read.samples });
            }
            Err(words) => {
                self.metrics.scrape_failed(service);
                tracing::debug!(service = %service, error = words, "metrics were not read");
            }
        }
    }
}

async fn repeat<F: Future<Output = ()>>(every: Duration, stop: &CancellationToken, round: impl Fn() -> F) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = round() => {}
        }
    }
}
