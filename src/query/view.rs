//! The view of an account (docs/reference.md 13), and its monthly totals: pure functions of its state.

use std::fmt::Display;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::AccountLine;
use crate::engine::account::State;
use crate::engine::balance::Balance;
use crate::engine::calendar::{format_time, month_name, month_of};
use crate::engine::catalog::{Breakdown, Catalog, LimitIndex, Scope, UnitId};
use crate::engine::effects::{WindowKind, WindowTold};
use crate::engine::grants::Grant;
use crate::engine::input::Interval;
use crate::engine::limits::LimitState;
use crate::engine::totals::{Charges, Month, Route};
use crate::engine::users::UserIndex;
use crate::engine::{Account, Amount, Catalogs, Ms, as_of};

/// As of a clock; what does not apply is null.
#[derive(Debug, Serialize)]
pub struct View {
    account: Box<str>,
    plan: Box<str>,
    billing: &'static str,
    seats: u32,
    class: Box<str>,
    status: &'static str,
    extra_usage: bool,
    overflow: Vec<Box<str>>,
    period: PeriodView,
    pending: Option<PendingView>,
    balances: Named<BalanceView>,
    limits: Vec<LimitView>,
    sessions: Vec<SessionView>,
    totals: Named<MonthView>,
    sequence: u64,
}

#[derive(Debug, Serialize)]
struct PeriodView {
    start: Time,
    end: Option<Time>,
}

#[derive(Debug, Serialize)]
struct PendingView {
    plan: Box<str>,
    seats: u32,
    billing: &'static str,
    effective_at: Time,
}

#[derive(Debug, Serialize)]
struct BalanceView {
    available: Text<Amount>,
    debt: Text<Amount>,
    grants: Vec<GrantView>,
}

#[derive(Debug, Serialize)]
struct GrantView {
    grant: String,
    reference: Option<Box<str>>,
    name: Box<str>,
    amount: Text<Amount>,
    remaining: Text<Amount>,
    priority: u16,
    group: Option<Box<str>>,
    effective_at: Time,
    expires_at: Option<Time>,
}

#[derive(Debug, Serialize)]
struct LimitView {
    limit: Box<str>,
    user: Option<Box<str>>,
    used: Text<Amount>,
    cap: Text<Amount>,
    remaining: Text<Amount>,
    exceeded: bool,
    window: WindowView,
}

#[derive(Debug, Serialize)]
struct WindowView {
    kind: &'static str,
    start: Option<Time>,
    resets_at: Option<Time>,
}

#[derive(Debug, Serialize)]
struct SessionView {
    session: Box<str>,
    user: Option<Box<str>>,
    started_at: Time,
    closes_at: Time,
}

#[derive(Debug, Serialize)]
struct MonthView {
    records: u64,
    failed: u64,
    charged: ChargedView,
    quantities: Named<Named<Text<Amount>>>,
}

#[derive(Debug, Serialize)]
struct ChargedView {
    plan: Named<Text<Amount>>,
    payg: Named<Text<Amount>>,
    overflow: Named<Text<Amount>>,
}

/// One month of totals, broken down by a field of `[totals] by`.
#[derive(Debug, Serialize)]
pub struct UsageView {
    account: Box<str>,
    month: String,
    #[serde(flatten)]
    totals: MonthView,
    by: Option<Box<str>>,
    values: Vec<ValueView>,
}

#[derive(Debug, Serialize)]
struct ValueView {
    value: Box<str>,
    records: u64,
    charged: ChargedView,
}

/// An object whose members keep their order.
#[derive(Debug)]
struct Named<T>(Vec<(Box<str>, T)>);

/// Written as a JSON string.
#[derive(Debug)]
struct Text<T>(T);

/// Written as RFC 3339.
#[derive(Debug)]
struct Time(Ms);

/// The view of an account at `clock`; `None` where it does not exist.
pub fn view(catalogs: &Catalogs, id: &str, account: &Account, clock: Ms) -> Option<View> {
    let account = as_of(account, catalogs, clock);
    let state = account.state.as_deref()?;
    let catalog = catalogs.current();
    let plan_name = |plan: u16| catalog.plans[usize::from(plan)].name.clone();
    let span = state.period.span;
    let running = catalog.plans[usize::from(state.plan)].overflow.iter().filter(|on| state.overflow().contains(on));
    Some(View {
        account: id.into(),
        plan: plan_name(state.plan),
        billing: interval(state.billing),
        seats: state.seats,
        class: state.class().into(),
        status: status(state),
        extra_usage: state.extra_usage,
        overflow: running.map(|on| state.overflow_name(catalog, *on)).collect(),
        period: PeriodView { start: Time(span.start), end: span.end.map(Time) },
        pending: state.pending().map(|pending| PendingView {
            plan: plan_name(pending.plan),
            seats: pending.seats,
            billing: interval(pending.billing),
            effective_at: Time(pending.effective_at),
        }),
        balances: balances(catalog, state),
        limits: limits(catalog, state, clock),
        sessions: sessions(state),
        totals: totals(catalog, state, clock),
        sequence: account.sequence(),
    })
}

