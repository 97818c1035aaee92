//! The latest answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use streamgate_core::{ServiceName, time::UnixMillis};

use super::{Reachable, Sample, requests};

/// Without one of these nobody can play.
const NEEDED_TO_PLAY: [ServiceName; 4] =
    [ServiceName::ApiGateway, ServiceName::Auth, ServiceName::Metadata, ServiceName::Streaming];

/// What is known of a service's health, or of one instance's.
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

/// Health of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceHealth {
    /// Host and port.
    pub address: String,
    /// What it said.
    pub state: State,
    /// How long the last answer took.
    pub latency: Duration,
    /// Since when the state is what it is.
    pub since_ms: UnixMillis,
    /// What went wrong, in safe words.
    pub detail: String,
}

/// Health of one service: it serves while one of its instances does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceHealth {
    /// Which one.
    pub service: ServiceName,
    /// The best state of its instances.
    pub state: State,
    /// How long the answer of the best one took.
    pub latency: Duration,
    /// Since when the state is what it is.
    pub since_ms: UnixMillis,
    /// What went wrong, in safe words.
    pub detail: String,
    /// Its instances.
    pub instances: Vec<InstanceHealth>,
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

/// The newest metrics of one instance, and how it has answered lately.
#[derive(Debug, Clone, Default)]
struct Scraped {
    at_ms: UnixMillis,
    samples: Arc<Vec<Sample>>,
    window: requests::Window,
}

/// What is known of one service.
#[derive(Debug, Default)]
struct Known {
    instances: BTreeMap<String, InstanceHealth>,
    /// State of the whole service, and since when.
    whole: Option<(State, UnixMillis)>,
    scraped: BTreeMap<String, Scraped>,
}

/// Remembers the latest answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Seen {
    began_ms: UnixMillis,
    inner: Arc<Mutex<BTreeMap<ServiceName, Known>>>,
}

