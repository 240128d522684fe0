//! Plans: price, period, grants, trial, grace, refund.

use super::super::reading::{Name, Table, Value};
use super::super::values::Sign;
use super::{Check, Section, thresholds};
use crate::engine::Amount;
use crate::engine::catalog::{
    Limit, Overdraft, OverflowOn, Period, Plan, PlanGrant, PlanPrice, Refund, Scope, UpgradeCredits,
};

const SEATS_MAX: i64 = 100_000;
const SECOND_MS: i64 = 1_000;

impl<'r> Check<'r> {
    pub(super) fn plans_of(&mut self, section: &Section<'r>) -> Vec<Plan> {
        let plans = section.iter().filter_map(|(name, value)| self.plan(name, value)).collect();
        self.then_has_no_cycle(section);
        plans
    }

    fn plan(&mut self, name: &Name<'r>, value: &Value<'r>) -> Option<Plan> {
        let mut table = value.table()?;
        let price = table.get("price").and_then(|price| self.plan_price(&price));
        let unit_value = table.get("unit");
        let unit = unit_value.as_ref().and_then(|unit| self.unit(unit));
        let limits = self.limits(table.get("limit"), unit);
        let (period, ends_after_ms, then) = self.life(&mut table);
        let seats = table.get("seats").and_then(|seats| seats.integer(1, SEATS_MAX)).unwrap_or(1) as u32;
        let strict_seats = table.get("strict_seats").and_then(|value| value.boolean()).unwrap_or(false);
        let per_seat = table.get("per_seat").and_then(|value| value.boolean()).unwrap_or(false);
        let allow = table.get("allow").map(|allow| self.allowed(&allow));
        let grants =
            table.get("grants").map(|grants| self.grants(&grants, unit_value.is_some(), unit)).unwrap_or_default();
        let grace = table.get("grace");
        let grace_ms = grace.as_ref().and_then(|grace| grace.duration(1));
        let upgrade_credits = table.get("upgrade_credits").and_then(|value| value.choose(&UPGRADE_CREDITS));
        let overdraft = table.get("overdraft").and_then(|value| value.choose(&OVERDRAFTS));
        let low = table.get("low").map(|low| thresholds(&low, Some(100))).unwrap_or_default();
        let exhausted_below = table.get("exhausted_below").and_then(|value| value.amount(Sign::Any, 9));
        let overflow = table.get("overflow");
        let overflow = overflow.map(|value| self.overflow(&value, &limits, unit_value.is_some())).unwrap_or_default();
        let refund = table.get("refund").and_then(|refund| self.refund(&refund));
        let plan = Plan {
            name: name.text.into(),
            price,
            period,
            seats,
            strict_seats,
            per_seat,
            unit,
            allow,
            grants,
            ends_after_ms,
            then: then.or(self.default_plan).unwrap_or_default(),
            grace_ms,
            upgrade_credits: upgrade_credits.unwrap_or(UpgradeCredits::None),
            overdraft: overdraft.unwrap_or(Overdraft::Carry),
            low,
            exhausted_below,
            overflow,
            refund,
            limits: limits.into_iter().filter_map(|(_, _, limit)| limit).collect(),
        };
        if !self.reading.has_errors() {
            self.review_plan(&table, &plan);
        }
        table.finish();
        Some(plan)
    }

    fn plan_price(&mut self, value: &Value<'r>) -> Option<PlanPrice> {
        let mut table = value.table()?;
        let currency = table.require("currency", "\"usd\"").and_then(|currency| self.currencies.find(&currency));
        let decimals = currency.and_then(|currency| self.decimals.get(currency)).copied().unwrap_or(9);
        let (month, year) = (table.get("month"), table.get("year"));
        if month.is_none() && year.is_none() {
            value.error("a price for no interval", "write `month`, `year` or both; leave `price` out of a free plan");
        }
        let month = month.and_then(|month| month.amount(Sign::Positive, decimals));
        let year = year.and_then(|year| year.amount(Sign::Positive, decimals));
        table.finish();
        Some(PlanPrice { currency: currency? as u8, month, year })
    }

