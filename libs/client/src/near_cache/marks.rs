//! When tags were last invalidated.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

/// Tags that are remembered. Beyond them, everything is dropped: forgetting one would keep a stale answer.
const MAX_TAGS: usize = 10_000;

/// An answer is good when none of its tags was invalidated after its load began.
#[derive(Debug, Default)]
pub(super) struct Marks(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    by_tag: HashMap<String, u64>,
    floor: u64,
}

impl Marks {
    pub(super) fn allow(&self, order: u64, tags: &[String]) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        order > known.floor && tags.iter().all(|tag| known.by_tag.get(tag).is_none_or(|mark| order > *mark))
    }

    pub(super) fn tag(&self, tag: &str, order: u64) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.by_tag.len() >= MAX_TAGS && !known.by_tag.contains_key(tag) {
            known.by_tag.clear();
            known.floor = order;
            return;
        }
        known.by_tag.insert(tag.to_owned(), order);
    }

    pub(super) fn everything(&self, order: u64) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.by_tag.clear();
        known.floor = order;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_tags_than_are_remembered_drop_everything_older() {
        let marks = Marks::default();
        for number in 0..=MAX_TAGS as u64 {
            marks.tag(&number.to_string(), 100 + number);
        }
        let last = 100 + MAX_TAGS as u64;
        assert!(!marks.allow(last, &[]) && !marks.allow(50, &["other".into()]));
        assert!(marks.allow(last + 1, &["0".into()]));
    }
}
