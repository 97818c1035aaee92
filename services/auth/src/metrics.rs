//! What this service counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use streamgate_core::gate::Verdict;

/// How something ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `ok`, or the reason it was refused for.
    pub outcome: &'static str,
}

/// What a gate answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VerdictLabels {
    /// `granted`, `denied` or `unknown`.
    pub verdict: &'static str,
}

/// The counters, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Challenges handed out.
    pub challenges: Counter,
    /// Sign-ins tried.
    pub logins: Family<OutcomeLabels, Counter>,
    /// Refreshes tried.
    pub refreshes: Family<OutcomeLabels, Counter>,
    /// API keys looked at.
    pub api_keys: Family<OutcomeLabels, Counter>,
    /// Gates answered.
    pub decisions: Family<VerdictLabels, Counter>,
    /// Playback tokens signed.
    pub playback_tokens: Counter,
}

impl Metrics {
    /// Names every counter in the registry of `metrics`.
    #[must_use]
    pub fn register(metrics: &streamgate_runtime::Metrics) -> Self {
        Self {
            challenges: metrics.counter("auth_challenges", "Challenges handed out"),
            logins: metrics.counters("auth_logins", "Sign-ins tried, by outcome"),
            refreshes: metrics.counters("auth_refreshes", "Refreshes of a sign-in tried, by outcome"),
            api_keys: metrics.counters("auth_api_key_checks", "API keys looked at, by outcome"),
            decisions: metrics.counters("auth_gate_decisions", "Gates answered, by verdict"),
            playback_tokens: metrics.counter("auth_playback_tokens", "Playback tokens signed"),
        }
    }

    /// Counts one answer of a gate.
    pub fn decided(&self, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::Granted => "granted",
            Verdict::Denied => "denied",
            Verdict::Unknown => "unknown",
        };
        self.decisions.get_or_create(&VerdictLabels { verdict }).inc();
    }
}

/// Counts how something ended.
pub fn count<T>(family: &Family<OutcomeLabels, Counter>, outcome: &Result<T, crate::Error>) {
    let outcome = outcome.as_ref().map_or_else(crate::Error::reason, |_| "ok");
    family.get_or_create(&OutcomeLabels { outcome }).inc();
}