/// `active` or `grace`.
pub(crate) fn status(state: &State) -> &'static str {
    if state.grace_until().is_some() { "grace" } else { "active" }
}

/// The account in a list; `None` where it does not exist.
pub fn line(catalogs: &Catalogs, id: &str, account: &Account, clock: Ms) -> Option<AccountLine> {
    let account = as_of(account, catalogs, clock);
    let state = account.state.as_deref()?;
    Some(AccountLine {
        account: id.into(),
        plan: catalogs.current().plans[usize::from(state.plan)].name.to_string(),
        status: status(state),
        sequence: account.sequence(),
    })
}

/// The totals of a month, that of the clock if none is given. `None` where the account does not exist; an error where `by`
/// is not a field that totals are kept by.
pub fn usage(
    catalogs: &Catalogs,
    id: &str,
    account: &Account,
    (month, by): (Option<i32>, Option<&str>),
    clock: Ms,
) -> Result<Option<UsageView>, String> {
    let account = as_of(account, catalogs, clock);
    let catalog = catalogs.current();
    let breakdown = by.map(|name| breakdown_named(catalog, name)).transpose()?;
    let Some(state) = account.state.as_deref() else { return Ok(None) };
    let month = month.unwrap_or(month_of(clock));
    let mut empty = Month::default();
    empty.month = month;
    let totals = state.totals.month(month).unwrap_or(&empty);
    let value = |name: &str, tally: &crate::engine::totals::Tally| ValueView {
        value: name.into(),
        records: tally.records,
        charged: charged(catalog, &tally.charges),
    };
    let mut values: Vec<ValueView> = match breakdown {
        None => Vec::new(),
        Some(Breakdown::User) => {
            totals.users().map(|(user, tally)| value(&state.users.get(user).name, tally)).collect()
        }
        Some(Breakdown::Dimension(id)) => totals.values(id).map(|(name, tally)| value(name, tally)).collect(),
    };
    values.sort_unstable_by(|a, b| a.value.cmp(&b.value));
    let by = by.map(Into::into);
    Ok(Some(UsageView {
        account: id.into(),
        month: month_name(month),
        totals: month_view(catalog, state, totals),
        by,
        values,
    }))
}

fn breakdown_named(catalog: &Catalog, name: &str) -> Result<Breakdown, String> {
    let named = |by: &Breakdown| match by {
        Breakdown::User => "user",
        Breakdown::Dimension(id) => &catalog.dimensions[usize::from(*id)],
    };
    let found = catalog.totals.by.iter().find(|by| named(by) == name);
    found.copied().ok_or_else(|| {
        let known: Vec<&str> = catalog.totals.by.iter().map(named).collect();
        format!("expected a field of [totals] by ({}), found {name:?}", known.join(", "))
    })
}

/// The plan's unit, the payg unit, and every unit ever granted, drawn or owed, in the order of the catalog.
fn balances(catalog: &Catalog, state: &State) -> Named<BalanceView> {
    let plan_unit = catalog.plans[usize::from(state.plan)].unit;
    let payg_unit = catalog.payg.as_ref().map(|payg| payg.unit);
    let mut list = Vec::new();
    for (index, unit) in catalog.units.iter().enumerate() {
        let id = index as UnitId;
        let balance = state.balance(id);
        if balance.is_some() || plan_unit == Some(id) || payg_unit == Some(id) {
            let grants = balance.map_or_else(Vec::new, Balance::in_burn_order);
            let view = BalanceView {
                available: Text(state.available(id)),
                debt: Text(balance.map_or(Amount::ZERO, |balance| balance.debt)),
                grants: grants.into_iter().map(|grant| grant_view(catalog, grant)).collect(),
            };
            list.push((unit.name.clone(), view));
        }
    }
    Named(list)
}

fn grant_view(catalog: &Catalog, grant: &Grant) -> GrantView {
    GrantView {
        grant: format!("g{}", grant.number),
        reference: grant.reference.clone(),
        name: grant.name.as_str().into(),
        amount: Text(grant.amount),
        remaining: Text(grant.remaining),
        priority: grant.priority,
        group: grant.group.map(|group| catalog.groups[usize::from(group)].name.clone()),
        effective_at: Time(grant.effective_at),
        expires_at: grant.expires().map(Time),
    }
}

