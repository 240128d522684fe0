//! What a fold gives back: an outcome for each input, and notices in order.

use super::catalog::{Measure, OnExceed};
use super::input::Interval;
use super::{Amount, Ms};

/// What became of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    /// A usage record with `status = "failed"`: counted, never priced.
    Failed,
    /// Its identity was accepted before.
    Duplicate,
    /// A command that cannot be applied; the notice tells it.
    Rejected(Rejection),
    /// To be quarantined; nothing changed.
    Refused(Refusal),
}

/// Why an input is quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// What was expected and what was found, for the person who looks at the quarantine.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    TooLarge,
    BadJson,
    NotCloudevent,
    BadKey,
    BadField,
    BadQuantity,
    BadCommand,
    WrongPartition,
    TooLate,
    TooEarly,
    UnknownAccount,
    TooManyUsers,
    TooManySessions,
    SessionOpen,
    SessionUnknown,
    SessionClosed,
    NoPayg,
    NoRate,
    NoExchange,
}

/// Why a command was rejected, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rejection {
    UnknownPlan,
    UnknownUnit,
    UnknownPack,
    UnknownGroup,
    UnknownLimit,
    UnknownGrant,
    NothingDue,
    NothingToCancel,
    AtInFuture,
    InGrace,
    BelowMinimum,
    BadValue,
    NoPrice,
    NotRefundable,
    NoChange,
    TooManyUsers,
    TooManyGrants,
}

