//! Entries with every way to find them: by key, prefix, tag, end of life, and last use.
//!
//! [`Index::insert`] and [`Index::remove`] are the only two places that touch the maps, so that no
//! way to an entry outlives it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

/// One value and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    pub(super) tags: Vec<Arc<str>>,
    /// First moment at which it is over.
    pub(super) end_ms: Option<u64>,
    pub(super) cost: u64,
    last_use: u64,
}

impl Entry {
    pub(super) const fn new(value: Bytes, tags: Vec<Arc<str>>, end_ms: Option<u64>, cost: u64) -> Self {
        Self { value, tags, end_ms, cost, last_use: 0 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    by_key: BTreeMap<Arc<str>, Entry>,
    by_use: BTreeMap<u64, Arc<str>>,
    by_end: BTreeSet<(u64, Arc<str>)>,
    by_tag: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    size: u64,
    uses: u64,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Cost of all entries together.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Adds an entry under a key that is free.
    pub(super) fn insert(&mut self, key: Arc<str>, mut entry: Entry) {
        self.uses += 1;
        entry.last_use = self.uses;
        self.size += entry.cost;
        self.by_use.insert(self.uses, Arc::clone(&key));
        if let Some(end) = entry.end_ms {
            self.by_end.insert((end, Arc::clone(&key)));
        }
        for tag in &entry.tags {
            self.by_tag.entry(Arc::clone(tag)).or_default().insert(Arc::clone(&key));
        }
        self.by_key.insert(key, entry);
    }

    /// Takes an entry out, with every way to it.
    pub(super) fn remove(&mut self, key: &str) -> Option<Entry> {
        let (key, entry) = self.by_key.remove_entry(key)?;
        self.size -= entry.cost;
        self.by_use.remove(&entry.last_use);
        for tag in &entry.tags {
            if let Some(keys) = self.by_tag.get_mut(tag) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.by_tag.remove(tag);
                }
            }
        }
        if let Some(end) = entry.end_ms {
            self.by_end.remove(&(end, key));
        }
        Some(entry)
    }

    /// The entry of a key, which counts as a use of it.
    pub(super) fn touch(&mut self, key: &str) -> Option<&Entry> {
        let entry = self.by_key.get_mut(key)?;
        self.uses += 1;
        if let Some(key) = self.by_use.remove(&entry.last_use) {
            self.by_use.insert(self.uses, key);
        }
        entry.last_use = self.uses;
        Some(entry)
    }

    /// The key that was not used for longest.
    pub(super) fn oldest(&self) -> Option<Arc<str>> {
        self.by_use.first_key_value().map(|(_, key)| Arc::clone(key))
    }

    /// A key whose time is over at `now`.
    pub(super) fn ended(&self, now: u64) -> Option<Arc<str>> {
        self.by_end.first().filter(|(end, _)| *end <= now).map(|(_, key)| Arc::clone(key))
    }

    pub(super) fn keys_with_tag(&self, tag: &str) -> Vec<Arc<str>> {
        self.by_tag.get(tag).map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn keys_with_prefix(&self, prefix: &str) -> Vec<Arc<str>> {
        self.by_key
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Entries, uses, ends and tags that are kept; for the test that they agree.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize, usize) {
        (self.by_key.len(), self.by_use.len(), self.by_end.len(), self.by_tag.values().map(BTreeSet::len).sum())
    }
}