fn limits(catalog: &Catalog, state: &State, clock: Ms) -> Vec<LimitView> {
    let mut views = Vec::new();
    let users = state.users.by_name();
    for (place, limit) in catalog.plans[usize::from(state.plan)].limits.iter().enumerate() {
        let index = place as LimitIndex;
        match limit.scope {
            Scope::Account => views.push(limit_view(catalog, state, index, None, clock)),
            Scope::User => {
                views.extend(users.iter().map(|user| limit_view(catalog, state, index, Some(*user), clock)));
            }
        }
    }
    views
}

fn limit_view(catalog: &Catalog, state: &State, index: LimitIndex, user: Option<UserIndex>, clock: Ms) -> LimitView {
    let limit = &catalog.plans[usize::from(state.plan)].limits[usize::from(index)];
    let seen = limit_at(catalog, state, index, user, clock);
    let WindowTold { kind, start, resets_at } = seen.window;
    let kind = match kind {
        WindowKind::Sliding => "sliding",
        WindowKind::FirstUse => "first_use",
        WindowKind::Calendar => "calendar",
        WindowKind::Period => "period",
        WindowKind::Lifetime => "lifetime",
    };
    LimitView {
        limit: limit.name.clone(),
        user: user.map(|user| state.users.get(user).name.as_str().into()),
        used: Text(seen.used),
        cap: Text(seen.cap),
        remaining: Text((seen.cap - seen.used).max(Amount::ZERO)),
        exceeded: seen.used >= seen.cap,
        window: WindowView { kind, start: start.map(Time), resets_at: resets_at.map(Time) },
    }
}

/// A limit as it stands at an instant.
pub(crate) struct LimitSeen {
    pub used: Amount,
    pub cap: Amount,
    pub window: WindowTold,
}

pub(crate) fn limit_at(
    catalog: &Catalog,
    state: &State,
    index: LimitIndex,
    user: Option<UserIndex>,
    at: Ms,
) -> LimitSeen {
    let limit = &catalog.plans[usize::from(state.plan)].limits[usize::from(index)];
    let user = user.unwrap_or(crate::engine::ACCOUNT);
    let fresh = || LimitState::new(&limit.window);
    let mut counter = state.limit(index, user).cloned().unwrap_or_else(fresh).counter;
    counter.advance(&limit.window, at);
    let cap = state.cap(catalog, index, user);
    let window = counter.told(&limit.window, at, &state.period.span, cap);
    LimitSeen { used: counter.used(), cap, window }
}

fn sessions(state: &State) -> Vec<SessionView> {
    let open = state.sessions().into_iter().flat_map(|sessions| sessions.iter());
    open.map(|(id, session)| SessionView {
        session: id.into(),
        user: session.user.map(|user| state.users.get(user).name.as_str().into()),
        started_at: Time(session.started_at),
        closes_at: Time(session.closes_at),
    })
    .collect()
}

fn totals(catalog: &Catalog, state: &State, clock: Ms) -> Named<MonthView> {
    let newest = month_of(clock);
    let oldest = newest - catalog.totals.months as i32 + 1;
    let kept = state.totals.months().iter().filter(|month| (oldest..=newest).contains(&month.month));
    Named(kept.map(|month| (month_name(month.month).into(), month_view(catalog, state, month))).collect())
}

fn month_view(catalog: &Catalog, state: &State, month: &Month) -> MonthView {
    let quantity = |id: &u16| state.quantity_name(catalog, *id).into();
    let mut quantities: Vec<(Box<str>, Named<Text<Amount>>)> = month
        .whole
        .kinds()
        .filter(|(_, amounts)| !amounts.is_empty())
        .map(|(kind, amounts)| {
            (kind.into(), Named(amounts.iter().map(|(id, amount)| (quantity(id), Text(*amount))).collect()))
        })
        .collect();
    quantities.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    MonthView {
        records: month.whole.records,
        failed: month.whole.failed,
        charged: charged(catalog, &month.whole.charges),
        quantities: Named(quantities),
    }
}

fn charged(catalog: &Catalog, charges: &Charges) -> ChargedView {
    let of_route = |wanted: Route| {
        let mut list: Vec<(UnitId, Amount)> = charges
            .iter()
            .filter(|(route, _, amount)| *route == wanted && !amount.is_zero())
            .map(|(_, unit, amount)| (unit, amount))
            .collect();
        list.sort_unstable_by_key(|entry| entry.0);
        let named = |(unit, amount): (UnitId, Amount)| (catalog.units[usize::from(unit)].name.clone(), Text(amount));
        Named(list.into_iter().map(named).collect())
    };
    ChargedView { plan: of_route(Route::Plan), payg: of_route(Route::Payg), overflow: of_route(Route::Overflow) }
}

fn interval(billing: Interval) -> &'static str {
    match billing {
        Interval::Month => "month",
        Interval::Year => "year",
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_time(self.0))
    }
}