/// The caller's reused buffer of what an input gave rise to.
#[derive(Debug, Default)]
pub struct Effects {
    pub notices: Vec<Notice>,
    /// Inputs whose changes broke conservation (docs/reference.md 11); must stay 0.
    pub conservation_violations: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Counts 1, 2, 3, ... for each account.
    pub sequence: u64,
    /// The clock, or the due time of a timer.
    pub time: Ms,
    /// The account's plan after the event; `None` where the account does not exist.
    pub plan: Option<Box<str>>,
    pub cause: Cause,
    pub body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The input being folded; the caller knows its topic, partition, offset, id and source.
    Input,
    Timer(Timer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    Grace,
    Period,
    Expiry,
    Window,
    Session,
    Close,
    Catalog,
}

/// Names are the catalog's, so that a notice stands on its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    CapWarning(CapNotice),
    CapExceeded(CapNotice),
    CapRestored(CapNotice),
    BalanceLow(BalanceNotice),
    BalanceExhausted(BalanceNotice),
    BalanceRestored(BalanceNotice),
    OverflowStarted {
        limit: Box<str>,
        unit: Box<str>,
    },
    OverflowEnded {
        limit: Box<str>,
        unit: Box<str>,
    },
    AccessDenied {
        user: Option<Box<str>>,
        rule: Box<str>,
        kind: Box<str>,
        model: Option<Box<str>>,
    },
    GrantIssued(GrantIssued),
    GrantExpired(GrantExpired),
    SubscriptionChanged(SubscriptionChanged),
    SubscriptionPending {
        from: Box<str>,
        /// `None`, and all that follows with it: what was pending is dropped.
        to: Option<Box<str>>,
        seats: Option<u32>,
        billing: Option<Interval>,
        effective_at: Option<Ms>,
    },
    PeriodClosed {
        start: Ms,
        end: Option<Ms>,
        statement: Box<Statement>,
    },
    AutopayRequested {
        unit: Box<str>,
        below: Amount,
        amount: Amount,
        available: Amount,
    },
    SessionClosed {
        session: Box<str>,
        user: Option<Box<str>>,
        seconds: Amount,
        charged: Amount,
        unit: Option<Box<str>>,
    },
    RefundQuoted(RefundQuote),
    GraceStarted {
        until: Ms,
    },
    GraceEnded,
    CommandRejected {
        command: Box<str>,
        id: Box<str>,
        reason: Rejection,
        message: Box<str>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct CapNotice {
    pub limit: Box<str>,
    pub user: Option<Box<str>>,
    /// The unit's or quantity's name, or `records`.
    pub measure: Box<str>,
    pub measure_kind: Measure,
    pub used: Amount,
    pub cap: Amount,
    /// As in the catalog; warnings only.
    pub threshold: Option<Box<str>>,
    pub action: OnExceed,
    pub window: WindowTold,
    pub reason: Option<RestoreReason>,
}

/// A window as notices and views tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowTold {
    pub kind: WindowKind,
    pub start: Option<Ms>,
    pub resets_at: Option<Ms>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    Sliding,
    FirstUse,
    Calendar,
    Period,
    Lifetime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreReason {
    Time,
    Cap,
    Plan,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BalanceNotice {
    pub unit: Box<str>,
    pub available: Amount,
    pub debt: Amount,
    pub threshold: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GrantIssued {
    /// `g1`, `g2`, ...: the number.
    pub grant: u64,
    pub reference: Option<Box<str>>,
    pub name: Box<str>,
    pub unit: Box<str>,
    pub amount: Amount,
    pub priority: u16,
    pub group: Option<Box<str>>,
    pub effective_at: Ms,
    pub expires_at: Option<Ms>,
    pub debt_paid: Amount,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GrantExpired {
    pub grant: u64,
    pub reference: Option<Box<str>>,
    pub name: Box<str>,
    pub unit: Box<str>,
    pub amount: Amount,
    pub unused: Amount,
    pub expired_at: Ms,
    pub reason: ExpiryReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ExpiryReason {
    Period,
    Expiry,
    /// Cut short.
    Cancelled,
    Voided,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionChanged {
    /// `None` where the account did not exist before.
    pub from: Option<Box<str>>,
    pub to: Box<str>,
    pub reason: ChangeReason,
    pub seats: u32,
    pub billing: Interval,
    pub effective_at: Ms,
    pub proration: Option<Proration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeReason {
    Started,
    Upgraded,
    Downgraded,
    Cancelled,
    TrialEnded,
    PaymentFailed,
    Refunded,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Proration {
    pub amount: Amount,
    pub currency: Option<Box<str>>,
    pub remaining_ms: i64,
    pub cycle_ms: i64,
}

/// Amounts by unit are in order of the catalog's units, without zero entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement {
    pub plan: Vec<(Box<str>, Amount)>,
    pub payg: Vec<(Box<str>, Amount)>,
    pub overflow: Vec<(Box<str>, Amount)>,
    pub granted: Vec<(Box<str>, Amount)>,
    pub unused: Vec<(Box<str>, Amount)>,
    pub overage: Vec<(Box<str>, Amount)>,
    pub records: u64,
    pub failed: u64,
    /// By type, then by quantity.
    pub quantities: Vec<(Box<str>, Vec<(Box<str>, Amount)>)>,
    pub price: Option<(Amount, Box<str>)>,
    pub prorations: Amount,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RefundQuote {
    pub eligible: bool,
    pub reason: Option<NoRefund>,
    pub paid: Amount,
    pub usage: Amount,
    pub refunded: Amount,
    pub fee: Amount,
    pub amount: Amount,
    pub currency: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRefund {
    NoRefund,
    TooLate,
    UsedUp,
}

impl Reason {
    pub const ALL: [Reason; 19] = [
        Reason::TooLarge,
        Reason::BadJson,
        Reason::NotCloudevent,
        Reason::BadKey,
        Reason::BadField,
        Reason::BadQuantity,
        Reason::BadCommand,
        Reason::WrongPartition,
        Reason::TooLate,
        Reason::TooEarly,
        Reason::UnknownAccount,
        Reason::TooManyUsers,
        Reason::TooManySessions,
        Reason::SessionOpen,
        Reason::SessionUnknown,
        Reason::SessionClosed,
        Reason::NoPayg,
        Reason::NoRate,
        Reason::NoExchange,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Reason::TooLarge => "too_large",
            Reason::BadJson => "bad_json",
            Reason::NotCloudevent => "not_cloudevent",
            Reason::BadKey => "bad_key",
            Reason::BadField => "bad_field",
            Reason::BadQuantity => "bad_quantity",
            Reason::BadCommand => "bad_command",
            Reason::WrongPartition => "wrong_partition",
            Reason::TooLate => "too_late",
            Reason::TooEarly => "too_early",
            Reason::UnknownAccount => "unknown_account",
            Reason::TooManyUsers => "too_many_users",
            Reason::TooManySessions => "too_many_sessions",
            Reason::SessionOpen => "session_open",
            Reason::SessionUnknown => "session_unknown",
            Reason::SessionClosed => "session_closed",
            Reason::NoPayg => "no_payg",
            Reason::NoRate => "no_rate",
            Reason::NoExchange => "no_exchange",
        }
    }
}

impl Rejection {
    pub fn name(self) -> &'static str {
        match self {
            Rejection::UnknownPlan => "unknown_plan",
            Rejection::UnknownUnit => "unknown_unit",
            Rejection::UnknownPack => "unknown_pack",
            Rejection::UnknownGroup => "unknown_group",
            Rejection::UnknownLimit => "unknown_limit",
            Rejection::UnknownGrant => "unknown_grant",
            Rejection::NothingDue => "nothing_due",
            Rejection::NothingToCancel => "nothing_to_cancel",
            Rejection::AtInFuture => "at_in_future",
            Rejection::InGrace => "in_grace",
            Rejection::BelowMinimum => "below_minimum",
            Rejection::BadValue => "bad_value",
            Rejection::NoPrice => "no_price",
            Rejection::NotRefundable => "not_refundable",
            Rejection::NoChange => "no_change",
            Rejection::TooManyUsers => "too_many_users",
            Rejection::TooManyGrants => "too_many_grants",
        }
    }
}

impl Timer {
    pub fn name(self) -> &'static str {
        match self {
            Timer::Grace => "grace",
            Timer::Period => "period",
            Timer::Expiry => "expiry",
            Timer::Window => "window",
            Timer::Session => "session",
            Timer::Close => "close",
            Timer::Catalog => "catalog",
        }
    }
}

impl Refusal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { reason, message: message.into() }
    }
}
