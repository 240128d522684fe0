//! The checked catalog, as the fold reads it. Everything a name refers to is resolved to an index; what `config` lets
//! through is valid as a whole (docs/reference.md 5).

use chrono_tz::Tz;
use hashbrown::HashMap;

use super::lookup::Index;
use super::{Amount, Factor, Ms};

pub type UnitId = u8;
pub type CurrencyId = u8;
pub type GroupId = u16;
pub type PlanId = u16;
/// Place of a limit in its plan.
pub type LimitIndex = u16;
pub type QuantityId = u16;
pub type DimensionId = u16;
pub type RateId = u32;

/// `requests`, which every record has, and `seconds`, which a session has, are always the first two quantities.
pub const REQUESTS: QuantityId = 0;
pub const SECONDS: QuantityId = 1;
/// `model` is always the first dimension, as notices tell it.
pub const MODEL: DimensionId = 0;

#[derive(Debug)]
pub struct Catalog {
    pub name: Box<str>,
    /// The first 16 bytes of the SHA-256 of the file's text; names the catalog in the journal and in accounts.
    pub hash: [u8; 16],
    pub default_plan: PlanId,
    pub create_accounts: bool,
    pub late_ms: i64,
    pub future_ms: i64,
    pub users_max: u32,
    pub units: Vec<Unit>,
    pub currencies: Vec<Currency>,
    pub payg: Option<Payg>,
    pub topup: Topup,
    pub packs: Vec<Pack>,
    pub groups: Vec<Group>,
    pub rates: Vec<Rate>,
    pub exchanges: Vec<Exchange>,
    pub plans: Vec<Plan>,
    pub totals: Totals,
    pub quantities: Vec<Box<str>>,
    pub dimensions: Vec<Box<str>>,
    /// What a field's name is to this catalog; names not in it are not used by anything.
    pub roles: HashMap<Box<str>, Role>,
    /// Empty until [`Catalog::finish`].
    pub index: Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Quantity(QuantityId),
    Dimension(DimensionId),
}

#[derive(Debug)]
pub struct Unit {
    pub name: Box<str>,
    /// Decimals kept, 0..=9.
    pub scale: u8,
}

#[derive(Debug)]
pub struct Currency {
    pub name: Box<str>,
    pub decimals: u8,
}

#[derive(Debug)]
pub struct Payg {
    pub unit: UnitId,
    /// Absolute thresholds, as in the catalog.
    pub low: Vec<Threshold>,
}

#[derive(Debug, Default)]
pub struct Topup {
    pub minimum: Option<Money>,
    pub expires_after_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Money {
    pub amount: Amount,
    pub currency: CurrencyId,
}

#[derive(Debug)]
pub struct Pack {
    pub name: Box<str>,
    pub unit: UnitId,
    pub amount: Amount,
    pub price: Option<Money>,
}

/// A named set of records: every listed field must match one of its patterns.
#[derive(Debug)]
pub struct Group {
    pub name: Box<str>,
    pub matches: Vec<Match>,
}

#[derive(Debug)]
pub struct Match {
    pub dimension: DimensionId,
    pub patterns: Vec<Pattern>,
}

/// An exact text, or a prefix where the catalog's text ended with `*`. Compared by bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// Without the `*`.
    pub text: Box<str>,
    pub prefix: bool,
}

#[derive(Debug)]
pub struct Rate {
    pub kind: Option<Pattern>,
    pub matches: Vec<Match>,
    pub unit: UnitId,
    pub price: Vec<Component>,
    pub multiply: Option<Multiply>,
    pub each: Option<Each>,
    pub minimum: Option<Amount>,
    /// This row prices sessions, and only them.
    pub session_max_ms: Option<i64>,
    /// In force in [from, until).
    pub from: Ms,
    pub until: Ms,
    /// Line in the catalog file, for `explain` and messages.
    pub line: u32,
}

#[derive(Clone, Debug)]
pub struct Component {
    pub quantity: QuantityId,
    pub rate: Factor,
    pub per: Amount,
    /// The quantity is rounded up to a multiple of this first.
    pub step: Option<Amount>,
}

#[derive(Debug)]
pub struct Multiply {
    pub field: DimensionId,
    pub values: HashMap<Box<str>, Factor>,
    pub otherwise: Option<Factor>,
}

