//! Section 7: periods, their turns, changes of plan, statements.

use crate::account::{Account, Billing, Grant, Kind, LimitState, Period, Statement, Withheld, add};
use crate::catalog::{Catalog, Every, Plan, Window};
use crate::grants::{self, Issue};
use crate::limits;
use crate::num::{self, Amt};
use crate::step::{self, LIMITS, PERIOD, SUBSCRIPTION, Step};
use crate::time::{self, Ms};
use serde_json::{Value, json};

/// P: the price at the billing interval, times the seats where they are paid each.
pub fn price(plan: &Plan, billing: Billing, seats: i64) -> Amt {
    let Some(price) = &plan.price else { return 0 };
    let one = match billing {
        Billing::Month => price.month,
        Billing::Year => price.year,
    };
    one.unwrap_or(0) * if plan.per_seat { Amt::from(seats) } else { 1 }
}

/// The boundaries of the n-th stretch of so many months, counted from the anchor, that contains `at`.
pub fn cycle(anchor: Ms, months: i64, at: Ms) -> (Ms, Ms) {
    let mut n = ((at - anchor) / (31 * time::DAY) / months - 1).max(0);
    while time::add_months(anchor, (n + 1) * months) <= at {
        n += 1;
    }
    (time::add_months(anchor, n * months), time::add_months(anchor, (n + 1) * months))
}

/// The nominal period of a plan that contains `at`, which is not before the anchor.
pub fn period_at(plan: &Plan, anchor: Ms, at: Ms) -> (Ms, Option<Ms>) {
    if let Some(length) = plan.trial {
        return (anchor, Some(anchor + length));
    }
    match plan.every {
        Every::Month => {
            let (start, end) = cycle(anchor, 1, at);
            (start, Some(end))
        }
        Every::CalendarMonth => {
            let first = time::month_start(at);
            (first.max(anchor), Some(time::add_months(first, 1)))
        }
        Every::Length(length) => {
            let start = anchor + (at - anchor).div_euclid(length) * length;
            (start, Some(start + length))
        }
        Every::Endless => (anchor, None),
    }
}

/// How a new period begins.
pub struct Begin {
    pub start: Ms,
    pub end: Option<Ms>,
    /// The same plan goes on: the period that ended, whose grants may roll over.
    pub rollover_of: Option<(Ms, Ms)>,
    /// At a turn, grace withholds the grants.
    pub turn: bool,
    /// What a period of no length leaves to this one, and its number.
    pub carried: Option<(u64, Statement)>,
    /// Of an upgrade that begins anew.
    pub proration: Amt,
}

/// Ends the current period now, or at its turn. Its plan grants end with it.
pub fn end(account: &mut Account, at: Ms, cut: bool) -> Option<(u64, Statement)> {
    for grant in account.grants.iter_mut().filter(|g| g.kind == Kind::Plan && !g.ended) {
        grant.ended = true;
        if grant.expires_at.is_none_or(|e| e > at) {
            grant.expires_at = Some(at);
            if cut {
                grant.reason = "cancelled";
            }
        }
    }
    let period = account.current_mut();
    if cut || period.end.is_none() {
        period.end = Some(at);
    }
    if period.start >= at {
        let period = account.periods.pop().expect("the current period");
        return Some((period.number, period.statement));
    }
    None
}

pub fn begin(account: &mut Account, catalog: &Catalog, step: &mut Step, begin: Begin) {
    let plan = account.plan(catalog);
    account.periods_begun += 1;
    let number = account.periods_begun;
    let (carried, statement) = match begin.carried {
        Some((number, statement)) => (Some(number), statement),
        None => (None, Statement::default()),
    };
    let amount = price(plan, account.billing, account.seats);
    account.periods.push(Period {
        number,
        start: begin.start,
        end: begin.end,
        price: plan.price.as_ref().map(|p| (amount, p.currency.clone())),
        priced: plan.price.is_some(),
        statement,
    });
    account.current_mut().statement.prorations += begin.proration;
    for grant in account.grants.iter_mut().filter(|g| Some(g.period) == carried) {
        grant.period = number;
    }
    account.appeared.clear();
    account.denied.clear();
    for (limit, state) in plan.limits.iter().zip(&mut account.limits) {
        if limit.window == Window::Period {
            state.counters.values_mut().for_each(|c| c.entries.clear());
        }
    }
    account.pool = plan.unit.as_ref().map_or(0, |u| account.active_remaining(u, step.clock));
    let issued = Withheld { plan: account.plan.clone(), seats: account.seats, rollover_of: begin.rollover_of };
    if begin.turn && account.grace_until.is_some() {
        account.withheld = Some(issued);
    } else {
        account.withheld = None;
        issue_plan_grants(account, catalog, step, &issued);
    }
}

