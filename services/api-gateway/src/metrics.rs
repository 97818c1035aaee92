//! Metrics of the edge. Each name stands here once.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Labels of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answer {
    /// What was asked for: `rest`, `grpc`, `media`, `upload` or `page`.
    pub surface: &'static str,
    /// HTTP status of the answer.
    pub status: u16,
}

/// Metrics of the edge.
#[derive(Debug, Clone, Default)]
pub struct EdgeMetrics {
    /// Requests answered, by surface and status.
    pub answers: Family<Answer, Counter>,
    /// Requests being answered now.
    pub in_flight: Gauge,
    /// Requests refused because they came too often.
    pub rate_limited: Counter,
    /// Bytes of media sent.
    pub media_bytes: Counter,
    /// Bytes of uploads taken in.
    pub upload_bytes: Counter,
}

impl EdgeMetrics {
    /// Makes them visible in `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("edge_answers", "Requests answered, by surface and status", self.answers.clone());
        registry.register("edge_in_flight", "Requests being answered now", self.in_flight.clone());
        registry.register("edge_rate_limited", "Requests refused because they came too often", self.rate_limited.clone());
        registry.register("edge_media_bytes", "Bytes of media sent", self.media_bytes.clone());
        registry.register("edge_upload_bytes", "Bytes of uploads taken in", self.upload_bytes.clone());
    }
}
