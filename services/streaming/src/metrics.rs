//! What this service counts.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
    },
    registry::Registry,
};
use streamgate_client::near_cache::NearCache;

use crate::engine::neighbours::Title;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// One stable word.
    pub outcome: String,
}

/// Counters and gauges of this service.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    opened: Family<Outcome, Counter>,
    closed: Family<Outcome, Counter>,
    checks: Family<Outcome, Counter>,
    sent_bytes: Counter,
    in_use: Gauge,
}

impl Metrics {
    /// Makes them known. Counters get the suffix `_total` on the page.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("streaming_sessions_opened", "Sessions asked for, by outcome", self.opened.clone());
        registry.register("streaming_sessions_closed", "Sessions that ended before their time, by reason", self.closed.clone());
        registry.register("streaming_gate_checks", "Gate checks of running sessions, by verdict", self.checks.clone());
        registry.register("streaming_asset_bytes", "Bytes of playlists and media given out", self.sent_bytes.clone());
        registry.register("streaming_sessions_in_use", "Sessions with a request in the last minute", self.in_use.clone());
    }

    /// Makes known how often titles were read near and far.
    pub fn register_titles(registry: &mut Registry, kept: NearCache<Title>) {
        registry.register_collector(Box::new(TitleReads(kept)));
    }

    /// A session was asked for: `granted`, or the reason of the refusal.
    pub fn session_opened(&self, outcome: &str) {
        self.opened.get_or_create(&Outcome { outcome: outcome.to_owned() }).inc();
    }

    /// A session ended before its time.
    pub fn session_closed(&self, reason: &str) {
        self.closed.get_or_create(&Outcome { outcome: reason.to_owned() }).inc();
    }

    /// A running session's gate was checked.
    pub fn gate_checked(&self, verdict: &str) {
        self.checks.get_or_create(&Outcome { outcome: verdict.to_owned() }).inc();
    }

    /// A body is about to be sent.
    pub fn bytes_sent(&self, bytes: u64) {
        self.sent_bytes.inc_by(bytes);
    }

    /// So many sessions are in use.
    pub fn sessions_in_use(&self, count: usize) {
        self.in_use.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// Counts of the titles that are kept near.
#[derive(Debug)]
struct TitleReads(NearCache<Title>);

impl Collector for TitleReads {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        let counts = [
            ("streaming_titles_near", "Titles looked up and known here", stats.hits),
            ("streaming_titles_far", "Titles looked up that had to be asked for, or waited for", stats.misses),
            ("streaming_titles_loads", "Questions to the metadata service about a title", stats.loads),
            ("streaming_titles_invalidations", "News of titles that changed", stats.invalidations),
        ];
        for (name, help, count) in counts {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}
