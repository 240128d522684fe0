//! Section 4 and 7: checking commands against catalog and state, then carrying them out.

use crate::account::{Account, Autopay, Billing, Kind, Pending};
use crate::catalog::{self, Cap, Catalog, Measure, Plan};
use crate::commands::{CapText, Command, Terms, When};
use crate::grants::{self, Issue};
use crate::num::{self, Amt, Decimal};
use crate::periods::{self, Begin};
use crate::step::{self, LAST, SUBSCRIPTION, Step};
use crate::time::Ms;
use num_rational::BigRational;
use serde_json::{Value, json};

type Reason = &'static str;

/// The refusals that apply, each with its place in the order of section 4.
struct Refusals(Vec<Reason>);

const ORDER: [Reason; 17] = [
    "unknown_plan",
    "unknown_unit",
    "unknown_pack",
    "unknown_group",
    "unknown_limit",
    "unknown_grant",
    "nothing_due",
    "nothing_to_cancel",
    "at_in_future",
    "in_grace",
    "below_minimum",
    "bad_value",
    "no_price",
    "not_refundable",
    "no_change",
    "too_many_users",
    "too_many_grants",
];

impl Refusals {
    fn add(&mut self, reason: Reason, applies: bool) {
        if applies {
            self.0.push(reason);
        }
    }

    fn first(self) -> Result<(), Reason> {
        ORDER.into_iter().find(|r| self.0.contains(r)).map_or(Ok(()), Err)
    }
}

/// Too many decimals or 10^15 and more; zero where it is not allowed.
fn bad(c: &Catalog, amount: &Decimal, unit: Option<&str>, zero: bool) -> bool {
    let scale = unit.and_then(|u| c.scales.get(u)).copied().unwrap_or(9);
    amount.decimals() > i64::from(scale) || !amount.below_e15() || (amount.is_zero() && !zero)
}

fn lacks(plan: &Plan, billing: Billing) -> bool {
    plan.price.as_ref().is_some_and(|p| match billing {
        Billing::Month => p.month.is_none(),
        Billing::Year => p.year.is_none(),
    })
}

fn is_new(c: &Catalog, account: &Account, user: &str) -> bool {
    !account.users.contains_key(user) && account.users.len() >= c.users_max
}

fn terms(c: &Catalog, refusals: &mut Refusals, terms: &Terms, clock: Ms) {
    refusals.add("at_in_future", terms.at.is_some_and(|at| at > clock + c.future));
    let start = terms.at.map_or(clock, |at| at.min(clock));
    refusals.add("bad_value", matches!(terms.expires_at, Some(Some(e)) if e <= start));
}

fn grant_named(account: &Account, name: &str) -> Option<usize> {
    let by_id = account.grants.iter().position(|g| g.id() == name);
    by_id.or_else(|| account.grants.iter().position(|g| g.reference.as_deref() == Some(name)))
}

