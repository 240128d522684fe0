//! One input, or the timers of one instant: its notices in the order of 6.10, and the edges evaluated at its end.

use crate::account::Account;
use crate::catalog::{Catalog, Plan, Threshold};
use crate::limits;
use crate::num::{self, Amt};
use crate::time::{self, Ms};
use num_rational::BigRational;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Places in the order of notices.
pub const SUBSCRIPTION: u8 = 1;
pub const SESSION: u8 = 2;
pub const ACCESS: u8 = 3;
pub const OVERFLOW_STARTED: u8 = 4;
pub const LIMITS: u8 = 5;
pub const OVERFLOW_ENDED: u8 = 6;
pub const BALANCES: u8 = 7;
pub const AUTOPAY: u8 = 8;
pub const PERIOD: u8 = 9;
pub const LAST: u8 = 10;

pub struct Notice {
    pub place: u8,
    pub type_: &'static str,
    pub data: Value,
}

/// Limit index and user.
type Of = (usize, Option<String>);

pub struct Step {
    pub clock: Ms,
    pub notices: Vec<Notice>,
    pub plan_changed: bool,
    /// Limits in which the record of this step counted.
    pub counted: BTreeSet<Of>,
    caps_before: BTreeMap<Of, Amt>,
    pool_before: Amt,
}

pub fn amount(amount: Amt) -> Value {
    Value::String(num::text(amount))
}

pub fn at(time: Option<Ms>) -> Value {
    time.map_or(Value::Null, |t| Value::String(time::text(t)))
}

impl Step {
    pub fn begin(account: &mut Account, catalog: &Catalog, clock: Ms) -> Step {
        account.clock = clock;
        let plan = account.plan(catalog);
        let mut caps_before = BTreeMap::new();
        for (index, limit) in plan.limits.iter().enumerate() {
            // What a user who is not known yet would have: the key without a user.
            caps_before.insert((index, None), limits::cap(account, catalog, plan, index, &None));
            for key in account.keys(limit) {
                let cap = limits::cap(account, catalog, plan, index, &key);
                // A sliding window may have fallen under a warning since the last input.
                if let Some(counter) = account.limits[index].counters.get_mut(&key).filter(|c| !c.warned.is_empty()) {
                    let used = limits::used(limit, counter, clock);
                    for (text, share) in &limit.warn {
                        if cap > 0 && num::exact(used) < num::exact(cap) * share {
                            counter.warned.remove(text);
                        }
                    }
                }
                caps_before.insert((index, key), cap);
            }
        }
        Step {
            clock,
            notices: Vec::new(),
            plan_changed: false,
            counted: BTreeSet::new(),
            caps_before,
            pool_before: account.pool,
        }
    }

    pub fn tell(&mut self, place: u8, type_: &'static str, data: Value) {
        self.notices.push(Notice { place, type_, data });
    }

    /// Evaluates limits, overflows, balances and auto top-up as they stand after the input.
    pub fn evaluate(&mut self, account: &mut Account, catalog: &Catalog) {
        let plan = account.plan(catalog);
        self.limits(account, catalog, plan);
        self.overflows(account, catalog, plan);
        let mut units: Vec<(String, &[Threshold])> = Vec::new();
        if let Some(unit) = &plan.unit {
            units.push((unit.clone(), &plan.low));
        }
        if let Some(payg) = &catalog.payg
            && plan.unit.as_ref() != Some(&payg.unit)
        {
            units.push((payg.unit.clone(), &payg.low));
        }
        for (unit, low) in units {
            if account.awake.contains(&unit) {
                self.balance(account, plan, &unit, low);
            }
        }
        self.autopay(account);
    }

