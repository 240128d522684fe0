//! Section 6: from an accepted record to what it changes.

use crate::account::{Account, Route, Session, Sums, add};
use crate::catalog::{self, Catalog, Measure};
use crate::decode::{Dim, Phase, Usage};
use crate::grants;
use crate::limits;
use crate::num::{self, Amt, ONE};
use crate::price::{self, Facts, Priced};
use crate::step::{ACCESS, OVERFLOW_STARTED, SESSION, Step, overflows};
use crate::time::{self, Ms};
use serde_json::json;

/// What a record will do, decided before anything changes.
pub enum Plan {
    /// Counted as failed, at this effective time; closes the session named.
    Failed(Ms, Option<String>),
    Start(String, Box<Session>),
    End(String, Box<(Facts, Charge)>),
    Charge(Box<(Facts, Charge)>),
}

pub struct Charge {
    pub route: Route,
    trigger: Option<String>,
    pub unit: String,
    pub amount: Amt,
    draws: bool,
    priced: Priced,
    /// Limit, user, what it adds.
    adds: Vec<(usize, Option<String>, Amt)>,
}

/// The checks of 6.2 from `too_many_users` on, in their order.
pub fn decide(c: &Catalog, account: &Account, record: &Usage, clock: Ms) -> Result<Plan, &'static str> {
    let time = record.time.min(clock).max(account.start);
    let end = record.session.as_ref().is_some_and(|s| s.1 == Phase::End);
    if let Some(user) = &record.user
        && !end
        && !account.users.contains_key(user)
        && account.users.len() >= c.users_max
    {
        return Err("too_many_users");
    }
    let mut facts = Facts {
        type_: record.type_.clone(),
        user: record.user.clone(),
        payg: record.payg,
        dims: record.dims.clone(),
        quantities: record.quantities.clone(),
        time,
        session: record.session.is_some(),
    };
    match &record.session {
        None => {
            if record.failed {
                return Ok(Plan::Failed(time, None));
            }
            if facts.payg && c.payg.is_none() {
                return Err("no_payg");
            }
            let row = price::row(c, &facts).ok_or("no_rate")?;
            let charge = charge(c, account, &facts, row, clock)?;
            Ok(Plan::Charge(Box::new((facts, charge))))
        }
        Some((session, Phase::Start)) => {
            if account.sessions.contains_key(session) {
                return Err("session_open");
            }
            if record.failed {
                return Ok(Plan::Failed(time, None));
            }
            if account.sessions.len() >= 10_000 {
                return Err("too_many_sessions");
            }
            if facts.payg && c.payg.is_none() {
                return Err("no_payg");
            }
            let row = price::row(c, &facts).ok_or("no_rate")?;
            let closes_at = time + c.rates[row].session_max.expect("a session row");
            Ok(Plan::Start(session.clone(), Box::new(Session { facts, row, closes_at })))
        }
        Some((session, Phase::End)) => {
            let Some(open) = account.sessions.get(session) else {
                let closed = account.closed_sessions.get(session).is_some_and(|at| clock < at + c.late);
                return Err(if closed { "session_closed" } else { "session_unknown" });
            };
            facts = ended(open, time, Some((&facts.dims, &facts.quantities)));
            if record.failed {
                return Ok(Plan::Failed(facts.time, Some(session.clone())));
            }
            let charge = charge(c, account, &facts, open.row, clock)?;
            Ok(Plan::End(session.clone(), Box::new((facts, charge))))
        }
    }
}

type Fields<'a> = (&'a std::collections::BTreeMap<String, Dim>, &'a std::collections::BTreeMap<String, Amt>);

/// A session as one record: the start's facts overlaid by the end's, at the end's time.
fn ended(open: &Session, time: Ms, end: Option<Fields>) -> Facts {
    let mut facts = open.facts.clone();
    if let Some((dims, quantities)) = end {
        facts.dims.extend(dims.clone());
        facts.quantities.extend(quantities.clone());
    }
    let ms = (time - open.facts.time).clamp(0, open.closes_at - open.facts.time);
    facts.quantities.insert("seconds".into(), Amt::from(ms) * (ONE / 1000));
    facts.time = time.max(open.facts.time);
    facts
}

fn charge(c: &Catalog, account: &Account, facts: &Facts, row: usize, clock: Ms) -> Result<Charge, &'static str> {
    let priced = price::price(c, &c.rates[row], facts)?;
    let charge = routed(c, account, facts, priced, clock, false)?;
    if too_large(c, account, facts, &charge, clock) { Err("bad_quantity") } else { Ok(charge) }
}