/// The first refusal that applies; `created`: the account does not exist yet.
pub fn check(c: &Catalog, account: &Account, command: &Command, clock: Ms) -> Result<(), Reason> {
    let mut r = Refusals(Vec::new());
    let plan = account.plan(c);
    let unit = |name: &str| !c.scales.contains_key(name);
    match command {
        Command::Start { plan, billing, at, .. } => {
            r.add("unknown_plan", !c.plans.contains_key(plan));
            r.add("at_in_future", at.is_some_and(|at| at > clock + c.future));
            let lacks = c.plans.get(plan).is_some_and(|p| lacks(p, billing.unwrap_or(Billing::Month)));
            r.add("no_price", lacks);
        }
        Command::Change { plan: to, seats, billing, .. } => match to.as_ref().map_or(Some(plan), |p| c.plans.get(p)) {
            None => r.add("unknown_plan", true),
            Some(new) => {
                let billing = billing.unwrap_or(account.billing);
                let currency = |p: &Plan| p.price.as_ref().map(|p| p.currency.clone());
                let other = currency(plan).zip(currency(new)).is_some_and(|(a, b)| a != b);
                r.add("no_price", lacks(new, billing) || other);
                let same = new.name == plan.name
                    && seats.unwrap_or(account.seats) == account.seats
                    && billing == account.billing;
                r.add("no_change", same && account.pending.is_none());
            }
        },
        Command::Cancel { .. } => r.add("nothing_to_cancel", account.plan == c.default_plan),
        Command::Failed => r.add("nothing_due", plan.price.is_none()),
        Command::Pack { pack, terms: t } => {
            r.add("unknown_pack", !c.packs.contains_key(pack));
            r.add("in_grace", account.grace_until.is_some());
            terms(c, &mut r, t, clock);
        }
        Command::Topup { amount, unit: u, price, terms: t } => {
            r.add("unknown_unit", unit(u));
            r.add("in_grace", account.grace_until.is_some());
            let enough = |(least, currency): &(Amt, String)| {
                price
                    .as_ref()
                    .is_some_and(|(p, of)| of == currency && (!p.below_e15() || p.exact() >= num::exact(*least)))
            };
            r.add("below_minimum", c.minimum.as_ref().is_some_and(|m| !enough(m)));
            r.add("bad_value", bad(c, amount, Some(u), false));
            r.add(
                "bad_value",
                price
                    .as_ref()
                    .is_some_and(|(p, of)| bad(c, p, None, true) || p.decimals() > i64::from(c.decimals(of))),
            );
            terms(c, &mut r, t, clock);
        }
        Command::Issue { unit: u, amount, group, terms: t, .. } => {
            r.add("unknown_unit", unit(u));
            r.add("unknown_group", group.as_ref().is_some_and(|g| c.group(g).is_none()));
            r.add("bad_value", bad(c, amount, Some(u), false));
            terms(c, &mut r, t, clock);
        }
        Command::Void { grant } => r.add("unknown_grant", grant_named(account, grant).is_none()),
        Command::Adjust { unit: u, amount } => {
            r.add("unknown_unit", unit(u));
            r.add("bad_value", bad(c, amount, Some(u), false));
        }
        Command::Member { user, caps, deny } => {
            let denied = deny.iter().flatten().flatten();
            r.add("unknown_group", denied.into_iter().any(|g| c.group(g).is_none()));
            for (name, cap) in caps.iter().flatten().flatten() {
                let limit = plan.limits.iter().find(|l| l.name == *name && l.by_user);
                r.add("unknown_limit", limit.is_none());
                if let (Some(limit), Some(cap)) = (limit, cap) {
                    r.add("bad_value", bad_cap(c, plan, &limit.measure, cap));
                }
            }
            r.add("too_many_users", is_new(c, account, user));
        }
        Command::Limit { limit, cap } => {
            let found = plan.limits.iter().find(|l| l.name == *limit);
            r.add("unknown_limit", found.is_none());
            if let (Some(limit), Some(cap)) = (found, cap) {
                r.add("bad_value", bad(c, cap, measured(&limit.measure), true));
            }
        }
        Command::Set { autopay, .. } => {
            if let Some(Some((u, below, amount))) = autopay {
                r.add("unknown_unit", unit(u));
                r.add("bad_value", bad(c, below, Some(u), false) || bad(c, amount, Some(u), false));
            }
        }
        Command::Refunded { amount } => {
            r.add("bad_value", bad(c, amount, None, false));
            let decimals = plan.price.as_ref().map_or(9, |p| c.decimals(&p.currency));
            r.add("bad_value", amount.decimals() > i64::from(decimals));
            r.add("not_refundable", plan.refund.is_none());
        }
        Command::Succeeded | Command::RefundRequest | Command::Delete => {}
    }
    let issues = match command {
        Command::Pack { .. } | Command::Topup { .. } | Command::Issue { .. } => true,
        Command::Adjust { amount, .. } => !amount.negative,
        _ => false,
    };
    r.add("too_many_grants", issues && account.grants.len() >= 10_000);
    r.first()
}

