//! The head of an account: everything that is there once.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::pages::{self, Buckets, MonthTables};
use super::{DecodeError, Outline, Pages, PartKey, Stored};
use crate::engine::account::{Account, Autopay, Pending, Price, Rare, Rule, State, Subscription, Withheld};
use crate::engine::calendar::Span;
use crate::engine::catalog::{OverflowOn, PlanId, UnitId};
use crate::engine::input::Interval;
use crate::engine::period::{Period, Sums};
use crate::engine::totals::Bucket;
use crate::engine::users::Users;
use crate::engine::{Amount, Catalogs, Ms};

#[derive(Serialize, Deserialize)]
pub struct Head<'a> {
    outline: Outline,
    sequence: u64,
    commands: Buckets,
    #[serde(borrow)]
    state: Option<StateHead<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StateHead<'a> {
    plan: PlanId,
    billing: Interval,
    paid_before: bool,
    extra_usage: bool,
    seats: u32,
    start: Ms,
    anchor: Ms,
    class: Option<Cow<'a, str>>,
    period: PeriodHead<'a>,
    ended: Vec<PeriodHead<'a>>,
    pool: Amount,
    balances: Vec<BalanceHead>,
    grants_issued: u64,
    grant_pages: Vec<u32>,
    /// Pages of older panes; `None`: all limits are as they were made.
    limits: Option<Vec<u32>>,
    users: u32,
    seats_epoch: u32,
    appeared: u32,
    denied_epoch: u32,
    subscription: Cow<'a, Subscription>,
    months: Vec<MonthTables>,
    bulk: Amount,
    rare: Option<RareHead>,
}

#[derive(Serialize, Deserialize)]
struct PeriodHead<'a> {
    number: u32,
    span: Span,
    price: Option<Price>,
    priced: bool,
    prorations: Amount,
    recorded: bool,
    sums: Option<Cow<'a, Sums>>,
}

/// A balance without its grants.
#[derive(Serialize, Deserialize)]
pub struct BalanceHead {
    pub unit: UnitId,
    pub debt: Amount,
    pub low_told: u32,
    pub exhausted: bool,
    pub exhausted_told: bool,
}

#[derive(Serialize, Deserialize)]
struct RareHead {
    pending: Option<Pending>,
    grace_until: Option<Ms>,
    withheld: Option<Withheld>,
    autopay: Option<Autopay>,
    /// Limits by their place in the plan; `None` is the balance.
    overflow: Vec<Option<u16>>,
    denied: Vec<Rule>,
    sessions: Buckets,
    closed: Buckets,
    retired: Vec<Box<str>>,
}

