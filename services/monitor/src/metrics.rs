//! What this service counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use streamgate_core::ServiceName;

use crate::engine::System;

/// Label of one watched service. Each metric of a service has the label `service` already: here that
/// is the monitor, so the one it watches needs another name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TargetLabels {
    /// Its name.
    pub target: &'static str,
}

/// Label of one alert rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabels {
    /// Its name, from the configuration.
    pub rule: String,
}

type Ratio = Gauge<f64, AtomicU64>;

/// The numbers, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// 1 while a service serves.
    pub up: Family<TargetLabels, Gauge>,
    /// Readings of metrics that failed.
    pub failed_scrapes: Family<TargetLabels, Counter>,
    /// Alerts that fire now, acknowledged or not.
    pub alerts_firing: Family<RuleLabels, Gauge>,
    /// Alerts that began to fire.
    pub alerts_fired: Family<RuleLabels, Counter>,
    /// Lines that services sent.
    pub log_lines: Counter,
    /// Lines that services had no room for.
    pub log_lines_dropped: Counter,
    /// Entries added to the audit log.
    pub audit_entries: Counter,
    /// Calls that services could not note.
    pub audit_missing: Counter,
    cpu_ratio: Ratio,
    memory_total: Gauge,
    memory_available: Gauge,
    disk_total: Gauge,
    disk_free: Gauge,
}

impl Metrics {
    /// Names every number in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("up", "1 while a service says that it serves, else 0", self.up.clone());
        registry.register("monitor_failed_scrapes", "Readings of metrics that failed", self.failed_scrapes.clone());
        registry.register("monitor_alerts_firing", "Alerts that fire now, acknowledged or not", self.alerts_firing.clone());
        registry.register("monitor_alerts_fired", "Alerts that began to fire", self.alerts_fired.clone());
        registry.register("monitor_log_lines", "Log lines that services sent", self.log_lines.clone());
        registry.register("monitor_log_lines_dropped", "Log lines that services had no room for", self.log_lines_dropped.clone());
        registry.register("monitor_audit_entries", "Entries added to the audit log", self.audit_entries.clone());
        registry.register(
            "monitor_audit_missing",
            "Calls that services could not note for the audit log",
            self.audit_missing.clone(),
        );
        registry.register("system_cpu_ratio", "Part of all cores that is busy, 0 to 1", self.cpu_ratio.clone());
        registry.register("system_memory_bytes", "Memory of the machine", self.memory_total.clone());
        registry.register("system_memory_available_bytes", "Memory that programs could still get", self.memory_available.clone());
        registry.register("system_disk_bytes", "Size of the disk under the data folder", self.disk_total.clone());
        registry.register("system_disk_free_bytes", "Room on the disk under the data folder", self.disk_free.clone());
    }

    /// Says whether a service serves.
    pub fn set_up(&self, service: ServiceName, is_up: bool) {
        self.up.get_or_create(&TargetLabels { target: service.as_str() }).set(i64::from(is_up));
    }

    /// Counts a reading of metrics that failed.
    pub fn scrape_failed(&self, service: ServiceName) {
        self.failed_scrapes.get_or_create(&TargetLabels { target: service.as_str() }).inc();
    }

    /// Counts an alert that began to fire.
    pub fn alert_fired(&self, rule: &str) {
        self.alerts_fired.get_or_create(&RuleLabels { rule: rule.to_owned() }).inc();
    }

    /// Says how many alerts of a rule fire.
    pub fn set_firing(&self, rule: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.alerts_firing.get_or_create(&RuleLabels { rule: rule.to_owned() }).set(count);
    }

    /// Says how the machine is.
    pub fn set_system(&self, system: &System) {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.cpu_ratio.set(system.cpu_ratio);
        self.memory_total.set(whole(system.memory_total_bytes));
        self.memory_available.set(whole(system.memory_available_bytes));
        self.disk_total.set(whole(system.disk_total_bytes));
        self.disk_free.set(whole(system.disk_free_bytes));
    }
}
