//! What this service counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Labels of one handled event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// Type of the event, such as `file.uploaded`.
    pub r#type: &'static str,
    /// `applied`, `repeated` or `ignored`.
    pub outcome: &'static str,
}

/// Labels of one change of status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusLabels {
    /// The status a title came to.
    pub status: &'static str,
}

/// The counters, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Titles made.
    pub created: Counter,
    /// Titles deleted.
    pub deleted: Counter,
    /// Titles ended for good.
    pub purged: Counter,
    /// Searches answered.
    pub searches: Counter,
    /// Gates set or taken away.
    pub gate_changes: Counter,
    /// Titles that came to a status.
    pub transitions: Family<StatusLabels, Counter>,
    /// Events handled.
    pub events: Family<EventLabels, Counter>,
}

impl Metrics {
    /// Names every counter in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("metadata_contents_created", "Titles made", self.created.clone());
        registry.register("metadata_contents_deleted", "Titles deleted", self.deleted.clone());
        registry.register("metadata_contents_purged", "Titles ended for good", self.purged.clone());
        registry.register("metadata_searches", "Searches answered", self.searches.clone());
        registry.register("metadata_gate_changes", "Gates set or taken away", self.gate_changes.clone());
        registry.register("metadata_status_transitions", "Titles that came to a status", self.transitions.clone());
        registry.register("metadata_events", "Events handled, by type and outcome", self.events.clone());
    }
}
