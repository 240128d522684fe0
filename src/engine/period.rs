//! Billing periods: their turn, their plan grants, their statement (docs/reference.md 7.1–7.3).

use smallvec::SmallVec;

use super::account::{Price, State, Withheld};
use super::calendar::{Span, period_at};
use super::catalog::{Catalog, PlanId, UnitId};
use super::changes::{Stage, Step};
use super::effects::{Body, ChangeReason, Statement};
use super::grants::Grant;
use super::input::Interval;
use super::issue::{NewGrant, times};
use super::subscription::Move;
use super::totals::{Bucket, Route};
use super::{Amount, Ms, slim};

#[derive(Clone, Debug)]
pub(crate) struct Period {
    /// Counts 1, 2, 3, ... in the account; its plan grants carry it.
    pub number: u32,
    pub span: Span,
    /// At its start, of the billing interval.
    pub price: Option<Price>,
    /// Its plan, or one that it was changed to in place, has a price.
    pub priced: bool,
    pub prorations: Amount,
    /// What was recorded in it, whatever the months.
    pub recorded: Bucket,
    pub sums: Option<Box<Sums>>,
}

/// Amounts by unit, mostly of one.
pub(crate) type ByUnit = SmallVec<[(UnitId, Amount); 1]>;

/// What happened to grants and debt in a period.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sums {
    pub granted: ByUnit,
    pub unused: ByUnit,
    pub overage: ByUnit,
}

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

pub(crate) fn add_to(list: &mut ByUnit, unit: UnitId, amount: Amount) {
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
        // An endless period ends where what waited for it begins: nothing of it is cut short.
        self.end_period(at, false);
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
        let plan = &catalog.plans[usize::from(self.plan)];
        let Span { end, .. } = period_at(plan.period, plan.ends_after_ms, self.anchor, at);
        self.enter_period(step, Span { start: at, end });
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
    pub fn end_period(&mut self, at: Ms, cuts_short: bool) {
        self.period.span.end = Some(at);
        for balance in &mut self.balances {
            balance.end_period(self.period.number, at, cuts_short);
        }
    }

    /// Begins a period, in which the grants that are active make the pool. The one before has ended; if it had no length,
    /// what it held counts into this one.
    pub fn enter_period(&mut self, step: &mut Step<'_>, span: Span) {
        let plan = &step.catalog.plans[usize::from(self.plan)];
        let price = self.own_price(step.catalog);
        let next = Period {
            number: self.period.number + 1,
            span,
            price,
            priced: plan.price.is_some(),
            prorations: Amount::ZERO,
            recorded: Bucket::default(),
            sums: None,
        };
        let former = std::mem::replace(&mut self.period, next);
        if former.span.end.is_some_and(|end| end <= former.span.start) {
            let next = &mut self.period;
            next.number = former.number;
            (next.prorations, next.recorded, next.sums) = (former.prorations, former.recorded, former.sums);
        } else {
            slim::push(&mut self.ended, former);
        }
        self.users.begin_period();
        self.reset_period_limits(step);
        self.refill_pool(step);
        if let Some(rare) = &mut self.rare {
            rare.denied.clear();
            rare.withheld = None;
        }
    }

    /// The pool at the start of a period, or in place on another unit.
    pub fn refill_pool(&mut self, step: &mut Step<'_>) {
        step.pool_moves(self);
        let unit = step.catalog.plans[usize::from(self.plan)].unit;
        self.pool = Amount::ZERO;
        if let Some(balance) = self.balances.iter_mut().find(|balance| Some(balance.unit) == unit) {
            balance.expire(step.now);
            self.pool = balance.usable();
        }
    }

    /// The plan's grants for the current period, in the order of the catalog.
    pub fn issue_plan_grants(&mut self, step: &mut Step<'_>, plan: PlanId, seats: u32) {
        let plan = &step.catalog.plans[usize::from(plan)];
        let Some(unit) = plan.unit else { return };
        for grant in &plan.grants {
            let amount = if plan.per_seat { times(grant.amount, seats) } else { grant.amount };
            self.issue(
                step,
                NewGrant::of_period(self, unit, &grant.name, amount, grant.priority, self.period.span.start),
            );
        }
    }

    /// What remains of the plan grants of the period that began at `former_start` and ended where this one began.
    pub fn issue_rollovers(&mut self, step: &mut Step<'_>, plan: PlanId, seats: u32, former_start: Ms) {
        let plan = &step.catalog.plans[usize::from(plan)];
        let Some(unit) = plan.unit else { return };
        let ended_at = self.period.span.start;
        for grant in &plan.grants {
            let Some(max) = grant.rollover_max else { continue };
            let max = if plan.per_seat { times(max, seats) } else { max };
            let ended = |old: &Grant| old.is_of_period() && old.expires_at == ended_at && old.name == grant.name;
            let amount = self.balance_mut(unit).roll_over(max, &mut step.changes.ledger, ended);
            if amount.is_positive() {
                self.issue(step, NewGrant::of_period(self, unit, &grant.name, amount, grant.priority, former_start));
            }
        }
    }

    /// Closes the grants that ended long enough ago that no late record can find them.
    pub fn close_due_grants(&mut self, step: &mut Step<'_>) -> bool {
        let late_ms = step.catalog.late_ms;
        let mut closed: Vec<(UnitId, Grant)> = Vec::new();
        for balance in &mut self.balances {
            if balance.closes_at(late_ms).is_some_and(|due| due <= step.now) {
                let unit = balance.unit;
                let grants = balance.close(step.now, late_ms, &mut step.changes.ledger);
                closed.extend(grants.into_iter().map(|grant| (unit, grant)));
            }
        }
        closed.sort_by_key(|(_, grant)| (grant.effective_at, grant.number));
        for (unit, grant) in &closed {
            self.note_unused(*unit, grant);
            if grant.remaining.is_positive() {
                step.changes.tell(Stage::Account, grant.expired(step.catalog, *unit));
            }
        }
        !closed.is_empty()
    }

    /// Closes the periods that ended long enough ago.
    pub fn close_due_periods(&mut self, step: &mut Step<'_>) -> bool {
        let late_ms = step.catalog.late_ms;
        let mut any = false;
        while let Some(at) = self.ended.iter().position(|period| period.closes_at(late_ms) <= step.now) {
            let period = self.ended.remove(at);
            self.tell_closed(step, &period);
            any = true;
        }
        any
    }

    /// Closes everything that is open, for an account that is deleted: its current period ends now.
    pub fn close_all_periods(&mut self, step: &mut Step<'_>) {
        self.period.span.end = Some(step.now);
        let open: Vec<(UnitId, Grant)> = self
            .balances
            .iter()
            .flat_map(|balance| balance.grants().iter().map(|grant| (balance.unit, grant.clone())))
            .collect();
        for (unit, grant) in &open {
            self.note_unused(*unit, grant);
        }
        for period in std::mem::take(&mut self.ended) {
            self.tell_closed(step, &period);
        }
        let current = self.period.clone();
        self.tell_closed(step, &current);
    }

    /// What is left of a plan grant when it closes goes into its period's statement.
    fn note_unused(&mut self, unit: UnitId, grant: &Grant) {
        if !grant.is_of_period() {
            return;
        }
        let ended = self.ended.iter_mut().find(|period| period.number == grant.period);
        let current = &mut self.period;
        if let Some(period) = ended.or((current.number == grant.period).then_some(current)) {
            add_to(&mut period.sums_mut().unused, unit, grant.remaining);
        }
    }

    fn tell_closed(&self, step: &mut Step<'_>, period: &Period) {
        if period.is_told() {
            let statement = Box::new(period.statement(step.catalog, self));
            let Span { start, end } = period.span;
            step.changes.tell(Stage::Period, Body::PeriodClosed { start, end, statement });
        }
    }
}

