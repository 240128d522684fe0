//! The catalog: text to a checked [`Catalog`] (docs/reference.md 5).

mod limits;
mod names;
mod plans;
mod rates;
mod review;

use std::path::Path;

use sha2::{Digest, Sha256};

use self::names::{Fields, Names};
use super::diagnostics::{Diagnostic, Diagnostics};
use super::reading::{Name, Reading, Table, Value};
use super::values::Sign;
use crate::engine::catalog::{
    Breakdown, Catalog, Currency, Group, Level, Money, Pack, Payg, Threshold, Topup, Totals, Unit,
};
use crate::engine::lookup::Index;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Reads and checks a catalog file. Gives the catalog and its warnings, or everything that is wrong with it.
pub fn load(path: &Path) -> Result<(Catalog, Vec<Diagnostic>), Diagnostics> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &file),
        Err(error) => Err(super::unreadable(&file, &error)),
    }
}

/// Checks the text of a catalog; `file` is its name in messages.
pub fn parse(text: &str, file: &str) -> Result<(Catalog, Vec<Diagnostic>), Diagnostics> {
    let (catalog, found) = Reading::run(file, text, |reading, root| check(reading, root, hash(text)));
    match catalog {
        Some(catalog) if !found.has_errors() => Ok((catalog.finish(), found.list)),
        _ => Err(found),
    }
}

fn hash(text: &str) -> [u8; 16] {
    let digest = Sha256::digest(text.as_bytes());
    std::array::from_fn(|at| digest[at])
}

/// What the sections refer to each other by.
struct Check<'r> {
    reading: &'r Reading<'r>,
    units: Names<'r>,
    /// Decimals kept of each unit.
    scales: Vec<u8>,
    currencies: Names<'r>,
    decimals: Vec<u8>,
    groups: Names<'r>,
    plans: Names<'r>,
    default_plan: Option<u16>,
    has_payg: bool,
    fields: Fields,
}

/// A table of named tables, like `[plan.pro]`: their names and values in file order.
type Section<'r> = Vec<(Name<'r>, Value<'r>)>;

fn section<'r>(root: &mut Table<'r>, key: &'static str) -> Section<'r> {
    root.get(key).and_then(|value| value.table()).map(|table| table.entries()).unwrap_or_default()
}

fn check<'r>(reading: &'r Reading<'r>, mut root: Table<'r>, hash: [u8; 16]) -> Option<Catalog> {
    let name = root.get("catalog").and_then(|value| value.text()).unwrap_or_default();
    let default_plan = root.require("default_plan", "\"free\"");
    let (units, currencies) = (section(&mut root, "unit"), section(&mut root, "currency"));
    let (groups, plans, packs) = (section(&mut root, "group"), section(&mut root, "plan"), section(&mut root, "pack"));
    let mut check = Check {
        reading,
        units: Names::declare(reading, "unit", &units, 255),
        scales: Vec::new(),
        currencies: Names::declare(reading, "currency", &currencies, 255),
        decimals: Vec::new(),
        groups: Names::declare(reading, "group", &groups, 10_000),
        plans: Names::declare(reading, "plan", &plans, 10_000),
        default_plan: None,
        has_payg: false,
        fields: Fields::default(),
    };
    Names::declare(reading, "pack", &packs, 10_000);
    check.default_plan = default_plan.and_then(|value| check.plans.find(&value)).map(|plan| plan as u16);
    let units = check.units_of(&units);
    let currencies = check.currencies_of(&currencies);
    let late_ms = root.get("late").and_then(|value| value.duration_between(1_000, 35 * DAY_MS)).unwrap_or(HOUR_MS);
    let future_ms = root.get("future").and_then(|value| value.duration(0)).unwrap_or(5 * 60_000);
    let create_accounts = root.get("create_accounts").and_then(|value| value.boolean()).unwrap_or(true);
    let users_max = root.get("users_max").and_then(|value| value.integer(1, 10_000_000)).unwrap_or(100_000) as u32;
    let payg = root.get("payg").and_then(|value| check.payg(&value));
    let topup = root.get("topup").map(|value| check.topup(&value)).unwrap_or_default();
    let packs = packs.iter().filter_map(|(name, value)| check.pack(name, value)).collect();
    let groups = groups.iter().filter_map(|(name, value)| check.group(name, value)).collect();
    let (rates, rate_places) = check.rates(root.get("rate"));
    let (exchanges, exchange_places) = check.exchanges(root.get("exchange"));
    let plans = check.plans_of(&plans);
    let totals = check.totals(root.get("totals"));
    // Beside errors, warnings would tell of what the errors did.
    if !reading.has_errors() {
        check.review_rates(&rates, &rate_places);
        check.review_exchanges(&exchanges, &exchange_places);
        check.review_units(&rates, &exchanges, &plans, payg.as_ref().map(|payg| payg.unit), &rate_places);
    }
    root.finish();
    let Check { fields, default_plan, .. } = check;
    let (quantities, dimensions, roles) = fields.into_parts();
    let catalog = Catalog {
        name: name.into(),
        hash,
        default_plan: default_plan?,
        create_accounts,
        late_ms,
        future_ms,
        users_max,
        units,
        currencies,
        payg,
        topup,
        packs,
        groups,
        rates,
        exchanges,
        plans,
        totals,
        quantities,
        dimensions,
        roles,
        index: Index::default(),
    };
    Some(catalog)
}

