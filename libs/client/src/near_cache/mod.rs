//! What a service has read of another, kept near, within a bound, and dropped when told.
//!
//! A [`NearCache`] holds answers in this process. The cache service pushes what stops being true
//! ([`NearCache::follow`]), so an answer is stale for milliseconds and not for its whole life. While
//! that line is broken, answers are believed for a short time only. However many callers miss the
//! same key at once, the origin is asked once; what was asked before an invalidation is never kept
//! after it, and never given to a caller that came after it.

mod line;
mod marks;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use moka::sync::Cache;
use streamgate_core::{ErrorKind, Failure};
use tracing::Instrument as _;

use self::{line::Line, marks::Marks};
use crate::RequestContext;

/// How a near cache behaves.
#[derive(Debug, Clone, Copy)]
pub struct NearCacheOptions {
    /// Answers held at the most; the least used one makes room.
    pub capacity: u64,
    /// How long an answer is believed while the line to the cache service is alive.
    pub fresh: Duration,
    /// How long an answer is believed without that line.
    pub unwatched: Duration,
}

impl Default for NearCacheOptions {
    fn default() -> Self {
        Self { capacity: 10_000, fresh: Duration::from_secs(60), unwatched: Duration::from_secs(2) }
    }
}

/// An answer of the origin, and the tags by which it is invalidated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<V> {
    /// The answer.
    pub value: V,
    /// What it depends on, such as a content id.
    pub tags: Vec<String>,
}

/// What stops being true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// One key.
    Key(String),
    /// What has this tag.
    Tag(String),
    /// What has a key that begins so.
    Prefix(String),
    /// Everything.
    Everything,
}

/// What a near cache has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NearCacheStats {
    /// Reads answered from here.
    pub hits: u64,
    /// Reads that had to wait for the origin.
    pub misses: u64,
    /// Times the origin was asked.
    pub loads: u64,
    /// Invalidations heard.
    pub invalidations: u64,
}

type Flight<V> = Shared<BoxFuture<'static, Result<V, Failure>>>;

#[derive(Clone)]
struct Entry<V> {
    value: V,
    tags: Arc<[String]>,
    /// When the origin was asked: the answer is no younger.
    asked: Instant,
    order: u64,
}

/// Loads under way. An order number tells which of a load and an invalidation came first.
struct Flights<V> {
    by_key: HashMap<Arc<str>, (u64, Flight<V>)>,
    next: u64,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    loads: AtomicU64,
    invalidations: AtomicU64,
}

struct Inner<V> {
    options: NearCacheOptions,
    entries: Cache<Arc<str>, Entry<V>>,
    flights: Mutex<Flights<V>>,
    marks: Marks,
    line: Line,
    counters: Counters,
}

/// Answers of another service, kept near. Cheap to clone.
#[derive(Clone)]
pub struct NearCache<V>(Arc<Inner<V>>);

