//! Section 4: reading commands. What can be seen without catalog and state is `bad_command`.

use crate::account::Billing;
use crate::decode::{self, Event};
use crate::json::Json;
use crate::num::Decimal;
use crate::time::{self, Ms};

/// Absent, null, or a value: where null clears.
pub type Maybe<T> = Option<Option<T>>;

pub struct Terms {
    pub at: Option<Ms>,
    pub expires_at: Maybe<Ms>,
}

pub enum When {
    Now,
    PeriodEnd,
}

pub enum CapText {
    Amount(Decimal),
    Percent(String),
}

pub enum Command {
    Start { plan: String, billing: Option<Billing>, seats: Option<i64>, at: Option<Ms>, paid: bool },
    Change { plan: Option<String>, seats: Option<i64>, billing: Option<Billing>, when: Option<When> },
    Cancel { now: bool },
    Succeeded,
    Failed,
    Pack { pack: String, terms: Terms },
    Topup { amount: Decimal, unit: String, price: Option<(Decimal, String)>, terms: Terms },
    Issue { unit: String, amount: Decimal, name: String, priority: i64, group: Option<String>, terms: Terms },
    Void { grant: String },
    Adjust { unit: String, amount: Decimal },
    Member { user: String, caps: Maybe<Vec<(String, Option<CapText>)>>, deny: Maybe<Vec<String>> },
    Limit { limit: String, cap: Option<Decimal> },
    Set { class: Maybe<String>, extra_usage: Maybe<bool>, autopay: Maybe<(String, Decimal, Decimal)> },
    RefundRequest,
    Refunded { amount: Decimal },
    Delete,
}

/// The fields of `data`, those that may be there, nulls included.
struct Fields<'a>(&'a [(String, Json)]);

impl Fields<'_> {
    fn only(&self, known: &[&str]) -> Option<()> {
        self.0.iter().all(|(name, _)| known.contains(&name.as_str())).then_some(())
    }

    fn raw(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|f| f.0 == name).map(|f| &f.1)
    }

    fn get(&self, name: &str) -> Option<&Json> {
        self.raw(name).filter(|v| **v != Json::Null)
    }

    /// `None`: ill-typed.
    fn read<T>(&self, name: &str, read: impl Fn(&Json) -> Option<T>) -> Option<Option<T>> {
        match self.get(name) {
            None => Some(None),
            Some(value) => read(value).map(Some),
        }
    }

    fn maybe<T>(&self, name: &str, read: impl Fn(&Json) -> Option<T>) -> Option<Maybe<T>> {
        match self.raw(name) {
            None => Some(None),
            Some(Json::Null) => Some(Some(None)),
            Some(value) => read(value).map(|v| Some(Some(v))),
        }
    }

    fn text(&self, name: &str) -> Option<Option<String>> {
        self.read(name, text)
    }

    fn terms(&self) -> Option<Terms> {
        Some(Terms { at: self.read("at", instant)?, expires_at: self.maybe("expires_at", instant)? })
    }
}