impl<'a> Head<'a> {
    pub fn of(account: &'a Account, catalogs: &Catalogs, pages: &mut Pages) -> Head<'a> {
        let commands = account.commands.as_ref().map_or(0, |commands| pages::put_identities(commands, pages));
        let state = account.state.as_ref().map(|state| StateHead::of(state, catalogs, pages));
        let catalog = account.state.as_ref().map(|state| catalogs.get(state.catalog as usize).hash);
        let outline = Outline { due: account.next_due(), catalog };
        Head { outline, sequence: account.sequence, commands, state }
    }

    pub fn account(&self, stored: &Stored<'_>, catalogs: &Catalogs) -> Result<Account, DecodeError> {
        let commands = pages::identities(self.commands, stored)?;
        let state = match (&self.state, &self.outline.catalog) {
            (Some(state), Some(catalog)) => {
                Some(state.restore(pages::catalog_by(catalog, catalogs)?, stored, catalogs)?)
            }
            _ => None,
        };
        Ok(Account::restored(self.sequence, commands, state, catalogs))
    }
}

impl<'a> StateHead<'a> {
    fn of(state: &'a State, catalogs: &Catalogs, pages: &mut Pages) -> StateHead<'a> {
        let fresh = state.limits.iter().all(|limit| limit.is_fresh());
        let balances = state.balances.iter().map(|balance| BalanceHead {
            unit: balance.unit,
            debt: balance.debt,
            low_told: balance.low_told,
            exhausted: balance.exhausted,
            exhausted_told: balance.exhausted_told,
        });
        let users = &state.users;
        StateHead {
            plan: state.plan,
            billing: state.billing,
            paid_before: state.paid_before,
            extra_usage: state.extra_usage,
            seats: state.seats,
            start: state.start,
            anchor: state.anchor,
            class: state.class.as_deref().map(Cow::Borrowed),
            period: PeriodHead::of(&state.period, pages),
            ended: state.ended.iter().map(|period| PeriodHead::of(period, pages)).collect(),
            pool: state.pool,
            balances: balances.collect(),
            grants_issued: state.grants_issued,
            grant_pages: pages::put_grants(&state.balances, pages),
            limits: if fresh { None } else { Some(pages::put_limits(&state.limits, pages)) },
            users: pages::put_users(users, pages),
            seats_epoch: users.seats_epoch,
            appeared: users.appeared,
            denied_epoch: users.denied_epoch,
            subscription: Cow::Borrowed(&state.subscription),
            months: pages::put_totals(&state.totals, pages),
            bulk: state.bulk,
            rare: state.rare.as_ref().map(|rare| RareHead::of(rare, catalogs, pages)),
        }
    }

    fn restore(&self, catalog: usize, stored: &Stored<'_>, catalogs: &Catalogs) -> Result<Box<State>, DecodeError> {
        let mut users = Users::default();
        (users.seats_epoch, users.appeared, users.denied_epoch) = (self.seats_epoch, self.appeared, self.denied_epoch);
        pages::users(self.users, stored, &mut users)?;
        let limits = match &self.limits {
            None => State::fresh_limits(catalogs.get(catalog), self.plan),
            Some(older) => pages::limits(older, stored)?,
        };
        Ok(Box::new(State {
            catalog: catalog as u32,
            plan: self.plan,
            billing: self.billing,
            paid_before: self.paid_before,
            extra_usage: self.extra_usage,
            seats: self.seats,
            start: self.start,
            anchor: self.anchor,
            class: self.class.as_deref().map(Box::from),
            period: self.period.restore(stored)?,
            ended: self.ended.iter().map(|period| period.restore(stored)).collect::<Result<_, _>>()?,
            pool: self.pool,
            balances: pages::balances(&self.balances, &self.grant_pages, stored)?.into(),
            grants_issued: self.grants_issued,
            limits,
            users,
            windows: Default::default(),
            subscription: Subscription::clone(&self.subscription),
            totals: pages::totals(&self.months, stored)?,
            bulk: self.bulk,
            rare: self.rare.as_ref().map(|rare| rare.restore(stored, catalogs)).transpose()?,
        }))
    }
}

impl<'a> PeriodHead<'a> {
    fn of(period: &'a Period, pages: &mut Pages) -> PeriodHead<'a> {
        let recorded = !period.recorded.is_empty();
        if recorded {
            pages.add((pages::PERIODS, period.number), &period.recorded.rows().collect::<Vec<_>>());
        }
        PeriodHead {
            number: period.number,
            span: period.span,
            price: period.price,
            priced: period.priced,
            prorations: period.prorations,
            recorded,
            sums: period.sums.as_deref().map(Cow::Borrowed),
        }
    }

    fn restore(&self, stored: &Stored<'_>) -> Result<Period, DecodeError> {
        let mut recorded = Bucket::default();
        if self.recorded {
            for row in stored.page((pages::PERIODS, self.number))? {
                if !recorded.restore(row) {
                    let message = "expected sums of a period, found a row of another table".into();
                    return Err(DecodeError::Damaged { key: PartKey::HEAD, message });
                }
            }
        }
        Ok(Period {
            number: self.number,
            span: self.span,
            price: self.price,
            priced: self.priced,
            prorations: self.prorations,
            recorded,
            sums: self.sums.as_deref().map(|sums| Box::new(sums.clone())),
        })
    }
}

impl RareHead {
    fn of(rare: &Rare, catalogs: &Catalogs, pages: &mut Pages) -> RareHead {
        let place = |on: &OverflowOn| match on {
            OverflowOn::Limit(limit) => Some(*limit),
            OverflowOn::Balance => None,
        };
        RareHead {
            pending: rare.pending.clone(),
            grace_until: rare.grace_until,
            withheld: rare.withheld,
            autopay: rare.autopay.clone(),
            overflow: rare.overflow.iter().map(place).collect(),
            denied: rare.denied.clone(),
            sessions: pages::put_sessions(&rare.sessions, catalogs, pages),
            closed: pages::put_closed(&rare.sessions, pages),
            retired: rare.retired.clone(),
        }
    }

    fn restore(&self, stored: &Stored<'_>, catalogs: &Catalogs) -> Result<Box<Rare>, DecodeError> {
        let on = |place: &Option<u16>| place.map_or(OverflowOn::Balance, OverflowOn::Limit);
        Ok(Box::new(Rare {
            pending: self.pending.clone(),
            grace_until: self.grace_until,
            withheld: self.withheld,
            autopay: self.autopay.clone(),
            overflow: self.overflow.iter().map(on).collect(),
            denied: self.denied.clone(),
            sessions: pages::sessions(self.sessions, self.closed, stored, catalogs)?,
            retired: self.retired.clone(),
        }))
    }
}
