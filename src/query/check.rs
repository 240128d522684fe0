//! `check`: whether a record would be allowed, and why not (docs/reference.md 13, 16). The gateway blocks, not meterd.

use super::view::{LimitSeen, limit_at};
use super::{CheckAnswer, CheckLimit, CheckReason, CheckRequest};
use crate::engine::account::State;
use crate::engine::calendar::format_time;
use crate::engine::catalog::{
    Catalog, DimensionId, Limit, LimitIndex, MODEL, OnExceed, OverflowOn, Plan, Scope, UnitId, Window,
};
use crate::engine::input::{Billing, Dimension};
use crate::engine::lookup::{find_rate, group_fits};
use crate::engine::users::UserIndex;
use crate::engine::{Account, Amount, Catalogs, Ms, as_of};

/// What is asked about, as far as a record's route and limits go by it.
struct Asked<'a> {
    catalog: &'a Catalog,
    state: &'a State,
    plan: &'a Plan,
    kind: &'a str,
    /// A user that the account does not know has used nothing.
    user: Option<Option<UserIndex>>,
    dimensions: &'a [(DimensionId, Dimension<'a>)],
    now: Ms,
}

/// The answer at `now`; `None` where the account does not exist.
pub fn check(catalogs: &Catalogs, account: &Account, request: &CheckRequest, now: Ms) -> Option<CheckAnswer> {
    let account = as_of(account, catalogs, now);
    let state = account.state.as_deref()?;
    let catalog = &**catalogs.current();
    let model = request.model.as_deref().map(|model| [(MODEL, Dimension::Text(model))]);
    let asked = Asked {
        catalog,
        state,
        plan: &catalog.plans[usize::from(state.plan)],
        kind: request.kind.as_deref().unwrap_or_default(),
        user: request.user.as_deref().map(|name| state.users.find(name)),
        dimensions: model.as_ref().map_or(&[], |list| &list[..]),
        now,
    };
    let asks_payg = request.billing == Some(Billing::Payg);
    let overflows = !asks_payg && asked.overflows();
    let payg = catalog.payg.as_ref().map(|payg| payg.unit);
    let (route, unit) = match (asks_payg, overflows) {
        (true, _) => ("payg", payg),
        (false, true) => ("overflow", payg),
        (false, false) => ("plan", asked.plan.unit),
    };
    let mut reasons = Vec::new();
    let mut limits = Vec::new();
    if !asks_payg {
        asked.look_at_limits(overflows, &mut reasons, &mut limits);
    }
    let rate = asked.rate();
    if let Some(unit) = unit
        && asked.lacks(unit, request.amount)
        && !rate.is_some_and(|free| free)
    {
        reasons.push(reason("balance_exhausted"));
    }
    if !asks_payg && !state.plan_allows(catalog, |group| group_fits(catalog, group, asked.dimensions)) {
        reasons.push(reason("not_in_plan"));
    }
    if asked.is_denied() {
        reasons.push(reason("member_denied"));
    }
    if (request.kind.is_some() && rate.is_none()) || (asks_payg && payg.is_none()) {
        reasons.push(reason("no_rate"));
    }
    let available = unit.map(|unit| state.available(unit).to_string());
    Some(CheckAnswer { allowed: reasons.is_empty(), route, reasons, available, limits })
}

fn reason(code: &'static str) -> CheckReason {
    CheckReason { code, limit: None, resets_at: None }
}

impl Asked<'_> {
    /// Whether the record would go to payg although the plan is asked.
    fn overflows(&self) -> bool {
        let applies = |on: &OverflowOn| match on {
            OverflowOn::Limit(limit) => self.fits(*limit) && self.is_exceeded(*limit),
            OverflowOn::Balance => self.state.is_exhausted(self.catalog),
        };
        self.state.extra_usage && self.catalog.payg.is_some() && self.plan.overflow.iter().any(applies)
    }

    /// Every limit that the record would count in. One that only notifies, or sends the record to payg, is no reason.
    fn look_at_limits(&self, overflows: bool, reasons: &mut Vec<CheckReason>, limits: &mut Vec<CheckLimit>) {
        for (place, limit) in self.plan.limits.iter().enumerate() {
            let index = place as LimitIndex;
            if !self.fits(index) {
                continue;
            }
            let seen = self.seen(index);
            let sent_away = overflows && self.plan.overflow.contains(&OverflowOn::Limit(index));
            if seen.used >= seen.cap && limit.on_exceed != OnExceed::Notify && !sent_away {
                let resets_at = seen.window.resets_at.map(format_time);
                reasons.push(CheckReason { code: "cap_exceeded", limit: Some(limit.name.to_string()), resets_at });
            }
            if !overflows {
                limits.push(CheckLimit {
                    name: limit.name.clone(),
                    cap: seen.cap,
                    remaining: (seen.cap - seen.used).max(Amount::ZERO),
                    window_ms: window_ms(limit, &seen),
                    resets_at: seen.window.resets_at,
                });
            }
        }
    }

    fn fits(&self, index: LimitIndex) -> bool {
        let limit = &self.plan.limits[usize::from(index)];
        (limit.scope == Scope::Account || self.user.is_some())
            && limit.kind.as_ref().is_none_or(|pattern| pattern.fits(self.kind))
            && limit.group.is_none_or(|group| group_fits(self.catalog, group, self.dimensions))
    }

    fn is_exceeded(&self, index: LimitIndex) -> bool {
        let seen = self.seen(index);
        seen.used >= seen.cap
    }

    fn seen(&self, index: LimitIndex) -> LimitSeen {
        let by_user = self.plan.limits[usize::from(index)].scope == Scope::User;
        let user = self.user.flatten().filter(|_| by_user);
        let mut seen = limit_at(self.catalog, self.state, index, user, self.now);
        if by_user && user.is_none() {
            seen.used = Amount::ZERO;
        }
        seen
    }

    fn lacks(&self, unit: UnitId, amount: Option<Amount>) -> bool {
        let available = self.state.available(unit);
        let exhausted =
            if self.plan.unit == Some(unit) { self.state.is_exhausted(self.catalog) } else { !available.is_positive() };
        exhausted || amount.is_some_and(|amount| available < amount)
    }

    /// Whether there is a rate, and if so whether it makes the record free.
    fn rate(&self) -> Option<bool> {
        let find = |session| find_rate(self.catalog, self.kind, self.dimensions, self.now, session);
        let row = &self.catalog.rates[find(false).or_else(|| find(true))? as usize];
        Some(row.price.is_empty() && row.each.is_none())
    }

    fn is_denied(&self) -> bool {
        let Some(known) = self.user else { return false };
        let users = &self.state.users;
        let denied = known.is_some_and(|user| {
            users.get(user).denies().iter().any(|group| group_fits(self.catalog, *group, self.dimensions))
        });
        let appeared = known.map(|user| users.get(user).appeared).filter(|(epoch, _)| *epoch == users.seats_epoch);
        let rank = appeared.map_or(users.appeared + 1, |(_, rank)| rank);
        denied || (self.plan.strict_seats && rank > self.state.seats)
    }
}

fn window_ms(limit: &Limit, seen: &LimitSeen) -> Option<i64> {
    match limit.window {
        Window::Sliding(length) | Window::FirstUse(length) => Some(length),
        _ => Some(seen.window.resets_at? - seen.window.start?),
    }
}
