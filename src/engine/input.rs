//! What the fold takes in: usage records and commands, decoded and checked for form (docs/reference.md 3, 4, 16).

use super::catalog::{DimensionId, QuantityId};
use super::{Amount, Ms};

/// A usage record that can be read. Texts are borrowed from the record or from the decoder's scratch.
#[derive(Clone, Debug)]
pub struct Usage<'a> {
    pub account: &'a str,
    pub id: &'a str,
    pub source: &'a str,
    /// The CloudEvents `type`.
    pub kind: &'a str,
    /// The record's time, else its Kafka timestamp.
    pub time: Ms,
    pub user: Option<&'a str>,
    pub failed: bool,
    pub billing: Billing,
    pub session: Option<(&'a str, Phase)>,
    /// Of the quantities the catalog uses, those present, in order of id; `requests` is always there.
    pub quantities: &'a [(QuantityId, Amount)],
    /// Whether the record itself says how many `requests`.
    pub requests_given: bool,
    /// Of the dimensions the catalog uses (and `model`), those present, in order of id.
    pub dimensions: &'a [(DimensionId, Dimension<'a>)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    Plan,
    Payg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Start,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension<'a> {
    /// A string; booleans are the texts `true` and `false`.
    Text(&'a str),
    /// Not empty, as given (elements may repeat), at most 64.
    List(&'a [&'a str]),
}

/// A command that can be read. What needs catalog or state to be judged is judged by the fold.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub account: String,
    pub id: String,
    pub source: String,
    /// The CloudEvents `type`.
    pub kind: String,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    SubscriptionStart { plan: String, billing: Option<Interval>, seats: Option<u32>, at: Option<Ms>, paid: bool },
    SubscriptionChange { plan: Option<String>, seats: Option<u32>, billing: Option<Interval>, when: Option<When> },
    SubscriptionCancel { when: When },
    PaymentSucceeded,
    PaymentFailed,
    Topup(Topup),
    GrantIssue(GrantIssue),
    GrantVoid { grant: String },
    BalanceAdjust { unit: String, amount: Given },
    MemberSet { user: String, caps: Caps, deny: Option<Vec<String>> },
    LimitSet { limit: String, cap: Option<Given> },
    AccountSet { class: Setting<String>, extra_usage: Setting<bool>, autopay: Setting<Autopay> },
    RefundRequest,
    RefundCompleted { amount: Given },
    AccountDelete,
}

/// An amount of a command: exact, or not representable as one (too many decimals, 10¹⁵ or more), which is `bad_value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    Exact(Amount),
    Outside {
        /// The greatest amount under 10¹⁵ with 9 decimals that is not above it, its sign aside.
        floor: Amount,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Interval {
    Month,
    Year,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    PeriodEnd,
}

/// A field of a command that may be absent (nothing changes), null (cleared) or given.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting<T> {
    Absent,
    Clear,
    Set(T),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Topup {
    pub what: TopupWhat,
    pub price: Option<(Given, String)>,
    pub at: Option<Ms>,
    pub expires_at: Setting<Ms>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TopupWhat {
    Pack(String),
    Amount { amount: Given, unit: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct GrantIssue {
    pub unit: String,
    pub amount: Given,
    pub name: Option<String>,
    pub priority: Option<u16>,
    pub at: Option<Ms>,
    pub expires_at: Option<Ms>,
    pub group: Option<String>,
}

/// `member.set`'s `caps`: absent, null (all cleared), or some limits' caps set or cleared, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Caps {
    Absent,
    ClearAll,
    Each(Vec<(String, Option<CapGiven>)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapGiven {
    Amount(Given),
    /// Percent of the pool.
    Percent(Given),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Autopay {
    pub unit: String,
    pub below: Given,
    pub amount: Given,
}
