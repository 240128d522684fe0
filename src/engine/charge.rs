//! What a record costs and where it counts: assessed as a whole first, so that a refused record changes nothing, then
//! carried out without a way to fail (docs/reference.md 6.4–6.9).

use super::account::State;
use super::balance::Draw;
use super::calendar::month_of;
use super::catalog::{
    Breakdown, Catalog, DimensionId, Limit, LimitIndex, Measure, Overdraft, OverflowOn, QuantityId, RateId, Scope,
    UnitId,
};
use super::changes::{ACCOUNT, Step};
use super::effects::{Reason, Refusal};
use super::input::Dimension;
use super::period::add_to;
use super::price::{PriceError, exchange, given, price, quantities_used};
use super::profile::Profile;
use super::subscription::plan_of;
use super::totals::{Applied, Route};
use super::users::UserIndex;
use super::{Amount, Ms};

pub(crate) type Quantities<'a> = &'a [(QuantityId, Amount)];
pub(crate) type Dimensions<'a> = &'a [(DimensionId, Dimension<'a>)];

/// A record, or a session that ends, to be charged.
#[derive(Clone, Copy)]
pub(crate) struct Billable<'a> {
    pub kind: &'a str,
    pub user: Who,
    pub asks_payg: bool,
    /// The effective time.
    pub at: Ms,
    pub row: Row<'a>,
    /// In ids of the current catalog.
    pub quantities: Quantities<'a>,
    /// Of the current catalog.
    pub profile: &'a Profile,
    /// What cannot be priced, exchanged or held costs nothing, in place of being refused.
    pub lenient: bool,
}

/// The row that prices, of the current catalog or, for a session, of the one in which it began.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub catalog: &'a Catalog,
    pub rate: RateId,
    /// In ids of the row's catalog.
    pub quantities: Quantities<'a>,
    pub dimensions: Dimensions<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Nobody,
    Known(UserIndex),
    /// A user that the account does not know yet.
    New,
}

/// What a record does, once nothing stands against it.
#[derive(Debug)]
pub(crate) struct Charge {
    pub route: Route,
    pub overflow: Option<OverflowOn>,
    pub amount: Amount,
    pub unit: UnitId,
    /// The unit is drawn from; a plan without a unit only counts.
    pub draws: bool,
    /// In the plan's currency.
    pub refund_usage: Amount,
    /// Not less than anything that the record adds to a sum.
    mass: Amount,
    pub work: Work,
}

/// What a record adds to limits and totals; reused from record to record.
#[derive(Debug, Default)]
pub(crate) struct Work {
    counts: Vec<(LimitIndex, Amount)>,
    used: Vec<(QuantityId, Amount)>,
}

impl State {
    /// What the record costs and adds, or why it is refused. Changes nothing but windows that are over.
    pub fn assess(&mut self, step: &mut Step<'_>, record: &Billable<'_>) -> Result<Charge, Refusal> {
        let row = record.row;
        let price = match price(row.catalog, row.rate, row.quantities, row.dimensions) {
            Ok(price) => price,
            Err(_) if record.lenient => Amount::ZERO,
            Err(PriceError::NoRate(message)) => return Err(Refusal::new(Reason::NoRate, message)),
            Err(PriceError::BadQuantity(message)) => return Err(Refusal::new(Reason::BadQuantity, message)),
        };
        let charge = self.assess_priced(step, record, price)?;
        match self.bounds(record, &charge) {
            Ok(()) => Ok(charge),
            Err(_) if record.lenient => Ok(charge.emptied()),
            Err(refusal) => Err(refusal),
        }
    }

