//! What this service counts.

use std::sync::atomic::AtomicU64;

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

/// Labels of one attempt of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WebhookLabels {
    /// `2xx` and so on, or `none` when there was no answer.
    pub status: &'static str,
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
    /// How long the job has waited that is due for longest.
    pub oldest_queued_seconds: Gauge<f64, AtomicU64>,
    /// Attempts of webhook deliveries.
    pub webhook_attempts: Family<WebhookLabels, Counter>,
}

/// A job that runs, however it comes to stop.
#[derive(Debug)]
pub struct RunningOne(Gauge);

impl Drop for RunningOne {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Names every counter in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("worker_jobs_submitted", "Jobs queued", self.submitted.clone());
        registry.register("worker_attempts", "Attempts that ended, by type and outcome", self.attempts.clone());
        registry.register("worker_jobs_running", "Jobs that run now", self.running.clone());
        registry.register("worker_jobs_pruned", "Ended jobs that were forgotten", self.pruned.clone());
        let help = "Seconds that the job has waited which is due for longest and does not run";
        registry.register("worker_oldest_queued_seconds", help, self.oldest_queued_seconds.clone());
        registry.register(
            "worker_webhook_attempts",
            "Attempts of webhook deliveries, by class of status",
            self.webhook_attempts.clone(),
        );
    }

    /// Counts a job as running until what this gives is dropped.
    #[must_use]
    pub fn running_one(&self) -> RunningOne {
        self.running.inc();
        RunningOne(self.running.clone())
    }

    /// Counts an attempt of a delivery.
    pub fn webhook_attempted(&self, status: Option<u16>) {
        let status = match status.map(|status| status / 100) {
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(5) => "5xx",
            Some(_) => "other",
            None => "none",
        };
        self.webhook_attempts.get_or_create(&WebhookLabels { status }).inc();
    }

    /// Counts the end of an attempt.
    pub fn attempt_ended(&self, job_type: &str, outcome: &'static str) {
        self.attempts.get_or_create(&AttemptLabels { r#type: job_type.to_owned(), outcome }).inc();
    }
}
