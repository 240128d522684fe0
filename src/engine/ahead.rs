//! Reading a word of each block of an account ahead of its use, step by step from the account outwards; see
//! `shard/ahead.rs`. Each step may wait only for what the one before has fetched. What is given is of no use.

use super::account::{Account, State};
use super::users::UserIndex;

/// Limits that are looked at: plans rarely have more.
const LIMITS: usize = 6;
/// Users that are looked at: of more, those at the front help to find the rest.
const USERS: usize = 16;

impl Account {
    /// The state itself.
    pub fn fetch(&self) -> u64 {
        self.state.as_deref().map_or(0, State::fetch)
    }

    /// The lists that begin in it.
    pub fn fetch_lists(&self) -> u64 {
        self.state.as_deref().map_or(0, State::fetch_lists)
    }

    /// The index of a user, if it is known; its name is not looked at.
    pub fn likely_user(&self, name: &str) -> Option<UserIndex> {
        self.state.as_deref()?.users.likely(name)
    }

    /// What the lists' entries own, and those of a user.
    pub fn fetch_entries(&self, user: Option<UserIndex>) -> u64 {
        self.state.as_deref().map_or(0, |state| state.fetch_entries(user))
    }

    /// All users, and what was counted for them.
    pub fn fetch_users(&self) -> u64 {
        let Some(state) = self.state.as_deref() else { return 0 };
        let users = state.users.iter().take(USERS);
        users.fold(state.totals.fetch_users(USERS), |sum, user| sum ^ u64::from(user.appeared.0))
    }

    /// What is behind the entries.
    pub fn fetch_ends(&self, user: Option<UserIndex>) -> u64 {
        self.state.as_deref().map_or(0, |state| state.fetch_ends(user))
    }
}

impl State {
    /// Words of all its cache lines.
    fn fetch(&self) -> u64 {
        let times = self.start ^ self.period.span.start ^ self.subscription.start;
        let amounts = self.bulk.nanos() ^ self.pool.nanos() ^ self.subscription.usage.nanos();
        let lengths = self.limits.len() ^ self.balances.len() ^ self.users.len() ^ self.totals.months().len();
        times as u64 ^ amounts as u64 ^ lengths as u64 ^ self.period.recorded.records
    }

    fn fetch_lists(&self) -> u64 {
        let limits = self.limits.iter().take(LIMITS).fold(0, |sum, limit| sum ^ limit.timer as u64);
        let balance =
            self.balances.first().map_or(0, |balance| balance.next_expiry as u64 ^ balance.held.nanos() as u64);
        limits ^ balance ^ self.totals.fetch() ^ self.period.recorded.fetch_kinds()
    }

    fn fetch_entries(&self, user: Option<UserIndex>) -> u64 {
        let panes = self.limits.iter().take(LIMITS).fold(0, |sum, limit| sum ^ limit.counter.fetch());
        let grant = self.balances.first().and_then(|balance| balance.grants().first());
        let grant = grant.map_or(0, |grant| grant.effective_at as u64 ^ u64::from(grant.priority));
        let of_user = user.map_or(0, |user| u64::from(self.users.get(user).appeared.0));
        panes ^ grant ^ of_user ^ self.totals.fetch_tables(user) ^ self.period.recorded.fetch_cells()
    }

    fn fetch_ends(&self, user: Option<UserIndex>) -> u64 {
        let panes = self.limits.iter().take(LIMITS).fold(0, |sum, limit| sum ^ limit.counter.fetch_panes());
        let name = user.and_then(|user| self.users.get(user).name.as_bytes().first());
        panes ^ name.map_or(0, |byte| u64::from(*byte)) ^ self.totals.fetch_cells()
    }
}
