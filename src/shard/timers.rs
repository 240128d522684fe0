//! Which accounts have something due, in order of (due time, account hash).

use std::collections::BTreeSet;

use super::accounts::Slot;
use crate::engine::Ms;

/// All timers at or before this place have fired. Ordered; written in the journal, so that a replay stops where the
/// fold stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Cursor {
    pub due: Ms,
    pub hash: u64,
}

impl Cursor {
    pub const START: Cursor = Cursor { due: Ms::MIN, hash: 0 };

    /// Everything due at or before `clock`.
    pub fn through(clock: Ms) -> Cursor {
        Cursor { due: clock, hash: u64::MAX }
    }
}

#[derive(Default)]
pub struct Timers {
    order: BTreeSet<(Ms, u64, Slot)>,
}

impl Timers {
    /// From a list in any order.
    pub fn of(list: Vec<(Ms, u64, Slot)>) -> Timers {
        Timers { order: list.into_iter().collect() }
    }

    pub fn arm(&mut self, due: Ms, hash: u64, slot: Slot) {
        self.order.insert((due, hash, slot));
    }

    pub fn disarm(&mut self, due: Ms, hash: u64, slot: Slot) {
        self.order.remove(&(due, hash, slot));
    }

    /// The first timer, if it stands at or before `limit`.
    pub fn first_through(&self, limit: Cursor) -> Option<(Ms, Slot)> {
        let (due, hash, slot) = *self.order.first()?;
        (Cursor { due, hash } <= limit).then_some((due, slot))
    }

    pub fn next_due(&self) -> Option<Ms> {
        self.order.first().map(|(due, _, _)| *due)
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
