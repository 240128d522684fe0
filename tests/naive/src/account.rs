//! What is known of an account.

use crate::catalog::{Cap, Catalog, Limit, Plan};
use crate::num::Amt;
use crate::price::Facts;
use crate::time::Ms;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Billing {
    Month,
    Year,
}

impl Billing {
    pub fn text(self) -> &'static str {
        match self {
            Billing::Month => "month",
            Billing::Year => "year",
        }
    }

    pub fn months(self) -> i64 {
        match self {
            Billing::Month => 1,
            Billing::Year => 12,
        }
    }
}

pub type ByUnit = BTreeMap<String, Amt>;

#[derive(Clone, Copy, PartialEq)]
pub enum Route {
    Plan,
    Payg,
    Overflow,
}

/// One unit's amounts by route: plan, payg, overflow.
#[derive(Default)]
pub struct Sums {
    pub charged: [ByUnit; 3],
    pub records: u64,
    pub failed: u64,
    pub quantities: BTreeMap<String, ByUnit>,
}

#[derive(Default)]
pub struct Statement {
    pub sums: Sums,
    pub granted: ByUnit,
    pub unused: ByUnit,
    pub overage: ByUnit,
    pub prorations: Amt,
}

pub struct Period {
    pub number: u64,
    pub start: Ms,
    pub end: Option<Ms>,
    /// P and its currency at the start of the period.
    pub price: Option<(Amt, String)>,
    /// Whether a plan with a price ran in it.
    pub priced: bool,
    pub statement: Statement,
}

#[derive(Clone, PartialEq)]
pub enum Kind {
    Plan,
    Other,
}

#[derive(Clone)]
pub struct Grant {
    pub number: u64,
    pub reference: Option<String>,
    pub name: String,
    pub unit: String,
    pub amount: Amt,
    pub remaining: Amt,
    pub priority: i64,
    pub group: Option<String>,
    pub effective_at: Ms,
    pub expires_at: Option<Ms>,
    pub kind: Kind,
    /// The period that was current when it was issued.
    pub period: u64,
    /// Of a plan grant: its period ended. Of another: it was never active, or its expiry was told.
    pub ended: bool,
    pub reason: &'static str,
}

impl Grant {
    pub fn id(&self) -> String {
        format!("g{}", self.number)
    }

    pub fn active(&self, at: Ms) -> bool {
        self.effective_at <= at && self.expires_at.is_none_or(|e| at < e)
    }

    /// Lower priority, earlier expiry (never last), with a group first, earlier effective_at, order of issue.
    pub fn burn(&self) -> (i64, Ms, bool, Ms, u64) {
        (self.priority, self.expires_at.unwrap_or(Ms::MAX), self.group.is_none(), self.effective_at, self.number)
    }
}

#[derive(Clone)]
pub struct Pending {
    pub plan: String,
    pub seats: i64,
    pub billing: Billing,
    pub at: Ms,
    pub cancel: bool,
}

#[derive(Clone)]
pub struct Withheld {
    pub plan: String,
    pub seats: i64,
    pub rollover_of: Option<(Ms, Ms)>,
}

#[derive(Default, Clone)]
pub struct Counter {
    /// Sliding: (pane, amount); others: (time, amount) of what is in the window.
    pub entries: Vec<(Ms, Amt)>,
    pub start: Option<Ms>,
    pub previous_end: Option<Ms>,
    pub told: bool,
    pub warned: BTreeSet<String>,
}

#[derive(Default)]
pub struct LimitState {
    pub cap: Option<Amt>,
    pub user_caps: BTreeMap<String, Cap>,
    pub counters: BTreeMap<Option<String>, Counter>,
}

#[derive(Default)]
pub struct BalanceState {
    pub exhausted: bool,
    pub told: bool,
    pub low: BTreeSet<String>,
}

pub struct Autopay {
    pub unit: String,
    pub below: Amt,
    pub amount: Amt,
    pub armed: bool,
}

pub struct Session {
    pub facts: Facts,
    pub row: usize,
    pub closes_at: Ms,
}