fn measured(measure: &Measure) -> Option<&str> {
    match measure {
        Measure::Unit(unit) => Some(unit),
        _ => None,
    }
}

fn bad_cap(c: &Catalog, plan: &Plan, measure: &Measure, cap: &CapText) -> bool {
    match cap {
        CapText::Amount(amount) => bad(c, amount, measured(measure), true),
        CapText::Percent(text) => {
            let in_unit = plan.unit.is_some() && measured(measure) == plan.unit.as_deref();
            !in_unit || catalog::share(text).flatten().is_none()
        }
    }
}

fn to_amount(amount: &Decimal) -> Amt {
    amount.amount().unwrap_or(0)
}

/// Carries out a command that was checked. `created`: this command creates the account.
pub fn apply(c: &Catalog, account: &mut Account, step: &mut Step, command: &Command, id: &str, created: bool) {
    let clock = step.clock;
    match command {
        Command::Start { plan, billing, seats, at, paid } => {
            start(c, account, step, (plan, *billing, *seats), at.map_or(clock, |at| at.min(clock)), *paid, created);
        }
        Command::Change { plan, seats, billing, when } => {
            let to = Pending {
                plan: plan.clone().unwrap_or(account.plan.clone()),
                seats: seats.unwrap_or(account.seats),
                billing: billing.unwrap_or(account.billing),
                at: clock,
                cancel: false,
            };
            change(c, account, step, to, when.as_ref());
        }
        Command::Cancel { now } => cancel(c, account, step, *now),
        Command::Succeeded => succeeded(c, account, step),
        Command::Failed => failed(c, account, step),
        Command::Pack { pack, terms } => {
            let (unit, amount) = c.packs[pack].clone();
            issue(c, account, step, id, (pack, &unit, amount, 50, None), terms, c.expires_after);
        }
        Command::Topup { amount, unit, terms, .. } => {
            issue(c, account, step, id, ("topup", unit, to_amount(amount), 50, None), terms, c.expires_after);
        }
        Command::Issue { unit, amount, name, priority, group, terms } => {
            let what = (name.as_str(), unit.as_str(), to_amount(amount), *priority, group.clone());
            issue(c, account, step, id, what, terms, None);
        }
        Command::Void { grant } => {
            let index = grant_named(account, grant).expect("it was checked");
            grants::void(account, c, step, index);
        }
        Command::Adjust { unit, amount } => {
            let amount = to_amount(amount);
            if amount > 0 {
                let terms = Terms { at: None, expires_at: Some(None) };
                issue(c, account, step, id, ("adjustment", unit, amount, 50, None), &terms, None);
            } else {
                let left = grants::draw(account, c, unit, -amount, clock, None);
                crate::account::add(&mut account.debt, unit, left);
            }
        }
        Command::Member { user, caps, deny } => member(c, account, user, caps.as_ref(), deny.as_ref()),
        Command::Limit { limit, cap } => {
            let index = account.plan(c).limits.iter().position(|l| l.name == *limit).expect("it was checked");
            account.limits[index].cap = cap.as_ref().map(to_amount);
        }
        Command::Set { class, extra_usage, autopay } => {
            if let Some(class) = class {
                account.class = class.clone().unwrap_or("standard".into());
            }
            if let Some(extra_usage) = extra_usage {
                account.extra_usage = extra_usage.unwrap_or(false);
            }
            if let Some(wish) = autopay {
                account.autopay = wish.as_ref().map(|(unit, below, amount)| Autopay {
                    unit: unit.clone(),
                    below: to_amount(below),
                    amount: to_amount(amount),
                    armed: true,
                });
            }
        }
        Command::RefundRequest => quote(c, account, step),
        Command::Refunded { amount } => {
            account.refunded += to_amount(amount);
            let then = account.plan(c).refund.as_ref().expect("it was checked").then.clone();
            periods::move_now(account, c, step, &then, "refunded");
        }
        Command::Delete => periods::close_all(account, step),
    }
}

