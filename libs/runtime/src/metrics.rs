//! Metrics of one service.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use streamgate_core::ServiceName;

use crate::process::ProcessMetrics;

/// The registry behind a service's `/metrics`. Every name gets the prefix `streamgate_`, and a
/// counter the suffix `_total`. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry of one service.
    #[must_use]
    pub fn new(name: ServiceName) -> Self {
        let label = (Cow::Borrowed("service"), Cow::Borrowed(name.as_str()));
        let mut registry = Registry::with_prefix_and_labels("streamgate", [label].into_iter());
        registry.register_collector(Box::new(ProcessMetrics));
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Gives access to the registry itself.
    pub fn registry<R>(&self, use_it: impl FnOnce(&mut Registry) -> R) -> R {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Registers a counter; `_total` is added to its name.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.registry(|registry| registry.register(name, help, counter.clone()));
        counter
    }

    /// Registers counters that differ by labels; `_total` is added to their name.
    pub fn counters<L>(&self, name: &str, help: &str) -> Family<L, Counter>
    where
        L: EncodeLabelSet + fmt::Debug + Clone + Eq + std::hash::Hash + Send + Sync + 'static,
    {
        let family = Family::<L, Counter>::default();
        self.registry(|registry| registry.register(name, help, family.clone()));
        family
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.registry(|registry| registry.register(name, help, gauge.clone()));
        gauge
    }

    /// Registers a histogram with these upper bounds.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let histogram = Histogram::new(buckets.iter().copied());
        self.registry(|registry| registry.register(name, help, histogram.clone()));
        histogram
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// When a metric can't be written.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        self.registry(|registry| text::encode(&mut out, registry))?;
        Ok(out)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}
