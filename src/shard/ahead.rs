//! Fetching from memory what a group of records will need, before they are folded one after the other; or what a group of
//! accounts needs to be encoded.
//!
//! An account's state is a tree of blocks. Followed for one record, each step waits for the one before; followed for all
//! records of a group at once, step by step, the processor has the blocks of many accounts on their way at the same time.
//! What is read is of no use but that it was read.

use super::accounts::{Slot, Warm};
use super::partition::{GROUP, Partition, Read};
use crate::engine::users::UserIndex;

#[derive(Clone, Copy)]
struct Wanted<'r, 's> {
    slot: Slot,
    user: Option<&'r str>,
    warm: Option<&'s Option<Warm>>,
    index: Option<UserIndex>,
}

impl Partition {
    /// Reads a word of each part of the state that these records will need, at most [`GROUP`] of them.
    pub fn fetch<'r, 's, 'a: 'r>(&'s self, reads: impl Iterator<Item = &'r Read<'a>>) {
        let mut sum = 0;
        let mut all = [Wanted { slot: 0, user: None, warm: None, index: None }; GROUP];
        let mut count = 0;
        for (read, wanted) in reads.zip(&mut all) {
            sum ^= self.identities.fetch(read.identity);
            *wanted = Wanted { slot: self.accounts.likely(read.hash), user: read.input.user, ..*wanted };
            count += 1;
        }
        std::hint::black_box(sum ^ self.fetch_accounts(&mut all[..count]));
    }

    /// Reads a word of each part of the accounts that are to be encoded next, at most [`GROUP`] of them.
    pub(super) fn fetch_dirty(&self) {
        let mut all = [Wanted { slot: 0, user: None, warm: None, index: None }; GROUP];
        let mut count = 0;
        for (&(slot, _), wanted) in self.dirty.iter().zip(&mut all) {
            wanted.slot = slot;
            count += 1;
        }
        let group = &mut all[..count];
        let sum = self.fetch_accounts(group);
        let accounts = group.iter().filter_map(|wanted| wanted.warm.and_then(Option::as_ref));
        std::hint::black_box(accounts.fold(sum, |sum, warm| sum ^ warm.account.fetch_users()));
    }

    fn fetch_accounts<'s>(&'s self, group: &mut [Wanted<'_, 's>]) -> u64 {
        let mut sum = 0;
        for wanted in &mut *group {
            wanted.warm = self.accounts.place(wanted.slot);
        }
        let warm = |wanted: &Wanted<'_, 's>| wanted.warm.and_then(Option::as_ref);
        for wanted in &*group {
            sum ^= warm(wanted).map_or(0, |warm| warm.armed as u64);
        }
        for wanted in &*group {
            let Some(warm) = warm(wanted) else { continue };
            sum ^= warm.account.fetch() ^ warm.id.as_bytes().first().map_or(0, |byte| u64::from(*byte));
        }
        for wanted in &mut *group {
            let Some(account) = warm(wanted).map(|warm| &warm.account) else { continue };
            sum ^= account.fetch_lists();
            wanted.index = wanted.user.and_then(|name| account.likely_user(name));
        }
        for wanted in &*group {
            sum ^= warm(wanted).map_or(0, |warm| warm.account.fetch_entries(wanted.index));
        }
        for wanted in &*group {
            sum ^= warm(wanted).map_or(0, |warm| warm.account.fetch_ends(wanted.index));
        }
        sum
    }
}