impl Period {
    fn statement(&self, catalog: &Catalog, state: &State) -> Statement {
        let unit_name = |unit: UnitId| catalog.units[usize::from(unit)].name.clone();
        let by_unit = |list: &[(UnitId, Amount)]| {
            let mut list = list.to_vec();
            list.sort_unstable_by_key(|entry| entry.0);
            list.into_iter().map(|(unit, amount)| (unit_name(unit), amount)).collect()
        };
        let sums = self.sums.as_deref().cloned().unwrap_or_default();
        let mut statement = Statement {
            granted: by_unit(&sums.granted),
            unused: by_unit(&sums.unused),
            overage: by_unit(&sums.overage),
            price: self.price.map(|price| (price.amount, catalog.currencies[usize::from(price.currency)].name.clone())),
            prorations: self.prorations,
            ..Statement::default()
        };
        let recorded = &self.recorded;
        statement.records = recorded.records;
        statement.failed = recorded.failed;
        for (route, unit, amount) in recorded.charges.iter() {
            let charged = match route {
                Route::Plan => &mut statement.plan,
                Route::Payg => &mut statement.payg,
                Route::Overflow => &mut statement.overflow,
            };
            charged.push((unit_name(unit), amount));
        }
        for (kind, quantities) in recorded.kinds() {
            let named = quantities.iter().map(|(id, amount)| (state.quantity_name(catalog, *id).into(), *amount));
            statement.quantities.push((kind.into(), named.collect()));
        }
        statement.quantities.retain(|(_, quantities)| !quantities.is_empty());
        statement.quantities.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        statement
    }
}
