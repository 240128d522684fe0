//! The commands as arguments: one sub-verb for each (docs/reference.md 4). What stands here is only how they are written;
//! what they mean is judged by the daemon.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

#[derive(Debug, Subcommand)]
pub enum Change {
    /// Start a plan, also where it is the same
    #[command(after_help = "Example:\n  meterd account subscription-start acme --plan pro --billing year --seats 3")]
    SubscriptionStart(With<SubscriptionStart>),
    /// Change plan, seats or billing: dearer at once, else at the period's end
    #[command(after_help = "Example:\n  meterd account subscription-change acme --plan pro_plus")]
    SubscriptionChange(With<SubscriptionChange>),
    /// Go to the default plan
    #[command(after_help = "Example:\n  meterd account subscription-cancel acme")]
    SubscriptionCancel(With<SubscriptionCancel>),
    /// A payment succeeded: ends grace
    #[command(after_help = "Example:\n  meterd account payment-succeeded acme")]
    PaymentSucceeded(With<Nothing>),
    /// A payment failed: begins grace
    #[command(after_help = "Example:\n  meterd account payment-failed acme")]
    PaymentFailed(With<Nothing>),
    /// Book a top-up: a pack, or an amount of a unit
    #[command(
        after_help = "Example:\n  meterd account topup acme --amount 500 --unit credit --price 20 --currency usd"
    )]
    Topup(With<Topup>),
    /// Give a promotion, a prepaid commit, goodwill
    #[command(
        after_help = "Example:\n  meterd account grant-issue acme --unit credit --amount 1000 --name promotion --expires-at 2027-01-01T00:00:00Z"
    )]
    GrantIssue(With<GrantIssue>),
    /// Take back what remains of a grant
    #[command(after_help = "Example:\n  meterd account grant-void acme --grant g3")]
    GrantVoid(With<GrantVoid>),
    /// Correct a balance
    #[command(
        after_help = "Example:\n  meterd account balance-adjust acme --unit credit --amount -12.5 --reason 'double booking'"
    )]
    BalanceAdjust(With<BalanceAdjust>),
    /// Set a user's own caps, and groups it may not use
    #[command(after_help = "Example:\n  meterd account member-set acme --user ana --cap user=25% --deny premium")]
    MemberSet(With<MemberSet>),
    /// Set the account's own cap for a limit
    #[command(after_help = "Example:\n  meterd account limit-set acme --limit weekly --cap 1000")]
    LimitSet(With<LimitSet>),
    /// Set class, extra usage, autopay
    #[command(after_help = "Example:\n  meterd account set acme --extra-usage on --autopay credit:1000:5000")]
    Set(With<Set>),
    /// Ask for a refund quote, which comes as a notice
    #[command(after_help = "Example:\n  meterd account refund-request acme")]
    RefundRequest(With<Nothing>),
    /// Book a refund and move to the plan's refund plan
    #[command(after_help = "Example:\n  meterd account refund-completed acme --amount 17.50")]
    RefundCompleted(With<RefundCompleted>),
    /// Forget everything of the account
    #[command(after_help = "Example:\n  meterd account delete acme --yes")]
    Delete(With<Delete>),
}

/// What every command takes, beside its own fields.
#[derive(Args, Debug)]
pub struct With<T: Args> {
    /// The account
    pub account: String,
    #[command(flatten)]
    pub fields: T,
    #[command(flatten)]
    pub sending: Sending,
}

#[derive(Args, Debug)]
pub struct Sending {
    /// The command's id: sent again with the same id and source it is a duplicate, and changes nothing
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Who sends it
    #[arg(long, default_value = "meterd-cli", env = "METERD_SOURCE")]
    pub source: String,
    /// The partition, where the config's partitioner is `any`
    #[arg(long, value_name = "NUMBER")]
    pub partition: Option<i32>,
    /// Print the record instead of sending it
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug)]
pub struct Nothing {}

#[derive(Args, Debug)]
pub struct SubscriptionStart {
    #[arg(long)]
    plan: String,
    #[arg(long)]
    billing: Option<Interval>,
    #[arg(long)]
    seats: Option<u32>,
    /// From when on it counts, RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Nothing was paid for it
    #[arg(long)]
    unpaid: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true, id = "what")]
pub struct SubscriptionChange {
    #[arg(long, group = "what")]
    plan: Option<String>,
    #[arg(long, group = "what")]
    seats: Option<u32>,
    #[arg(long, group = "what")]
    billing: Option<Interval>,
    #[arg(long)]
    when: Option<When>,
}

#[derive(Args, Debug)]
pub struct SubscriptionCancel {
    #[arg(long)]
    when: Option<When>,
}