/// Add-ons: components for every distinct element of a field.
#[derive(Debug)]
pub struct Each {
    pub field: DimensionId,
    pub prices: HashMap<Box<str>, Vec<Component>>,
    /// `otherwise = "free"`: an unlisted element costs nothing; else it is `no_rate`.
    pub otherwise_free: bool,
}

/// amount in `to` = amount in `from` / value; the last row, from the top, in force for the account's class, else for `*`.
#[derive(Debug)]
pub struct Exchange {
    pub from_unit: UnitId,
    pub to_unit: UnitId,
    pub value: Factor,
    /// `None`: `*`.
    pub class: Option<Box<str>>,
    pub from: Ms,
}

#[derive(Debug)]
pub struct Plan {
    pub name: Box<str>,
    pub price: Option<PlanPrice>,
    pub period: Period,
    pub seats: u32,
    pub strict_seats: bool,
    pub per_seat: bool,
    pub unit: Option<UnitId>,
    /// Groups the plan may use; `None`: everything.
    pub allow: Option<Vec<GroupId>>,
    pub grants: Vec<PlanGrant>,
    /// A trial: one period of this length, then `then`.
    pub ends_after_ms: Option<i64>,
    pub then: PlanId,
    pub grace_ms: Option<i64>,
    pub upgrade_credits: UpgradeCredits,
    pub overdraft: Overdraft,
    pub low: Vec<Threshold>,
    pub exhausted_below: Option<Amount>,
    pub overflow: Vec<OverflowOn>,
    pub refund: Option<Refund>,
    pub limits: Vec<Limit>,
}

#[derive(Clone, Copy, Debug)]
pub struct PlanPrice {
    pub currency: CurrencyId,
    pub month: Option<Amount>,
    pub year: Option<Amount>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Month,
    CalendarMonth,
    Week,
    Day,
    /// Milliseconds.
    Length(i64),
    /// One endless period.
    None,
}

#[derive(Debug)]
pub struct PlanGrant {
    pub name: Box<str>,
    pub amount: Amount,
    pub priority: u16,
    pub rollover_max: Option<Amount>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeCredits {
    None,
    Prorated,
    Difference,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdraft {
    Carry,
    Forgive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowOn {
    Limit(LimitIndex),
    Balance,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// As written in the catalog.
    pub text: Box<str>,
    pub level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Percent of a pool or cap: 20 for `"20%"`.
    Percent(Amount),
    Absolute(Amount),
}

#[derive(Debug)]
pub struct Refund {
    pub within_ms: i64,
    /// Percent.
    pub fee: Option<Amount>,
    pub then: PlanId,
}

#[derive(Debug)]
pub struct Limit {
    pub name: Box<str>,
    pub measure: Measure,
    pub scope: Scope,
    pub window: Window,
    pub cap: Cap,
    pub group: Option<GroupId>,
    pub kind: Option<Pattern>,
    pub on_exceed: OnExceed,
    /// Percent thresholds, ascending.
    pub warn: Vec<Threshold>,
    /// What they are of a cap that is an amount. Empty until [`Catalog::finish`].
    pub edges: Vec<Amount>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Unit(UnitId),
    Quantity(QuantityId),
    /// Each record counts 1.
    Records,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Account,
    User,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Length in ms, divisible by 300.
    Sliding(i64),
    /// Length in ms.
    FirstUse(i64),
    Calendar(CalendarUnit, Tz),
    Period,
    Lifetime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    Day,
    /// From Monday.
    Week,
    Month,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    Amount(Amount),
    /// pool / seats.
    ShareEqual,
    /// Percent of the pool.
    SharePercent(Amount),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExceed {
    Block,
    Overflow,
    Notify,
}

#[derive(Debug)]
pub struct Totals {
    pub by: Vec<Breakdown>,
    pub months: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakdown {
    User,
    Dimension(DimensionId),
}

impl Rate {
    /// Whether the row prices what has the effective time `at`.
    #[inline]
    pub fn is_in_force(&self, at: Ms) -> bool {
        self.from <= at && at < self.until
    }

    pub fn is_always_in_force(&self) -> bool {
        self.from == Ms::MIN && self.until == Ms::MAX
    }
}

impl Pattern {
    pub fn fits(&self, text: &str) -> bool {
        if self.prefix { text.as_bytes().starts_with(self.text.as_bytes()) } else { *self.text == *text }
    }
}