impl<V: Clone + Send + Sync + 'static> NearCache<V> {
    /// An empty cache. Without [`follow`](Self::follow) its line counts as broken.
    #[must_use]
    pub fn new(options: NearCacheOptions) -> Self {
        Self(Arc::new(Inner {
            entries: Cache::builder().max_capacity(options.capacity).time_to_live(options.fresh).build(),
            flights: Mutex::new(Flights { by_key: HashMap::new(), next: 1 }),
            marks: Marks::default(),
            line: Line::default(),
            counters: Counters::default(),
            options,
        }))
    }

    /// The answer under `key`; `load` asks the origin when there is none that can be believed. However many callers
    /// miss at once, one load runs, and it runs to its end when they go away. A failure is given to
    /// all who waited, and is not kept.
    ///
    /// # Errors
    /// What the origin says.
    pub async fn get_with<F, Fut>(&self, key: &str, load: F) -> Result<V, Failure>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Loaded<V>, Failure>> + Send + 'static,
    {
        if let Some(value) = self.peek(key) {
            self.0.counters.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(value);
        }
        self.0.counters.misses.fetch_add(1, Ordering::Relaxed);
        let flight = {
            let mut flights = self.lock();
            // Another load may have ended between the look and the lock.
            if let Some(value) = self.peek(key) {
                return Ok(value);
            }
            match flights.by_key.get(key) {
                Some((_, flight)) => flight.clone(),
                None => self.start(&mut flights, key, load()),
            }
        };
        flight.await
    }

    /// The answer under `key`, if one is held that can be believed. Asks nobody.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<V> {
        let entry = self.0.entries.get(key)?;
        let age = entry.asked.elapsed();
        let believed = if self.0.line.is_alive() { self.0.options.fresh } else { self.0.options.unwatched };
        let is_good = age < believed && self.0.marks.allow(entry.order, &entry.tags);
        is_good.then_some(entry.value)
    }

    /// Drops what an invalidation names, and forgets what is being loaded under it.
    pub fn apply(&self, invalidation: &Invalidation) {
        self.0.counters.invalidations.fetch_add(1, Ordering::Relaxed);
        let mut flights = self.lock();
        let order = flights.next;
        flights.next += 1;
        match invalidation {
            Invalidation::Key(key) => {
                flights.by_key.remove(key.as_str());
                self.0.entries.invalidate(key.as_str());
            }
            Invalidation::Prefix(prefix) => {
                flights.by_key.retain(|key, _| !key.starts_with(prefix.as_str()));
                for (key, _) in self.0.entries.iter().filter(|(key, _)| key.starts_with(prefix.as_str())) {
                    self.0.entries.invalidate(&**key);
                }
            }
            Invalidation::Tag(tag) => {
                // What a load depends on is known at its end: every one of them may be meant.
                flights.by_key.clear();
                self.0.marks.tag(tag, order);
            }
            Invalidation::Everything => {
                flights.by_key.clear();
                self.0.marks.everything(order);
                self.0.entries.invalidate_all();
            }
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> NearCacheStats {
        let counters = &self.0.counters;
        NearCacheStats {
            hits: counters.hits.load(Ordering::Relaxed),
            misses: counters.misses.load(Ordering::Relaxed),
            loads: counters.loads.load(Ordering::Relaxed),
            invalidations: counters.invalidations.load(Ordering::Relaxed),
        }
    }

    /// Whether the line to the cache service is alive.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.0.line.is_alive()
    }

    fn start(
        &self,
        flights: &mut Flights<V>,
        key: &str,
        load: impl Future<Output = Result<Loaded<V>, Failure>> + Send + 'static,
    ) -> Flight<V> {
        self.0.counters.loads.fetch_add(1, Ordering::Relaxed);
        let order = flights.next;
        flights.next += 1;
        let key: Arc<str> = Arc::from(key);
        let (cache, own_key, asked) = (self.clone(), Arc::clone(&key), Instant::now());
        // A task of its own: a load that panics fails for its callers and not for all that come later.
        let load = tokio::spawn(carried(load));
        let flight = async move {
            let outcome = load.await.unwrap_or_else(|_| Err(broken_off()));
            cache.land(own_key, order, asked, outcome)
        }
        .boxed()
        .shared();
        tokio::spawn(flight.clone());
        flights.by_key.insert(key, (order, flight.clone()));
        flight
    }

    /// Ends a load. Its answer is kept only when nothing has invalidated it since it began.
    fn land(&self, key: Arc<str>, order: u64, asked: Instant, outcome: Result<Loaded<V>, Failure>) -> Result<V, Failure> {
        let mut flights = self.lock();
        let is_current = flights.by_key.get(&key).is_some_and(|(current, _)| *current == order);
        if is_current {
            flights.by_key.remove(&key);
        }
        let loaded = outcome?;
        if is_current {
            let entry = Entry { value: loaded.value.clone(), tags: loaded.tags.into(), asked, order };
            self.0.entries.insert(key, entry);
        }
        Ok(loaded.value)
    }

    fn lock(&self) -> MutexGuard<'_, Flights<V>> {
        self.0.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> fmt::Debug for NearCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearCache").field("options", &self.0.options).finish_non_exhaustive()
    }
}

/// The load as a part of the request and the trace that began it.
fn carried<T: 'static>(load: impl Future<Output = T> + Send + 'static) -> BoxFuture<'static, T> {
    match RequestContext::current() {
        Some(context) => context.scope(load).in_current_span().boxed(),
        None => load.in_current_span().boxed(),
    }
}

fn broken_off() -> Failure {
    Failure::new(ErrorKind::Internal, "internal", "a load broke off")
}