#[derive(Args, Debug)]
pub struct Topup {
    /// A pack of the catalog, which brings its amount and price
    #[arg(long, conflicts_with_all = ["amount", "unit", "price", "currency"], required_unless_present = "amount")]
    pack: Option<String>,
    #[arg(long, requires = "unit")]
    amount: Option<String>,
    #[arg(long)]
    unit: Option<String>,
    #[arg(long, requires = "currency")]
    price: Option<String>,
    #[arg(long, requires = "price")]
    currency: Option<String>,
    /// From when on it counts, RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// RFC 3339, or `never`
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
}

#[derive(Args, Debug)]
pub struct GrantIssue {
    #[arg(long)]
    unit: String,
    #[arg(long)]
    amount: String,
    #[arg(long)]
    name: Option<String>,
    /// Lower burns first, 0 to 1000
    #[arg(long)]
    priority: Option<u16>,
    /// From when on it counts, RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// RFC 3339; never unless given
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Pays only for records of this group
    #[arg(long)]
    group: Option<String>,
}

#[derive(Args, Debug)]
pub struct GrantVoid {
    /// Its id, as g3, or the reference of the oldest open one
    #[arg(long)]
    grant: String,
}

#[derive(Args, Debug)]
pub struct BalanceAdjust {
    #[arg(long)]
    unit: String,
    /// Positive: a grant that never expires; negative: drawn like usage
    #[arg(long, allow_hyphen_values = true)]
    amount: String,
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Args, Debug)]
pub struct MemberSet {
    #[arg(long)]
    user: String,
    /// `limit=1000`, `limit=25%`, or `limit=none`; may be repeated
    #[arg(long = "cap", value_name = "LIMIT=CAP", value_parser = cap)]
    caps: Vec<(String, Value)>,
    /// Clear all of the user's own caps
    #[arg(long, conflicts_with = "caps")]
    clear_caps: bool,
    /// A group that the user may not use; may be repeated, and replaces the former list
    #[arg(long, value_name = "GROUP")]
    deny: Vec<String>,
    /// Deny nothing any more
    #[arg(long, conflicts_with = "deny")]
    allow_all: bool,
}

#[derive(Args, Debug)]
pub struct LimitSet {
    #[arg(long)]
    limit: String,
    /// An amount, or `none` for the plan's own
    #[arg(long)]
    cap: String,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct Set {
    /// The rate class, or `none` for standard
    #[arg(long)]
    class: Option<String>,
    /// Overflow to pay as you go
    #[arg(long)]
    extra_usage: Option<Switch>,
    /// `unit:below:amount`, as credit:1000:5000, or `none`
    #[arg(long, value_name = "AUTOPAY", value_parser = autopay)]
    autopay: Option<Value>,
}

#[derive(Args, Debug)]
pub struct RefundCompleted {
    #[arg(long)]
    amount: String,
}

#[derive(Args, Debug)]
pub struct Delete {
    /// It cannot be undone
    #[arg(long, required = true)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Interval {
    Month,
    Year,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    Now,
    #[value(name = "period_end", alias = "period-end")]
    PeriodEnd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// A command as it is sent.
pub struct Command<'a> {
    pub account: &'a str,
    pub kind: &'static str,
    pub data: Map<String, Value>,
    pub sending: &'a Sending,
}

impl Change {
    pub fn command(&self) -> Command<'_> {
        match self {
            Change::SubscriptionStart(with) => with.command("meterd.subscription.start", with.fields.data()),
            Change::SubscriptionChange(with) => with.command("meterd.subscription.change", with.fields.data()),
            Change::SubscriptionCancel(with) => {
                with.command("meterd.subscription.cancel", fields([("when", with.fields.when.map(When::value))]))
            }
            Change::PaymentSucceeded(with) => with.command("meterd.payment.succeeded", Map::new()),
            Change::PaymentFailed(with) => with.command("meterd.payment.failed", Map::new()),
            Change::Topup(with) => with.command("meterd.topup", with.fields.data()),
            Change::GrantIssue(with) => with.command("meterd.grant.issue", with.fields.data()),
            Change::GrantVoid(with) => with.command("meterd.grant.void", fields([("grant", text(&with.fields.grant))])),
            Change::BalanceAdjust(with) => with.command("meterd.balance.adjust", with.fields.data()),
            Change::MemberSet(with) => with.command("meterd.member.set", with.fields.data()),
            Change::LimitSet(with) => with.command("meterd.limit.set", with.fields.data()),
            Change::Set(with) => with.command("meterd.account.set", with.fields.data()),
            Change::RefundRequest(with) => with.command("meterd.refund.request", Map::new()),
            Change::RefundCompleted(with) => {
                with.command("meterd.refund.completed", fields([("amount", text(&with.fields.amount))]))
            }
            Change::Delete(with) => with.command("meterd.account.delete", Map::new()),
        }
    }
}