    /// `period`, or a trial's `ends_after`; and `then`.
    fn life(&mut self, table: &mut Table<'r>) -> (Period, Option<i64>, Option<u16>) {
        let (period, ends_after, then) = (table.get("period"), table.get("ends_after"), table.get("then"));
        if let (Some(_), Some(ends_after)) = (&period, &ends_after) {
            ends_after.error(
                "`period` and `ends_after` exclude each other",
                "a trial has one period, of the length `ends_after`",
            );
        }
        if let (Some(then), None) = (&then, &ends_after) {
            then.warning("`then` does nothing without `ends_after`", "say when the plan ends, or leave it out");
        }
        let ends_after = ends_after.and_then(|after| after.duration(SECOND_MS));
        let period = period.and_then(|period| period_of(&period));
        let then = then.and_then(|then| self.plans.find(&then)).map(|plan| plan as u16);
        (period.unwrap_or(Period::Month), ends_after, then)
    }

    fn allowed(&mut self, value: &Value<'r>) -> Vec<u16> {
        let mut groups = Vec::new();
        for item in value.list().unwrap_or_default() {
            let Some(group) = self.groups.find(&item) else { continue };
            if groups.contains(&(group as u16)) {
                item.error("this group is listed twice", "list it once");
            } else {
                groups.push(group as u16);
            }
        }
        groups
    }

    fn grants(&mut self, value: &Value<'r>, has_unit: bool, unit: Option<u8>) -> Vec<PlanGrant> {
        let list = value.list().unwrap_or_default();
        if !has_unit && !list.is_empty() {
            value.error("grants need the plan's `unit`", "say which unit the plan gives, like `unit = \"credit\"`");
        }
        let mut grants: Vec<PlanGrant> = Vec::new();
        for value in &list {
            let Some(grant) = self.grant(value, unit) else { continue };
            if let Some(other) = grants.iter().find(|other| other.name == grant.name) {
                let message = format!("the plan has two grants named `{}`", grant.name);
                if grant.rollover_max.is_some() || other.rollover_max.is_some() {
                    value.error(message, "what is left of a name rolls over once: give each grant a name of its own");
                } else {
                    value.warning(message, "notices could not tell them apart");
                }
            }
            grants.push(grant);
        }
        grants
    }

    fn grant(&mut self, value: &Value<'r>, unit: Option<u8>) -> Option<PlanGrant> {
        let mut table = value.table()?;
        let scale = self.scale(unit);
        let name = table.require("name", "\"plan\"").and_then(|name| super::names::declared_name(&name, "grant"));
        let amount = table.require("amount", "\"1000\"").and_then(|amount| amount.amount(Sign::Positive, scale));
        let priority = table.get("priority").and_then(|priority| priority.integer(0, 1_000)).unwrap_or(10) as u16;
        let rollover_max = table.get("rollover").and_then(|rollover| rollover_max(&rollover, scale));
        table.finish();
        Some(PlanGrant { name: name?.into(), amount: amount?, priority, rollover_max })
    }

