//! What rules look at, as it is known now.

use std::collections::BTreeMap;

use streamgate_core::{ServiceName, time::UnixMillis};

use super::rules::{Kind, Rule};
use crate::engine::{Requests, Seen, State, SystemWatch};

/// Fewer answers than this say nothing about a rate or a latency.
const LEAST_REQUESTS: u64 = 20;
/// Metrics older than this many readings say nothing about now.
const STALE_READINGS: u64 = 4;
/// Gauges that tell how long the oldest job has waited, and whose it is.
const QUEUE_AGES: [(ServiceName, &str); 2] = [
    (ServiceName::Transcoder, "streamgate_transcoder_oldest_queued_seconds"),
    (ServiceName::Worker, "streamgate_worker_oldest_queued_seconds"),
];

/// Gauge of each service that tells how many files of its audit entries can't be read.
const AUDIT_FILES: &str = "streamgate_audit_unreadable_files";

/// A value that a rule compares.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// What it is about, such as a service.
    pub target: String,
    /// The value.
    pub value: f64,
    /// One sentence for a person, for when it is above the threshold.
    pub summary: String,
}

/// Gas prices in gwei by chain, as they were last read.
pub type GasPrices = BTreeMap<u64, f64>;

/// Everything that is known.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Health and metrics of the services.
    pub seen: Seen,
    /// The machine.
    pub system: SystemWatch,
    /// Gas prices.
    pub gas: GasPrices,
    /// Milliseconds between two readings of metrics.
    pub metrics_interval_ms: u64,
}

impl Facts {
    /// What `rule` compares now. What is not known is left out, and counts as fine.
    #[must_use]
    pub fn observe(&self, rule: &Rule, now: UnixMillis) -> Vec<Observation> {
        match rule.kind {
            Kind::ServiceDown => self.services_down(),
            Kind::ErrorRate => self.by_requests(now, |service, requests| {
                #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
                let rate = requests.errors as f64 / requests.count as f64;
                (rate, format!("{service} answered {:.1} % of its calls with an error", rate * 100.0))
            }),
            Kind::Latency => self.by_requests(now, |service, requests| {
                let seconds = requests.p95_seconds;
                (seconds, format!("{service} needs up to {seconds:.3} s for 95 of 100 calls"))
            }),
            Kind::QueueAge => self.queues(now),
            Kind::Disk => self.disk(),
            Kind::AuditFiles => self.audit_files(now),
            Kind::GasPrice => self.gas_price(rule.chain),
        }
    }

    /// Why `rule` can't be evaluated now; empty when it can.
    #[must_use]
    pub fn inactive_reason(&self, rule: &Rule, now: UnixMillis) -> String {
        match rule.kind {
            Kind::GasPrice if self.gas_price(rule.chain).is_empty() => match rule.chain {
                Some(chain) => format!("the gas price of chain {chain} is not known: no endpoint is configured, or none answers"),
                None => "no chain is named".to_owned(),
            },
            Kind::QueueAge if self.queues(now).is_empty() => "no queue has told its age yet".to_owned(),
            Kind::Disk if self.disk().is_empty() => "the disk can't be measured here".to_owned(),
            Kind::AuditFiles if self.audit_files(now).is_empty() => "no service has told of its files yet".to_owned(),
            Kind::ErrorRate | Kind::Latency if self.by_requests(now, |_, _| (0.0, String::new())).is_empty() => {
                format!("no service has answered {LEAST_REQUESTS} calls lately")
            }
            _ => String::new(),
        }
    }

    fn services_down(&self) -> Vec<Observation> {
        let (_, all) = self.seen.health();
        let known = all.into_iter().filter(|health| health.state != State::Unknown);
        known
            .map(|health| {
                let is_down = health.state != State::Serving;
                let summary = format!("{} does not serve: {}", health.service, health.detail);
                Observation { target: health.service.to_string(), value: f64::from(u8::from(is_down)), summary }
            })
            .collect()
    }

    fn by_requests(&self, now: UnixMillis, value: impl Fn(ServiceName, Requests) -> (f64, String)) -> Vec<Observation> {
        let since = fresh_since(self.metrics_interval_ms, now);
        let counted = ServiceName::ALL.into_iter().filter_map(|service| Some((service, self.seen.requests(service, since)?)));
        counted
            .filter(|(_, requests)| requests.count >= LEAST_REQUESTS)
            .map(|(service, requests)| {
                let (value, summary) = value(service, requests);
                Observation { target: service.to_string(), value, summary }
            })
            .collect()
    }

    fn queues(&self, now: UnixMillis) -> Vec<Observation> {
        let ages = QUEUE_AGES
            .into_iter()
            .filter_map(|(service, name)| Some((service, self.gauges(service, name, now).reduce(f64::max)?)));
        ages.map(|(service, age)| {
            let summary = format!("the oldest job of {service} has waited for {age:.0} s");
            Observation { target: service.to_string(), value: age, summary }
        })
        .collect()
    }

    fn audit_files(&self, now: UnixMillis) -> Vec<Observation> {
        let told = |service| Some((service, self.gauges(service, AUDIT_FILES, now).reduce(|one, other| one + other)?));
        ServiceName::ALL
            .into_iter()
            .filter_map(told)
            .map(|(service, count)| {
                let summary = format!("{service} can't read {count} files of entries for the audit log; its log says which");
                Observation { target: service.to_string(), value: count, summary }
            })
            .collect()
    }

    /// What the instances of a service have told lately of one gauge.
    fn gauges(&self, service: ServiceName, name: &'static str, now: UnixMillis) -> impl Iterator<Item = f64> {
        let samples = self.seen.samples(service, fresh_since(self.metrics_interval_ms, now));
        samples.into_iter().filter(move |sample| sample.name == name).map(|sample| sample.value)
    }

    fn disk(&self) -> Vec<Observation> {
        let Some(used) = self.system.latest().disk_used_ratio() else { return Vec::new() };
        let summary = format!("the disk of the data folder is {:.0} % full", used * 100.0);
        vec![Observation { target: "data_dir".to_owned(), value: used, summary }]
    }

    fn gas_price(&self, chain: Option<u64>) -> Vec<Observation> {
        let Some((chain, price)) = chain.and_then(|chain| Some((chain, *self.gas.get(&chain)?))) else { return Vec::new() };
        let summary = format!("gas costs {price:.1} gwei on chain {chain}");
        vec![Observation { target: format!("eip155:{chain}"), value: price, summary }]
    }
}

/// What an instance told before this says nothing about `now`: it may be gone, or can't be read any more.
pub(super) fn fresh_since(metrics_interval_ms: u64, now: UnixMillis) -> UnixMillis {
    let most = i64::try_from(metrics_interval_ms.saturating_mul(STALE_READINGS)).unwrap_or(i64::MAX);
    now.saturating_sub(most)
}