    fn limits(&mut self, account: &mut Account, catalog: &Catalog, plan: &Plan) {
        for (index, limit) in plan.limits.iter().enumerate() {
            for key in account.keys(limit) {
                let cap = limits::cap(account, catalog, plan, index, &key);
                let mut counter = limits::counter(&account.limits[index], &key);
                let used = limits::used(limit, &counter, self.clock);
                let exceeded = used >= cap;
                let of = (index, key.clone());
                let former = self.caps_before.get(&of).or(self.caps_before.get(&(index, None))).copied();
                let data = |threshold: Option<&str>, reason: Option<&str>| {
                    let period = (account.current().start, account.current().end);
                    let (kind, start, resets_at) = limits::window(limit, &counter, cap, self.clock, period);
                    json!({
                        "limit": limit.name, "user": key, "measure": limits::measure(limit), "used": num::text(used),
                        "cap": num::text(cap), "threshold": threshold, "action": limit.action, "reason": reason,
                        "window": {"kind": kind, "start": at(start), "resets_at": at(resets_at)},
                    })
                };
                let mut told: Vec<(&'static str, Value)> = Vec::new();
                let mut now = (counter.told, counter.warned.clone());
                if counter.told && !exceeded {
                    let reason = match former {
                        _ if self.plan_changed => "plan",
                        Some(former) if used < former => "time",
                        _ => "cap",
                    };
                    told.push(("cap.restored", data(None, Some(reason))));
                    now.0 = false;
                }
                for (text, share) in &limit.warn {
                    if cap == 0 {
                        continue;
                    }
                    if num::exact(used) < num::exact(cap) * share {
                        now.1.remove(text);
                    } else if now.1.insert(text.clone()) {
                        told.push(("cap.warning", data(Some(text), None)));
                    }
                }
                // A limit with cap 0 is exceeded from the start; it is told at a change of it or by a record.
                let pool = account.pool != self.pool_before && limits::shares(account, plan, index, &key);
                let looked_at = used > 0
                    || cap > 0
                    || self.plan_changed
                    || self.counted.contains(&of)
                    || former.is_some_and(|f| f != cap)
                    || pool;
                if exceeded && !counter.told && looked_at {
                    told.push(("cap.exceeded", data(None, None)));
                    now.0 = true;
                }
                (counter.told, counter.warned) = now;
                account.limits[index].counters.insert(key, counter);
                for (type_, data) in told {
                    self.tell(LIMITS, type_, data);
                }
            }
        }
    }

    fn overflows(&mut self, account: &mut Account, catalog: &Catalog, plan: &Plan) {
        for name in plan.overflow.iter().filter(|n| account.overflowing.contains(n)).collect::<Vec<_>>() {
            if !account.extra_usage || !overflows(account, catalog, plan, name, self.clock) {
                account.overflowing.retain(|n| n != name);
                self.overflow_ended(catalog, name);
            }
        }
    }

    pub fn overflow_ended(&mut self, catalog: &Catalog, name: &str) {
        let unit = catalog.payg.as_ref().map(|p| &p.unit);
        self.tell(OVERFLOW_ENDED, "overflow.ended", json!({"limit": name, "unit": unit}));
    }

    fn balance(&mut self, account: &mut Account, plan: &Plan, unit: &str, low: &[Threshold]) {
        let (available, debt) = (account.available(unit, self.clock), account.debt_of(unit));
        let exhausted = account.exhausted(plan, unit, self.clock);
        let pool = account.pool;
        let mut thresholds: Vec<(BigRational, &str)> = low
            .iter()
            .filter(|t| !t.percent || pool > 0)
            .map(|t| (if t.percent { num::exact(pool) * &t.value } else { t.value.clone() }, t.text.as_str()))
            .collect();
        thresholds.sort_by(|a, b| b.0.cmp(&a.0));
        let state = account.balances.entry(unit.to_owned()).or_default();
        let data = |threshold: Option<&str>| json!({"unit": unit, "available": num::text(available), "debt": num::text(debt), "threshold": threshold});
        let mut told = Vec::new();
        if state.exhausted && !exhausted {
            if state.told {
                told.push(("balance.restored", data(None)));
            }
            (state.exhausted, state.told) = (false, false);
        }
        let mut reached = BTreeSet::new();
        for (value, text) in &thresholds {
            if num::exact(available) <= *value {
                reached.insert((*text).to_owned());
                if !self.plan_changed && !state.low.contains(*text) {
                    told.push(("balance.low", data(Some(text))));
                }
            }
        }
        state.low = reached;
        if exhausted && !state.exhausted {
            state.exhausted = true;
            state.told = !self.plan_changed;
            if state.told {
                told.push(("balance.exhausted", data(None)));
            }
        }
        for (type_, data) in told {
            self.tell(BALANCES, type_, data);
        }
    }

    fn autopay(&mut self, account: &mut Account) {
        let Some(wish) = &account.autopay else { return };
        let available = account.available(&wish.unit, self.clock);
        if wish.armed && available < wish.below {
            let data = json!({
                "unit": wish.unit, "below": num::text(wish.below), "amount": num::text(wish.amount),
                "available": num::text(available),
            });
            self.tell(AUTOPAY, "autopay.requested", data);
            account.autopay.as_mut().expect("it was there").armed = false;
        }
    }
}

/// Whether what a plan's overflow list names, a limit or `balance`, is exceeded or exhausted.
pub fn overflows(account: &Account, catalog: &Catalog, plan: &Plan, name: &str, clock: Ms) -> bool {
    if name == "balance" {
        return plan.unit.as_ref().is_some_and(|u| account.exhausted(plan, u, clock));
    }
    let index = plan.limits.iter().position(|l| l.name == name).expect("a limit of the plan");
    limits::exceeded(account, catalog, plan, index, &None, clock)
}