/// The grants of a period's start, then what rolls over.
pub fn issue_plan_grants(account: &mut Account, catalog: &Catalog, step: &mut Step, of: &Withheld) {
    let plan = catalog.plan(&of.plan);
    let Some(unit) = &plan.unit else { return };
    let (start, end) = (account.current().start, account.current().end);
    let times = if plan.per_seat { Amt::from(of.seats) } else { 1 };
    let one = |name: &str, amount: Amt, priority: i64, effective_at: Ms| Issue {
        name: name.to_owned(),
        unit: unit.clone(),
        amount,
        priority,
        group: None,
        reference: None,
        effective_at,
        expires_at: end,
        kind: Kind::Plan,
    };
    for grant in &plan.grants {
        grants::issue(account, catalog, step, one(&grant.name, grant.amount * times, grant.priority, start));
    }
    let Some((previous_start, turn)) = of.rollover_of else { return };
    for grant in &plan.grants {
        let Some(max) = grant.rollover else { continue };
        let ended = |g: &Grant| {
            g.kind == Kind::Plan && g.ended && g.expires_at == Some(turn) && g.name == grant.name && g.unit == *unit
        };
        let left: Amt = account.grants.iter().filter(|g| ended(g)).map(|g| g.remaining).sum();
        let moved = left.min(max * times);
        if moved == 0 {
            continue;
        }
        let mut order: Vec<usize> = (0..account.grants.len()).filter(|i| ended(&account.grants[*i])).collect();
        order.sort_by_key(|i| account.grants[*i].burn());
        let mut rest = moved;
        for i in order {
            let part = rest.min(account.grants[i].remaining);
            account.grants[i].remaining -= part;
            rest -= part;
        }
        grants::issue(account, catalog, step, one(&grant.name, moved, grant.priority, previous_start));
    }
}

/// `ends`: when the period ends with the plan. Moves the account to a plan: limits that are the same are kept, the others' notices are taken back.
pub fn change_plan(account: &mut Account, catalog: &Catalog, step: &mut Step, to: &str, ends: Option<Ms>) {
    let (old, new) = (account.plan(catalog), catalog.plan(to));
    let mut kept: Vec<Option<LimitState>> = Vec::new();
    for (index, limit) in old.limits.iter().enumerate() {
        if new.limits.iter().any(|l| l.is(limit)) {
            kept.push(Some(std::mem::take(&mut account.limits[index])));
            continue;
        }
        kept.push(None);
        for key in account.keys(limit) {
            let mut counter = limits::counter(&account.limits[index], &key);
            if counter.told {
                let cap = limits::cap(account, catalog, old, index, &key);
                // A window that ends at this very instant is told as it is after its end.
                if limits::due(limit, &counter, cap, step.clock).is_some_and(|due| due <= step.clock) {
                    limits::end_window(limit, &mut counter);
                }
                let end = ends.or(account.current().end);
                let period = (account.current().start, end);
                let (kind, start, resets_at) = limits::window(limit, &counter, cap, step.clock, period);
                let data = json!({
                    "limit": limit.name, "user": key, "measure": limits::measure(limit),
                    "used": step::amount(limits::used(limit, &counter, step.clock)), "cap": step::amount(cap),
                    "threshold": null, "action": limit.action, "reason": "plan",
                    "window": {"kind": kind, "start": step::at(start), "resets_at": step::at(resets_at)},
                });
                step.tell(LIMITS, "cap.restored", data);
            }
        }
    }
    let mut states: Vec<LimitState> = Vec::new();
    for limit in &new.limits {
        let mut state = LimitState::default();
        if let Some(index) = old.limits.iter().position(|l| l.is(limit)) {
            state = kept[index].take().expect("a limit is kept once");
            for counter in state.counters.values_mut() {
                counter.warned.retain(|told| limit.warn.iter().any(|w| w.0 == *told));
            }
        }
        states.push(state);
    }
    account.limits = states;
    for name in old.overflow.iter().filter(|n| account.overflowing.contains(n)) {
        step.overflow_ended(catalog, name);
    }
    account.overflowing.clear();
    account.denied.clear();
    account.plan = to.to_owned();
    step.plan_changed = true;
}

pub fn drop_pending(account: &mut Account, step: &mut Step) {
    if account.pending.take().is_some() {
        let data = json!({"from": account.plan, "to": null, "seats": null, "billing": null, "effective_at": null});
        step.tell(SUBSCRIPTION, "subscription.pending", data);
    }
}

pub fn end_grace(account: &mut Account, step: &mut Step) {
    account.withheld = None;
    if account.grace_until.take().is_some() {
        step.tell(SUBSCRIPTION, "grace.ended", json!({"until": null}));
    }
}

pub fn told_changed(
    account: &Account,
    step: &mut Step,
    from: Option<&str>,
    reason: &str,
    effective_at: Ms,
    proration: Value,
) {
    let data = json!({
        "from": from, "to": account.plan, "reason": reason, "seats": account.seats,
        "billing": account.billing.text(), "effective_at": step::at(Some(effective_at)), "proration": proration,
    });
    step.tell(SUBSCRIPTION, "subscription.changed", data);
}

/// A new start of the subscription, for refunds and billing cycles.
pub fn anchor(account: &mut Account, anchor: Ms, paid: Amt) {
    account.anchor = anchor;
    account.subscribed = anchor;
    account.start_paid = paid;
    account.prorations.clear();
    account.refunded = 0;
    account.usage = 0;
}