impl<'r> Check<'r> {
    fn units_of(&mut self, section: &Section<'r>) -> Vec<Unit> {
        let units =
            section.iter().map(|(name, value)| Unit { name: name.text.into(), scale: decimals(value, "scale", 9) });
        let units: Vec<Unit> = units.collect();
        self.scales = units.iter().map(|unit| unit.scale).collect();
        units
    }

    fn currencies_of(&mut self, section: &Section<'r>) -> Vec<Currency> {
        let currencies = section
            .iter()
            .map(|(name, value)| Currency { name: name.text.into(), decimals: decimals(value, "decimals", 2) });
        let currencies: Vec<Currency> = currencies.collect();
        self.decimals = currencies.iter().map(|currency| currency.decimals).collect();
        currencies
    }

    fn payg(&mut self, value: &Value<'r>) -> Option<Payg> {
        self.has_payg = true;
        let mut table = value.table()?;
        let unit = table.require("unit", "\"usd\"").and_then(|unit| self.unit(&unit));
        let low = table.get("low").map(|low| thresholds(&low, None)).unwrap_or_default();
        table.finish();
        Some(Payg { unit: unit?, low })
    }

    fn topup(&mut self, value: &Value<'r>) -> Topup {
        let Some(mut table) = value.table() else { return Topup::default() };
        let minimum = table.get("minimum").and_then(|minimum| self.money(&minimum));
        let expires_after_ms = table.get("expires_after").and_then(|after| after.duration(1));
        table.finish();
        Topup { minimum, expires_after_ms }
    }

    fn pack(&mut self, name: &Name<'r>, value: &Value<'r>) -> Option<Pack> {
        let mut table = value.table()?;
        let unit = table.require("unit", "\"credit\"").and_then(|unit| self.unit(&unit));
        let amount =
            table.require("amount", "\"500\"").and_then(|amount| amount.amount(Sign::Positive, self.scale(unit)));
        let price = table.get("price").and_then(|price| self.money(&price));
        table.finish();
        Some(Pack { name: name.text.into(), unit: unit?, amount: amount?, price })
    }

    fn group(&mut self, name: &Name<'r>, value: &Value<'r>) -> Option<Group> {
        let mut table = value.table()?;
        let matches = table.require("match", "{ model = [\"…\"] }").map(|value| self.matches(&value));
        table.finish();
        Some(Group { name: name.text.into(), matches: matches? })
    }

    fn totals(&mut self, value: Option<Value<'r>>) -> Totals {
        let mut table = value.and_then(|value| value.table());
        let by = table.as_mut().and_then(|table| table.get("by"));
        let months = table.as_mut().and_then(|table| table.get("months")).and_then(|months| months.integer(1, 1_200));
        if let Some(table) = table {
            table.finish();
        }
        let by = match by {
            Some(by) => self.breakdowns(&by),
            None => self.fields.default_breakdowns(),
        };
        Totals { by, months: months.unwrap_or(14) as u32 }
    }

    fn breakdowns(&mut self, value: &Value<'r>) -> Vec<Breakdown> {
        let mut by = Vec::new();
        for field in value.list().unwrap_or_default() {
            let Some(name) = field.text() else { continue };
            let breakdown = match name {
                "user" => Some(Breakdown::User),
                _ => self.fields.dimension(self.reading, name, &field.place).map(Breakdown::Dimension),
            };
            match breakdown {
                Some(breakdown) if by.contains(&breakdown) => {
                    field.error(format!("`{name}` is listed twice"), "list it once")
                }
                Some(breakdown) => by.push(breakdown),
                None => {}
            }
        }
        by
    }

    /// `{ amount = "20", currency = "usd" }`
    fn money(&self, value: &Value<'r>) -> Option<Money> {
        let mut table = value.table()?;
        let currency = table.require("currency", "\"usd\"").and_then(|currency| self.currencies.find(&currency));
        let decimals = currency.and_then(|currency| self.decimals.get(currency)).copied().unwrap_or(9);
        let amount = table.require("amount", "\"20\"").and_then(|amount| amount.amount(Sign::Positive, decimals));
        table.finish();
        Some(Money { amount: amount?, currency: currency? as u8 })
    }

    fn unit(&self, value: &Value<'r>) -> Option<u8> {
        self.units.find(value).map(|unit| unit as u8)
    }

    /// Decimals kept of a unit; of one that was not understood, any.
    fn scale(&self, unit: Option<u8>) -> u8 {
        unit.and_then(|unit| self.scales.get(usize::from(unit))).copied().unwrap_or(9)
    }
}

fn decimals(value: &Value<'_>, key: &'static str, default: u8) -> u8 {
    let Some(mut table) = value.table() else { return default };
    let decimals = table.get(key).and_then(|decimals| decimals.integer(0, 9));
    table.finish();
    decimals.map_or(default, |decimals| decimals as u8)
}