fn text(value: &Json) -> Option<String> {
    match value {
        Json::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn boolean(value: &Json) -> Option<bool> {
    match value {
        Json::Bool(b) => Some(*b),
        _ => None,
    }
}

fn instant(value: &Json) -> Option<Ms> {
    time::parse(&text(value)?)
}

fn integer(value: &Json, from: i64, to: i64) -> Option<i64> {
    match value {
        Json::Number(text) => text.parse().ok().filter(|n| (from..=to).contains(n)),
        _ => None,
    }
}

fn seats(value: &Json) -> Option<i64> {
    integer(value, 1, 100_000)
}

fn signed(value: &Json) -> Option<Decimal> {
    match value {
        Json::Number(text) => Some(Decimal::of_number(text)),
        Json::Text(text) => Decimal::of_string(text, true),
        _ => None,
    }
}

fn positive(value: &Json) -> Option<Decimal> {
    match value {
        Json::Number(text) => Some(Decimal::of_number(text)).filter(|d| !d.negative),
        Json::Text(text) => Decimal::of_string(text, false),
        _ => None,
    }
}

fn billing(value: &Json) -> Option<Billing> {
    match text(value)?.as_str() {
        "month" => Some(Billing::Month),
        "year" => Some(Billing::Year),
        _ => None,
    }
}

fn when(value: &Json) -> Option<When> {
    match text(value)?.as_str() {
        "now" => Some(When::Now),
        "period_end" => Some(When::PeriodEnd),
        _ => None,
    }
}

fn cap(value: &Json) -> Option<CapText> {
    match value {
        Json::Text(text) if text.ends_with('%') => {
            Decimal::of_string(text.strip_suffix('%')?, false).map(|_| CapText::Percent(text.clone()))
        }
        _ => positive(value).map(CapText::Amount),
    }
}

fn caps(value: &Json) -> Option<Vec<(String, Option<CapText>)>> {
    let Json::Object(fields) = value else { return None };
    let one = |(name, value): &(String, Json)| match value {
        Json::Null => Some((name.clone(), None)),
        _ => cap(value).map(|c| (name.clone(), Some(c))),
    };
    fields.iter().map(one).collect()
}

fn names(value: &Json) -> Option<Vec<String>> {
    let Json::List(items) = value else { return None };
    items.iter().map(text).collect()
}

fn autopay(value: &Json) -> Option<(String, Decimal, Decimal)> {
    let Json::Object(fields) = value else { return None };
    let fields = Fields(fields);
    fields.only(&["unit", "below", "amount"])?;
    Some((fields.text("unit")??, fields.read("below", positive)??, fields.read("amount", positive)??))
}

/// `None`: bad_command.
pub fn parse(event: &Event) -> Option<Command> {
    decode::fields(event)?;
    let empty = Vec::new();
    let all = match &event.data {
        Some(Json::Object(fields)) => fields,
        _ => &empty,
    };
    let f = Fields(all);
    match event.type_.strip_prefix("meterd.")? {
        "subscription.start" => {
            f.only(&["plan", "billing", "seats", "at", "paid"])?;
            Some(Command::Start {
                plan: f.text("plan")??,
                billing: f.read("billing", billing)?,
                seats: f.read("seats", seats)?,
                at: f.read("at", instant)?,
                paid: f.read("paid", boolean)?.unwrap_or(true),
            })
        }
        "subscription.change" => {
            f.only(&["plan", "seats", "billing", "when"])?;
            Some(Command::Change {
                plan: f.text("plan")?,
                seats: f.read("seats", seats)?,
                billing: f.read("billing", billing)?,
                when: f.read("when", when)?,
            })
        }
        "subscription.cancel" => {
            f.only(&["when"])?;
            Some(Command::Cancel { now: matches!(f.read("when", when)?, Some(When::Now)) })
        }
        "payment.succeeded" => f.only(&[]).map(|()| Command::Succeeded),
        "payment.failed" => f.only(&[]).map(|()| Command::Failed),
        "topup" => topup(&f),
        "grant.issue" => {
            f.only(&["unit", "amount", "name", "priority", "at", "expires_at", "group"])?;
            Some(Command::Issue {
                unit: f.text("unit")??,
                amount: f.read("amount", positive)??,
                name: f.text("name")?.unwrap_or("grant".into()),
                priority: f.read("priority", |v| integer(v, 0, 1000))?.unwrap_or(20),
                group: f.text("group")?,
                terms: f.terms()?,
            })
        }
        "grant.void" => {
            f.only(&["grant"])?;
            Some(Command::Void { grant: f.text("grant")?? })
        }
        "balance.adjust" => {
            f.only(&["unit", "amount", "reason"])?;
            f.text("reason")?;
            Some(Command::Adjust { unit: f.text("unit")??, amount: f.read("amount", signed)?? })
        }
        "member.set" => {
            f.only(&["user", "caps", "deny"])?;
            let user = f.text("user")??;
            let fine = !user.is_empty() && user.len() <= 256 && !user.chars().any(char::is_control);
            fine.then_some(())?;
            Some(Command::Member { user, caps: f.maybe("caps", caps)?, deny: f.maybe("deny", names)? })
        }
        "limit.set" => {
            f.only(&["limit", "cap"])?;
            Some(Command::Limit { limit: f.text("limit")??, cap: f.maybe("cap", positive)?? })
        }
        "account.set" => {
            f.only(&["class", "extra_usage", "autopay"])?;
            Some(Command::Set {
                class: f.maybe("class", text)?,
                extra_usage: f.maybe("extra_usage", boolean)?,
                autopay: f.maybe("autopay", autopay)?,
            })
        }
        "refund.request" => f.only(&[]).map(|()| Command::RefundRequest),
        "refund.completed" => {
            f.only(&["amount"])?;
            Some(Command::Refunded { amount: f.read("amount", positive)?? })
        }
        "account.delete" => f.only(&[]).map(|()| Command::Delete),
        _ => None,
    }
}

fn topup(f: &Fields) -> Option<Command> {
    f.only(&["pack", "amount", "unit", "price", "currency", "at", "expires_at"])?;
    let (amount, unit) = (f.read("amount", positive)?, f.text("unit")?);
    let (price, currency) = (f.read("price", positive)?, f.text("currency")?);
    let terms = f.terms()?;
    if let Some(pack) = f.text("pack")? {
        let alone = amount.is_none() && unit.is_none() && price.is_none() && currency.is_none();
        return alone.then_some(Command::Pack { pack, terms });
    }
    let price = match (price, currency) {
        (Some(price), Some(currency)) => Some((price, currency)),
        (None, None) => None,
        _ => return None,
    };
    Some(Command::Topup { amount: amount?, unit: unit?, price, terms })
}