impl<T: Args> With<T> {
    fn command(&self, kind: &'static str, data: Map<String, Value>) -> Command<'_> {
        Command { account: &self.account, kind, data, sending: &self.sending }
    }
}

impl SubscriptionStart {
    fn data(&self) -> Map<String, Value> {
        fields([
            ("plan", text(&self.plan)),
            ("billing", self.billing.map(Interval::value)),
            ("seats", self.seats.map(Value::from)),
            ("at", optional(&self.at)),
            ("paid", self.unpaid.then_some(Value::Bool(false))),
        ])
    }
}

impl SubscriptionChange {
    fn data(&self) -> Map<String, Value> {
        fields([
            ("plan", optional(&self.plan)),
            ("seats", self.seats.map(Value::from)),
            ("billing", self.billing.map(Interval::value)),
            ("when", self.when.map(When::value)),
        ])
    }
}

impl Topup {
    fn data(&self) -> Map<String, Value> {
        fields([
            ("pack", optional(&self.pack)),
            ("amount", optional(&self.amount)),
            ("unit", optional(&self.unit)),
            ("price", optional(&self.price)),
            ("currency", optional(&self.currency)),
            ("at", optional(&self.at)),
            ("expires_at", self.expires_at.as_deref().map(|time| value_or(time, "never"))),
        ])
    }
}

impl GrantIssue {
    fn data(&self) -> Map<String, Value> {
        fields([
            ("unit", text(&self.unit)),
            ("amount", text(&self.amount)),
            ("name", optional(&self.name)),
            ("priority", self.priority.map(Value::from)),
            ("at", optional(&self.at)),
            ("expires_at", optional(&self.expires_at)),
            ("group", optional(&self.group)),
        ])
    }
}

impl BalanceAdjust {
    fn data(&self) -> Map<String, Value> {
        fields([("unit", text(&self.unit)), ("amount", text(&self.amount)), ("reason", optional(&self.reason))])
    }
}

impl MemberSet {
    fn data(&self) -> Map<String, Value> {
        let caps = match (self.clear_caps, self.caps.is_empty()) {
            (true, _) => Some(Value::Null),
            (false, true) => None,
            (false, false) => Some(Value::Object(self.caps.iter().cloned().collect())),
        };
        let deny = (self.allow_all || !self.deny.is_empty()).then(|| json!(self.deny));
        fields([("user", text(&self.user)), ("caps", caps), ("deny", deny)])
    }
}

impl LimitSet {
    fn data(&self) -> Map<String, Value> {
        fields([("limit", text(&self.limit)), ("cap", Some(value_or(&self.cap, "none")))])
    }
}

impl Set {
    fn data(&self) -> Map<String, Value> {
        fields([
            ("class", self.class.as_deref().map(|class| value_or(class, "none"))),
            ("extra_usage", self.extra_usage.map(|switch| Value::Bool(matches!(switch, Switch::On)))),
            ("autopay", self.autopay.clone()),
        ])
    }
}

impl Interval {
    fn value(self) -> Value {
        Value::from(match self {
            Interval::Month => "month",
            Interval::Year => "year",
        })
    }
}

impl When {
    fn value(self) -> Value {
        Value::from(match self {
            When::Now => "now",
            When::PeriodEnd => "period_end",
        })
    }
}

/// Those that are given.
fn fields<const N: usize>(given: [(&str, Option<Value>); N]) -> Map<String, Value> {
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn text(text: &str) -> Option<Value> {
    Some(Value::from(text))
}

fn optional(given: &Option<String>) -> Option<Value> {
    given.as_deref().and_then(text)
}

/// The text, or null where it is the word for nothing.
fn value_or(text: &str, nothing: &str) -> Value {
    if text == nothing { Value::Null } else { Value::from(text) }
}

fn cap(given: &str) -> Result<(String, Value), String> {
    let (limit, cap) = given.split_once('=').ok_or("expected LIMIT=CAP, like user=1000, user=25% or user=none")?;
    Ok((limit.to_owned(), value_or(cap, "none")))
}

fn autopay(given: &str) -> Result<Value, String> {
    if given == "none" {
        return Ok(Value::Null);
    }
    match given.split(':').collect::<Vec<_>>()[..] {
        [unit, below, amount] => Ok(json!({ "unit": unit, "below": below, "amount": amount })),
        _ => Err("expected unit:below:amount, like credit:1000:5000, or none".to_owned()),
    }
}
