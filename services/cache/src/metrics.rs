//! What this service counts. The same numbers answer `GetStats`.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// The counters, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Reads that found a value.
    pub hits: Counter,
    /// Reads that found none.
    pub misses: Counter,
    /// Values stored.
    pub sets: Counter,
    /// Values removed to make room.
    pub evictions: Counter,
    /// Values whose time was over.
    pub expirations: Counter,
    /// Values held.
    pub entries: Gauge,
    /// Bytes held.
    pub size_bytes: Gauge,
}

impl Metrics {
    /// Names every counter in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cache_hits", "Reads that found a value", self.hits.clone());
        registry.register("cache_misses", "Reads that found none", self.misses.clone());
        registry.register("cache_sets", "Values stored", self.sets.clone());
        registry.register("cache_evictions", "Values removed to make room", self.evictions.clone());
        registry.register("cache_expirations", "Values whose time was over", self.expirations.clone());
        registry.register("cache_entries", "Values held", self.entries.clone());
        registry.register("cache_size_bytes", "Bytes held, bookkeeping included", self.size_bytes.clone());
    }
}
