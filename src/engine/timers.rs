//! Which timers of an account are due, and firing them (docs/reference.md 6.1).
//!
//! All timers due at one instant act as one input. They fire in the order of their kinds, and again until none is due, as
//! one may arm another for an instant that has passed; then limits and balances are evaluated once.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Ms;
use super::account::{Account, State};
use super::catalog::{Catalog, LimitIndex};
use super::catalogs::Catalogs;
use super::changes::{Changes, Step};
use super::effects::{Cause, Effects, Timer};
use super::limits::Why;
use super::take_up::take_up;
use super::users::UserIndex;

/// The windows that end, or slide to where something is told, by time. Entries that no longer hold stay until they come up.
#[derive(Clone, Debug, Default)]
pub(crate) struct WindowTimers {
    /// The earliest: every input looks at it.
    first: Option<WindowTimer>,
    #[expect(clippy::box_collection, reason = "most accounts have one timer or none: the heap's own 24 bytes count")]
    rest: Option<Box<BinaryHeap<Reverse<WindowTimer>>>>,
}

type WindowTimer = (Ms, LimitIndex, UserIndex);

impl WindowTimers {
    fn push(&mut self, timer: WindowTimer) {
        let later = match self.first {
            Some(first) if first <= timer => timer,
            earlier => {
                self.first = Some(timer);
                let Some(later) = earlier else { return };
                later
            }
        };
        self.rest.get_or_insert_default().push(Reverse(later));
    }

    fn pop(&mut self) {
        self.first = self.rest.as_mut().and_then(|rest| rest.pop()).map(|Reverse(timer)| timer);
    }
}

/// Fires what is due by `clock`. What was due before `from` is due then.
pub(crate) fn fire_due(
    account: &mut Account,
    catalogs: &Catalogs,
    changes: &mut Changes,
    (from, clock): (Ms, Ms),
    fx: &mut Effects,
) {
    let mut now = from;
    while let Some(due) = account.due
        && due <= clock
    {
        now = now.max(due);
        let Some(state) = &mut account.state else { return };
        let mut step = Step { catalogs, catalog: catalogs.current(), now, changes };
        let first = state.fire(&mut step).expect("an account's due time is that of a timer that fires");
        state.finish(&mut step, fx);
        let plan = &catalogs.current().plans[usize::from(state.plan)].name;
        changes.emit(&mut account.sequence, Some(plan), now, Cause::Timer(first), fx);
        account.due = state.find_due(catalogs.current());
    }
}

/// The account as its timers would have made it by `clock`. Nothing is told.
pub(crate) fn as_of<'a>(account: &'a Account, catalogs: &Catalogs, clock: Ms) -> Cow<'a, Account> {
    let current = account.state.as_ref().is_none_or(|state| state.catalog as usize == catalogs.current_index());
    if current && account.due.is_none_or(|due| due > clock) {
        return Cow::Borrowed(account);
    }
    let mut account = account.clone();
    let (mut changes, mut fx) = (Changes::default(), Effects::default());
    take_up(&mut account, catalogs, &mut changes, clock, &mut fx);
    fire_due(&mut account, catalogs, &mut changes, (Ms::MIN, clock), &mut fx);
    Cow::Owned(account)
}

impl State {
    /// When the next timer is due.
    pub fn find_due(&mut self, catalog: &Catalog) -> Option<Ms> {
        let mut due = self.turn_due().unwrap_or(Ms::MAX);
        for balance in &self.balances {
            due = due.min(balance.next_expiry).min(balance.closes_at(catalog.late_ms).unwrap_or(Ms::MAX));
        }
        for period in &self.ended {
            due = due.min(period.closes_at(catalog.late_ms));
        }
        due = due.min(self.next_window(catalog).unwrap_or(Ms::MAX));
        if let Some(rare) = &self.rare {
            due = due.min(rare.grace_until.unwrap_or(Ms::MAX)).min(rare.sessions.next_due().unwrap_or(Ms::MAX));
        }
        (due != Ms::MAX).then_some(due)
    }

    /// Fires everything due at the step's instant. Gives the first kind that fired.
    fn fire(&mut self, step: &mut Step<'_>) -> Option<Timer> {
        let mut first = None;
        while let Some(kind) = self.fire_round(step) {
            first = first.or(Some(kind));
        }
        first
    }

