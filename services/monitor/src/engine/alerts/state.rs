//! How an alert goes from state to state. Pure: time and values come from outside.

use streamgate_core::time::UnixMillis;

/// State of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// The value is above, not for long enough yet.
    Pending,
    /// It was above for long enough.
    Firing,
    /// Firing, and somebody has seen it.
    Acknowledged,
    /// It was away for long enough.
    Resolved,
}

impl AlertState {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }

    /// The state of a word in the database.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Pending, Self::Firing, Self::Acknowledged, Self::Resolved].into_iter().find(|state| state.as_str() == word)
    }
}

/// What is known of an alert that is not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Its state.
    pub state: AlertState,
    /// Since when the value is above.
    pub pending_ms: UnixMillis,
    /// Since when it is not above any more, while it fires.
    pub clear_ms: Option<UnixMillis>,
}

/// What is to be done about a rule and a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// A new alert begins, pending.
    Begin,
    /// A pending alert is forgotten: it never fired.
    Forget,
    /// It fires.
    Fire,
    /// The value is not above any more: note since when.
    Clear,
    /// The value is above again: forget that it was not.
    Unclear,
    /// It is over.
    Resolve,
}

/// Decides the next step, for a value that is above its threshold or not.
#[must_use]
pub fn next(open: Option<Open>, is_above: bool, now: UnixMillis, for_ms: u64, clear_ms: u64) -> Step {
    let held = |since: UnixMillis, wanted: u64| now.saturating_sub(since) >= i64::try_from(wanted).unwrap_or(i64::MAX);
    let Some(open) = open else { return if is_above { Step::Begin } else { Step::Stay } };
    match (open.state, is_above) {
        (AlertState::Pending, true) if held(open.pending_ms, for_ms) => Step::Fire,
        (AlertState::Pending, false) => Step::Forget,
        (AlertState::Firing | AlertState::Acknowledged, true) if open.clear_ms.is_some() => Step::Unclear,
        (AlertState::Firing | AlertState::Acknowledged, false) => match open.clear_ms {
            None if clear_ms > 0 => Step::Clear,
            Some(since) if !held(since, clear_ms) => Step::Stay,
            _ => Step::Resolve,
        },
        (AlertState::Pending | AlertState::Firing | AlertState::Acknowledged, true) | (AlertState::Resolved, _) => Step::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR: u64 = 100;
    const CLEAR: u64 = 50;

    fn step(state: AlertState, pending_ms: i64, clear_ms: Option<i64>, is_above: bool, now: i64) -> Step {
        next(Some(Open { state, pending_ms, clear_ms }), is_above, now, FOR, CLEAR)
    }

    #[test]
    fn an_alert_fires_only_when_the_value_stays_above() {
        assert_eq!(next(None, false, 0, FOR, CLEAR), Step::Stay);
        assert_eq!(next(None, true, 0, FOR, CLEAR), Step::Begin);
        assert_eq!(step(AlertState::Pending, 0, None, true, 99), Step::Stay);
        assert_eq!(step(AlertState::Pending, 0, None, true, 100), Step::Fire);
        assert_eq!(step(AlertState::Pending, 0, None, false, 99), Step::Forget);
    }

    #[test]
    fn a_firing_alert_resolves_only_when_the_value_stays_away() {
        for state in [AlertState::Firing, AlertState::Acknowledged] {
            assert_eq!(step(state, 0, None, true, 500), Step::Stay);
            assert_eq!(step(state, 0, None, false, 500), Step::Clear);
            assert_eq!(step(state, 0, Some(500), false, 549), Step::Stay);
            assert_eq!(step(state, 0, Some(500), true, 549), Step::Unclear);
            assert_eq!(step(state, 0, Some(500), false, 550), Step::Resolve);
        }
    }

    #[test]
    fn a_clock_that_goes_back_fires_nothing() {
        assert_eq!(step(AlertState::Pending, 1_000, None, true, 0), Step::Stay);
    }
}
