//! The latest answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use streamgate_core::{ServiceName, time::UnixMillis};

use super::{Reachable, Sample};

/// Without one of these nobody can play.
const NEEDED_TO_PLAY: [ServiceName; 4] =
    [ServiceName::ApiGateway, ServiceName::Auth, ServiceName::Metadata, ServiceName::Streaming];

/// What is known of a service's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was not asked yet.
    Unknown,
    /// It serves.
    Serving,
    /// It is there, and does not serve now.
    NotServing,
    /// It gave no answer.
    Unreachable,
}

/// Health of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceHealth {
    /// Which one.
    pub service: ServiceName,
    /// What it said.
    pub state: State,
    /// How long the answer took.
    pub latency: Duration,
    /// Since when the state is what it is.
    pub since_ms: UnixMillis,
    /// What went wrong, in safe words.
    pub detail: String,
}

/// Health of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overall {
    /// All nine serve.
    Healthy,
    /// Something does not, but titles can be played.
    Degraded,
    /// Titles can't be played.
    Unhealthy,
}

impl Overall {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The newest metrics of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape {
    /// When they were read.
    pub at_ms: UnixMillis,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// Remembers the latest answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Seen {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    health: BTreeMap<ServiceName, ServiceHealth>,
    scrapes: BTreeMap<ServiceName, Arc<Scrape>>,
}

impl Seen {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(now: UnixMillis) -> Self {
        let unknown = |service| ServiceHealth {
            service,
            state: State::Unknown,
            latency: Duration::ZERO,
            since_ms: now,
            detail: "it was not asked yet".to_owned(),
        };
        let health = ServiceName::ALL.into_iter().map(|service| (service, unknown(service))).collect();
        Self { inner: Arc::new(Mutex::new(Inner { health, scrapes: BTreeMap::new() })) }
    }

    /// Remembers an answer; says whether the state changed.
    pub fn note_health(
        &self,
        service: ServiceName,
        answer: Result<Reachable, String>,
        latency: Duration,
        now: UnixMillis,
    ) -> bool {
        let (state, detail) = match answer {
            Ok(Reachable::Serving) => (State::Serving, String::new()),
            Ok(Reachable::NotServing) => (State::NotServing, "it says that it does not serve now".to_owned()),
            Err(words) => (State::Unreachable, words),
        };
        let mut inner = self.lock();
        let before = inner.health.get(&service);
        let is_change = before.is_none_or(|before| before.state != state);
        let since_ms = before.filter(|_| !is_change).map_or(now, |before| before.since_ms);
        inner.health.insert(service, ServiceHealth { service, state, latency, since_ms, detail });
        is_change
    }

    /// Remembers metrics.
    pub fn note_scrape(&self, service: ServiceName, scrape: Scrape) {
        self.lock().scrapes.insert(service, Arc::new(scrape));
    }

    /// Health of all nine, and of the whole.
    #[must_use]
    pub fn health(&self) -> (Overall, Vec<ServiceHealth>) {
        let inner = self.lock();
        let all: Vec<ServiceHealth> = ServiceName::ALL.iter().filter_map(|service| inner.health.get(service).cloned()).collect();
        (overall(&all), all)
    }

    /// The newest metrics of a service, if any were read.
    #[must_use]
    pub fn scrape(&self, service: ServiceName) -> Option<Arc<Scrape>> {
        self.lock().scrapes.get(&service).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn overall(all: &[ServiceHealth]) -> Overall {
    let is_away = |health: &&ServiceHealth| matches!(health.state, State::NotServing | State::Unreachable);
    if all.iter().filter(is_away).any(|health| NEEDED_TO_PLAY.contains(&health.service)) {
        return Overall::Unhealthy;
    }
    if all.iter().all(|health| health.state == State::Serving) { Overall::Healthy } else { Overall::Degraded }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_serving() -> Seen {
        let seen = Seen::new(1);
        for service in ServiceName::ALL {
            assert!(seen.note_health(service, Ok(Reachable::Serving), Duration::ZERO, 2));
        }
        seen
    }

    #[test]
    fn the_whole_is_as_well_as_what_playing_needs() {
        assert_eq!(Seen::new(1).health().0, Overall::Degraded, "nothing was asked yet");
        let seen = all_serving();
        assert_eq!(seen.health().0, Overall::Healthy);
        seen.note_health(ServiceName::Worker, Err("it can't be reached".into()), Duration::ZERO, 3);
        assert_eq!(seen.health().0, Overall::Degraded);
        seen.note_health(ServiceName::Auth, Ok(Reachable::NotServing), Duration::ZERO, 4);
        assert_eq!(seen.health().0, Overall::Unhealthy);
    }

    #[test]
    fn a_state_keeps_the_time_since_which_it_holds() {
        let seen = all_serving();
        let since = |seen: &Seen| seen.health().1[1].since_ms;
        assert!(!seen.note_health(ServiceName::Upload, Ok(Reachable::Serving), Duration::ZERO, 9));
        assert_eq!(since(&seen), 2);
        assert!(seen.note_health(ServiceName::Upload, Err(String::new()), Duration::ZERO, 10));
        assert!(!seen.note_health(ServiceName::Upload, Err("again".into()), Duration::ZERO, 11));
        assert_eq!(since(&seen), 10);
    }
}
