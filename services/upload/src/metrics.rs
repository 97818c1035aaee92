//! What this service counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

/// Label of uploads that ended, or writes that failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// `completed`, `cancelled` or `expired`; for writes the error's reason.
    pub reason: &'static str,
}

/// The metrics, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Uploads begun.
    pub created: Counter,
    /// Uploads that ended, by how.
    pub ended: Family<ReasonLabel, Counter>,
    /// Bytes that became durable.
    pub received_bytes: Counter,
    /// Calls that are writing now.
    pub active_writes: Gauge,
    /// Writes that did not come to their end, by why.
    pub failed_writes: Family<ReasonLabel, Counter>,
    /// Stored files that were read again, by what was found: `whole`, `corrupt` or `unreadable`.
    pub verified: Family<ReasonLabel, Counter>,
}

impl Metrics {
    /// Registers every metric once, with its meaning.
    pub fn register(&self, metrics: &streamgate_runtime::Metrics) {
        metrics.registry(|registry| {
            registry.register("uploads_created", "Uploads begun", self.created.clone());
            registry.register("uploads_ended", "Uploads that were completed, cancelled or expired", self.ended.clone());
            registry.register("upload_received_bytes", "Bytes that became durable", self.received_bytes.clone());
            registry.register("upload_active_writes", "Calls that are writing now", self.active_writes.clone());
            registry.register("upload_failed_writes", "Writes that did not come to their end", self.failed_writes.clone());
            registry.register(
                "upload_verified",
                "Stored files that were read again: whole, corrupt or unreadable",
                self.verified.clone(),
            );
        });
    }

    pub(crate) fn count_end(&self, reason: &'static str) {
        self.ended.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn count_verified(&self, reason: &'static str) {
        self.verified.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn count_failed_write(&self, reason: &'static str) {
        self.failed_writes.get_or_create(&ReasonLabel { reason }).inc();
    }
}