    fn assess_priced(&mut self, step: &mut Step<'_>, record: &Billable<'_>, price: Amount) -> Result<Charge, Refusal> {
        let catalog = step.catalog;
        let (route, overflow) = self.route(step, record);
        let priced_in = unit_in(catalog, record.row)?;
        let plan = plan_of(catalog, self.plan);
        let route_unit = match route {
            Route::Plan => plan.unit,
            Route::Payg | Route::Overflow => catalog.payg.as_ref().map(|payg| payg.unit),
        };
        let unit = route_unit.unwrap_or(priced_in);
        let mut work = std::mem::take(&mut step.changes.work);
        work.counts.clear();
        work.used.clear();
        let mut charge = Charge {
            route,
            overflow,
            amount: price,
            unit,
            draws: route_unit.is_some(),
            refund_usage: Amount::ZERO,
            mass: Amount::ZERO,
            work,
        };
        let exchanged = |to: UnitId| match exchange(catalog, price, priced_in, to, self.class(), record.at) {
            Ok(amount) => Ok(amount),
            Err(_) if record.lenient => Ok(Amount::ZERO),
            Err(missing) => Err(Refusal::new(Reason::NoExchange, missing.message(catalog))),
        };
        charge.amount = exchanged(unit)?;
        if route == Route::Plan {
            // Limits of one plan are often of one unit.
            let mut last = (unit, charge.amount);
            for (place, limit) in plan.limits.iter().enumerate() {
                if !fits(limit, record) {
                    continue;
                }
                let adds = match limit.measure {
                    Measure::Unit(measured) if measured == unit => charge.amount,
                    Measure::Unit(measured) if measured == last.0 => last.1,
                    Measure::Unit(measured) => exchanged(measured)?,
                    Measure::Quantity(id) => given(record.quantities, id),
                    Measure::Records => Amount::whole(1),
                };
                charge.work.counts.push((place as LimitIndex, adds));
                if let Measure::Unit(measured) = limit.measure {
                    last = (measured, adds);
                }
            }
            let refund_unit = step.catalogs.derived(self.catalog as usize).refund_unit(self.plan);
            if let Some(to) = refund_unit.filter(|_| record.at >= self.subscription.start) {
                let usage = exchange(catalog, price, priced_in, to, self.class(), record.at);
                charge.refund_usage = usage.unwrap_or_default();
            }
        }
        let row = record.row;
        if std::ptr::eq(row.catalog, catalog) {
            quantities_used(catalog, row.rate, row.quantities, row.dimensions, &mut charge.work.used);
        } else {
            used_by_old_row(catalog, row, &mut charge.work.used);
        }
        charge.weigh();
        Ok(charge)
    }

    /// Carries out what was assessed.
    pub fn charge(&mut self, step: &mut Step<'_>, record: &Billable<'_>, user: Option<UserIndex>, charge: Charge) {
        let catalog = step.catalog;
        let plan = plan_of(catalog, self.plan);
        if let Some(on) = charge.overflow {
            self.start_overflow(step, on);
        }
        if charge.draws && charge.amount.is_positive() {
            let draw = Draw {
                amount: charge.amount,
                at: record.at,
                forgive: charge.route == Route::Plan && plan.overdraft == Overdraft::Forgive,
                holds: |group| record.profile.is_in(group),
            };
            let overage = self.balance_mut(charge.unit).draw(draw, &mut step.changes.ledger);
            if overage.is_positive() {
                add_to(&mut self.period_at(record.at).sums_mut().overage, charge.unit, overage);
            }
        }
        for (limit, amount) in &charge.work.counts {
            let row = &plan.limits[usize::from(*limit)];
            let user = if row.scope == Scope::User { user.unwrap_or(ACCOUNT) } else { ACCOUNT };
            self.count(step, (*limit, row), user, *amount, record.at);
        }
        self.subscription.usage += charge.refund_usage;
        let applied = charge.applied(record, user.filter(|_| catalog.totals.by.contains(&Breakdown::User)));
        self.totals.applied(&applied);
        self.period_at(record.at).recorded.applied(&applied);
        self.forget_months(step);
        self.raise_bulk(charge.mass);
        step.changes.work = charge.work;
    }

    /// Counts a failed record with the effective time `at`.
    pub fn count_failed(&mut self, step: &Step<'_>, at: Ms) {
        self.totals.failed(month_of(at));
        self.period_at(at).recorded.failed += 1;
        self.forget_months(step);
    }

    fn forget_months(&mut self, step: &Step<'_>) {
        let kept = step.catalog.totals.months;
        if self.totals.months().len() > kept as usize {
            self.totals.forget_before(month_of(step.now) - kept as i32 + 1);
        }
    }

    /// Which side pays, and what sends the record to payg if the plan was asked (docs/reference.md 6.6).
    fn route(&self, step: &Step<'_>, record: &Billable<'_>) -> (Route, Option<OverflowOn>) {
        let catalog = step.catalog;
        if record.asks_payg {
            return (Route::Payg, None);
        }
        if !self.extra_usage || catalog.payg.is_none() {
            return (Route::Plan, None);
        }
        let plan = plan_of(catalog, self.plan);
        let applies = |on: &&OverflowOn| match **on {
            OverflowOn::Limit(limit) => {
                fits(&plan.limits[usize::from(limit)], record) && self.is_exceeded(catalog, limit, step.now)
            }
            OverflowOn::Balance => self.is_exhausted(catalog),
        };
        match plan.overflow.iter().find(applies) {
            Some(on) => (Route::Overflow, Some(*on)),
            None => (Route::Plan, None),
        }
    }