/// A list of thresholds, each once. `percent_max` allows percentages up to it; without it only amounts are allowed.
fn thresholds(value: &Value<'_>, percent_max: Option<i64>) -> Vec<Threshold> {
    let mut list: Vec<Threshold> = Vec::new();
    for item in value.list().unwrap_or_default() {
        let Some(level) = level(&item, percent_max) else { continue };
        if list.iter().any(|known| known.level == level) {
            item.error("this threshold is listed twice", "list it once");
            continue;
        }
        list.push(Threshold { text: written(&item), level });
    }
    list
}

fn level(value: &Value<'_>, percent_max: Option<i64>) -> Option<Level> {
    let is_percent = matches!(value.item, toml::de::DeValue::String(text) if text.ends_with('%'));
    match percent_max {
        Some(most) if is_percent => value.percent(most).map(Level::Percent),
        None if is_percent => {
            value.error("a percentage needs a pool, which only a plan has", "write an amount, like \"20\"");
            None
        }
        _ => value.amount(Sign::Any, 9).map(Level::Absolute),
    }
}

/// The text of a threshold as notices tell it.
fn written(value: &Value<'_>) -> Box<str> {
    match value.item {
        toml::de::DeValue::String(text) => text.as_ref().into(),
        toml::de::DeValue::Integer(number) => number.as_str().into(),
        _ => Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_catalogs_are_valid_and_without_warnings() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalogs");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).expect("the folder of catalogs").map(|entry| entry.expect("an entry")) {
            let (_, warnings) = load(&entry.path()).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert_eq!(warnings, [], "{}", entry.path().display());
            seen += 1;
        }
        assert!(seen > 0, "no catalog found");
    }

    /// One of everything, in the forms that are allowed.
    const EVERYTHING: &str = r#"
catalog = "all"
default_plan = "free"
create_accounts = false
late = "35d"
future = "0s"
users_max = 7
[unit.flow]
scale = 0
[unit.usd]
[currency.usd]
[currency.jpy]
decimals = 0
[payg]
unit = "usd"
low = ["20", -5]
[topup]
minimum = { amount = 20, currency = "usd" }
expires_after = "365d"
[pack.small]
unit = "flow"
amount = 1_000
price = { amount = "500", currency = "jpy" }
[group.premium]
match = { model = ["opus-*", "haiku"], tier = "*" }
[group.all]
match = {}
[[rate]]
type = "llm.*"
match = { model = "opus-*" }
unit = "usd"
price = [{ quantity = "tokens", rate = "0.000000000001", per = "0.000000001", step = 1_000_000_000_000 }]
multiply = { field = "model", values = { "opus-4" = "5" }, otherwise = 0 }
each = { field = "features", prices = { search = [] }, otherwise = "free" }
minimum = "0.01"
session_max = "3h"
from = 2026-01-01T01:00:00.5+01:00
until = "2026-02-01T00:00:00Z"
[[exchange]]
from_unit = "usd"
to_unit = "flow"
value = "999999999.999999999999"
class = "*"
[[exchange]]
from_unit = "usd"
to_unit = "flow"
value = "0.03"
class = "partner"
[plan.free]
[plan.pro]
price = { currency = "usd", month = "20", year = 200 }
period = "36h"
seats = 100_000
unit = "flow"
allow = ["all", "premium"]
grants = [{ name = "plan", amount = 0x1e, rollover = { max = 5 } }, { name = "extra", amount = 1, priority = 0 }]
grace = "7d"
upgrade_credits = "difference"
overdraft = "forgive"
low = ["100%", "-3.5", "0.000000001%"]
exhausted_below = "-10"
overflow = ["balance", "b"]
refund = { within = "24h", fee = "100%", then = "pro" }
[[plan.pro.limit]]
name = "a"
measure = { unit = "flow" }
scope = "user"
window = { sliding = "5h" }
cap = { share = "25%" }
group = "premium"
type = "image.*"
on_exceed = "notify"
warn = ["1000%", "80%"]
[[plan.pro.limit]]
name = "b"
measure = { quantity = "pages" }
window = { calendar = "week", tz = "Europe/Rome" }
cap = 0
on_exceed = "overflow"
[plan.trial]
ends_after = "7d"
"#;

    #[test]
    fn reads_everything() {
        let (catalog, warnings) = parse(EVERYTHING, "all.toml").unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(warnings, []);
        assert_eq!(catalog.hash.as_slice(), &Sha256::digest(EVERYTHING)[..16]);
        insta::assert_debug_snapshot!((
            (&catalog.name, catalog.create_accounts, catalog.late_ms, catalog.future_ms, catalog.users_max),
            (&catalog.units, &catalog.currencies, &catalog.payg, &catalog.topup, &catalog.packs),
            (&catalog.groups, &catalog.rates, &catalog.exchanges),
            (&catalog.plans, &catalog.totals),
            (&catalog.quantities, &catalog.dimensions),
        ));
    }
}
