//! The panes of a sliding window that counted something: 16 bytes each, oldest first.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::PANES;
use crate::engine::Amount;

/// Panes that are stored together: those of one group do not change once a newer one has begun, but by late records.
const PANES_OF_GROUP: i64 = 30;
/// Numbers of groups come again after so many; the panes of a window lie in at most 11.
pub const GROUPS: u32 = 16;
/// Fewer panes than this are stored as one.
const GROUPED_FROM: usize = 45;

/// Panes in order of their index. All of them lie within 300 of the newest, so that the low 16 bits of an index tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Panes {
    /// Index of the last pane, while there is one.
    newest: i64,
    panes: SmallVec<[Pane; 4]>,
}

/// An amount (under 2¹¹²: limits hold less than 10²⁰, which is 2⁹⁷ of its ninth decimal) above the low 16 bits of the index.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u16, u128)", into = "(u16, u128)")]
pub struct Pane {
    low: u64,
    high: u64,
}

impl Panes {
    pub fn fetch(&self) -> u64 {
        self.newest as u64
    }

    pub fn fetch_ends(&self) -> u64 {
        let ends = [self.panes.first(), self.panes.last()];
        ends.iter().flatten().fold(0, |sum, pane| sum ^ pane.low)
    }

    pub fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// Adds to the pane `index`, which must not be older than the window's oldest.
    pub fn add(&mut self, index: i64, amount: Amount) {
        if self.panes.is_empty() || index > self.newest {
            self.make_room();
            self.newest = index;
            self.panes.push(Pane::new(index, amount));
            return;
        }
        let newest = self.newest;
        if index == newest
            && let Some(last) = self.panes.last_mut()
        {
            last.add(amount);
            return;
        }
        match self.panes.binary_search_by(|pane| pane.index(newest).cmp(&index)) {
            Ok(place) => self.panes[place].add(amount),
            Err(place) => {
                self.make_room();
                self.panes.insert(place, Pane::new(index, amount));
            }
        }
    }

    /// What the panes before `oldest` hold.
    pub fn held_before(&self, oldest: i64) -> Amount {
        let leave = self.panes.iter().take_while(|pane| pane.index(self.newest) < oldest);
        leave.map(|pane| pane.amount()).sum()
    }

    /// Drops the panes before `oldest`; gives what they held.
    pub fn evict(&mut self, oldest: i64) -> Amount {
        let newest = self.newest;
        let leave = self.panes.iter().take_while(|pane| pane.index(newest) < oldest).count();
        if leave == 0 { Amount::ZERO } else { self.panes.drain(..leave).map(Pane::amount).sum() }
    }

    /// Of panes that hold `used` ≥ `cap`: the index of the first pane after whose leaving less than `cap` is held. Walks from
    /// the end that is nearer.
    pub fn restored_by(&self, used: Amount, cap: Amount) -> Option<i64> {
        if used - cap < cap {
            let mut left = used;
            let leaving = self.panes.iter().find(|pane| {
                left -= pane.amount();
                left < cap
            });
            return leaving.map(|pane| pane.index(self.newest));
        }
        let mut kept = Amount::ZERO;
        let leaving = self.panes.iter().rev().find(|pane| {
            kept += pane.amount();
            kept >= cap
        });
        leaving.filter(|_| cap.is_positive()).map(|pane| pane.index(self.newest))
    }

    /// Where there are many: all groups but the newest, each with its number, oldest first.
    pub fn older_groups(&self) -> Vec<(u32, Vec<Pane>)> {
        let mut groups: Vec<(u32, Vec<Pane>)> = Vec::new();
        if self.panes.len() < GROUPED_FROM {
            return groups;
        }
        for pane in &self.panes[..self.older_len()] {
            let number = (pane.index(self.newest) / PANES_OF_GROUP) as u32 % GROUPS;
            match groups.last_mut().filter(|(last, _)| *last == number) {
                Some((_, group)) => group.push(*pane),
                None => groups.push((number, vec![*pane])),
            }
        }
        groups
    }

    /// Keeps only the panes that [`Panes::older_groups`] does not give.
    pub fn keep_newest_group(&mut self) {
        self.panes.drain(..self.older_len());
    }

    /// How many panes are not of the newest group.
    fn older_len(&self) -> usize {
        let begins = self.newest / PANES_OF_GROUP * PANES_OF_GROUP;
        self.panes.partition_point(|pane| pane.index(self.newest) < begins)
    }

    /// Puts back panes of older groups, in any order.
    pub fn join(&mut self, older: Vec<Pane>) {
        let mut all = older;
        all.extend(&self.panes);
        all.sort_by_key(|pane| pane.index(self.newest));
        self.panes = all.into();
    }

    /// Grows by doubling, but never past what a window can hold.
    fn make_room(&mut self) {
        let length = self.panes.len();
        if length == self.panes.capacity() {
            let room = length.clamp(2, (PANES as usize).saturating_sub(length).max(2));
            self.panes.reserve_exact(room);
        }
    }
}

impl Pane {
    fn new(index: i64, amount: Amount) -> Pane {
        Pane::from((index as u16, amount.nanos() as u128))
    }

    fn amount(self) -> Amount {
        Amount::from_nanos(((u128::from(self.high) << 64 | u128::from(self.low)) >> 16) as i128)
    }

    fn index(self, newest: i64) -> i64 {
        newest - i64::from((newest as u16).wrapping_sub(self.low as u16))
    }

    fn add(&mut self, amount: Amount) {
        *self = Pane::from((self.low as u16, (self.amount() + amount).nanos() as u128));
    }
}

impl From<(u16, u128)> for Pane {
    fn from((slot, nanos): (u16, u128)) -> Pane {
        let bits = nanos << 16 | u128::from(slot);
        Pane { low: bits as u64, high: (bits >> 64) as u64 }
    }
}

impl From<Pane> for (u16, u128) {
    fn from(pane: Pane) -> (u16, u128) {
        (pane.low as u16, pane.amount().nanos() as u128)
    }
}

impl std::fmt::Debug for Pane {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {:?}", self.low as u16, self.amount())
    }
}
