//! Section 5: the catalog, assumed valid.

use crate::num::{self, Amt, Decimal};
use crate::time::{self, Calendar, Ms};
use num_rational::BigRational;
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

pub struct Catalog {
    pub default_plan: String,
    pub create_accounts: bool,
    pub late: Ms,
    pub future: Ms,
    pub users_max: usize,
    pub scales: BTreeMap<String, u32>,
    pub currencies: BTreeMap<String, u32>,
    pub payg: Option<Payg>,
    pub minimum: Option<(Amt, String)>,
    pub expires_after: Option<Ms>,
    pub packs: BTreeMap<String, (String, Amt)>,
    pub groups: Vec<(String, Match)>,
    pub rates: Vec<Rate>,
    pub exchanges: Vec<Exchange>,
    pub plans: BTreeMap<String, Plan>,
    pub months: i64,
    pub quantities: BTreeSet<String>,
}

pub struct Payg {
    pub unit: String,
    pub low: Vec<Threshold>,
}

/// `"20%"` or `"100"`, and its text as written.
#[derive(Clone)]
pub struct Threshold {
    pub text: String,
    pub percent: bool,
    pub value: BigRational,
}

pub struct Match(pub Vec<(String, Vec<String>)>);

pub struct Component {
    pub quantity: String,
    pub rate: BigRational,
    pub per: BigRational,
    pub step: Option<Amt>,
}

pub struct Rate {
    pub type_: Option<String>,
    pub matches: Match,
    pub unit: String,
    pub price: Vec<Component>,
    pub multiply: Option<(String, BTreeMap<String, BigRational>, Option<BigRational>)>,
    pub each: Option<Each>,
    pub minimum: Option<Amt>,
    pub session_max: Option<Ms>,
    pub from: Option<Ms>,
    pub until: Option<Ms>,
}

pub struct Each {
    pub field: String,
    pub prices: BTreeMap<String, Vec<Component>>,
    pub free: bool,
}

pub struct Exchange {
    pub from_unit: String,
    pub to_unit: String,
    pub value: BigRational,
    pub class: String,
    pub from: Option<Ms>,
}

#[derive(Clone)]
pub struct Price {
    pub currency: String,
    pub month: Option<Amt>,
    pub year: Option<Amt>,
}

#[derive(Clone, PartialEq)]
pub enum Every {
    Month,
    CalendarMonth,
    Length(Ms),
    Endless,
}

#[derive(Clone)]
pub struct PlanGrant {
    pub name: String,
    pub amount: Amt,
    pub priority: i64,
    pub rollover: Option<Amt>,
}

pub struct Plan {
    pub name: String,
    pub price: Option<Price>,
    pub every: Every,
    pub trial: Option<Ms>,
    pub then: String,
    pub seats: i64,
    pub strict_seats: bool,
    pub per_seat: bool,
    pub unit: Option<String>,
    pub allow: Option<Vec<String>>,
    pub grants: Vec<PlanGrant>,
    pub grace: Option<Ms>,
    pub upgrade_credits: String,
    pub forgive: bool,
    pub low: Vec<Threshold>,
    pub exhausted_below: Option<Amt>,
    pub overflow: Vec<String>,
    pub refund: Option<Refund>,
    pub limits: Vec<Limit>,
}

pub struct Refund {
    pub within: Ms,
    pub fee: BigRational,
    pub then: String,
}

#[derive(Clone, PartialEq)]
pub enum Measure {
    Unit(String),
    Quantity(String),
    Records,
}

#[derive(Clone, PartialEq)]
pub enum Window {
    Sliding(Ms),
    FirstUse(Ms),
    Calendar(Calendar, chrono_tz::Tz),
    Period,
    Lifetime,
}

#[derive(Clone, PartialEq)]
pub enum Cap {
    Amount(Amt),
    Equal,
    Share(BigRational),
}

#[derive(Clone)]
pub struct Limit {
    pub name: String,
    pub measure: Measure,
    pub by_user: bool,
    pub window: Window,
    pub cap: Cap,
    pub group: Option<String>,
    pub type_: Option<String>,
    pub action: String,
    pub warn: Vec<(String, BigRational)>,
}

