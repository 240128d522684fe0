//! What is told of balances: low, exhausted, restored, overflow that ended, and requests to top up (docs/reference.md 9).

use std::cmp::Ordering;

use num_bigint::BigInt;

use super::Amount;
use super::account::State;
use super::balance::Balance;
use super::catalog::{Catalog, Level, OverflowOn, Plan, Threshold, UnitId};
use super::changes::{Stage, Step};
use super::effects::{BalanceNotice, Body};
use super::exact::cmp_percent;
use super::subscription::plan_of;

/// The thresholds that apply to a unit.
struct Thresholds<'a> {
    unit: UnitId,
    low: &'a [Threshold],
    exhausted_below: Option<Amount>,
}

impl Thresholds<'_> {
    fn is_exhausted(&self, available: Amount) -> bool {
        self.exhausted_below.map_or(!available.is_positive(), |below| available < below)
    }
}

/// The plan's unit, then the payg unit where it is another.
fn watched<'a>(catalog: &'a Catalog, plan: &'a Plan) -> impl Iterator<Item = Thresholds<'a>> {
    let of_plan = plan.unit.map(|unit| Thresholds { unit, low: &plan.low, exhausted_below: plan.exhausted_below });
    let payg = catalog.payg.as_ref().filter(|payg| plan.unit != Some(payg.unit));
    let of_payg = payg.map(|payg| Thresholds { unit: payg.unit, low: &payg.low, exhausted_below: None });
    of_plan.into_iter().chain(of_payg)
}

impl State {
    /// Whether the plan's unit is exhausted, told or not.
    pub fn is_exhausted(&self, catalog: &Catalog) -> bool {
        let plan = plan_of(catalog, self.plan);
        let Some(unit) = plan.unit else { return false };
        let of_plan = Thresholds { unit, low: &plan.low, exhausted_below: plan.exhausted_below };
        of_plan.is_exhausted(self.available(unit))
    }

    /// Tells the edges that balances crossed. After a change of plan the new thresholds are taken up silently.
    pub fn evaluate_balances(&mut self, step: &mut Step<'_>) {
        let silent = step.changes.plan_changed;
        let pool = self.pool;
        for thresholds in watched(step.catalog, plan_of(step.catalog, self.plan)) {
            if let Some(balance) = self.balances.iter_mut().find(|balance| balance.unit == thresholds.unit) {
                evaluate(balance, step, &thresholds, pool, silent);
            }
        }
    }

    /// Asks for a top-up once available is under the setting.
    pub fn evaluate_autopay(&mut self, step: &mut Step<'_>) {
        let Some(autopay) = self.autopay().filter(|autopay| autopay.armed) else { return };
        let available = self.available(autopay.unit);
        if available >= autopay.below {
            return;
        }
        let unit = step.catalog.units[usize::from(autopay.unit)].name.clone();
        let body = Body::AutopayRequested { unit, below: autopay.below, amount: autopay.amount, available };
        step.changes.tell(Stage::Autopay, body);
        if let Some(autopay) = self.rare_mut().autopay.as_mut() {
            autopay.armed = false;
        }
    }

    pub fn rearm_autopay(&mut self, unit: UnitId) {
        let autopay = self.rare.as_mut().and_then(|rare| rare.autopay.as_mut());
        if let Some(autopay) = autopay.filter(|autopay| autopay.unit == unit) {
            autopay.armed = true;
        }
    }

    /// Ends the overflows whose reason is gone.
    pub fn evaluate_overflows(&mut self, step: &mut Step<'_>) {
        if self.overflow().is_empty() {
            return;
        }
        let (catalog, now) = (step.catalog, step.now);
        self.end_overflows(step, |state, on| match on {
            OverflowOn::Limit(limit) => !state.is_exceeded(catalog, limit, now),
            OverflowOn::Balance => !state.is_exhausted(catalog),
        });
    }