    fn overflow(
        &mut self,
        value: &Value<'r>,
        limits: &[(&'r str, Scope, Option<Limit>)],
        has_unit: bool,
    ) -> Vec<OverflowOn> {
        let mut overflow = Vec::new();
        for item in value.list().unwrap_or_default() {
            let Some(name) = item.text() else { continue };
            let Some(on) = overflow_on(&item, name, limits, has_unit) else { continue };
            if overflow.contains(&on) {
                item.error(format!("`{name}` is listed twice"), "list it once");
            } else {
                overflow.push(on);
            }
        }
        overflow
    }

    fn refund(&mut self, value: &Value<'r>) -> Option<Refund> {
        let mut table = value.table()?;
        let within_ms = table.require("within", "\"24h\"").and_then(|within| within.duration(1));
        let fee = table.get("fee").and_then(|fee| fee.percent(100));
        let then = table.require("then", "\"free\"").and_then(|then| self.plans.find(&then));
        table.finish();
        Some(Refund { within_ms: within_ms?, fee, then: then? as u16 })
    }

    /// Every chain of trials must end at a plan that stays.
    fn then_has_no_cycle(&self, section: &Section<'r>) {
        let next: Vec<Option<usize>> = section.iter().map(|(_, value)| self.next_plan(value)).collect();
        let mut told = vec![false; section.len()];
        for start in 0..section.len() {
            let mut path = vec![start];
            while let Some(plan) = next[path[path.len() - 1]] {
                if let Some(first) = path.iter().position(|seen| *seen == plan) {
                    let cycle = &path[first..];
                    if !told[plan] {
                        let names: Vec<&str> = cycle.iter().chain([&plan]).map(|plan| section[*plan].0.text).collect();
                        let message = format!("`then` goes round in a circle: {}", names.join(" → "));
                        let help = "let one of them end in a plan without `ends_after`".to_owned();
                        self.reading.error(&section[cycle[0]].0.place, message, Some(help));
                    }
                    cycle.iter().for_each(|plan| told[*plan] = true);
                    break;
                }
                path.push(plan);
            }
        }
    }

    /// The plan that follows by itself: `then`, or the default plan after a trial that names none.
    fn next_plan(&self, plan: &Value<'r>) -> Option<usize> {
        let table = plan.quiet_table()?;
        match table.peek_text("then") {
            Some(then) => self.plans.id(then),
            None if table.has("ends_after") => self.default_plan.map(usize::from),
            None => None,
        }
    }
}

const UPGRADE_CREDITS: [(&str, UpgradeCredits); 3] = [
    ("prorated", UpgradeCredits::Prorated),
    ("difference", UpgradeCredits::Difference),
    ("none", UpgradeCredits::None),
];
const OVERDRAFTS: [(&str, Overdraft); 2] = [("carry", Overdraft::Carry), ("forgive", Overdraft::Forgive)];
const PERIODS: [(&str, Period); 5] = [
    ("month", Period::Month),
    ("calendar_month", Period::CalendarMonth),
    ("week", Period::Week),
    ("day", Period::Day),
    ("none", Period::None),
];

fn period_of(value: &Value<'_>) -> Option<Period> {
    match value.text()? {
        text if text.starts_with(|c: char| c.is_ascii_digit()) => value.duration(SECOND_MS).map(Period::Length),
        _ => value.choose(&PERIODS),
    }
}

fn rollover_max(value: &Value<'_>, scale: u8) -> Option<Amount> {
    let mut table = value.table()?;
    let max = table.require("max", "\"5000\"").and_then(|max| max.amount(Sign::Positive, scale));
    table.finish();
    max
}

fn overflow_on(
    item: &Value<'_>,
    name: &str,
    limits: &[(&str, Scope, Option<Limit>)],
    has_unit: bool,
) -> Option<OverflowOn> {
    if name == "balance" {
        if !has_unit {
            item.error("a plan without `unit` has no balance", "set the plan's `unit`, or leave `balance` out");
        }
        return has_unit.then_some(OverflowOn::Balance);
    }
    let names = || limits.iter().map(|(name, _, _)| *name);
    let Some(index) = names().position(|limit| limit == name) else {
        let help = match super::super::reading::nearest(name, names().chain(["balance"])) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("name a limit of this plan ({}), or `balance`", names().collect::<Vec<_>>().join(", ")),
        };
        item.error(format!("the plan has no limit `{name}`"), help);
        return None;
    };
    if limits[index].1 == Scope::User {
        item.error(format!("the limit `{name}` counts each user"), "only limits of scope \"account\" can overflow");
        return None;
    }
    Some(OverflowOn::Limit(index as u16))
}