impl Limit {
    /// Of a change of plan: the same limit keeps its counters.
    pub fn is(&self, other: &Limit) -> bool {
        self.name == other.name
            && self.measure == other.measure
            && self.by_user == other.by_user
            && self.window == other.window
            && self.group == other.group
            && self.type_ == other.type_
    }
}

fn string(table: &Table, key: &str) -> Option<String> {
    table.get(key).map(|v| match v {
        Value::String(s) => s.clone(),
        Value::Integer(i) => i.to_string(),
        Value::Datetime(d) => d.to_string(),
        other => panic!("{key}: expected a text, found {other}"),
    })
}

fn text(table: &Table, key: &str) -> String {
    string(table, key).unwrap_or_else(|| panic!("{key} is missing"))
}

fn sub<'a>(table: &'a Table, key: &str) -> Option<&'a Table> {
    table.get(key).and_then(Value::as_table)
}

fn list<'a>(table: &'a Table, key: &str) -> Option<&'a [Value]> {
    table.get(key).and_then(Value::as_array).map(Vec::as_slice)
}

fn flag(table: &Table, key: &str) -> bool {
    table.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn amount(table: &Table, key: &str) -> Option<Amt> {
    string(table, key).map(|t| num::amount(&t))
}

fn instant(table: &Table, key: &str) -> Option<Ms> {
    string(table, key).map(|t| time::parse(&t).expect("an instant of a valid catalog"))
}

fn span(table: &Table, key: &str) -> Option<Ms> {
    string(table, key).map(|t| time::duration(&t))
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(s) => vec![s.clone()],
        Value::Array(items) => items.iter().map(|i| i.as_str().expect("a text").to_owned()).collect(),
        _ => panic!("expected a text or a list of texts"),
    }
}

fn string_list(table: &Table, key: &str) -> Option<Vec<String>> {
    table.get(key).map(strings)
}

fn matches(table: &Table) -> Match {
    let fields = sub(table, "match").map(|m| m.iter().map(|(k, v)| (k.clone(), strings(v))).collect());
    Match(fields.unwrap_or_default())
}

fn threshold(text: &str) -> Threshold {
    let percent = text.ends_with('%');
    let value = if percent { num::percent(text) } else { num::rational(text) };
    Threshold { text: text.to_owned(), percent, value }
}

fn thresholds(table: &Table) -> Vec<Threshold> {
    list(table, "low").unwrap_or(&[]).iter().map(|v| threshold(v.as_str().expect("a text"))).collect()
}

fn components(items: &[Value]) -> Vec<Component> {
    let one = |v: &Value| {
        let t = v.as_table().expect("a price component");
        Component {
            quantity: text(t, "quantity"),
            rate: num::rational(&text(t, "rate")),
            per: num::rational(&string(t, "per").unwrap_or("1".into())),
            step: amount(t, "step"),
        }
    };
    items.iter().map(one).collect()
}

fn rate(t: &Table) -> Rate {
    let multiply = sub(t, "multiply").map(|m| {
        let values = sub(m, "values").expect("values");
        let values = values.keys().map(|k| (k.clone(), num::rational(&text(values, k)))).collect();
        (text(m, "field"), values, string(m, "otherwise").map(|o| num::rational(&o)))
    });
    let each = sub(t, "each").map(|e| {
        let prices = sub(e, "prices").expect("prices");
        let prices = prices.iter().map(|(k, v)| (k.clone(), components(v.as_array().expect("components"))));
        Each { field: text(e, "field"), prices: prices.collect(), free: string(e, "otherwise").is_some() }
    });
    Rate {
        type_: string(t, "type"),
        matches: matches(t),
        unit: text(t, "unit"),
        price: components(list(t, "price").unwrap_or(&[])),
        multiply,
        each,
        minimum: amount(t, "minimum"),
        session_max: span(t, "session_max"),
        from: instant(t, "from"),
        until: instant(t, "until"),
    }
}

