//! Which partitions this instance owns, and in which epoch.
//!
//! An epoch is ours: it rises with each assignment of a partition and ends with its revocation, both inside the
//! rebalance callback. Everything that is queued for a partition carries the epoch it was made in; what carries a dead
//! one is dropped, never sent (the broker checks the group's generation, not who owns a partition).
//!
//! It belongs to the membership that the partition was assigned to. A member that was gone for too long joins again under
//! another id, and the client knows its generation before it tells that the partitions of the former one are lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Ownership {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    epochs: BTreeMap<i32, Held>,
}

#[derive(Debug)]
struct Held {
    epoch: u64,
    /// Id of the group's member that the partition was assigned to.
    member: Arc<str>,
}

impl Ownership {
    /// The partition was assigned to this member of the group: its epoch.
    pub fn assign(&self, partition: i32, member: &str) -> u64 {
        let mut state = self.lock();
        state.last += 1;
        let epoch = state.last;
        state.epochs.insert(partition, Held { epoch, member: member.into() });
        epoch
    }

    /// A new epoch for a partition that is still held in this one; none: it was taken.
    pub fn renew(&self, partition: i32, epoch: u64) -> Option<u64> {
        let mut state = self.lock();
        let member = Arc::clone(&state.epochs.get(&partition).filter(|held| held.epoch == epoch)?.member);
        state.last += 1;
        let renewed = state.last;
        state.epochs.insert(partition, Held { epoch: renewed, member });
        Some(renewed)
    }

    /// The partition was taken.
    pub fn revoke(&self, partition: i32) {
        self.lock().epochs.remove(&partition);
    }

    pub fn holds(&self, partition: i32, epoch: u64) -> bool {
        self.lock().epochs.get(&partition).is_some_and(|held| held.epoch == epoch)
    }

    /// Whether the partition is held in this epoch, and was assigned to this member of the group.
    pub fn holds_as(&self, partition: i32, epoch: u64, member: &str) -> bool {
        self.lock().epochs.get(&partition).is_some_and(|held| held.epoch == epoch && *held.member == *member)
    }

    /// The partition that is still held in this epoch is another member's from here on.
    pub fn adopt(&self, partition: i32, epoch: u64, member: &str) {
        if let Some(held) = self.lock().epochs.get_mut(&partition).filter(|held| held.epoch == epoch) {
            held.member = member.into();
        }
    }

    pub fn epoch(&self, partition: i32) -> Option<u64> {
        self.lock().epochs.get(&partition).map(|held| held.epoch)
    }

    pub fn partitions(&self) -> Vec<i32> {
        self.lock().epochs.keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every write leaves the state whole, so a panic elsewhere takes nothing from it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_with_its_assignment() {
        let ownership = Ownership::default();
        let first = ownership.assign(3, "m1");
        assert!(ownership.holds(3, first) && ownership.holds_as(3, first, "m1"));
        assert!(!ownership.holds_as(3, first, "m2") && !ownership.holds_as(4, first, "m1"));
        ownership.revoke(3);
        assert!(!ownership.holds(3, first));
        let second = ownership.assign(3, "m2");
        assert!(second > first && ownership.holds(3, second) && !ownership.holds(3, first));
        assert_eq!(ownership.renew(3, first), None);
        let third = ownership.renew(3, second).expect("it is held");
        assert!(third > second && ownership.holds_as(3, third, "m2") && !ownership.holds(3, second));
        assert_eq!(ownership.partitions(), [3]);
    }
}