    fn fire_round(&mut self, step: &mut Step<'_>) -> Option<Timer> {
        let now = step.now;
        let mut first = None;
        let mut fired = |kind: Timer, any: bool| {
            if any {
                first = first.or(Some(kind));
            }
        };
        if self.grace_until().is_some_and(|until| until <= now) {
            self.end_grace_unpaid(step);
            fired(Timer::Grace, true);
        }
        while self.turn_due().is_some_and(|due| due <= now) {
            self.turn(step);
            fired(Timer::Period, true);
        }
        let mut expired = false;
        for balance in &mut self.balances {
            expired |= balance.expire(now);
        }
        fired(Timer::Expiry, expired);
        fired(Timer::Window, self.fire_windows(step));
        fired(Timer::Session, self.close_due_sessions(step));
        let grants = self.close_due_grants(step);
        let periods = self.close_due_periods(step);
        fired(Timer::Close, grants || periods);
        first
    }

    /// Ends or slides the windows whose time has come.
    fn fire_windows(&mut self, step: &mut Step<'_>) -> bool {
        let mut fired = false;
        while let Some((limit, user, due)) = self.pop_window(step.catalog, step.now) {
            let Some(due) = due else { continue };
            if due > step.now {
                self.push_window(limit, user, due);
                continue;
            }
            let row = &step.catalog.plans[usize::from(self.plan)].limits[usize::from(limit)];
            let cap = self.cap(step.catalog, limit, user);
            self.limit_mut(limit, user, &row.window).slide(row, cap, step.now);
            step.changes.touch(limit, user, Why::Reset);
            fired = true;
            // A sliding window is armed again when it is evaluated; others end until something counts.
        }
        fired
    }

    /// When the next window's timer is due.
    fn next_window(&mut self, catalog: &Catalog) -> Option<Ms> {
        loop {
            let (at, limit, user) = self.windows.first?;
            let due = self.window_due(catalog, limit, user);
            if due == Some(at) {
                return due;
            }
            self.pop_window(catalog, Ms::MAX);
            if let Some(due) = due {
                self.push_window(limit, user, due);
            }
        }
    }

    /// Takes the earliest entry, if it is not after `by`, with when its timer is due by now.
    fn pop_window(&mut self, catalog: &Catalog, by: Ms) -> Option<(LimitIndex, UserIndex, Option<Ms>)> {
        let (at, limit, user) = self.windows.first?;
        if at > by {
            return None;
        }
        self.windows.pop();
        let row = &catalog.plans[usize::from(self.plan)].limits[usize::from(limit)];
        let state = self.limit_mut(limit, user, &row.window);
        if state.timer != at {
            return Some((limit, user, None));
        }
        state.timer = Ms::MAX;
        Some((limit, user, self.window_due(catalog, limit, user)))
    }

    fn window_due(&self, catalog: &Catalog, limit: LimitIndex, user: UserIndex) -> Option<Ms> {
        let row = &catalog.plans[usize::from(self.plan)].limits[usize::from(limit)];
        self.limit(limit, user)?.due(row, self.cap(catalog, limit, user))
    }

    /// Sees to it that the timer of a limit's window comes up when it is due.
    pub fn arm(&mut self, limit: LimitIndex, user: UserIndex, due: Option<Ms>) {
        if let Some(due) = due {
            self.push_window(limit, user, due);
        }
    }

    fn push_window(&mut self, limit: LimitIndex, user: UserIndex, due: Ms) {
        let state = if user == super::changes::ACCOUNT {
            &mut self.limits[usize::from(limit)]
        } else {
            match self.users.get_mut(user).limits.binary_search_by_key(&limit, |entry| entry.0) {
                Ok(at) => &mut self.users.get_mut(user).limits[at].1,
                Err(_) => return,
            }
        };
        if due < state.timer {
            state.timer = due;
            self.windows.push((due, limit, user));
        }
    }

    /// Arms the windows of all limits anew: the plan's limits changed, or the state was read.
    pub fn arm_all(&mut self, catalog: &Catalog) {
        self.windows = WindowTimers::default();
        let plan = &catalog.plans[usize::from(self.plan)];
        for limit in 0..plan.limits.len() as LimitIndex {
            self.limits[usize::from(limit)].timer = Ms::MAX;
            let due = self.window_due(catalog, limit, super::changes::ACCOUNT);
            self.arm(limit, super::changes::ACCOUNT, due);
        }
        for user in 0..self.users.len() as UserIndex {
            for at in 0..self.users.get(user).limits.len() {
                let entry = &mut self.users.get_mut(user).limits[at];
                entry.1.timer = Ms::MAX;
                let limit = entry.0;
                let due = self.window_due(catalog, limit, user);
                self.arm(limit, user, due);
            }
        }
    }
}