    /// Sums stay under 10²⁰. They are looked at one by one only where all that ever came in could reach that.
    fn bounds(&self, record: &Billable<'_>, charge: &Charge) -> Result<(), Refusal> {
        let limit = Amount::TOTAL_LIMIT;
        let all = self.bulk.nanos().saturating_add(charge.mass.nanos());
        if all < limit.nanos() {
            return Ok(());
        }
        let too_much = |what: &str| {
            let message =
                format!("expected sums under 10^20, found that the record would bring {what} to that or more");
            Err(Refusal::new(Reason::BadQuantity, message))
        };
        let debt = self.balance(charge.unit).map_or(Amount::ZERO, |balance| balance.debt);
        if charge.amount >= limit || debt + charge.amount >= limit {
            return too_much("the account's debt");
        }
        let by_user = |limit: LimitIndex| match record.user {
            Who::Known(user) => self.users.get(user).limit(limit),
            _ => None,
        };
        for (index, adds) in &charge.work.counts {
            let of_account = &self.limits[usize::from(*index)];
            let overflows = of_account.counter.would_overflow(*adds)
                || by_user(*index).is_some_and(|state| state.counter.would_overflow(*adds));
            if overflows {
                return too_much("a limit's counter");
            }
        }
        let applied = charge.applied(record, None);
        let period = self.period_of(record.at);
        if self.totals.would_overflow(&applied) || period.recorded.would_overflow(&applied) {
            return too_much("a total");
        }
        Ok(())
    }
}

impl Charge {
    /// As totals count it.
    fn applied<'a>(&'a self, record: &Billable<'a>, user: Option<UserIndex>) -> Applied<'a> {
        Applied {
            month: month_of(record.at),
            kind: &record.profile.kind,
            user,
            values: &record.profile.values,
            route: self.route,
            unit: self.unit,
            charged: self.amount,
            quantities: &self.work.used,
        }
    }

    fn weigh(&mut self) {
        let counts = self.work.counts.iter().map(|(_, amount)| amount.nanos());
        let used = self.work.used.iter().map(|(_, amount)| amount.nanos());
        let both = self.amount.nanos().saturating_add(self.refund_usage.nanos());
        let all = counts.chain(used).fold(both, i128::saturating_add);
        self.mass = Amount::from_nanos(all.min(i128::MAX / 2));
    }

    /// Nothing but the record itself.
    fn emptied(mut self) -> Charge {
        self.amount = Amount::ZERO;
        self.refund_usage = Amount::ZERO;
        self.mass = Amount::ZERO;
        self.work.used.clear();
        for (_, amount) in &mut self.work.counts {
            *amount = Amount::ZERO;
        }
        self
    }
}

/// Whether a record that goes to the plan counts in a limit.
fn fits(limit: &Limit, record: &Billable<'_>) -> bool {
    (limit.scope == Scope::Account || record.user != Who::Nobody)
        && limit.kind.as_ref().is_none_or(|pattern| pattern.fits(record.kind))
        && limit.group.is_none_or(|group| record.profile.is_in(group))
}

/// The unit of the row, in the current catalog.
fn unit_in(catalog: &Catalog, row: Row<'_>) -> Result<UnitId, Refusal> {
    let unit = row.catalog.rates[row.rate as usize].unit;
    if std::ptr::eq(row.catalog, catalog) {
        return Ok(unit);
    }
    let name = &row.catalog.units[usize::from(unit)].name;
    let found = catalog.units.iter().position(|unit| unit.name == *name);
    found.map(|index| index as UnitId).ok_or_else(|| {
        let message = format!("expected the unit {name} of the session's row in the present catalog, found none");
        Refusal::new(Reason::NoExchange, message)
    })
}

/// The quantities that a row of a former catalog used, as far as the present one knows them.
fn used_by_old_row(catalog: &Catalog, row: Row<'_>, out: &mut Vec<(QuantityId, Amount)>) {
    let mut used = Vec::new();
    quantities_used(row.catalog, row.rate, row.quantities, row.dimensions, &mut used);
    for (id, amount) in used {
        let name = &row.catalog.quantities[usize::from(id)];
        if let Some(index) = catalog.quantities.iter().position(|known| known == name) {
            out.push((index as QuantityId, amount));
        }
    }
}
