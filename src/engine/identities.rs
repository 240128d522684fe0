//! The identities of the commands that an account processed (docs/reference.md 4): remembered for 35 days.

use std::collections::VecDeque;
use std::hash::Hasher;

use hashbrown::HashSet;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::Ms;

const REMEMBERED_MS: i64 = 35 * 86_400_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Identities {
    /// In the order in which they were processed, with the clock at which it happened.
    queue: VecDeque<(u128, Ms)>,
    known: HashSet<u128>,
}

impl Identities {
    /// Whether `identity` was processed less than 35 days before `clock`.
    pub fn contains(&self, identity: u128, clock: Ms) -> bool {
        self.known.contains(&identity)
            && self.queue.iter().any(|(known, at)| *known == identity && clock < at + REMEMBERED_MS)
    }

    /// Remembers `identity`, and forgets those that are over.
    pub fn insert(&mut self, identity: u128, clock: Ms) {
        while let Some((old, at)) = self.queue.front().copied()
            && clock >= at + REMEMBERED_MS
        {
            self.queue.pop_front();
            self.known.remove(&old);
        }
        if self.known.insert(identity) {
            self.queue.push_back((identity, clock));
        }
    }

    /// Those remembered, oldest first, with the clock at which they were processed.
    pub fn iter(&self) -> impl Iterator<Item = (u128, Ms)> {
        self.queue.iter().copied()
    }
}

/// What names a command: a keyed hash of source and id, with the length of the source before them.
pub(crate) fn identity(source: &str, id: &str) -> u128 {
    let mut hasher = SipHasher24::new_with_keys(0x6d65_7465_7264_2063, 0x6f6d_6d61_6e64_2069);
    hasher.write(&(source.len() as u64).to_le_bytes());
    hasher.write(source.as_bytes());
    hasher.write(id.as_bytes());
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_remembered_for_35_days() {
        let mut identities = Identities::default();
        identities.insert(identity("billing", "c1"), 0);
        identities.insert(identity("billing", "c2"), 10);
        for (what, source, id, clock, expect) in [
            ("known", "billing", "c1", REMEMBERED_MS - 1, true),
            ("over", "billing", "c1", REMEMBERED_MS, false),
            ("younger", "billing", "c2", REMEMBERED_MS, true),
            ("another source", "billin", "gc1", 0, false),
        ] {
            assert_eq!(identities.contains(identity(source, id), clock), expect, "{what}");
        }
        identities.insert(identity("billing", "c1"), REMEMBERED_MS);
        assert_eq!(identities.iter().count(), 2, "the one that was over made room");
        assert!(identities.contains(identity("billing", "c1"), 2 * REMEMBERED_MS - 1));
    }
}