fn limit(t: &Table) -> Limit {
    let measure = match &t["measure"] {
        Value::Table(m) if m.contains_key("unit") => Measure::Unit(text(m, "unit")),
        Value::Table(m) => Measure::Quantity(text(m, "quantity")),
        _ => Measure::Records,
    };
    let window = match &t["window"] {
        Value::Table(w) => {
            if let Some(ms) = span(w, "sliding") {
                Window::Sliding(ms)
            } else if let Some(ms) = span(w, "first_use") {
                Window::FirstUse(ms)
            } else {
                let kind = match text(w, "calendar").as_str() {
                    "day" => Calendar::Day,
                    "week" => Calendar::Week,
                    _ => Calendar::Month,
                };
                let zone = string(w, "tz").unwrap_or("UTC".into()).parse().expect("a time zone");
                Window::Calendar(kind, zone)
            }
        }
        Value::String(s) if s == "period" => Window::Period,
        _ => Window::Lifetime,
    };
    let cap = match &t["cap"] {
        Value::Table(c) => match text(c, "share").as_str() {
            "equal" => Cap::Equal,
            percent => Cap::Share(num::percent(percent)),
        },
        _ => Cap::Amount(amount(t, "cap").expect("a cap")),
    };
    let mut warn: Vec<_> =
        string_list(t, "warn").unwrap_or_default().into_iter().map(|w| (w.clone(), num::percent(&w))).collect();
    warn.sort_by(|a, b| a.1.cmp(&b.1));
    Limit {
        name: text(t, "name"),
        measure,
        by_user: string(t, "scope").as_deref() == Some("user"),
        window,
        cap,
        group: string(t, "group"),
        type_: string(t, "type"),
        action: string(t, "on_exceed").unwrap_or("block".into()),
        warn,
    }
}

fn plan(name: &str, t: &Table, default_plan: &str) -> Plan {
    let price = sub(t, "price").map(|p| Price {
        currency: text(p, "currency"),
        month: amount(p, "month"),
        year: amount(p, "year"),
    });
    let every = match string(t, "period").as_deref() {
        None | Some("month") => Every::Month,
        Some("calendar_month") => Every::CalendarMonth,
        Some("week") => Every::Length(7 * time::DAY),
        Some("day") => Every::Length(time::DAY),
        Some("none") => Every::Endless,
        Some(other) => Every::Length(time::duration(other)),
    };
    let grant = |v: &Value| {
        let g = v.as_table().expect("a grant");
        PlanGrant {
            name: text(g, "name"),
            amount: amount(g, "amount").expect("an amount"),
            priority: g.get("priority").and_then(Value::as_integer).unwrap_or(10),
            rollover: sub(g, "rollover").and_then(|r| amount(r, "max")),
        }
    };
    let refund = sub(t, "refund").map(|r| Refund {
        within: span(r, "within").expect("within"),
        fee: string(r, "fee").map_or(num::rational("0"), |f| num::percent(&f)),
        then: text(r, "then"),
    });
    Plan {
        name: name.to_owned(),
        price,
        every,
        trial: span(t, "ends_after"),
        then: string(t, "then").unwrap_or(default_plan.to_owned()),
        seats: t.get("seats").and_then(Value::as_integer).unwrap_or(1),
        strict_seats: flag(t, "strict_seats"),
        per_seat: flag(t, "per_seat"),
        unit: string(t, "unit"),
        allow: string_list(t, "allow"),
        grants: list(t, "grants").unwrap_or(&[]).iter().map(grant).collect(),
        grace: span(t, "grace"),
        upgrade_credits: string(t, "upgrade_credits").unwrap_or("none".into()),
        forgive: string(t, "overdraft").as_deref() == Some("forgive"),
        low: thresholds(t),
        exhausted_below: amount(t, "exhausted_below"),
        overflow: string_list(t, "overflow").unwrap_or_default(),
        refund,
        limits: list(t, "limit").unwrap_or(&[]).iter().map(|v| limit(v.as_table().expect("a limit"))).collect(),
    }
}

fn scales(t: &Table, key: &str, default: i64) -> BTreeMap<String, u32> {
    let table = sub(t, key);
    let one = |(name, v): (&String, &Value)| {
        let field = if key == "unit" { "scale" } else { "decimals" };
        (name.clone(), v.get(field).and_then(Value::as_integer).unwrap_or(default) as u32)
    };
    table.map(|t| t.iter().map(one).collect()).unwrap_or_default()
}

