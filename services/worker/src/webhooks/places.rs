//! How many deliveries one account may have under way: its share of the lane.
//!
//! A claim passes over the jobs of accounts that have their share already; but it may take more of them at once than are free.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::engine::Lane;

/// Deliveries under way, by account. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    most: u32,
    taken: Arc<Mutex<HashMap<String, u32>>>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    owner: String,
}

impl Places {
    /// For so many deliveries of all accounts together.
    pub(super) fn of(all: u32) -> Self {
        Self { most: Lane::Deliveries.share_of_one(all), taken: Arc::default() }
    }

    /// A place for a delivery of `owner`, if it has one left.
    pub(super) fn take(&self, owner: &str) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(owner.to_owned()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), owner: owner.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_has_a_quarter_of_the_places_and_gives_them_back() {
        let places = Places::of(8);
        let held = [places.take("a"), places.take("a")];
        assert!(held.iter().all(Option::is_some) && places.take("a").is_none());
        assert!(places.take("b").is_some(), "others have theirs");
        drop(held);
        assert!(places.take("a").is_some());
        assert!(places.taken.lock().unwrap().is_empty(), "who has none is forgotten");
        assert!(Places::of(1).take("a").is_some());
    }
}
