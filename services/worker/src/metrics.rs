//! What this service counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Labels of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AttemptLabels {
    /// Type of the job.
    pub r#type: String,
    /// `succeeded`, `retried`, `failed`, `cancelled`, `released` or `lost`.
    pub outcome: &'static str,
}

/// The counters, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Jobs queued.
    pub submitted: Counter,
    /// Attempts that ended.
    pub attempts: Family<AttemptLabels, Counter>,
    /// Jobs that run now.
    pub running: Gauge,
    /// Ended jobs that were forgotten.
    pub pruned: Counter,
}

impl Metrics {
    /// Names every counter in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("worker_jobs_submitted", "Jobs queued", self.submitted.clone());
        registry.register("worker_attempts", "Attempts that ended, by type and outcome", self.attempts.clone());
        registry.register("worker_jobs_running", "Jobs that run now", self.running.clone());
        registry.register("worker_jobs_pruned", "Ended jobs that were forgotten", self.pruned.clone());
    }

    /// Counts the end of an attempt.
    pub fn attempt_ended(&self, job_type: &str, outcome: &'static str) {
        self.attempts.get_or_create(&AttemptLabels { r#type: job_type.to_owned(), outcome }).inc();
    }
}