impl Catalog {
    pub fn parse(toml: &str) -> Catalog {
        let t: Table = toml.parse().expect("a valid TOML catalog");
        let default_plan = text(&t, "default_plan");
        let rates: Vec<Rate> =
            list(&t, "rate").unwrap_or(&[]).iter().map(|r| rate(r.as_table().expect("a rate"))).collect();
        let exchange = |v: &Value| {
            let e = v.as_table().expect("an exchange");
            Exchange {
                from_unit: text(e, "from_unit"),
                to_unit: text(e, "to_unit"),
                value: num::rational(&text(e, "value")),
                class: string(e, "class").unwrap_or("*".into()),
                from: instant(e, "from"),
            }
        };
        let plans: BTreeMap<String, Plan> = sub(&t, "plan")
            .expect("plans")
            .iter()
            .map(|(n, v)| (n.clone(), plan(n, v.as_table().expect("a plan"), &default_plan)))
            .collect();
        let mut quantities: BTreeSet<String> = ["requests", "seconds"].map(String::from).into();
        for r in &rates {
            let each = r.each.iter().flat_map(|e| e.prices.values().flatten());
            quantities.extend(r.price.iter().chain(each).map(|c| c.quantity.clone()));
        }
        for l in plans.values().flat_map(|p| &p.limits) {
            if let Measure::Quantity(q) = &l.measure {
                quantities.insert(q.clone());
            }
        }
        let topup = sub(&t, "topup");
        let pack = |(name, v): (&String, &Value)| {
            let p = v.as_table().expect("a pack");
            (name.clone(), (text(p, "unit"), amount(p, "amount").expect("an amount")))
        };
        Catalog {
            create_accounts: t.get("create_accounts").and_then(Value::as_bool).unwrap_or(true),
            late: span(&t, "late").unwrap_or(3_600_000),
            future: span(&t, "future").unwrap_or(300_000),
            users_max: t.get("users_max").and_then(Value::as_integer).unwrap_or(100_000) as usize,
            scales: scales(&t, "unit", 9),
            currencies: scales(&t, "currency", 2),
            payg: sub(&t, "payg").map(|p| Payg { unit: text(p, "unit"), low: thresholds(p) }),
            minimum: topup
                .and_then(|t| sub(t, "minimum"))
                .map(|m| (amount(m, "amount").expect("an amount"), text(m, "currency"))),
            expires_after: topup.and_then(|t| span(t, "expires_after")),
            packs: sub(&t, "pack").map(|p| p.iter().map(pack).collect()).unwrap_or_default(),
            groups: sub(&t, "group")
                .map(|g| g.iter().map(|(n, v)| (n.clone(), matches(v.as_table().expect("a group")))).collect())
                .unwrap_or_default(),
            rates,
            exchanges: list(&t, "exchange").unwrap_or(&[]).iter().map(exchange).collect(),
            plans,
            months: sub(&t, "totals").and_then(|t| t.get("months")).and_then(Value::as_integer).unwrap_or(14),
            quantities,
            default_plan,
        }
    }

    pub fn plan(&self, name: &str) -> &Plan {
        &self.plans[name]
    }

    pub fn group(&self, name: &str) -> Option<&Match> {
        self.groups.iter().find(|g| g.0 == name).map(|g| &g.1)
    }

    pub fn scale(&self, unit: &str) -> u32 {
        self.scales[unit]
    }

    /// The decimals of a currency; 2 where there is none to ask.
    pub fn decimals(&self, currency: &str) -> u32 {
        self.currencies.get(currency).copied().unwrap_or(2)
    }
}

/// Exact, or a prefix with one `*` at the end.
pub fn pattern(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.as_bytes().starts_with(prefix.as_bytes()),
        None => pattern == text,
    }
}

/// `"25%"` as a share in (0, 100], where it is one: `None` if it is no percent, `Some(None)` if out of range.
pub fn share(text: &str) -> Option<Option<BigRational>> {
    let number = Decimal::of_string(text.strip_suffix('%')?, false)?;
    let value = num::percent(text);
    let most = BigRational::from_integer(1.into());
    Some((!number.is_zero() && value <= most).then_some(value))
}