/// Whether a debt, counter or total would reach 10^20.
fn too_large(c: &Catalog, account: &Account, facts: &Facts, charge: &Charge, clock: Ms) -> bool {
    let reaches = |sum: Amt| sum >= 100_000 * num::E15;
    let counter = |index: usize, user: &Option<String>| {
        let limit = &account.plan(c).limits[index];
        account.limits[index].counters.get(user).map_or(0, |counter| limits::used(limit, counter, clock))
    };
    let in_sums = |sums: &Sums| {
        let charged = sums.charged[charge.route as usize].get(&charge.unit).copied().unwrap_or(0);
        let by_type = sums.quantities.get(&facts.type_);
        let quantity = |name: &String| by_type.and_then(|q| q.get(name)).copied().unwrap_or(0);
        reaches(charged + charge.amount) || charge.priced.quantities.iter().any(|(name, q)| reaches(quantity(name) + q))
    };
    reaches(account.debt_of(&charge.unit) + charge.amount)
        || charge.adds.iter().any(|(index, user, add)| reaches(counter(*index, user) + add))
        || account.totals.get(&time::month_key(facts.time)).is_some_and(&in_sums)
        || account.periods.get(account.period_at(facts.time)).is_some_and(|p| in_sums(&p.statement.sums))
}

fn route(c: &Catalog, account: &Account, facts: &Facts, clock: Ms) -> (Route, Option<String>) {
    if facts.payg {
        return (Route::Payg, None);
    }
    if !account.extra_usage || c.payg.is_none() {
        return (Route::Plan, None);
    }
    let plan = account.plan(c);
    let applies = |name: &&String| {
        let fits = plan.limits.iter().find(|l| l.name == **name).is_none_or(|l| fits(c, l, facts));
        fits && overflows(account, c, plan, name, clock)
    };
    match plan.overflow.iter().find(applies) {
        Some(name) => (Route::Overflow, Some(name.clone())),
        None => (Route::Plan, None),
    }
}

fn fits(c: &Catalog, limit: &catalog::Limit, facts: &Facts) -> bool {
    limit.type_.as_ref().is_none_or(|p| catalog::pattern(p, &facts.type_))
        && limit.group.as_ref().is_none_or(|g| facts.in_group(c, g))
}

/// `automatic`: what the price cannot be exchanged for is 0: the charge, or what a limit counts.
fn routed(
    c: &Catalog,
    account: &Account,
    facts: &Facts,
    priced: Priced,
    clock: Ms,
    automatic: bool,
) -> Result<Charge, &'static str> {
    let plan = account.plan(c);
    let (route, trigger) = route(c, account, facts, clock);
    let (unit, draws) = match route {
        Route::Plan => (plan.unit.clone().unwrap_or(priced.unit.clone()), plan.unit.is_some()),
        _ => (c.payg.as_ref().expect("checked before").unit.clone(), true),
    };
    let convert = |to: &str| price::exchange(c, &priced.unit, to, priced.price, &account.class, facts.time);
    let amount = if automatic { convert(&unit).unwrap_or(0) } else { convert(&unit)? };
    let mut adds = Vec::new();
    if route == Route::Plan {
        for (index, limit) in plan.limits.iter().enumerate() {
            if !fits(c, limit, facts) || (limit.by_user && facts.user.is_none()) {
                continue;
            }
            let add = match &limit.measure {
                Measure::Records => ONE,
                Measure::Quantity(name) => facts.quantity(name),
                Measure::Unit(of) if *of == unit => amount,
                Measure::Unit(of) if automatic => convert(of).unwrap_or(0),
                Measure::Unit(of) => convert(of)?,
            };
            adds.push((index, facts.user.clone().filter(|_| limit.by_user), add));
        }
    }
    Ok(Charge { route, trigger, unit, amount, draws, priced, adds })
}

/// Applies what was decided.
pub fn apply(c: &Catalog, account: &mut Account, step: &mut Step, record: &Usage, plan: Plan) {
    let end = record.session.as_ref().is_some_and(|s| s.1 == Phase::End);
    if let Some(user) = record.user.as_ref().filter(|_| !end) {
        account.users.entry(user.clone()).or_default();
    }
    match plan {
        Plan::Failed(time, session) => {
            account.totals.entry(time::month_key(time)).or_default().failed += 1;
            account.period_of(time).statement.sums.failed += 1;
            if let Some(session) = session {
                account.sessions.remove(&session);
                account.closed_sessions.insert(session, step.clock);
            }
        }
        Plan::Start(id, session) => {
            access(c, account, step, &session.facts);
            account.sessions.insert(id, *session);
        }
        Plan::End(id, charged) => {
            account.sessions.remove(&id);
            account.closed_sessions.insert(id, step.clock);
            book(c, account, step, &charged.0, charged.1);
        }
        Plan::Charge(charged) => {
            access(c, account, step, &charged.0);
            book(c, account, step, &charged.0, charged.1);
        }
    }
}

