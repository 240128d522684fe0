//! The state of one account.
//!
//! Everything is held in the order in which it came or in an order of its own, never in that of a hash table, so that the
//! same inputs give the same state byte for byte. What few accounts have stands in [`Rare`], which most do without.

use smallvec::SmallVec;

use super::balance::Balance;
use super::calendar::Span;
use super::catalog::{Catalog, CurrencyId, GroupId, OverflowOn, PlanId, UnitId};
use super::catalogs::Catalogs;
use super::identities::Identities;
use super::input::Interval;
use super::limits::LimitState;
use super::period::Period;
use super::sessions::Sessions;
use super::timers::WindowTimers;
use super::totals::Totals;
use super::users::Users;
use super::{Amount, Ms};

/// One account, or what is left of one: a deleted account, and an unknown one that was told something, keep the sequence
/// of their notices and the identities of their commands.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Of the last notice; 0 before the first.
    pub(crate) sequence: u64,
    pub(crate) commands: Option<Box<Identities>>,
    pub(crate) state: Option<Box<State>>,
    /// When the next timer is due, as of the last input.
    pub(crate) due: Option<Ms>,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Index in `Catalogs` of the catalog last taken up; all ids are of that one.
    pub catalog: u32,
    pub plan: PlanId,
    pub billing: Interval,
    /// A payment of more than 0 succeeded at some time.
    pub paid_before: bool,
    pub extra_usage: bool,
    pub seats: u32,
    /// No record counts before this.
    pub start: Ms,
    /// Periods and billing cycles are counted from it.
    pub anchor: Ms,
    /// `None`: `standard`.
    pub class: Option<Box<str>>,
    pub period: Period,
    /// Ended and not yet closed, in the order in which they began to be current.
    pub ended: Vec<Period>,
    /// Of the plan's unit in the current period; share caps and percent thresholds go by it.
    pub pool: Amount,
    /// In the order in which their units were first granted or charged.
    pub balances: SmallVec<[Balance; 1]>,
    pub grants_issued: u64,
    /// One for each limit of the plan; for limits of users it holds the account's own cap only.
    pub limits: Vec<LimitState>,
    pub users: Users,
    pub windows: WindowTimers,
    pub subscription: Subscription,
    pub totals: Totals,
    /// Not less than any sum in this account: while it is under 10²⁰ no sum needs to be looked at.
    pub bulk: Amount,
    pub rare: Option<Box<Rare>>,
}

/// What a refund goes by: the subscription since its last start.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Subscription {
    pub start: Ms,
    /// Paid at the start; counts until the first billing cycle ends.
    pub paid: Amount,
    /// Of the billing cycle that began at `prorated_cycle`.
    pub prorations: Amount,
    pub prorated_cycle: Ms,
    /// Prices of the records routed to the plan, in the currency of the plan.
    pub usage: Amount,
    pub refunded: Amount,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    pub pending: Option<Pending>,
    pub grace_until: Option<Ms>,
    /// The grants that a turn in grace did not issue in the current period.
    pub withheld: Option<Withheld>,
    pub autopay: Option<Autopay>,
    /// Overflows that run, in the order of the plan's list.
    pub overflow: Vec<OverflowOn>,
    /// Rules told to records without a user, while `denied_epoch` is the account's.
    pub denied: Vec<Rule>,
    pub sessions: Sessions,
    /// Quantities in totals that the catalog does not know any more.
    pub retired: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Pending {
    pub plan: PlanId,
    pub seats: u32,
    pub billing: Interval,
    pub effective_at: Ms,
    pub cancels: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Withheld {
    pub plan: PlanId,
    pub seats: u32,
    /// Start of the period before, where the same plan went on: its grants may roll over.
    pub rollover_from: Option<Ms>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Autopay {
    pub unit: UnitId,
    pub below: Amount,
    pub amount: Amount,
    /// Cleared when it fires.
    pub armed: bool,
}

/// Why access was denied, in the order in which rules are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) enum Rule {
    Plan,
    Group(GroupId),
    Seats,
}

/// A price in a currency.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Price {
    pub amount: Amount,
    pub currency: CurrencyId,
}

