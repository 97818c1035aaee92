//! Watches every instance of all nine, and reads their metrics.
//!
//! An instance is watched and asked: a stream tells at once of a drain or a broken connection, and
//! only a question finds out that a process hangs.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join_all};
use streamgate_core::{ServiceName, time::now_ms};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Probe, Reachable, Seen, State, exposition};
use crate::{Config, Metrics};

/// Between two looks at which instances there are.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(2);
/// Pause before an instance that broke off is watched again.
const REWATCH_PAUSE: Duration = Duration::from_millis(300);

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

    /// Watches all nine until `stop`.
    ///
    /// # Errors
    /// Never: a service that can't be asked is an answer too.
    pub async fn watch_health(self, stop: CancellationToken) -> Result<(), Infallible> {
        stop.run_until_cancelled(join_all(ServiceName::ALL.map(|service| self.watch_service(service)))).await;
        Ok(())
    }

    /// Watches each instance of a service, those that come later too.
    async fn watch_service(&self, service: ServiceName) {
        let mut watched: HashMap<String, DropGuard> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut ticks = tokio::time::interval(DISCOVERY_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while tasks.try_join_next().is_some() {}
            // A name that can't be looked up says nothing about the instances that are known.
            let Ok(addresses) = self.probe.instances(service).await else {
                if watched.is_empty() {
                    self.tell(service, self.seen.keep_instances(service, &[], now_ms()));
                }
                continue;
            };
            watched.retain(|address, _| addresses.contains(address));
            for address in &addresses {
                if !watched.contains_key(address) {
                    let gone = CancellationToken::new();
                    let (poller, address_of, told) = (self.clone(), address.clone(), gone.clone());
                    tasks.spawn(async move { told.run_until_cancelled(poller.watch_instance(service, &address_of)).await });
                    watched.insert(address.clone(), gone.drop_guard());
                }
            }
            self.tell(service, self.seen.keep_instances(service, &addresses, now_ms()));
        }
    }

    async fn watch_instance(&self, service: ServiceName, address: &str) {
        loop {
            let mut told = self.probe.watch(service, address);
            let mut ticks = tokio::time::interval(self.config.health_interval());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let goes_on = tokio::select! {
                    answer = told.next() => match answer {
                        Some(Ok(answer)) => self.note(service, address, Ok(answer), Duration::ZERO),
                        // Why it ended is soon known better.
                        Some(Err(_)) | None => { self.ask(service, address).await; false }
                    },
                    _ = ticks.tick() => self.ask(service, address).await,
                };
                if !goes_on {
                    break;
                }
            }
            tokio::time::sleep(REWATCH_PAUSE).await;
        }
    }

    /// Asks one instance; says whether it answered.
    async fn ask(&self, service: ServiceName, address: &str) -> bool {
        let begun = Instant::now();
        let answer = tokio::time::timeout(self.config.health_timeout(), self.probe.check(service, address)).await;
        let answer = answer.unwrap_or_else(|_| Err("it did not answer in time".to_owned()));
        self.note(service, address, answer, begun.elapsed())
    }

    fn note(&self, service: ServiceName, address: &str, answer: Result<Reachable, String>, latency: Duration) -> bool {
        let answered = answer.is_ok();
        self.tell(service, self.seen.note_health(service, address, answer, latency, now_ms()));
        answered
    }

    fn tell(&self, service: ServiceName, changed: Option<State>) {
        if let Some(state) = changed {
            let is_up = state == State::Serving;
            self.metrics.set_up(service, is_up);
            tracing::info!(target_service = %service, is_up, "the health of a service changed");
        }
    }

    /// Reads metrics until `stop`.
    ///
    /// # Errors
    /// Never: what can't be read stays as it was.
    pub async fn watch_metrics(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut ticks = tokio::time::interval(self.config.metrics_interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            stop.run_until_cancelled(self.read_metrics()).await;
        }
        Ok(())
    }

    /// Reads the metrics of all instances of all nine, at once.
    pub async fn read_metrics(&self) {
        join_all(ServiceName::ALL.map(|service| self.read_service(service))).await;
    }

    async fn read_service(&self, service: ServiceName) {
        match self.probe.instances(service).await {
            Ok(addresses) => drop(join_all(addresses.iter().map(|address| self.read_one(service, address))).await),
            Err(words) => self.failed(service, &words),
        }
    }

    async fn read_one(&self, service: ServiceName, address: &str) {
        match self.probe.metrics(service, address).await {
            Ok(text) => {
                let read = exposition::parse(&text);
                if read.skipped > 0 {
                    tracing::debug!(target_service = %service, lines = read.skipped, "some lines are no samples");
                }
                self.seen.note_scrape(service, address, read.samples, now_ms());
            }
            Err(words) => self.failed(service, &words),
        }
    }

    fn failed(&self, service: ServiceName, words: &str) {
        self.metrics.scrape_failed(service);
        tracing::debug!(target_service = %service, error = words, "metrics were not read");
    }
}