    /// Ends the overflows that `ends` names, in the order of the plan's list.
    pub fn end_overflows(&mut self, step: &mut Step<'_>, mut ends: impl FnMut(&mut State, OverflowOn) -> bool) {
        if self.overflow().is_empty() {
            return;
        }
        for on in &plan_of(step.catalog, self.plan).overflow {
            if self.overflow().contains(on) && ends(self, *on) {
                self.rare_mut().overflow.retain(|running| running != on);
                let (limit, unit) = (self.overflow_name(step.catalog, *on), payg_unit(step.catalog));
                step.changes.tell(Stage::OverflowEnded, Body::OverflowEnded { limit, unit });
            }
        }
    }

    /// Notes that a record went to payg because of `on`.
    pub fn start_overflow(&mut self, step: &mut Step<'_>, on: OverflowOn) {
        if self.overflow().contains(&on) {
            return;
        }
        self.rare_mut().overflow.push(on);
        let (limit, unit) = (self.overflow_name(step.catalog, on), payg_unit(step.catalog));
        step.changes.tell(Stage::OverflowStarted, Body::OverflowStarted { limit, unit });
    }

    pub fn overflow_name(&self, catalog: &Catalog, on: OverflowOn) -> Box<str> {
        match on {
            OverflowOn::Limit(limit) => plan_of(catalog, self.plan).limits[usize::from(limit)].name.clone(),
            OverflowOn::Balance => "balance".into(),
        }
    }
}

fn payg_unit(catalog: &Catalog) -> Box<str> {
    catalog.payg.as_ref().map_or_else(Box::default, |payg| catalog.units[usize::from(payg.unit)].name.clone())
}

fn evaluate(balance: &mut Balance, step: &mut Step<'_>, thresholds: &Thresholds<'_>, pool: Amount, silent: bool) {
    let available = balance.available();
    let exhausted = thresholds.is_exhausted(available);
    let told = |balance: &Balance, threshold: Option<&Threshold>| BalanceNotice {
        unit: step.catalog.units[usize::from(balance.unit)].name.clone(),
        available,
        debt: balance.debt,
        threshold: threshold.map(|threshold| threshold.text.clone()),
    };
    let mut notices: Vec<Body> = Vec::new();
    if balance.exhausted_told && !exhausted {
        balance.exhausted_told = false;
        notices.push(Body::BalanceRestored(told(balance, None)));
    }
    let mut crossed: Vec<&Threshold> = Vec::new();
    for (place, threshold) in thresholds.low.iter().enumerate() {
        let bit = 1u32 << place;
        if !is_low(available, threshold, pool) {
            balance.low_told &= !bit;
        } else if balance.low_told & bit == 0 {
            balance.low_told |= bit;
            crossed.push(threshold);
        }
    }
    crossed.sort_by_key(|threshold| std::cmp::Reverse(height(threshold, pool)));
    let newly_exhausted = exhausted && !balance.exhausted;
    balance.exhausted = exhausted;
    if !silent {
        notices.extend(crossed.into_iter().map(|threshold| Body::BalanceLow(told(balance, Some(threshold)))));
        if newly_exhausted {
            balance.exhausted_told = true;
            notices.push(Body::BalanceExhausted(told(balance, None)));
        }
    }
    for notice in notices {
        step.changes.tell(Stage::Balance, notice);
    }
}

/// A percentage of an empty pool is as if absent.
fn is_low(available: Amount, threshold: &Threshold, pool: Amount) -> bool {
    match threshold.level {
        Level::Absolute(amount) => available <= amount,
        Level::Percent(percent) => pool.is_positive() && cmp_percent(available, percent, pool) != Ordering::Greater,
    }
}

/// A threshold's height, in hundredths.
fn height(threshold: &Threshold, pool: Amount) -> BigInt {
    match threshold.level {
        Level::Absolute(amount) => BigInt::from(amount.nanos()) * Amount::whole(100).nanos(),
        Level::Percent(percent) => BigInt::from(pool.nanos()) * percent.nanos(),
    }
}