impl Seen {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(now: UnixMillis) -> Self {
        let inner = ServiceName::ALL.into_iter().map(|service| (service, Known::default())).collect();
        Self { began_ms: now, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Remembers an answer of an instance; says which state the whole service came to, if it changed.
    pub fn note_health(
        &self,
        service: ServiceName,
        address: &str,
        answer: Result<Reachable, String>,
        latency: Duration,
        now: UnixMillis,
    ) -> Option<State> {
        let (state, detail) = match answer {
            Ok(Reachable::Serving) => (State::Serving, String::new()),
            Ok(Reachable::NotServing) => (State::NotServing, "it says that it does not serve now".to_owned()),
            Err(words) => (State::Unreachable, words),
        };
        let mut inner = self.lock();
        let known = inner.entry(service).or_default();
        let before = known.instances.get(address).filter(|before| before.state == state);
        let since_ms = before.map_or(now, |before| before.since_ms);
        let instance = InstanceHealth { address: address.to_owned(), state, latency, since_ms, detail };
        known.instances.insert(address.to_owned(), instance);
        known.settle(now)
    }

    /// Forgets instances that are not there any more. Without any, the service is away.
    pub fn keep_instances(&self, service: ServiceName, addresses: &[String], now: UnixMillis) -> Option<State> {
        let mut inner = self.lock();
        let known = inner.entry(service).or_default();
        known.instances.retain(|address, _| addresses.contains(address));
        known.scraped.retain(|address, _| addresses.contains(address));
        // Those that were found and not asked yet will settle it.
        if known.instances.is_empty() && !addresses.is_empty() { None } else { known.settle(now) }
    }

    /// Remembers metrics of an instance.
    pub fn note_scrape(&self, service: ServiceName, address: &str, samples: Vec<Sample>, at_ms: UnixMillis) {
        let mut inner = self.lock();
        let scraped = inner.entry(service).or_default().scraped.entry(address.to_owned()).or_default();
        scraped.window.add(&samples, at_ms);
        scraped.at_ms = at_ms;
        scraped.samples = Arc::new(samples);
    }

    /// Health of all nine, and of the whole.
    #[must_use]
    pub fn health(&self) -> (Overall, Vec<ServiceHealth>) {
        let inner = self.lock();
        let all: Vec<ServiceHealth> =
            ServiceName::ALL.iter().filter_map(|service| Some(inner.get(service)?.health(*service, self.began_ms))).collect();
        (overall(&all), all)
    }

    /// When metrics of a service were last read.
    #[must_use]
    pub fn scraped_ms(&self, service: ServiceName) -> Option<UnixMillis> {
        self.lock().get(&service)?.scraped.values().map(|scraped| scraped.at_ms).max()
    }

    /// The newest metrics of those instances of a service that were read at `since` or later. With several instances, each
    /// sample says of which it is.
    #[must_use]
    pub fn samples(&self, service: ServiceName, since: UnixMillis) -> Vec<Sample> {
        let parts: Vec<(String, Arc<Vec<Sample>>)> = {
            let inner = self.lock();
            let Some(known) = inner.get(&service) else { return Vec::new() };
            known.read_since(since).map(|(address, scraped)| (address.clone(), Arc::clone(&scraped.samples))).collect()
        };
        let are_several = parts.len() > 1;
        let mut samples = Vec::new();
        for (address, part) in parts {
            samples.extend(part.iter().cloned().map(|mut sample| {
                if are_several {
                    sample.labels.insert("instance".to_owned(), address.clone());
                }
                sample
            }));
        }
        samples
    }

    /// How those instances of a service that were read at `since` or later have answered lately.
    #[must_use]
    pub fn requests(&self, service: ServiceName, since: UnixMillis) -> Option<requests::Requests> {
        requests::together(self.lock().get(&service)?.read_since(since).map(|(_, scraped)| &scraped.window))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Known>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn read_since(&self, since: UnixMillis) -> impl Iterator<Item = (&String, &Scraped)> {
        self.scraped.iter().filter(move |(_, scraped)| scraped.at_ms >= since)
    }

    fn best(&self) -> Option<&InstanceHealth> {
        let rank = |state: State| match state {
            State::Serving => 0,
            State::NotServing => 1,
            State::Unreachable => 2,
            State::Unknown => 3,
        };
        self.instances.values().min_by_key(|instance| rank(instance.state))
    }

    /// Brings the state of the whole up to its instances; gives it when it changed.
    fn settle(&mut self, now: UnixMillis) -> Option<State> {
        let state = self.best().map_or(State::Unreachable, |best| best.state);
        if self.whole.is_some_and(|(before, _)| before == state) {
            return None;
        }
        self.whole = Some((state, now));
        Some(state)
    }

    fn health(&self, service: ServiceName, began_ms: UnixMillis) -> ServiceHealth {
        let (state, since_ms) = self.whole.unwrap_or((State::Unknown, began_ms));
        let without = if self.whole.is_some() { "it has no instance" } else { "it was not asked yet" };
        let best = self.best();
        ServiceHealth {
            service,
            state,
            latency: best.map_or(Duration::ZERO, |best| best.latency),
            since_ms,
            detail: best.map_or_else(|| without.to_owned(), |best| best.detail.clone()),
            instances: self.instances.values().cloned().collect(),
        }
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

    fn note(seen: &Seen, service: ServiceName, address: &str, answer: Result<Reachable, String>, now: i64) -> Option<State> {
        seen.note_health(service, address, answer, Duration::ZERO, now)
    }

    fn all_serving() -> Seen {
        let seen = Seen::new(1);
        for service in ServiceName::ALL {
            assert_eq!(note(&seen, service, "a:1", Ok(Reachable::Serving), 2), Some(State::Serving));
        }
        seen
    }

    #[test]
    fn the_whole_is_as_well_as_what_playing_needs() {
        assert_eq!(Seen::new(1).health().0, Overall::Degraded, "nothing was asked yet");
        let seen = all_serving();
        assert_eq!(seen.health().0, Overall::Healthy);
        note(&seen, ServiceName::Worker, "a:1", Err("it can't be reached".into()), 3);
        assert_eq!(seen.health().0, Overall::Degraded);
        note(&seen, ServiceName::Auth, "a:1", Ok(Reachable::NotServing), 4);
        assert_eq!(seen.health().0, Overall::Unhealthy);
    }

    #[test]
    fn a_state_keeps_the_time_since_which_it_holds() {
        let seen = all_serving();
        let since = |seen: &Seen| seen.health().1[1].since_ms;
        assert_eq!(note(&seen, ServiceName::Upload, "a:1", Ok(Reachable::Serving), 9), None);
        assert_eq!(since(&seen), 2);
        assert_eq!(note(&seen, ServiceName::Upload, "a:1", Err(String::new()), 10), Some(State::Unreachable));
        assert_eq!(note(&seen, ServiceName::Upload, "a:1", Err("again".into()), 11), None);
        assert_eq!(since(&seen), 10);
    }

    #[test]
    fn a_service_serves_while_one_of_its_instances_does() {
        let seen = all_serving();
        assert_eq!(note(&seen, ServiceName::Upload, "b:1", Err("gone".into()), 3), None);
        assert_eq!(seen.health().0, Overall::Healthy);
        assert_eq!(seen.health().1[1].instances.len(), 2);
        assert_eq!(note(&seen, ServiceName::Upload, "a:1", Err("gone".into()), 4), Some(State::Unreachable));
        let only_b = ["b:1".to_owned()];
        assert_eq!(seen.keep_instances(ServiceName::Upload, &only_b, 5), None);
        assert_eq!(seen.health().1[1].instances.len(), 1);
        assert_eq!(note(&seen, ServiceName::Upload, "b:1", Ok(Reachable::Serving), 6), Some(State::Serving));
        assert_eq!(seen.keep_instances(ServiceName::Upload, &[], 7), Some(State::Unreachable));
        assert_eq!(seen.health().1[1].detail, "it has no instance");
    }

    #[test]
    fn samples_say_of_which_instance_they_are_when_there_are_several() {
        let seen = Seen::new(0);
        let sample = || vec![Sample { name: "up".into(), labels: BTreeMap::new(), value: 1.0 }];
        seen.note_scrape(ServiceName::Upload, "a:1", sample(), 1);
        assert!(seen.samples(ServiceName::Upload, 0)[0].labels.is_empty());
        seen.note_scrape(ServiceName::Upload, "b:1", sample(), 2);
        let of: Vec<_> =
            seen.samples(ServiceName::Upload, 0).into_iter().map(|sample| sample.labels["instance"].clone()).collect();
        assert_eq!(of, ["a:1", "b:1"]);
        assert_eq!(seen.scraped_ms(ServiceName::Upload), Some(2));
        assert_eq!(seen.samples(ServiceName::Upload, 2).len(), 1, "one of them was not read since then");
    }
}
