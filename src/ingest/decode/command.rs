//! The data of commands, each type with its own fields (docs/reference.md 4). Everything that can be judged without
//! catalog and state is judged here; a field that a command does not have is refused: money must not be lost to a typo.

use bumpalo::Bump;

use super::super::json::{Invalid, Kind, Reader};
use super::envelope::{TEXT_BYTES_MAX, check_text};
use super::{decimal, expected_time, quote};
use crate::engine::amount::DecimalError;
use crate::engine::input::{
    Autopay, CapGiven, Caps, Change, Given, GrantIssue, Interval, Setting, Topup, TopupWhat, When,
};
use crate::engine::{Amount, Ms, calendar};

const ELEMENTS_MAX: usize = 64;
const SEATS_MAX: i128 = 100_000;
const PRIORITY_MAX: i128 = 1_000;

enum Value<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(&'a str),
    List(Vec<Value<'a>>),
    Object(Vec<(&'a str, Value<'a>)>),
}

/// The fields not yet taken, under the name of the object that they stand in.
struct Fields<'a> {
    rest: Vec<(&'a str, Value<'a>)>,
}

/// What a command of the type `kind` with this data (its JSON text) changes, or why it is `bad_command`.
pub(super) fn read(kind: &str, data: &str, arena: &Bump) -> Result<Change, String> {
    let mut reader = Reader::new(data, arena);
    let data = Value::read(&mut reader).map_err(|Invalid| format!("data: expected {}", reader.fault().expected))?;
    let mut fields = Fields::of("data", data)?;
    let change = fields.change(kind)?;
    fields.finish(kind)?;
    Ok(change)
}

