//! Billing periods: their turn, their plan grants, their statement (docs/reference.md 7.1–7.3).

use super::account::{Price, State, Withheld};
use super::calendar::{Span, period_at};
use super::catalog::{PlanId, UnitId};
use super::changes::{Stage, Step};
use super::effects::{Body, ChangeReason};
use super::grants::{Grant, NEVER};
use super::input::Interval;
use super::issue::NewGrant;
use super::subscription::Move;
use super::totals::Totals;
use super::{Amount, Ms};

#[derive(Clone, Debug)]
pub(crate) struct Period {
    /// Counts 1, 2, 3, ... in the account; its plan grants carry it.
    pub number: u32,
    pub span: Span,
    pub plan: PlanId,
    /// At its start, of the billing interval.
    pub price: Option<Price>,
    /// Its plan, or one that it was changed to in place, has a price.
    pub priced: bool,
    pub prorations: Amount,
    /// What was recorded in it: one bucket, without breakdowns.
    pub recorded: Totals,
    pub sums: Option<Box<Sums>>,
}

/// What happened to grants and debt in a period, by unit.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sums {
    pub granted: Vec<(UnitId, Amount)>,
    pub unused: Vec<(UnitId, Amount)>,
    pub overage: Vec<(UnitId, Amount)>,
}

/// A statement's records are one bucket of totals, whatever their months.
pub(crate) const WHOLE: i32 = 0;

impl Period {
    pub fn closes_at(&self, late_ms: i64) -> Ms {
        self.span.end.map_or(Ms::MAX, |end| end.saturating_add(late_ms))
    }

    pub fn sums_mut(&mut self) -> &mut Sums {
        self.sums.get_or_insert_default()
    }

    /// Whether its closing is told.
    pub fn is_told(&self) -> bool {
        let granted = self.sums.as_ref().is_some_and(|sums| !sums.granted.is_empty());
        let spans = self.span.end.is_none_or(|end| self.span.start < end);
        spans && (self.priced || granted || !self.recorded.is_empty() || self.prorations.is_positive())
    }
}

pub(crate) fn add_to(list: &mut Vec<(UnitId, Amount)>, unit: UnitId, amount: Amount) {
    if amount.is_zero() {
        return;
    }
    match list.iter_mut().find(|entry| entry.0 == unit) {
        Some(entry) => entry.1 += amount,
        None => list.push((unit, amount)),
    }
}

impl State {
    /// When the period ends. An endless one ends where a pending change waits for the end of the billing cycle.
    pub fn turn_due(&self) -> Option<Ms> {
        self.period.span.end.or_else(|| self.pending().map(|pending| pending.effective_at))
    }

    /// The end of a period: the plan goes on, or what is pending, or what follows a trial.
    pub fn turn(&mut self, step: &mut Step<'_>) {
        let catalog = step.catalog;
        let at = self.turn_due().expect("a period that turns has an end");
        let plan = &catalog.plans[usize::from(self.plan)];
        let trial = plan.ends_after_ms.is_some();
        let due = self.pending().is_some_and(|pending| trial || pending.effective_at <= at);
        let pending = if due { self.rare_mut().pending.take() } else { None };
        let ended = (self.plan, self.period.span.start);
        self.end_period(at);
        let next = match pending {
            Some(pending) => {
                let reason = if pending.cancels { ChangeReason::Cancelled } else { ChangeReason::Downgraded };
                let to = &catalog.plans[usize::from(pending.plan)];
                let differs = to.period != plan.period || to.ends_after_ms.is_some();
                let anew = trial || pending.cancels || pending.billing != self.billing || differs;
                Some((Move { plan: pending.plan, seats: pending.seats, billing: pending.billing, reason }, anew))
            }
            None if trial => {
                let seats = catalog.plans[usize::from(plan.then)].seats;
                let reason = ChangeReason::TrialEnded;
                Some((Move { plan: plan.then, seats, billing: Interval::Month, reason }, true))
            }
            None => None,
        };
        if let Some((to, anew)) = next {
            if matches!(to.reason, ChangeReason::Cancelled) || trial {
                self.end_grace(step);
            }
            if anew {
                self.begin_anchor(at);
            }
            self.move_to(step, to, at, None);
        }
        self.begin_period(step, at);
        let same = ended.0 == self.plan;
        if self.grace_until().is_some() {
            let rollover_from = same.then_some(ended.1);
            self.rare_mut().withheld = Some(Withheld { plan: self.plan, seats: self.seats, rollover_from });
            return;
        }
        self.issue_plan_grants(step, self.plan, self.seats);
        if same {
            self.issue_rollovers(step, self.plan, self.seats, ended.1);
        }
    }

    /// Ends the current period and its plan grants at `at`, where another must begin.
    pub fn end_period(&mut self, at: Ms) {
        self.period.span.end = Some(at);
        for balance in &mut self.balances {
            balance.end_period(at);
        }
    }

    /// Begins the period that follows the one just ended, or the first after a new anchor.
    pub fn begin_period(&mut self, step: &mut Step<'_>, at: Ms) {
        let plan = &step.catalog.plans[usize::from(self.plan)];
        let mut span = period_at(plan.period, plan.ends_after_ms, self.anchor, at);
        if self.anchor != at && self.period.span.end == Some(at) && !self.anchored_at(step.now, at) {
            span.start = at;
        }
        self.enter_period(step, span);
    }

    fn anchored_at(&self, _now: Ms, _at: Ms) -> bool {
        false
    }
}

#[allow(unused)]
fn unused(_: Stage, _: Body, _: Grant, _: NewGrant, _: Ms) -> Ms {
    NEVER
}