pub struct Account {
    pub id: String,
    pub start: Ms,
    /// The clock of its last step.
    pub clock: Ms,
    pub plan: String,
    pub billing: Billing,
    pub seats: i64,
    pub anchor: Ms,
    pub class: String,
    pub extra_usage: bool,
    pub autopay: Option<Autopay>,
    /// Those that have not closed, in the order in which they began; the last is the current one.
    pub periods: Vec<Period>,
    pub periods_begun: u64,
    pub pending: Option<Pending>,
    pub grace_until: Option<Ms>,
    pub withheld: Option<Withheld>,
    pub paid_ever: bool,
    pub grants: Vec<Grant>,
    pub grants_issued: u64,
    pub debt: ByUnit,
    pub awake: BTreeSet<String>,
    pub users: BTreeMap<String, Vec<String>>,
    /// In the order of the plan's limits.
    pub limits: Vec<LimitState>,
    pub pool: Amt,
    pub appeared: Vec<String>,
    pub denied: BTreeSet<(Option<String>, String)>,
    pub overflowing: Vec<String>,
    pub balances: BTreeMap<String, BalanceState>,
    pub sessions: BTreeMap<String, Session>,
    pub closed_sessions: BTreeMap<String, Ms>,
    pub totals: BTreeMap<String, Sums>,
    /// For refunds: when the subscription started, what was paid at its start, and since.
    pub subscribed: Ms,
    pub start_paid: Amt,
    pub prorations: Vec<(Ms, Amt)>,
    pub refunded: Amt,
    pub usage: Amt,
}

impl Account {
    /// On its first plan, without a period.
    pub fn new(id: &str, plan: &Plan, start: Ms, clock: Ms) -> Account {
        Account {
            id: id.to_owned(),
            start,
            clock,
            plan: plan.name.clone(),
            billing: Billing::Month,
            seats: plan.seats,
            anchor: start,
            class: "standard".into(),
            extra_usage: false,
            autopay: None,
            periods: Vec::new(),
            periods_begun: 0,
            pending: None,
            grace_until: None,
            withheld: None,
            paid_ever: false,
            grants: Vec::new(),
            grants_issued: 0,
            debt: ByUnit::new(),
            awake: BTreeSet::new(),
            users: BTreeMap::new(),
            limits: plan.limits.iter().map(|_| LimitState::default()).collect(),
            pool: 0,
            appeared: Vec::new(),
            denied: BTreeSet::new(),
            overflowing: Vec::new(),
            balances: BTreeMap::new(),
            sessions: BTreeMap::new(),
            closed_sessions: BTreeMap::new(),
            totals: BTreeMap::new(),
            subscribed: start,
            start_paid: 0,
            prorations: Vec::new(),
            refunded: 0,
            usage: 0,
        }
    }

    pub fn current(&self) -> &Period {
        self.periods.last().expect("an account has a current period")
    }

    pub fn current_mut(&mut self) -> &mut Period {
        self.periods.last_mut().expect("an account has a current period")
    }

    /// The period of an effective time: of two, the one begun by the later input.
    pub fn period_of(&mut self, time: Ms) -> &mut Period {
        let index = self.period_at(time);
        &mut self.periods[index]
    }

    /// The index of the period that holds `time`, else of the last.
    pub fn period_at(&self, time: Ms) -> usize {
        let found = self.periods.iter().rposition(|p| p.start <= time && p.end.is_none_or(|e| time < e));
        found.unwrap_or(self.periods.len().saturating_sub(1))
    }

    pub fn debt_of(&self, unit: &str) -> Amt {
        self.debt.get(unit).copied().unwrap_or(0)
    }

    /// What the active grants without a group have left.
    pub fn active_remaining(&self, unit: &str, clock: Ms) -> Amt {
        let counts = |g: &&Grant| g.unit == unit && g.group.is_none() && g.active(clock);
        self.grants.iter().filter(counts).map(|g| g.remaining).sum()
    }

    pub fn available(&self, unit: &str, clock: Ms) -> Amt {
        self.active_remaining(unit, clock) - self.debt_of(unit)
    }

    pub fn exhausted(&self, plan: &Plan, unit: &str, clock: Ms) -> bool {
        let available = self.available(unit, clock);
        match plan.exhausted_below {
            Some(below) if plan.unit.as_deref() == Some(unit) => available < below,
            _ => available <= 0,
        }
    }

    /// Whose counters a limit has: one for the account, or one for each known user.
    pub fn keys(&self, limit: &Limit) -> Vec<Option<String>> {
        if limit.by_user { self.users.keys().cloned().map(Some).collect() } else { vec![None] }
    }

    pub fn plan<'a>(&self, catalog: &'a Catalog) -> &'a Plan {
        catalog.plan(&self.plan)
    }
}

pub fn add(map: &mut ByUnit, key: &str, amount: Amt) {
    if amount != 0 {
        *map.entry(key.to_owned()).or_default() += amount;
    }
}
