//! Grants: issue, burn order, debt, closing.

use crate::account::{Account, Grant, Kind, add};
use crate::catalog::Catalog;
use crate::num::Amt;
use crate::price::Facts;
use crate::step::{self, SUBSCRIPTION, Step};
use crate::time::Ms;
use serde_json::json;

pub struct Issue {
    pub name: String,
    pub unit: String,
    pub amount: Amt,
    pub priority: i64,
    pub group: Option<String>,
    pub reference: Option<String>,
    pub effective_at: Ms,
    pub expires_at: Option<Ms>,
    pub kind: Kind,
}

pub fn issue(account: &mut Account, catalog: &Catalog, step: &mut Step, issue: Issue) {
    let paid = if issue.group.is_none() { account.debt_of(&issue.unit).min(issue.amount) } else { 0 };
    add(&mut account.debt, &issue.unit, -paid);
    account.grants_issued += 1;
    account.awake.insert(issue.unit.clone());
    let mut grant = Grant {
        number: account.grants_issued,
        reference: issue.reference,
        name: issue.name,
        unit: issue.unit.clone(),
        amount: issue.amount,
        remaining: issue.amount - paid,
        priority: issue.priority,
        group: issue.group,
        effective_at: issue.effective_at,
        expires_at: issue.expires_at,
        period: account.current().number,
        ended: false,
        reason: if issue.kind == Kind::Plan { "period" } else { "expiry" },
        kind: issue.kind,
    };
    if grant.kind == Kind::Other && !grant.active(step.clock) {
        grant.ended = true;
    }
    let pooled = account.plan(catalog).unit.as_ref() == Some(&issue.unit) && grant.group.is_none();
    if pooled && grant.active(step.clock) {
        account.pool += grant.remaining;
    }
    add(&mut account.current_mut().statement.granted, &issue.unit, issue.amount);
    if let Some(wish) = &mut account.autopay
        && wish.unit == issue.unit
    {
        wish.armed = true;
    }
    let data = json!({
        "grant": grant.id(), "reference": grant.reference, "name": grant.name, "unit": grant.unit,
        "amount": step::amount(grant.amount), "priority": grant.priority, "group": grant.group,
        "effective_at": step::at(Some(grant.effective_at)), "expires_at": step::at(grant.expires_at),
        "debt_paid": step::amount(paid),
    });
    step.tell(SUBSCRIPTION, "grant.issued", data);
    if grant.remaining > 0 || grant.expires_at.is_some() {
        account.grants.push(grant);
    }
}

/// Draws from what is active at the effective time, in burn order; returns what no grant could pay.
pub fn draw(account: &mut Account, catalog: &Catalog, unit: &str, amount: Amt, time: Ms, facts: Option<&Facts>) -> Amt {
    account.awake.insert(unit.to_owned());
    let holds = |g: &Grant| match (&g.group, facts) {
        (None, _) => true,
        (Some(group), Some(facts)) => facts.in_group(catalog, group),
        (Some(_), None) => false,
    };
    let mut order: Vec<usize> = (0..account.grants.len())
        .filter(|i| account.grants[*i].unit == unit && account.grants[*i].active(time) && holds(&account.grants[*i]))
        .collect();
    order.sort_by_key(|i| account.grants[*i].burn());
    let mut left = amount;
    for i in order {
        let part = left.min(account.grants[i].remaining);
        account.grants[i].remaining -= part;
        left -= part;
    }
    account.grants.retain(|g| g.remaining > 0 || g.expires_at.is_some());
    left
}

fn told_expired(step: &mut Step, grant: &Grant, expired_at: Ms, reason: &str) {
    let data = json!({
        "grant": grant.id(), "reference": grant.reference, "name": grant.name, "unit": grant.unit,
        "amount": step::amount(grant.amount), "unused": step::amount(grant.remaining),
        "expired_at": step::at(Some(expired_at)), "reason": reason,
    });
    step.tell(SUBSCRIPTION, "grant.expired", data);
}

/// Closes a grant that ended `late` ago.
pub fn close(account: &mut Account, step: &mut Step, number: u64) {
    let index = account.grants.iter().position(|g| g.number == number).expect("an open grant");
    let grant = account.grants.remove(index);
    if grant.remaining == 0 {
        return;
    }
    if grant.kind == Kind::Plan
        && let Some(period) = account.periods.iter_mut().find(|p| p.number == grant.period)
    {
        add(&mut period.statement.unused, &grant.unit, grant.remaining);
    }
    told_expired(step, &grant, grant.expires_at.expect("it ended"), grant.reason);
}

pub fn void(account: &mut Account, catalog: &Catalog, step: &mut Step, index: usize) {
    let grant = account.grants.remove(index);
    let pooled = account.plan(catalog).unit.as_deref() == Some(&grant.unit) && grant.group.is_none();
    if pooled && grant.active(step.clock) {
        account.pool -= grant.remaining;
    }
    if grant.remaining > 0 {
        told_expired(step, &grant, step.clock, "voided");
    }
}