type What<'a> = (&'a str, &'a str, Amt, i64, Option<String>);

fn issue(c: &Catalog, a: &mut Account, step: &mut Step, id: &str, what: What, terms: &Terms, after: Option<Ms>) {
    let effective_at = terms.at.map_or(step.clock, |at| at.min(step.clock));
    let (name, unit, amount, priority, group) = what;
    let issue = Issue {
        name: name.to_owned(),
        unit: unit.to_owned(),
        amount,
        priority,
        group,
        reference: Some(id.to_owned()),
        effective_at,
        expires_at: terms.expires_at.unwrap_or(after.map(|a| effective_at + a)),
        kind: Kind::Other,
    };
    grants::issue(a, c, step, issue);
}

type To<'a> = (&'a str, Option<Billing>, Option<i64>);

fn start(c: &Catalog, account: &mut Account, step: &mut Step, to: To, at: Ms, paid: bool, created: bool) {
    let new = c.plan(to.0);
    let (billing, seats) = (to.1.unwrap_or(Billing::Month), to.2.unwrap_or(new.seats));
    let from = (!created).then(|| account.plan.clone());
    let mut carried = None;
    if created {
        step.plan_changed = true;
        account.plan = new.name.clone();
        account.limits = new.limits.iter().map(|_| Default::default()).collect();
    } else {
        periods::drop_pending(account, step);
        periods::end_grace(account, step);
        periods::change_plan(account, c, step, to.0, Some(step.clock));
        carried = periods::end(account, step.clock, true);
    }
    (account.billing, account.seats) = (billing, seats);
    let price = periods::price(new, billing, seats);
    periods::anchor(account, at, if paid { price } else { 0 });
    account.paid_ever |= paid && price > 0;
    let (start, end) = periods::period_at(new, at, step.clock);
    if created {
        account.start = start;
    }
    periods::told_changed(account, step, from.as_deref(), "started", at, Value::Null);
    periods::begin(account, c, step, Begin { start, end, rollover_of: None, turn: false, carried, proration: 0 });
}

/// The first period end at or after the end of the billing cycle; of free plans the period's end.
fn effective(c: &Catalog, account: &Account, clock: Ms) -> Option<Ms> {
    let plan = account.plan(c);
    let period = account.current();
    if plan.price.is_none() || plan.trial.is_some() {
        return period.end;
    }
    let (_, cycle_end) = periods::cycle(account.anchor, account.billing.months(), clock);
    let Some(mut end) = period.end else { return Some(cycle_end) };
    while end < cycle_end {
        end = periods::period_at(plan, account.anchor, end).1.expect("periods of a length");
    }
    Some(end)
}

fn pend(account: &mut Account, step: &mut Step, pending: Pending) {
    let data = json!({
        "from": account.plan, "to": pending.plan, "seats": pending.seats, "billing": pending.billing.text(),
        "effective_at": step::at(Some(pending.at)),
    });
    step.tell(SUBSCRIPTION, "subscription.pending", data);
    account.pending = Some(pending);
}

fn cancel(c: &Catalog, account: &mut Account, step: &mut Step, now: bool) {
    match effective(c, account, step.clock).filter(|_| !now) {
        Some(at) => {
            let plan = c.default_plan.clone();
            let seats = c.plan(&plan).seats;
            pend(account, step, Pending { plan, seats, billing: Billing::Month, at, cancel: true });
        }
        None => periods::move_now(account, c, step, &c.default_plan, "cancelled"),
    }
}

fn change(c: &Catalog, account: &mut Account, step: &mut Step, to: Pending, when: Option<&When>) {
    let (old, new) = (account.plan(c), c.plan(&to.plan));
    if to.plan == account.plan && to.seats == account.seats && to.billing == account.billing {
        return periods::drop_pending(account, step);
    }
    let was = periods::price(old, account.billing, account.seats);
    let will = periods::price(new, to.billing, to.seats);
    let more_seats = to.plan == account.plan && new.per_seat && to.seats > account.seats;
    let dearer = to.billing == account.billing && (will > was || more_seats);
    let at_once = match when {
        Some(When::Now) => true,
        Some(When::PeriodEnd) => false,
        None => dearer,
    };
    match effective(c, account, step.clock).filter(|_| !at_once) {
        Some(at) => pend(account, step, Pending { at, ..to }),
        None => upgrade(c, account, step, &to, was, will),
    }
}

