//! Compares, again and again, what is known with the rules.

use std::{convert::Infallible, sync::Arc, time::Duration};

use streamgate_core::time::{UnixMillis, now_ms};
use tokio::{
    sync::RwLock,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    Alert, AlertStore, Facts, GasPrices, Observation, Rule,
    facts::fresh_since,
    state::{Step, next},
};
use crate::{
    Error, Metrics,
    engine::{GasSource, Seen, SystemWatch},
};

/// Between two readings of a gas price: a block or two.
const GAS_INTERVAL: Duration = Duration::from_secs(20);
/// Patience with one reading.
const GAS_TIMEOUT: Duration = Duration::from_secs(5);

/// Knows the rules, and what they look at.
#[derive(Clone)]
pub struct Evaluator {
    rules: Arc<Vec<Rule>>,
    store: AlertStore,
    seen: Seen,
    system: SystemWatch,
    gas_source: Arc<dyn GasSource>,
    gas: Arc<RwLock<GasPrices>>,
    metrics: Metrics,
    metrics_interval_ms: u64,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

/// A rule, and why it can't be evaluated now; empty when it can.
pub type RuleStatus = (Rule, String);

impl Evaluator {
    /// Compares what was `seen` with `rules`.
    #[must_use]
    pub fn new(
        rules: Vec<Rule>,
        store: AlertStore,
        seen: Seen,
        system: SystemWatch,
        gas_source: Arc<dyn GasSource>,
        metrics: Metrics,
        metrics_interval_ms: u64,
    ) -> Self {
        Self { rules: Arc::new(rules), store, seen, system, gas_source, gas: Arc::default(), metrics, metrics_interval_ms }
    }

    /// Evaluates every rule each `interval`, until `stop`.
    ///
    /// # Errors
    /// Never: a round that the database refuses is noted, and the next one comes.
    pub async fn watch(self, interval: Duration, stop: CancellationToken) -> Result<(), Infallible> {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_well = true;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let outcome = self.evaluate(now_ms()).await;
            // A database that is away for an hour is one line, and not three thousand.
            if let Err(error) = &outcome
                && was_well
            {
                tracing::error!(error = error as &dyn std::error::Error, "alerts could not be evaluated");
            }
            was_well = outcome.is_ok();
        }
        Ok(())
    }

    /// Reads the gas prices that rules name, until `stop`.
    ///
    /// # Errors
    /// Never: a price that can't be read is not known.
    pub async fn watch_gas(self, stop: CancellationToken) -> Result<(), Infallible> {
        let chains: Vec<u64> = self.rules.iter().filter_map(|rule| rule.chain).collect();
        let mut next = Instant::now();
        while stop.run_until_cancelled(tokio::time::sleep_until(next)).await.is_some() {
            let mut prices = GasPrices::new();
            for chain in &chains {
                if let Ok(Some(price)) = tokio::time::timeout(GAS_TIMEOUT, self.gas_source.gwei(*chain)).await {
                    prices.insert(*chain, price);
                }
            }
            *self.gas.write().await = prices;
            next = Instant::now() + GAS_INTERVAL;
        }
        Ok(())
    }

    /// Metrics that were read before this say nothing about `now`.
    #[must_use]
    pub fn fresh_since(&self, now: UnixMillis) -> UnixMillis {
        fresh_since(self.metrics_interval_ms, now)
    }

    async fn facts(&self) -> Facts {
        let gas = self.gas.read().await.clone();
        Facts { seen: self.seen.clone(), system: self.system.clone(), gas, metrics_interval_ms: self.metrics_interval_ms }
    }

    /// Every rule, and why it can't be evaluated now.
    pub async fn rules(&self) -> Vec<RuleStatus> {
        let (facts, now) = (self.facts().await, now_ms());
        self.rules.iter().map(|rule| (rule.clone(), facts.inactive_reason(rule, now))).collect()
    }

    /// Evaluates every rule once.
    ///
    /// # Errors
    /// What the database says.
    pub async fn evaluate(&self, now: UnixMillis) -> Result<(), Error> {
        let facts = self.facts().await;
        let open = self.store.open().await?;
        for rule in self.rules.iter() {
            let observed = facts.observe(rule, now);
            for seen in &observed {
                let alert = open.iter().find(|alert| alert.rule == rule.name && alert.target == seen.target);
                self.step(rule, alert, Some(seen), now).await?;
            }
            // What is not known any more counts as fine: nothing would ever resolve it.
            let gone =
                open.iter().filter(|alert| alert.rule == rule.name && !observed.iter().any(|seen| seen.target == alert.target));
            for alert in gone {
                self.step(rule, Some(alert), None, now).await?;
            }
        }
        // A rule that is not configured any more leaves nothing behind.
        for alert in open.iter().filter(|alert| !self.rules.iter().any(|rule| rule.name == alert.rule)) {
            self.store.forget(alert).await?;
            self.resolved(alert, now).await?;
        }
        self.count().await
    }

    async fn step(&self, rule: &Rule, alert: Option<&Alert>, seen: Option<&Observation>, now: UnixMillis) -> Result<(), Error> {
        let is_above = seen.is_some_and(|seen| seen.value > rule.threshold);
        let step = next(alert.map(Alert::open), is_above, now, rule.for_ms, rule.clear_ms);
        match (step, alert, seen) {
            (Step::Begin, _, Some(seen)) => self.store.begin(rule, seen, now).await,
            (Step::Forget, Some(alert), _) => self.store.forget(alert).await,
            (Step::Fire, Some(alert), Some(seen)) => {
                if self.store.fire(alert, seen, now).await? {
                    self.metrics.alert_fired(&rule.name);
                    tracing::warn!(rule = rule.name, target = seen.target, summary = seen.summary, "an alert fires");
                }
                Ok(())
            }
            (Step::Clear, Some(alert), _) => self.store.set_clear(alert, Some(now)).await,
            (Step::Unclear, Some(alert), _) => self.store.set_clear(alert, None).await,
            (Step::Resolve, Some(alert), _) => self.resolved(alert, now).await,
            _ => Ok(()),
        }
    }

    async fn resolved(&self, alert: &Alert, now: UnixMillis) -> Result<(), Error> {
        if self.store.resolve(alert, now).await? {
            tracing::info!(rule = alert.rule, target = alert.target, "an alert is over");
        }
        Ok(())
    }

    async fn count(&self) -> Result<(), Error> {
        let open = self.store.open().await?;
        for rule in self.rules.iter() {
            let firing = open.iter().filter(|alert| alert.rule == rule.name && alert.firing_ms.is_some()).count();
            self.metrics.set_firing(&rule.name, firing);
        }
        Ok(())
    }
}
