//! What one input, or the timers of one instant, gave rise to so far: notices in the making, and what is to be looked at
//! once all changes are made.

use super::account::State;
use super::catalog::{Catalog, LimitIndex};
use super::catalogs::Catalogs;
use super::charge::Work;
use super::effects::{Body, Cause, Notice};
use super::ledger::Ledger;
use super::limits::{FormerCap, Touched, Why};
use super::totals::Names;
use super::users::UserIndex;
use super::{Amount, Effects, Ms};

/// An input, or an instant of timers, being folded.
pub(crate) struct Step<'a> {
    pub catalogs: &'a Catalogs,
    /// The current one, which the account has taken up.
    pub catalog: &'a Catalog,
    /// The clock, or the due time of the timers.
    pub now: Ms,
    pub changes: &'a mut Changes,
}

/// Reused from input to input.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    notices: Vec<(Stage, Body)>,
    pub ledger: Ledger,
    /// Shared by all accounts of the engine.
    pub names: Names,
    pub work: Work,
    /// Limits that something counted in, or whose window moved.
    pub touched: Vec<Touched>,
    /// Caps set by a command, as they were.
    pub caps: Vec<FormerCap>,
    /// The pool as it was, if it changed.
    pub former_pool: Option<Amount>,
    pub plan_changed: bool,
    /// A timer may have come to be due at another time, though nothing else tells so.
    pub timers_moved: bool,
}

/// The order of an input's notices (docs/reference.md 6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Account,
    Session,
    Access,
    OverflowStarted,
    Limit,
    OverflowEnded,
    Balance,
    Autopay,
    Period,
    Answer,
}

/// In place of a user: the account as a whole.
pub(crate) const ACCOUNT: UserIndex = UserIndex::MAX;

impl Changes {
    pub fn tell(&mut self, stage: Stage, body: Body) {
        self.notices.push((stage, body));
    }

    pub fn touch(&mut self, limit: LimitIndex, user: UserIndex, why: Why) {
        self.touched.push(Touched { limit, user, why });
    }

    pub fn pool_changed(&self, state: &State) -> bool {
        self.former_pool.is_some_and(|former| former != state.pool)
    }

    /// Whether neither plan nor pool nor caps changed so far.
    pub fn is_plain(&self) -> bool {
        !self.plan_changed && self.former_pool.is_none() && self.caps.is_empty()
    }

    /// Whether an input left nothing to be looked at, told or timed anew.
    pub fn is_still(&self) -> bool {
        self.is_plain()
            && !self.timers_moved
            && self.touched.is_empty()
            && self.notices.is_empty()
            && self.ledger.is_empty()
    }

    /// Forgets what a refused input began.
    pub fn forget(&mut self) {
        self.notices.clear();
        self.ledger.clear();
        self.touched.clear();
        self.done();
    }

    /// What was to be looked at was looked at.
    pub fn done(&mut self) {
        self.caps.clear();
        self.former_pool = None;
        self.plan_changed = false;
        self.timers_moved = false;
    }

    /// Gives the notices their order, sequence and plan.
    pub fn emit(&mut self, sequence: &mut u64, plan: Option<&str>, time: Ms, cause: Cause, fx: &mut Effects) {
        if self.notices.is_empty() {
            return;
        }
        self.notices.sort_by_key(|(stage, _)| *stage);
        for (_, body) in self.notices.drain(..) {
            *sequence += 1;
            fx.notices.push(Notice { sequence: *sequence, time, plan: plan.map(Into::into), cause, body });
        }
    }
}

impl Step<'_> {
    /// Notes that the pool is about to change.
    pub fn pool_moves(&mut self, state: &State) {
        self.changes.former_pool.get_or_insert(state.pool);
    }
}