fn upgrade(c: &Catalog, account: &mut Account, step: &mut Step, to: &Pending, was: Amt, will: Amt) {
    let (old, new) = (account.plan(c), c.plan(&to.plan));
    let clock = step.clock;
    let (cycle_start, cycle_end) = periods::cycle(account.anchor, account.billing.months(), clock);
    let (cycle, left) = (cycle_end - cycle_start, cycle_end - clock);
    let share = BigRational::new(left.into(), cycle.into());
    let in_place = old.price.is_some() == new.price.is_some()
        && old.every == new.every
        && old.trial.is_none()
        && new.trial.is_none()
        && to.billing == account.billing;
    let exact = if in_place { num::exact(will - was) * share } else { num::exact(will) - num::exact(was) * share };
    let currency = new.price.as_ref().or(old.price.as_ref()).map(|p| p.currency.clone());
    let decimals = currency.as_ref().map_or(2, |cur| c.decimals(cur));
    let amount = if num::is_positive(&exact) { num::half_up(&exact, decimals) } else { 0 };
    let proration = json!({"amount": num::text(amount), "currency": currency, "remaining_ms": left, "cycle_ms": cycle});
    let from = account.plan.clone();
    let old_seats = account.seats;
    periods::drop_pending(account, step);
    account.paid_ever |= will > 0;
    if !in_place {
        periods::end_grace(account, step);
        periods::change_plan(account, c, step, &to.plan, Some(clock));
        let carried = periods::end(account, clock, true);
        (account.seats, account.billing) = (to.seats, to.billing);
        periods::anchor(account, clock, amount);
        periods::told_changed(account, step, Some(&from), "upgraded", clock, proration);
        let (start, end) = periods::period_at(new, clock, clock);
        let begin = Begin { start, end, rollover_of: None, turn: false, carried, proration: amount };
        periods::begin(account, c, step, begin);
        return;
    }
    let other_unit = old.unit != new.unit;
    periods::change_plan(account, c, step, &to.plan, None);
    account.seats = to.seats;
    account.prorations.push((clock, amount));
    let current = account.current_mut();
    current.statement.prorations += amount;
    current.priced |= new.price.is_some();
    periods::told_changed(account, step, Some(&from), "upgraded", clock, proration);
    if other_unit {
        account.pool = new.unit.as_ref().map_or(0, |u| account.active_remaining(u, clock));
    }
    if will >= was {
        credits(c, account, step, (old, old_seats), new);
    }
}

/// Upgrade credits, for an upgrade in place.
fn credits(c: &Catalog, account: &mut Account, step: &mut Step, old: (&Plan, i64), new: &Plan) {
    let Some(unit) = &new.unit else { return };
    let sum = |plan: &Plan, seats: i64| -> Amt {
        let times = if plan.per_seat { Amt::from(seats) } else { 1 };
        plan.grants.iter().map(|g| g.amount * times).sum()
    };
    let was = if old.0.unit.as_ref() == Some(unit) { sum(old.0, old.1) } else { 0 };
    let more = sum(new, account.seats) - was;
    let (start, end) = (account.current().start, account.current().end);
    let amount = match (new.upgrade_credits.as_str(), end) {
        ("none", _) => 0,
        ("prorated", Some(end)) => {
            let share = BigRational::new((end - step.clock).into(), (end - start).into());
            num::down(&(num::exact(more) * share), c.scale(unit))
        }
        _ => more,
    };
    if let (true, Some(first)) = (amount > 0, new.grants.first()) {
        let issue = Issue {
            name: first.name.clone(),
            unit: unit.clone(),
            amount,
            priority: first.priority,
            group: None,
            reference: None,
            effective_at: step.clock,
            expires_at: end,
            kind: Kind::Plan,
        };
        grants::issue(account, c, step, issue);
    }
}

