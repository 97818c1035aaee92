//! What this service counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Labels of a job that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndLabels {
    /// `succeeded`, `failed` or `cancelled`.
    pub state: &'static str,
    /// Stable reason of a failure; empty otherwise.
    pub reason: String,
}

/// The counters, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Jobs queued.
    pub queued: Counter,
    /// Jobs that ended.
    pub ended: Family<EndLabels, Counter>,
    /// Jobs that run here now.
    pub running: Gauge,
    /// Age of the oldest job that is due and waits, in seconds.
    pub oldest_queued: Gauge,
    /// Times a child died without a word.
    pub crashes: Counter,
    /// Segments published.
    pub segments: Counter,
    /// Bytes of segments published.
    pub segment_bytes: Counter,
}

impl Metrics {
    /// Names every counter in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("transcoder_jobs_queued", "Jobs queued", self.queued.clone());
        registry.register("transcoder_jobs_ended", "Jobs that ended, by state and reason", self.ended.clone());
        registry.register("transcoder_jobs_running", "Jobs that run here now", self.running.clone());
        let help = "Age of the oldest job that is due and waits";
        registry.register("transcoder_oldest_queued_seconds", help, self.oldest_queued.clone());
        registry.register("transcoder_encoder_crashes", "Times an encoder died without a word", self.crashes.clone());
        registry.register("transcoder_segments", "Segments published", self.segments.clone());
        registry.register("transcoder_segment_bytes", "Bytes of segments published", self.segment_bytes.clone());
    }
}
