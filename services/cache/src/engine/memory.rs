//! Values within a bound of bytes; the one not used for longest makes room.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Bus, CacheStore, Clock, Found, Invalidation, Stats,
    index::{Entry, Index},
};
use crate::{Error, Metrics};

/// What an entry costs beside its bytes: its places in the maps, roughly.
pub const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// The cache. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryCache {
    index: Arc<Mutex<Index>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    capacity_bytes: u64,
    bus: Bus,
}

impl MemoryCache {
    /// An empty cache of this size.
    #[must_use]
    pub fn new(capacity_bytes: u64, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { index: Arc::default(), clock, metrics, capacity_bytes, bus: Bus::new(true) }
    }

    /// The value of a key, unless its time is over.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Found> {
        let mut index = self.lock();
        let now = self.drop_ended(&mut index);
        let found = index.touch(key).map(|entry| Found {
            value: entry.value.clone(),
            ttl: entry.end_ms.map(|end| Duration::from_millis(end.saturating_sub(now))),
        });
        if found.is_some() {
            self.metrics.hits.inc();
        } else {
            self.metrics.misses.inc();
        }
        self.show(&index);
        found
    }

    /// Stores a value, for `ttl` or until room is needed. A value that is larger than the whole cache is
    /// not kept.
    pub fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, tags: &[String]) {
        let mut index = self.lock();
        let now = self.drop_ended(&mut index);
        self.metrics.sets.inc();
        index.remove(key);
        let tags: BTreeSet<Arc<str>> = tags.iter().map(|tag| Arc::from(tag.as_str())).collect();
        let bytes = key.len() + value.len() + tags.iter().map(|tag| tag.len()).sum::<usize>();
        let cost = ENTRY_OVERHEAD_BYTES + bytes as u64;
        if cost <= self.capacity_bytes {
            self.make_room(&mut index, cost);
            let end_ms = ttl.map(|ttl| now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
            // A value may be a slice of a whole request: a copy keeps only what is counted.
            let value = Bytes::copy_from_slice(value);
            index.insert(Arc::from(key), Entry::new(value, tags.into_iter().collect(), end_ms, cost));
        }
        self.show(&index);
    }

    /// Removes a key; false when it was not there.
    pub fn delete(&self, key: &str) -> bool {
        let mut index = self.lock();
        self.drop_ended(&mut index);
        let existed = index.remove(key).is_some();
        self.show(&index);
        existed
    }

    /// Removes everything; says how many.
    pub fn clear(&self) -> u64 {
        let mut index = self.lock();
        self.drop_ended(&mut index);
        let removed = index.len() as u64;
        *index = Index::default();
        self.show(&index);
        removed
    }

    /// Removes what has a tag; says how many.
    pub fn invalidate_tag(&self, tag: &str) -> u64 {
        self.remove_all(|index| index.keys_with_tag(tag))
    }

    /// Removes what has a key that begins so; says how many.
    pub fn invalidate_prefix(&self, prefix: &str) -> u64 {
        self.remove_all(|index| index.keys_with_prefix(prefix))
    }

    /// Counters since start, and what is held now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut index = self.lock();
        self.drop_ended(&mut index);
        self.show(&index);
        Stats {
            entries: index.len() as u64,
            size_bytes: index.size(),
            capacity_bytes: self.capacity_bytes,
            hits: self.metrics.hits.get(),
            misses: self.metrics.misses.get(),
            sets: self.metrics.sets.get(),
            evictions: self.metrics.evictions.get(),
            engine: "memory",
        }
    }

    fn remove_all(&self, keys: impl Fn(&Index) -> Vec<Arc<str>>) -> u64 {
        let mut index = self.lock();
        self.drop_ended(&mut index);
        let keys = keys(&index);
        for key in &keys {
            index.remove(key);
        }
        self.show(&index);
        keys.len() as u64
    }

    /// Each entry ends once, so that this costs little over time. Gives the time it went by.
    fn drop_ended(&self, index: &mut Index) -> u64 {
        let now = self.clock.now_ms();
        while let Some(key) = index.ended(now) {
            index.remove(&key);
            self.metrics.expirations.inc();
        }
        now
    }

    fn make_room(&self, index: &mut Index, cost: u64) {
        while index.size() + cost > self.capacity_bytes {
            let Some(key) = index.oldest() else { return };
            index.remove(&key);
            self.metrics.evictions.inc();
        }
    }

    fn show(&self, index: &Index) {
        self.metrics.entries.set(i64::try_from(index.len()).unwrap_or(i64::MAX));
        self.metrics.size_bytes.set(i64::try_from(index.size()).unwrap_or(i64::MAX));
    }

    /// A panic elsewhere can't leave the maps half changed for long: at worst a value is missing.
    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CacheStore for MemoryCache {
    async fn get(&self, key: &str) -> Result<Option<Found>, Error> {
        Ok(Self::get(self, key))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>, tags: &[String]) -> Result<(), Error> {
        Self::set(self, key, &value, ttl, tags);
        self.bus.tell(Invalidation::Key(key.to_owned()));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        let existed = Self::delete(self, key);
        self.bus.tell(Invalidation::Key(key.to_owned()));
        Ok(existed)
    }

    async fn clear(&self) -> Result<u64, Error> {
        let removed = Self::clear(self);
        self.bus.tell(Invalidation::Everything);
        Ok(removed)
    }

    async fn invalidate_tag(&self, tag: &str) -> Result<u64, Error> {
        let removed = Self::invalidate_tag(self, tag);
        self.bus.tell(Invalidation::Tag(tag.to_owned()));
        Ok(removed)
    }

    async fn invalidate_prefix(&self, prefix: &str) -> Result<u64, Error> {
        let removed = Self::invalidate_prefix(self, prefix);
        self.bus.tell(Invalidation::Prefix(prefix.to_owned()));
        Ok(removed)
    }

    async fn stats(&self) -> Result<Stats, Error> {
        Ok(Self::stats(self))
    }

    fn bus(&self) -> &Bus {
        &self.bus
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicU64, Ordering},
    };

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set { key: u8, size: u8, ttl: u8, tag: u8 },
        Get(u8),
        Delete(u8),
        Tag(u8),
        Prefix(u8),
        Wait(u8),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => (0..12_u8, 0..200_u8, 0..20_u8, 0..3_u8).prop_map(|(key, size, ttl, tag)| Step::Set { key, size, ttl, tag }),
            4 => (0..12_u8).prop_map(Step::Get),
            1 => (0..12_u8).prop_map(Step::Delete),
            1 => (0..3_u8).prop_map(Step::Tag),
            1 => (0..4_u8).prop_map(Step::Prefix),
            2 => (0..10_u8).prop_map(Step::Wait),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 0..200)
    }

    fn key(number: u8) -> String {
        format!("{}/{number}", number % 4)
    }

    /// The same cache as a list, oldest use first.
    #[derive(Debug, Default)]
    struct Model {
        rows: Vec<(String, u8, Option<u64>, String, u64)>,
        evictions: u64,
    }

    impl Model {
        fn take(&mut self, key: &str) -> Option<(String, u8, Option<u64>, String, u64)> {
            let place = self.rows.iter().position(|row| row.0 == key)?;
            Some(self.rows.remove(place))
        }

        fn set(&mut self, key: String, size: u8, end: Option<u64>, tag: String, capacity: u64) {
            self.take(&key);
            let cost = ENTRY_OVERHEAD_BYTES + (key.len() + usize::from(size) + tag.len()) as u64;
            while self.rows.iter().map(|row| row.4).sum::<u64>() + cost > capacity {
                self.rows.remove(0);
                self.evictions += 1;
            }
            self.rows.push((key, size, end, tag, cost));
        }

        fn remove_if(&mut self, gone: impl Fn(&(String, u8, Option<u64>, String, u64)) -> bool) -> u64 {
            let before = self.rows.len();
            self.rows.retain(|row| !gone(row));
            (before - self.rows.len()) as u64
        }
    }

    proptest! {
        #[test]
        fn whatever_is_done_the_cache_agrees_with_a_plain_list(steps in steps()) {
            const CAPACITY: u64 = 2_000;
            let clock = Arc::new(Hand::default());
            let store = MemoryCache::new(CAPACITY, clock.clone(), Metrics::default());
            let mut model = Model::default();
            for step in steps {
                let now = clock.now_ms();
                model.remove_if(|row| row.2.is_some_and(|end| end <= now));
                match step {
                    Step::Set { key: number, size, ttl, tag } => {
                        let ttl = (ttl != 0).then(|| Duration::from_millis(u64::from(ttl)));
                        let tag = format!("t{tag}");
                        store.set(&key(number), &vec![7; usize::from(size)], ttl, std::slice::from_ref(&tag));
                        let end = ttl.map(|ttl| now + u64::try_from(ttl.as_millis()).unwrap());
                        model.set(key(number), size, end, tag, CAPACITY);
                    }
                    Step::Get(number) => {
                        let expected = model.take(&key(number)).inspect(|row| model.rows.push(row.clone()));
                        let found = store.get(&key(number)).map(|found| (found.value.len(), found.ttl));
                        let left = |end: Option<u64>| end.map(|end| Duration::from_millis(end - now));
                        prop_assert_eq!(found, expected.map(|row| (usize::from(row.1), left(row.2))));
                    }
                    Step::Delete(number) => prop_assert_eq!(store.delete(&key(number)), model.take(&key(number)).is_some()),
                    Step::Tag(tag) => prop_assert_eq!(store.invalidate_tag(&format!("t{tag}")), model.remove_if(|row| row.3 == format!("t{tag}"))),
                    Step::Prefix(start) => prop_assert_eq!(store.invalidate_prefix(&format!("{start}/")), model.remove_if(|row| row.0.starts_with(&format!("{start}/")))),
                    Step::Wait(span) => { clock.0.fetch_add(u64::from(span), Ordering::SeqCst); }
                    Step::Clear => prop_assert_eq!(store.clear(), model.remove_if(|_| true)),
                }
                let now = clock.now_ms();
                model.remove_if(|row| row.2.is_some_and(|end| end <= now));
                let stats = store.stats();
                prop_assert_eq!(stats.entries, model.rows.len() as u64);
                prop_assert_eq!(stats.size_bytes, model.rows.iter().map(|row| row.4).sum::<u64>());
                prop_assert_eq!(stats.evictions, model.evictions);
                let ending = model.rows.iter().filter(|row| row.2.is_some()).count();
                prop_assert_eq!(store.lock().counts(), (model.rows.len(), model.rows.len(), ending, model.rows.len()));
            }
        }
    }

    #[test]
    fn a_value_is_over_when_its_time_is_and_not_before() {
        let clock = Arc::new(Hand::default());
        let store = MemoryCache::new(10_000, clock.clone(), Metrics::default());
        store.set("a", b"1", Some(Duration::from_millis(100)), &[]);
        clock.0.store(99, Ordering::SeqCst);
        assert_eq!(store.get("a"), Some(Found { value: "1".into(), ttl: Some(Duration::from_millis(1)) }));
        clock.0.store(100, Ordering::SeqCst);
        assert_eq!(store.get("a"), None);
        assert_eq!((store.stats().entries, store.stats().size_bytes, store.stats().evictions), (0, 0, 0));
    }

    #[test]
    fn a_value_larger_than_the_cache_is_not_kept_and_evicts_nothing() {
        let store = MemoryCache::new(1_000, Arc::new(Hand::default()), Metrics::default());
        store.set("small", b"1", None, &[]);
        store.set("large", &[0; 1_000], None, &[]);
        assert!(store.get("small").is_some());
        assert!(store.get("large").is_none());
    }

    #[test]
    fn many_threads_at_once_keep_the_bound_and_the_counts() {
        const THREADS: u64 = 8;
        const ROUNDS: u64 = 2_000;
        let store = MemoryCache::new(20_000, Arc::new(Hand::default()), Metrics::default());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let store = store.clone();
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let key = format!("{}/{}", round % 7, (round * 31 + thread) % 100);
                        store.set(&key, &vec![0; usize::try_from(round % 300).unwrap()], None, &[format!("t{}", round % 5)]);
                        let _ = store.get(&key);
                        if round % 50 == 0 {
                            store.invalidate_tag("t3");
                            store.invalidate_prefix("2/");
                        }
                        assert!(store.stats().size_bytes <= 20_000);
                    }
                });
            }
        });
        let stats = store.stats();
        assert_eq!((stats.sets, stats.hits + stats.misses), (THREADS * ROUNDS, THREADS * ROUNDS));
        let keys: BTreeMap<String, ()> = (0..7).flat_map(|a| (0..100).map(move |b| (format!("{a}/{b}"), ()))).collect();
        assert_eq!(keys.keys().filter(|key| store.get(key).is_some()).count() as u64, stats.entries);
        store.clear();
        assert_eq!(store.lock().counts(), (0, 0, 0, 0));
    }
}
