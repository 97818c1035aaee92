//! What this service counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use streamgate_core::ServiceName;

/// Label of one watched service. Each metric of a service has the label `service` already: here that
/// is the monitor, so the one it watches needs another name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TargetLabels {
    /// Its name.
    pub target: &'static str,
}

/// The numbers, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// 1 while a service serves.
    pub up: Family<TargetLabels, Gauge>,
    /// Readings of metrics that failed.
    pub failed_scrapes: Family<TargetLabels, Counter>,
}

impl Metrics {
    /// Names every number in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("up", "1 while a service says that it serves, else 0", self.up.clone());
        registry.register("monitor_failed_scrapes", "Readings of metrics that failed", self.failed_scrapes.clone());
    }

    /// Says whether a service serves.
    pub fn set_up(&self, service: ServiceName, is_up: bool) {
        self.up.get_or_create(&TargetLabels { target: service.as_str() }).set(i64::from(is_up));
    }

    /// Counts a reading of metrics that failed.
    pub fn scrape_failed(&self, service: ServiceName) {
        self.failed_scrapes.get_or_create(&TargetLabels { target: service.as_str() }).inc();
    }
}
