//! Section 13: the view of an account.

use crate::account::Account;
use crate::catalog::Catalog;
use crate::limits;
use crate::num::text;
use crate::periods::{charged, quantities};
use crate::step::{amount, at};
use crate::time::{self, Ms};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

pub fn view(c: &Catalog, account: &Account, clock: Ms, sequence: u64) -> Value {
    let pending = account.pending.as_ref().map(
        |p| json!({"plan": p.plan, "seats": p.seats, "billing": p.billing.text(), "effective_at": at(Some(p.at))}),
    );
    let plan = account.plan(c);
    let overflow: Vec<&String> = plan.overflow.iter().filter(|n| account.overflowing.contains(n)).collect();
    let mut sessions: Vec<Value> = Vec::new();
    for (id, s) in &account.sessions {
        sessions.push(json!({
            "session": id, "user": s.facts.user, "started_at": at(Some(s.facts.time)), "closes_at": at(Some(s.closes_at)),
        }));
    }
    json!({
        "account": account.id, "plan": account.plan, "billing": account.billing.text(), "seats": account.seats,
        "class": account.class, "status": if account.grace_until.is_some() { "grace" } else { "active" },
        "extra_usage": account.extra_usage, "overflow": overflow,
        "period": {"start": at(Some(account.current().start)), "end": at(account.current().end)},
        "pending": pending, "balances": balances(c, account, clock), "limits": limits(c, account, clock),
        "sessions": sessions, "totals": totals(c, account, clock), "sequence": sequence,
    })
}

fn balances(c: &Catalog, account: &Account, clock: Ms) -> Value {
    let mut units: BTreeSet<String> = account.awake.clone();
    units.extend(account.plan(c).unit.clone());
    units.extend(c.payg.as_ref().map(|p| p.unit.clone()));
    let mut out = Map::new();
    for unit in units {
        let mut grants: Vec<_> = account.grants.iter().filter(|g| g.unit == unit).collect();
        grants.sort_by_key(|g| g.burn());
        let grants: Vec<Value> = grants
            .into_iter()
            .map(|g| {
                json!({
                    "grant": g.id(), "reference": g.reference, "name": g.name, "amount": amount(g.amount),
                    "remaining": amount(g.remaining), "priority": g.priority, "group": g.group,
                    "effective_at": at(Some(g.effective_at)), "expires_at": at(g.expires_at),
                })
            })
            .collect();
        let (available, debt) = (account.available(&unit, clock), account.debt_of(&unit));
        out.insert(unit, json!({"available": amount(available), "debt": amount(debt), "grants": grants}));
    }
    Value::Object(out)
}

fn limits(c: &Catalog, account: &Account, clock: Ms) -> Value {
    let plan = account.plan(c);
    let mut out: Vec<Value> = Vec::new();
    for (index, limit) in plan.limits.iter().enumerate() {
        for key in account.keys(limit) {
            let counter = limits::counter(&account.limits[index], &key);
            let cap = limits::cap(account, c, plan, index, &key);
            let used = limits::used(limit, &counter, clock);
            let period = (account.current().start, account.current().end);
            let (kind, start, resets_at) = limits::window(limit, &counter, cap, clock, period);
            out.push(json!({
                "limit": limit.name, "user": key, "used": text(used), "cap": text(cap),
                "remaining": text((cap - used).max(0)), "exceeded": used >= cap,
                "window": {"kind": kind, "start": at(start), "resets_at": at(resets_at)},
            }));
        }
    }
    Value::Array(out)
}

fn totals(c: &Catalog, account: &Account, clock: Ms) -> Value {
    let mut out = Map::new();
    let mut first = time::month_start(clock);
    for _ in 0..c.months {
        let key = time::month_key(first);
        if let Some(sums) = account.totals.get(&key) {
            out.insert(
                key,
                json!({
                    "records": sums.records, "failed": sums.failed, "charged": charged(&sums.charged),
                    "quantities": quantities(sums),
                }),
            );
        }
        first = time::month_start(first - 1);
    }
    Value::Object(out)
}