/// The end of grace, a cancellation now, a refund: the plan ends at the clock and another starts by the month.
pub fn move_now(account: &mut Account, catalog: &Catalog, step: &mut Step, to: &str, reason: &str) {
    drop_pending(account, step);
    end_grace(account, step);
    let from = account.plan.clone();
    let clock = step.clock;
    change_plan(account, catalog, step, to, Some(step.clock));
    let carried = end(account, clock, true);
    account.seats = catalog.plan(to).seats;
    account.billing = Billing::Month;
    anchor(account, clock, 0);
    told_changed(account, step, Some(&from), reason, clock, Value::Null);
    let (start, end) = period_at(account.plan(catalog), clock, clock);
    begin(account, catalog, step, Begin { start, end, rollover_of: None, turn: false, carried, proration: 0 });
}

/// When the current period turns: at its end, or for an endless one when what is pending takes effect.
pub fn turn_due(account: &Account) -> Option<Ms> {
    account.current().end.or(account.pending.as_ref().map(|p| p.at))
}

pub fn turn(account: &mut Account, catalog: &Catalog, step: &mut Step, at: Ms) {
    let old = account.plan(catalog);
    let ended = (account.current().start, at);
    let pending = account.pending.clone().filter(|p| p.at <= at);
    let (mut rollover_of, mut new_anchor) = (None, false);
    let mut change = None;
    match &pending {
        Some(p) => {
            account.pending = None;
            if p.plan == account.plan {
                rollover_of = Some(ended);
            }
            let new = catalog.plan(&p.plan);
            new_anchor = old.trial.is_some()
                || p.cancel
                || p.billing != account.billing
                || new.every != old.every
                || new.trial.is_some();
            let reason = if p.cancel { "cancelled" } else { "downgraded" };
            change = Some((p.plan.clone(), p.seats, p.billing, reason));
        }
        None if old.trial.is_some() => {
            drop_pending(account, step);
            new_anchor = true;
            change = Some((old.then.clone(), catalog.plan(&old.then).seats, Billing::Month, "trial_ended"));
        }
        None => rollover_of = Some(ended),
    }
    if old.trial.is_some() || pending.is_some_and(|p| p.cancel) {
        end_grace(account, step);
    }
    let from = account.plan.clone();
    if let Some((plan, ..)) = &change {
        change_plan(account, catalog, step, plan, Some(at));
    }
    let carried = end(account, at, false);
    if let Some((_, seats, billing, reason)) = change {
        (account.seats, account.billing) = (seats, billing);
        if new_anchor {
            anchor(account, at, 0);
        }
        told_changed(account, step, Some(&from), reason, at, Value::Null);
    }
    let (_, end) = period_at(account.plan(catalog), account.anchor, at);
    begin(account, catalog, step, Begin { start: at, end, rollover_of, turn: true, carried, proration: 0 });
}

/// `period.closed` with its statement, if there is anything to tell.
pub fn close(step: &mut Step, period: Period) {
    let s = period.statement;
    let anything = s.sums.records > 0 || s.sums.failed > 0 || !s.granted.is_empty() || period.priced;
    if !anything {
        return;
    }
    let price = period.price.map(|(amount, currency)| json!({"amount": num::text(amount), "currency": currency}));
    let sums = s.sums;
    let data = json!({
        "period": {"start": step::at(Some(period.start)), "end": step::at(period.end)},
        "statement": {
            "charged": charged(&sums.charged), "granted": by_unit(&s.granted), "unused": by_unit(&s.unused),
            "overage": by_unit(&s.overage), "records": sums.records, "failed": sums.failed,
            "quantities": quantities(&sums), "price": price, "prorations": num::text(s.prorations),
        },
    });
    step.tell(PERIOD, "period.closed", data);
}

pub fn by_unit(amounts: &crate::account::ByUnit) -> Value {
    amounts.iter().map(|(unit, a)| (unit.clone(), step::amount(*a))).collect::<serde_json::Map<_, _>>().into()
}

pub fn charged(routes: &[crate::account::ByUnit; 3]) -> Value {
    json!({"plan": by_unit(&routes[0]), "payg": by_unit(&routes[1]), "overflow": by_unit(&routes[2])})
}

pub fn quantities(sums: &crate::account::Sums) -> Value {
    sums.quantities.iter().map(|(t, q)| (t.clone(), by_unit(q))).collect::<serde_json::Map<_, _>>().into()
}

/// What a deleted account's plan grants still have belongs to the statements of their periods.
pub fn close_all(account: &mut Account, step: &mut Step) {
    for grant in std::mem::take(&mut account.grants) {
        if grant.kind == Kind::Plan
            && let Some(period) = account.periods.iter_mut().find(|p| p.number == grant.period)
        {
            add(&mut period.statement.unused, &grant.unit, grant.remaining);
        }
    }
    for mut period in std::mem::take(&mut account.periods) {
        if period.end.is_none_or(|e| e > step.clock) {
            period.end = Some(step.clock);
        }
        if period.end > Some(period.start) {
            close(step, period);
        }
    }
}