fn succeeded(c: &Catalog, account: &mut Account, step: &mut Step) {
    account.paid_ever |= periods::price(account.plan(c), account.billing, account.seats) > 0;
    if account.grace_until.is_none() {
        return;
    }
    let withheld = account.withheld.take();
    periods::end_grace(account, step);
    if let Some(withheld) = withheld {
        periods::issue_plan_grants(account, c, step, &withheld);
    }
}

fn failed(c: &Catalog, account: &mut Account, step: &mut Step) {
    if account.grace_until.is_some() {
        return;
    }
    match account.plan(c).grace.filter(|_| account.paid_ever) {
        Some(grace) => {
            let until = step.clock + grace;
            account.grace_until = Some(until);
            step.tell(SUBSCRIPTION, "grace.started", json!({"until": step::at(Some(until))}));
        }
        None => periods::move_now(account, c, step, &c.default_plan, "payment_failed"),
    }
}

type Caps = Option<Vec<(String, Option<CapText>)>>;

fn member(c: &Catalog, account: &mut Account, user: &str, caps: Option<&Caps>, deny: Option<&Option<Vec<String>>>) {
    let entry = account.users.entry(user.to_owned()).or_default();
    if let Some(deny) = deny {
        *entry = deny.clone().unwrap_or_default();
    }
    let plan = account.plan(c);
    match caps {
        None => {}
        Some(None) => account.limits.iter_mut().for_each(|l| {
            l.user_caps.remove(user);
        }),
        Some(Some(caps)) => {
            for (name, cap) in caps {
                let index = plan.limits.iter().position(|l| l.name == *name).expect("it was checked");
                let own = &mut account.limits[index].user_caps;
                match cap {
                    None => own.remove(user),
                    Some(CapText::Amount(amount)) => own.insert(user.to_owned(), Cap::Amount(to_amount(amount))),
                    Some(CapText::Percent(text)) => {
                        own.insert(user.to_owned(), Cap::Share(catalog::share(text).flatten().expect("checked")))
                    }
                };
            }
        }
    }
}

/// 7.5
fn quote(c: &Catalog, account: &mut Account, step: &mut Step) {
    let plan = account.plan(c);
    let clock = step.clock;
    let months = account.billing.months();
    let (cycle_start, cycle_end) = periods::cycle(account.anchor, months, clock);
    let first = cycle_start == account.anchor;
    let mut paid = if first { account.start_paid } else { 0 };
    paid += account.prorations.iter().filter(|p| cycle_start <= p.0 && p.0 < cycle_end).map(|p| p.1).sum::<Amt>();
    let (usage, refunded) = (account.usage, account.refunded);
    let reason = match &plan.refund {
        None => Some("no_refund"),
        Some(refund) if clock - account.subscribed > refund.within => Some("too_late"),
        Some(_) if usage > paid => Some("used_up"),
        Some(_) => None,
    };
    let currency = plan.price.as_ref().map(|p| p.currency.clone());
    let decimals = currency.as_ref().map_or(2, |cur| c.decimals(cur));
    let (mut amount, mut fee) = (0, 0);
    if let (None, Some(refund)) = (reason, &plan.refund) {
        let left = num::exact((paid - usage - refunded).max(0));
        let one = BigRational::from_integer(1.into());
        amount = num::half_up(&(&left * (one - &refund.fee)), decimals);
        fee = num::half_up(&(&left * &refund.fee), decimals);
    }
    let data = json!({
        "eligible": reason.is_none(), "reason": reason, "paid": num::text(paid), "usage": num::text(usage),
        "refunded": num::text(refunded), "fee": num::text(fee), "amount": num::text(amount), "currency": currency,
    });
    step.tell(LAST, "refund.quoted", data);
}