impl<'a> Fields<'a> {
    fn of(name: &str, value: Value<'a>) -> Result<Fields<'a>, String> {
        match value {
            Value::Null => Ok(Fields { rest: Vec::new() }),
            Value::Object(rest) => Ok(Fields { rest }),
            other => Err(format!("{name}: expected an object, found {}", other.name())),
        }
    }

    fn change(&mut self, kind: &str) -> Result<Change, String> {
        Ok(match kind {
            "meterd.subscription.start" => Change::SubscriptionStart {
                plan: self.required_text("plan")?,
                billing: self.interval()?,
                seats: self.seats()?,
                at: self.time("at")?,
                paid: self.boolean("paid")?.unwrap_or(true),
            },
            "meterd.subscription.change" => Change::SubscriptionChange {
                plan: self.text("plan")?,
                seats: self.seats()?,
                billing: self.interval()?,
                when: self.when()?,
            },
            "meterd.subscription.cancel" => {
                Change::SubscriptionCancel { when: self.when()?.unwrap_or(When::PeriodEnd) }
            }
            "meterd.payment.succeeded" => Change::PaymentSucceeded,
            "meterd.payment.failed" => Change::PaymentFailed,
            "meterd.topup" => Change::Topup(self.topup()?),
            "meterd.grant.issue" => Change::GrantIssue(GrantIssue {
                unit: self.required_text("unit")?,
                amount: self.required_amount("amount")?,
                name: self.text("name")?,
                priority: self.integer("priority", 0, PRIORITY_MAX)?.map(|priority| priority as u16),
                at: self.time("at")?,
                expires_at: self.time("expires_at")?,
                group: self.text("group")?,
            }),
            "meterd.grant.void" => Change::GrantVoid { grant: self.required_text("grant")? },
            "meterd.balance.adjust" => {
                if let Some(value) = self.given("reason") {
                    let Value::Text(_) = value else { return Err(value.instead_of("reason", "a string")) };
                }
                let unit = self.required_text("unit")?;
                let amount = self.given("amount").ok_or("amount: expected an amount, found nothing")?;
                Change::BalanceAdjust { unit, amount: amount_of("amount", amount, true)? }
            }
            "meterd.member.set" => {
                let user = self.required_text("user")?;
                check_text("user", &user, TEXT_BYTES_MAX, false)?;
                Change::MemberSet { user, caps: self.caps()?, deny: self.deny()? }
            }
            "meterd.limit.set" => Change::LimitSet { limit: self.required_text("limit")?, cap: self.cap()? },
            "meterd.account.set" => Change::AccountSet {
                class: self.setting("class", text_of)?,
                extra_usage: self.setting("extra_usage", boolean_of)?,
                autopay: self.setting("autopay", autopay_of)?,
            },
            "meterd.refund.request" => Change::RefundRequest,
            "meterd.refund.completed" => Change::RefundCompleted { amount: self.required_amount("amount")? },
            "meterd.account.delete" => Change::AccountDelete,
            other => return Err(format!("type: expected one of the commands, found {}", quote(other))),
        })
    }

    fn topup(&mut self) -> Result<Topup, String> {
        let pack = self.text("pack")?;
        let unit = self.text("unit")?;
        let amount = self.amount("amount")?;
        let price = self.amount("price")?;
        let currency = self.text("currency")?;
        let what = match (pack, amount, unit) {
            (Some(pack), None, None) if price.is_none() && currency.is_none() => TopupWhat::Pack(pack),
            (Some(_), ..) => {
                return Err("pack: expected no amount, unit, price and currency beside it, found one".to_owned());
            }
            (None, Some(amount), Some(unit)) => TopupWhat::Amount { amount, unit },
            (None, ..) => return Err("expected a pack, or an amount and its unit, found neither".to_owned()),
        };
        let price = match (price, currency) {
            (Some(price), Some(currency)) => Some((price, currency)),
            (None, None) => None,
            _ => return Err("price and currency: expected both or neither, found one".to_owned()),
        };
        Ok(Topup { what, price, at: self.time("at")?, expires_at: self.setting("expires_at", time_of)? })
    }

    /// `cap` must be there, if only to be cleared.
    fn cap(&mut self) -> Result<Option<Given>, String> {
        match self.take("cap") {
            None => Err("cap: expected an amount or null, found nothing".to_owned()),
            Some(Value::Null) => Ok(None),
            Some(value) => amount_of("cap", value, false).map(Some),
        }
    }

    fn caps(&mut self) -> Result<Caps, String> {
        let given = match self.take("caps") {
            None => return Ok(Caps::Absent),
            Some(Value::Null) => return Ok(Caps::ClearAll),
            Some(Value::Object(given)) => given,
            Some(other) => return Err(other.instead_of("caps", "an object of limits' names")),
        };
        let mut each = Vec::with_capacity(given.len());
        for (limit, value) in given {
            check_length("a limit's name in caps", limit)?;
            let cap = match value {
                Value::Null => None,
                Value::Text(text) if text.ends_with('%') => {
                    let percent = Value::Text(&text[..text.len() - 1]);
                    Some(CapGiven::Percent(amount_of("caps", percent, false)?))
                }
                other => Some(CapGiven::Amount(amount_of("caps", other, false)?)),
            };
            each.push((limit.to_owned(), cap));
        }
        Ok(Caps::Each(each))
    }

    fn deny(&mut self) -> Result<Option<Vec<String>>, String> {
        match self.take("deny") {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(Vec::new())),
            Some(Value::List(groups)) if groups.len() > ELEMENTS_MAX => {
                Err(format!("deny: expected at most {ELEMENTS_MAX} groups, found {}", groups.len()))
            }
            Some(Value::List(groups)) => {
                groups.into_iter().map(|group| text_of("deny", group)).collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(other.instead_of("deny", "an array of groups' names")),
        }
    }

    fn interval(&mut self) -> Result<Option<Interval>, String> {
        match self.text("billing")?.as_deref() {
            None => Ok(None),
            Some("month") => Ok(Some(Interval::Month)),
            Some("year") => Ok(Some(Interval::Year)),
            Some(other) => Err(format!("billing: expected month or year, found {}", quote(other))),
        }
    }

    fn when(&mut self) -> Result<Option<When>, String> {
        match self.text("when")?.as_deref() {
            None => Ok(None),
            Some("now") => Ok(Some(When::Now)),
            Some("period_end") => Ok(Some(When::PeriodEnd)),
            Some(other) => Err(format!("when: expected now or period_end, found {}", quote(other))),
        }
    }

    fn seats(&mut self) -> Result<Option<u32>, String> {
        Ok(self.integer("seats", 1, SEATS_MAX)?.map(|seats| seats as u32))
    }

    fn integer(&mut self, name: &str, least: i128, most: i128) -> Result<Option<i128>, String> {
        let Some(value) = self.given(name) else { return Ok(None) };
        let expected = format!("an integer from {least} to {most}");
        let Value::Number(text) = value else { return Err(value.instead_of(name, &expected)) };
        let nanos = decimal::of_number(text).map(Amount::nanos);
        match nanos.map(|nanos| (nanos / crate::engine::amount::NANOS, nanos % crate::engine::amount::NANOS)) {
            Ok((whole, 0)) if (least..=most).contains(&whole) => Ok(Some(whole)),
            _ => Err(format!("{name}: expected {expected}, found {}", quote(text))),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        self.given(name).map(|value| text_of(name, value)).transpose()
    }

    fn required_text(&mut self, name: &str) -> Result<String, String> {
        self.text(name)?.ok_or_else(|| format!("{name}: expected a string, found nothing"))
    }

    fn boolean(&mut self, name: &str) -> Result<Option<bool>, String> {
        self.given(name).map(|value| boolean_of(name, value)).transpose()
    }

    fn time(&mut self, name: &str) -> Result<Option<Ms>, String> {
        self.given(name).map(|value| time_of(name, value)).transpose()
    }

    fn amount(&mut self, name: &str) -> Result<Option<Given>, String> {
        self.given(name).map(|value| amount_of(name, value, false)).transpose()
    }

    fn required_amount(&mut self, name: &str) -> Result<Given, String> {
        self.amount(name)?.ok_or_else(|| format!("{name}: expected an amount, found nothing"))
    }

    /// A field that null clears.
    fn setting<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, Value<'a>) -> Result<T, String>,
    ) -> Result<Setting<T>, String> {
        match self.take(name) {
            None => Ok(Setting::Absent),
            Some(Value::Null) => Ok(Setting::Clear),
            Some(value) => read(name, value).map(Setting::Set),
        }
    }

    /// A field that null leaves as if it were absent.
    fn given(&mut self, name: &str) -> Option<Value<'a>> {
        self.take(name).filter(|value| !matches!(value, Value::Null))
    }

    fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let place = self.rest.iter().position(|(other, _)| *other == name)?;
        Some(self.rest.swap_remove(place).1)
    }

    fn finish(self, of: &str) -> Result<(), String> {
        match self.rest.iter().map(|(name, _)| *name).min() {
            None => Ok(()),
            Some(name) => Err(format!("{}: expected only fields of {of}, found an unknown one", quote(name))),
        }
    }
}

impl<'a> Value<'a> {
    /// The text was read once before, so that it is known to be JSON.
    fn read(reader: &mut Reader<'a>) -> Result<Value<'a>, Invalid> {
        let mut first = true;
        Ok(match reader.kind()? {
            Kind::Text => Value::Text(reader.string()?),
            Kind::Number => Value::Number(reader.number()?),
            Kind::Bool => Value::Bool(reader.boolean()?),
            Kind::Null => {
                reader.null()?;
                Value::Null
            }
            Kind::Array => {
                let mut elements = Vec::new();
                reader.enter_array()?;
                while reader.element(&mut first)? {
                    elements.push(Value::read(reader)?);
                }
                Value::List(elements)
            }
            Kind::Object => {
                let mut members = Vec::new();
                reader.enter_object()?;
                while let Some(name) = reader.name(&mut first)? {
                    members.push((name, Value::read(reader)?));
                }
                Value::Object(members)
            }
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Value::Null => Kind::Null.name(),
            Value::Bool(_) => Kind::Bool.name(),
            Value::Number(_) => Kind::Number.name(),
            Value::Text(_) => Kind::Text.name(),
            Value::List(_) => Kind::Array.name(),
            Value::Object(_) => Kind::Object.name(),
        }
    }

    fn instead_of(&self, name: &str, expected: &str) -> String {
        format!("{name}: expected {expected}, found {}", self.name())
    }
}

fn text_of(name: &str, value: Value<'_>) -> Result<String, String> {
    let Value::Text(text) = value else { return Err(value.instead_of(name, "a string")) };
    check_length(name, text)?;
    Ok(text.to_owned())
}

fn boolean_of(name: &str, value: Value<'_>) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(value),
        other => Err(other.instead_of(name, "true or false")),
    }
}

fn time_of(name: &str, value: Value<'_>) -> Result<Ms, String> {
    let Value::Text(text) = value else { return Err(value.instead_of(name, "a time as a string")) };
    calendar::parse_time(text).ok_or_else(|| expected_time(name, text))
}

fn autopay_of(name: &str, value: Value<'_>) -> Result<Autopay, String> {
    let mut fields = Fields::of(name, value)?;
    let autopay = Autopay {
        unit: fields.required_text("unit")?,
        below: fields.required_amount("below")?,
        amount: fields.required_amount("amount")?,
    };
    fields.finish(name)?;
    Ok(autopay)
}

/// An amount of the right form, perhaps one that cannot be held, which is for the fold to reject.
fn amount_of(name: &str, value: Value<'_>, negative: bool) -> Result<Given, String> {
    let (written, read) = match value {
        Value::Number(text) if text.starts_with('-') && !negative => match decimal::of_number(text) {
            Ok(Amount::ZERO) => (text, Ok(Amount::ZERO)),
            _ => return Err(format!("{name}: expected an amount that is not negative, found {}", quote(text))),
        },
        Value::Number(text) => (text, decimal::of_number(text)),
        Value::Text(text) => match decimal::of_string(text, negative) {
            Err(DecimalError::Form) => {
                return Err(format!("{name}: expected a decimal as \"12.5\", found {}", quote(text)));
            }
            read => (text, read),
        },
        other => return Err(other.instead_of(name, "an amount as a decimal string or a number")),
    };
    Ok(match read {
        Ok(amount) if amount < Amount::VALUE_LIMIT && -amount < Amount::VALUE_LIMIT => Given::Exact(amount),
        _ => Given::Outside { floor: decimal::floor(written) },
    })
}

fn check_length(name: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(format!("{name}: expected 1 to {TEXT_BYTES_MAX} bytes, found {}", text.len()));
    }
    Ok(())
}