/// 6.5, after which the record is charged all the same.
fn access(c: &Catalog, account: &mut Account, step: &mut Step, facts: &Facts) {
    let plan = account.plan(c);
    let mut rules: Vec<String> = Vec::new();
    if !facts.payg && plan.allow.as_ref().is_some_and(|groups| !groups.iter().any(|g| facts.in_group(c, g))) {
        rules.push("plan".into());
    }
    if let Some(user) = &facts.user {
        let denied = account.users.get(user).cloned().unwrap_or_default();
        let groups = c.groups.iter().filter(|g| denied.contains(&g.0) && facts.fits(&g.1));
        rules.extend(groups.map(|g| format!("group:{}", g.0)));
        if !account.appeared.contains(user) {
            account.appeared.push(user.clone());
        }
        let place = account.appeared.iter().position(|u| u == user).expect("it just appeared");
        if plan.strict_seats && place as i64 >= account.seats {
            rules.push("seats".into());
        }
    }
    let model = match facts.dims.get("model") {
        Some(Dim::Text(model)) => Some(model.clone()),
        _ => None,
    };
    for rule in rules {
        if account.denied.insert((facts.user.clone(), rule.clone())) {
            let data = json!({"user": facts.user, "rule": rule, "type": facts.type_, "model": model});
            step.tell(ACCESS, "access.denied", data);
        }
    }
}

fn sum(sums: &mut Sums, facts: &Facts, charge: &Charge) {
    sums.records += 1;
    add(&mut sums.charged[charge.route as usize], &charge.unit, charge.amount);
    if !charge.priced.quantities.is_empty() {
        let by_type = sums.quantities.entry(facts.type_.clone()).or_default();
        for (name, amount) in &charge.priced.quantities {
            add(by_type, name, *amount);
        }
    }
}

fn book(c: &Catalog, account: &mut Account, step: &mut Step, facts: &Facts, charge: Charge) {
    let plan = account.plan(c);
    sum(account.totals.entry(time::month_key(facts.time)).or_default(), facts, &charge);
    sum(&mut account.period_of(facts.time).statement.sums, facts, &charge);
    if charge.draws && charge.amount > 0 {
        let left = grants::draw(account, c, &charge.unit, charge.amount, facts.time, Some(facts));
        if plan.forgive && charge.route == Route::Plan {
            add(&mut account.period_of(facts.time).statement.overage, &charge.unit, left);
        } else {
            add(&mut account.debt, &charge.unit, left);
        }
    }
    for (index, key, amount) in charge.adds {
        let period_start = account.current().start;
        let counter = account.limits[index].counters.entry(key.clone()).or_default();
        if limits::count(&plan.limits[index], counter, facts.time, amount, step.clock, period_start) {
            step.counted.insert((index, key));
        }
    }
    if charge.route == Route::Plan && facts.time >= account.subscribed {
        account.usage += in_currency(c, account, plan, facts, &charge.priced);
    }
    if let Some(name) = charge.trigger
        && !account.overflowing.contains(&name)
    {
        step.tell(OVERFLOW_STARTED, "overflow.started", json!({"limit": name, "unit": charge.unit}));
        account.overflowing.push(name);
    }
}

/// The price for a refund: as it is, exchanged into the currency, else 0.
fn in_currency(c: &Catalog, account: &Account, plan: &catalog::Plan, facts: &Facts, priced: &Priced) -> Amt {
    let Some(price) = &plan.price else { return 0 };
    if priced.unit == price.currency {
        return priced.price;
    }
    if !c.scales.contains_key(&price.currency) {
        return 0;
    }
    price::exchange(c, &priced.unit, &price.currency, priced.price, &account.class, facts.time).unwrap_or(0)
}

/// A session still open at its longest is closed and charged in full; what cannot be charged is 0.
pub fn close_session(c: &Catalog, account: &mut Account, step: &mut Step, id: &str) {
    let open = account.sessions.remove(id).expect("an open session");
    account.closed_sessions.insert(id.to_owned(), step.clock);
    let facts = ended(&open, open.closes_at, None);
    let rate = &c.rates[open.row];
    let charge = price::price(c, rate, &facts).and_then(|p| routed(c, account, &facts, p, step.clock, true));
    let charge = charge.unwrap_or_else(|_| {
        let free = Priced { unit: rate.unit.clone(), price: 0, quantities: price::used_quantities(rate, &facts) };
        routed(c, account, &facts, free, step.clock, true).unwrap_or_else(|_| unreachable!("nothing to exchange"))
    });
    let seconds = facts.quantity("seconds");
    let data = json!({
        "session": id, "user": facts.user, "seconds": num::text(seconds), "charged": num::text(charge.amount),
        "unit": charge.unit,
    });
    step.tell(SESSION, "session.closed", data);
    book(c, account, step, &facts, charge);
}
