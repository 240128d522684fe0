//! The memory that accounts and identities of all partitions together may take before accounts that are not used grow cold.
//!
//! Identities cannot be given up before `late` has passed, so it is accounts that make room for them. A quarter is the
//! accounts' own: where identities alone take everything, accounts that are in use would be packed and unpacked at each
//! touch, which saves little and costs much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A share is told to the others once it changed by so much.
const TELL_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    accounts: AtomicUsize,
    identities: AtomicUsize,
    /// That identities alone exceed it was asked for and answered.
    told: AtomicBool,
}

/// What one partition takes; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    told: Taken,
}

/// Bytes of memory, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub accounts: usize,
    pub identities: usize,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget {
            bytes_max,
            accounts: AtomicUsize::new(0),
            identities: AtomicUsize::new(0),
            told: AtomicBool::new(false),
        })
    }

    /// The share of another partition, which takes nothing yet.
    pub fn share(self: &Arc<Budget>) -> Share {
        Share { budget: Arc::clone(self), told: Taken::default() }
    }
}

impl Share {
    /// Notes what the partition takes now.
    pub fn set(&mut self, taken: Taken) {
        let differs = |now: usize, told: usize| now.abs_diff(told) >= TELL_BYTES;
        if differs(taken.accounts, self.told.accounts) || differs(taken.identities, self.told.identities) {
            self.tell(taken);
        }
    }

    /// More is used than there is.
    pub fn is_short(&self) -> bool {
        let Budget { bytes_max, accounts, identities, .. } = &*self.budget;
        let identities = identities.load(Ordering::Relaxed).min(bytes_max / 4 * 3);
        accounts.load(Ordering::Relaxed) + identities > *bytes_max
    }

    /// The bytes of all identities and the most that there is, once, where they alone exceed it.
    pub fn overrun(&self) -> Option<(usize, usize)> {
        let Budget { bytes_max, identities, told, .. } = &*self.budget;
        let identities = identities.load(Ordering::Relaxed);
        let first = identities > *bytes_max && !told.swap(true, Ordering::Relaxed);
        first.then_some((identities, *bytes_max))
    }

    fn tell(&mut self, taken: Taken) {
        let Taken { accounts, identities } = std::mem::replace(&mut self.told, taken);
        for (sum, now, told) in
            [(&self.budget.accounts, taken.accounts, accounts), (&self.budget.identities, taken.identities, identities)]
        {
            sum.fetch_add(now, Ordering::Relaxed);
            sum.fetch_sub(told, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.tell(Taken::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(bytes: usize) -> Taken {
        Taken { accounts: bytes, identities: 0 }
    }

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Budget::new(1 << 20);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.set(accounts(600 << 10));
        assert!(!other.is_short());
        other.set(accounts(500 << 10));
        assert!(one.is_short());
        drop(other);
        assert!(!one.is_short());
    }

    #[test]
    fn identities_leave_accounts_a_quarter_and_their_overrun_is_told_once() {
        let budget = Budget::new(1 << 20);
        let mut share = budget.share();
        share.set(Taken { accounts: 600 << 10, identities: 500 << 10 });
        assert!(share.is_short(), "identities are not counted");
        assert_eq!(share.overrun(), None);
        share.set(Taken { accounts: 200 << 10, identities: 9 << 20 });
        assert!(!share.is_short(), "nothing is left for accounts");
        assert_eq!(share.overrun(), Some((9 << 20, 1 << 20)));
        assert_eq!(share.overrun(), None);
        share.set(Taken { accounts: 300 << 10, identities: 9 << 20 });
        assert!(share.is_short());
    }
}