impl Account {
    /// From what is stored; timers are armed by it.
    pub(crate) fn restored(
        sequence: u64,
        commands: Option<Box<Identities>>,
        mut state: Option<Box<State>>,
        catalogs: &Catalogs,
    ) -> Account {
        let mut due = None;
        if let Some(state) = &mut state {
            let catalog = catalogs.get(state.catalog as usize);
            state.arm_all(catalog);
            due = state.find_due(catalog);
        }
        Account { sequence, commands, state, due }
    }

    /// Nothing was ever told or remembered of it.
    pub fn is_blank(&self) -> bool {
        self.state.is_none() && self.sequence == 0 && self.commands.is_none()
    }

    pub fn exists(&self) -> bool {
        self.state.is_some()
    }

    /// When its next timer is due.
    pub fn next_due(&self) -> Option<Ms> {
        self.due
    }

    /// Of its last notice; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl State {
    /// The limits of a plan before anything counted.
    pub fn fresh_limits(catalog: &Catalog, plan: PlanId) -> Vec<LimitState> {
        catalog.plans[usize::from(plan)].limits.iter().map(|limit| LimitState::new(&limit.window)).collect()
    }

    pub fn span(&self) -> Span {
        self.period.span
    }

    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub fn pending(&self) -> Option<&Pending> {
        self.rare.as_ref()?.pending.as_ref()
    }

    pub fn grace_until(&self) -> Option<Ms> {
        self.rare.as_ref()?.grace_until
    }

    pub fn autopay(&self) -> Option<&Autopay> {
        self.rare.as_ref()?.autopay.as_ref()
    }

    pub fn overflow(&self) -> &[OverflowOn] {
        self.rare.as_ref().map_or(&[], |rare| &rare.overflow)
    }

    pub fn sessions(&self) -> Option<&Sessions> {
        self.rare.as_ref().map(|rare| &rare.sessions)
    }

    pub fn class(&self) -> &str {
        self.class.as_deref().unwrap_or("standard")
    }

    /// The effective time of something that says it happened at `time` (docs/reference.md 6.3).
    pub fn effective(&self, time: Ms, clock: Ms) -> Ms {
        time.max(self.start).min(clock)
    }

    pub fn balance(&self, unit: UnitId) -> Option<&Balance> {
        self.balances.iter().find(|balance| balance.unit == unit)
    }

    /// The balance of `unit`, which from now on is one of the account's.
    pub fn balance_mut(&mut self, unit: UnitId) -> &mut Balance {
        let index = match self.balances.iter().position(|balance| balance.unit == unit) {
            Some(index) => index,
            None => {
                self.balances.push(Balance::new(unit));
                self.balances.len() - 1
            }
        };
        &mut self.balances[index]
    }

    pub fn available(&self, unit: UnitId) -> Amount {
        self.balance(unit).map_or(Amount::ZERO, Balance::available)
    }

    /// The period of something with the effective time `at`: of two that contain it, the one begun later.
    pub fn period_of(&self, at: Ms) -> &Period {
        match self.ended_with(at) {
            Some(index) => &self.ended[index],
            None => &self.period,
        }
    }

    pub fn period_at(&mut self, at: Ms) -> &mut Period {
        match self.ended_with(at) {
            Some(index) => &mut self.ended[index],
            None => &mut self.period,
        }
    }

    /// The ended period that is meant by `at`, if it is not the current one.
    fn ended_with(&self, at: Ms) -> Option<usize> {
        if self.period.span.contains(at) {
            return None;
        }
        self.ended.iter().rposition(|period| period.span.contains(at))
    }
}

impl Default for Subscription {
    fn default() -> Subscription {
        Subscription {
            start: 0,
            paid: Amount::ZERO,
            prorations: Amount::ZERO,
            prorated_cycle: 0,
            usage: Amount::ZERO,
            refunded: Amount::ZERO,
        }
    }
}
