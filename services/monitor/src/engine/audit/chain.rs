//! How entries hang together: each is hashed with the hash of the one before it.

use sha2::{Digest as _, Sha256};
use streamgate_core::time::UnixMillis;

/// One entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Entry {
    /// 1 for the first, without a gap.
    pub sequence: i64,
    /// Unique; given by the service that noted it.
    pub entry_id: String,
    /// When the call was answered.
    pub time_ms: UnixMillis,
    /// The service that answered.
    pub service: String,
    /// The RPC.
    pub method: String,
    /// Who called.
    pub actor: String,
    /// Its role.
    pub actor_role: String,
    /// Its wallet.
    pub actor_wallet: String,
    /// What it was done to.
    pub object: String,
    /// Number of the outcome on the wire.
    pub outcome: i64,
    /// Why it was refused or failed.
    pub reason: String,
    /// The request.
    pub request_id: String,
    /// Calls that could not be noted before this one.
    pub missing_before: i64,
    /// Hash of the entry before it.
    pub previous_hash: String,
    /// Hash of this one.
    pub hash: String,
}

impl Entry {
    /// Puts the entry behind the one with `previous` as its hash.
    #[must_use]
    pub fn chained(mut self, sequence: i64, previous: &str) -> Self {
        self.sequence = sequence;
        previous.clone_into(&mut self.previous_hash);
        self.hash = self.digest();
        self
    }

    /// The hash that the entry must have. Each part is hashed with its length, so that no two
    /// entries have the same bytes.
    #[must_use]
    pub fn digest(&self) -> String {
        let numbers = [self.sequence, self.time_ms, self.outcome, self.missing_before];
        let texts = [
            &self.previous_hash,
            &self.entry_id,
            &self.service,
            &self.method,
            &self.actor,
            &self.actor_role,
            &self.actor_wallet,
            &self.object,
            &self.reason,
            &self.request_id,
        ];
        let mut hasher = Sha256::new();
        hasher.update(b"streamgate.audit.v1");
        for number in numbers {
            hasher.update(number.to_be_bytes());
        }
        for text in texts {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        hex::encode(hasher.finalize())
    }
}

/// Walks entries in their order, and stops at the first that does not fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// The last entry that fits; what an earlier walk came to, or 0, at first.
    pub sequence: i64,
    /// Its hash.
    pub hash: String,
}

impl Walk {
    /// Takes the next entry.
    ///
    /// # Errors
    /// In words, what does not fit.
    pub fn step(&mut self, entry: &Entry) -> Result<(), String> {
        let expected = self.sequence + 1;
        if entry.sequence != expected {
            return Err(format!("entry {expected} is missing"));
        }
        if entry.previous_hash != self.hash {
            return Err(format!("entry {expected} does not follow the entry before it"));
        }
        if entry.hash != entry.digest() {
            return Err(format!("entry {expected} was changed after it was written"));
        }
        self.sequence = expected;
        self.hash.clone_from(&entry.hash);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            sequence: 0,
            entry_id: id.into(),
            time_ms: 1,
            service: "metadata".into(),
            method: "/a.B/Set".into(),
            actor: "account:acc_1".into(),
            actor_role: "creator".into(),
            actor_wallet: String::new(),
            object: "content_id=cnt_1".into(),
            outcome: 1,
            reason: String::new(),
            request_id: "r".into(),
            missing_before: 0,
            previous_hash: String::new(),
            hash: String::new(),
        }
    }

    fn chain(count: i64) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for sequence in 1..=count {
            let previous = entries.last().map_or(String::new(), |last| last.hash.clone());
            entries.push(entry(&format!("aud_{sequence}")).chained(sequence, &previous));
        }
        entries
    }

    fn first_broken(entries: &[Entry]) -> Option<i64> {
        let mut walk = Walk::default();
        entries.iter().find(|entry| walk.step(entry).is_err()).map(|entry| entry.sequence)
    }

    #[test]
    fn an_unbroken_chain_is_walked_to_its_end() {
        assert_eq!(first_broken(&chain(20)), None);
    }

    #[test]
    fn text_can_t_move_from_one_part_to_the_next_without_changing_the_hash() {
        let (mut a, mut b) = (entry("x"), entry("x"));
        (a.actor, a.actor_role) = ("ab".into(), "c".into());
        (b.actor, b.actor_role) = ("a".into(), "bc".into());
        assert_ne!(a.digest(), b.digest());
    }

    proptest! {
        #[test]
        fn any_change_of_any_part_is_found_where_it_was_made(at in 0_usize..10, part in 0_u8..12, recompute: bool) {
            let mut entries = chain(10);
            let changed = &mut entries[at];
            match part {
                0 => changed.entry_id.push('x'),
                1 => changed.time_ms += 1,
                2 => changed.service.push('x'),
                3 => changed.method.push('x'),
                4 => changed.actor.push('x'),
                5 => changed.actor_role.push('x'),
                6 => changed.actor_wallet.push('x'),
                7 => changed.object.push('x'),
                8 => changed.outcome += 1,
                9 => changed.reason.push('x'),
                10 => changed.request_id.push('x'),
                _ => changed.missing_before += 1,
            }
            if recompute && at < 9 {
                changed.hash = changed.digest();
                prop_assert_eq!(first_broken(&entries), Some(at as i64 + 2), "the next entry does not follow any more");
            } else if !recompute {
                prop_assert_eq!(first_broken(&entries), Some(at as i64 + 1));
            }
        }
    }
}
