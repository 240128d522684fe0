//! `meterd explain`: how one record is priced, step by step (docs/reference.md 6.4).

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use bumpalo::Bump;
use clap::Args;
use serde::Serialize;

use super::{Failure, Globals, Output, Verdict};
use crate::config;
use crate::engine::calendar::format_time;
use crate::engine::catalog::{Measure, QuantityId, Rate, RateId, SECONDS, UnitId};
use crate::engine::effects::Reason;
use crate::engine::price::{self, Explanation, PriceError};
use crate::engine::{Amount, Catalog, Usage, lookup};
use crate::ingest::decode::{Decoder, Raw};

/// Show how one usage record is priced: row, components, rounding, exchange
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    meterd explain --catalog catalogs/zenmux.toml record.json\n  \
    meterd explain --catalog catalogs/zenmux.toml '{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"gateway\",\
    \"type\":\"llm.call\",\"data\":{\"model\":\"openai/gpt-5\",\"input_tokens\":1200}}'\n  \
    tail -1 records.jsonl | meterd explain --catalog catalogs/zenmux.toml -o json -")]
pub struct Arguments {
    /// The catalog to price by
    #[arg(long, value_name = "FILE")]
    catalog: PathBuf,
    /// The account's class, for exchange
    #[arg(long, default_value = "standard")]
    class: String,
    /// The record as CloudEvents JSON: its text, a file, or - for standard input
    #[arg(value_name = "RECORD")]
    record: String,
}

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    let (catalog, _) = config::catalog::load(&arguments.catalog).map_err(Failure::config)?;
    let record = read_record(&arguments.record)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_millis() as i64);
    let told = explain(&catalog, &record, &arguments.class, now)?;
    super::print(&match globals.output {
        Output::Text => told.text(&arguments.catalog),
        Output::Json => {
            serde_json::to_string_pretty(&told).map_err(|error| Failure::bug(format!("cannot be written: {error}")))?
                + "\n"
        }
    })?;
    Ok(Verdict::Clean)
}

/// What is told of a record; names and amounts as texts.
#[derive(Debug, Serialize)]
struct Told {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    time: String,
    /// Groups of the catalog that hold the record.
    groups: Vec<String>,
    rate: ToldRate,
    components: Vec<ToldTerm>,
    multiplier: Option<ToldMultiplier>,
    /// Before rounding; cut after 15 decimals.
    exact: String,
    /// Half up, to the decimals of the unit.
    rounded: String,
    /// The row's minimum, where it raised the price.
    minimum: Option<String>,
    price: String,
    unit: String,
    exchanges: Vec<ToldExchange>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ToldRate {
    line: u32,
    /// Whether the row prices sessions.
    session: bool,
}

#[derive(Debug, Serialize)]
struct ToldTerm {
    /// The element of `each` that the component belongs to.
    element: Option<String>,
    quantity: String,
    given: String,
    /// Rounded up to the step.
    counted: String,
    rate: String,
    per: String,
    exact: String,
}

#[derive(Debug, Serialize)]
struct ToldMultiplier {
    /// Null: the row's `otherwise`.
    value: Option<String>,
    factor: String,
}

#[derive(Debug, Serialize)]
struct ToldExchange {
    unit: String,
    /// Null: there is no row in force; such a record is quarantined as `no_exchange`.
    amount: Option<String>,
    value: Option<String>,
    /// The class of the row.
    class: Option<String>,
    /// The plans and limits that need it.
    needed_by: Vec<String>,
}

/// The record's text: given itself, in a file, or on standard input.
fn read_record(record: &str) -> Result<String, Failure> {
    if record.trim_start().starts_with('{') {
        return Ok(record.to_owned());
    }
    if record == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read.map(|_| text).map_err(|error| Failure::io(format!("cannot read standard input: {error}")));
    }
    std::fs::read_to_string(record).map_err(|error| {
        Failure::io(format!("{record}: cannot be read: {error}; expected a file, - or the text of a record, {{…}}"))
    })
}

fn explain(catalog: &Catalog, record: &str, class: &str, now: i64) -> Result<Told, Failure> {
    let (mut decoder, arena) = (Decoder::default(), Bump::new());
    let mut raw = Raw { key: None, value: Some(record.trim().as_bytes()), headers: &[], timestamp: now };
    // A record for explanation needs no account.
    let nameless =
        matches!(decoder.usage(catalog, &raw, usize::MAX, &arena), Err(refusal) if refusal.reason == Reason::BadKey);
    if nameless {
        raw.key = Some(b"-");
    }
    let usage = decoder
        .usage(catalog, &raw, usize::MAX, &arena)
        .map_err(|refusal| Failure::data(format!("{}: {}", refusal.reason.name(), refusal.message)))?;
    let session = usage.session.is_some();
    let rate = lookup::find_rate(catalog, usage.kind, usage.dimensions, usage.time, session)
        .ok_or_else(|| Failure::data(no_rate(catalog, usage)))?;
    let row = &catalog.rates[rate as usize];
    let mut notes = Vec::new();
    let quantities = quantities(usage, row, &mut notes);
    let explained = price::explain(catalog, rate, &quantities, usage.dimensions).map_err(|error| {
        Failure::data(match error {
            PriceError::NoRate(message) => format!("no_rate: {message}"),
            PriceError::BadQuantity(message) => format!("bad_quantity: {message}"),
        })
    })?;
    if usage.failed {
        notes.push("the record's status is failed: it is counted, and never priced".to_owned());
    }
    if usage.failed || explained.price.is_zero() {
        notes.push("nothing is charged".to_owned());
    }
    Ok(Told::new(catalog, usage, rate, explained, class, notes))
}

fn no_rate(catalog: &Catalog, usage: &Usage<'_>) -> String {
    let what = if usage.session.is_some() { "session row (with session_max)" } else { "row" };
    format!(
        "no_rate: no {what} of the {} in the catalog fits type {:?} with these fields at {}; see `match`, `from` and `until`",
        catalog.rates.len(),
        usage.kind,
        format_time(usage.time)
    )
}

/// The record's quantities; of a session also its `seconds`.
fn quantities(usage: &Usage<'_>, row: &Rate, notes: &mut Vec<String>) -> Vec<(QuantityId, Amount)> {
    let mut quantities = usage.quantities.to_vec();
    let Some(most_ms) = row.session_max_ms else { return quantities };
    let most = Amount::from_nanos(i128::from(most_ms) * 1_000_000);
    let given = quantities.iter().find(|(id, _)| *id == SECONDS).map(|(_, seconds)| *seconds);
    let seconds = given.map_or(most, |given| given.min(most));
    quantities.retain(|(id, _)| *id != SECONDS);
    quantities.push((SECONDS, seconds));
    quantities.sort_by_key(|(id, _)| *id);
    notes.push(match given {
        Some(_) => format!("a session is priced at its end; here as if it had taken {seconds} seconds"),
        None => format!("a session is priced at its end; here as if it had taken session_max, {seconds} seconds"),
    });
    quantities
}

impl Told {
    fn new(
        catalog: &Catalog,
        usage: &Usage<'_>,
        rate: RateId,
        explained: Explanation,
        class: &str,
        notes: Vec<String>,
    ) -> Told {
        let row = &catalog.rates[rate as usize];
        let groups = (0u16..).zip(&catalog.groups);
        let groups = groups.filter(|(id, _)| lookup::group_fits(catalog, *id, usage.dimensions));
        let components = explained.terms.iter().map(|term| ToldTerm {
            element: term.element.as_deref().map(str::to_owned),
            quantity: catalog.quantities[usize::from(term.quantity)].to_string(),
            given: term.given.to_string(),
            counted: term.counted.to_string(),
            rate: term.rate.to_string(),
            per: term.per.to_string(),
            exact: term.exact.to_string(),
        });
        let multiplier = explained
            .multiplier
            .map(|(value, factor)| ToldMultiplier { value: value.map(String::from), factor: factor.to_string() });
        Told {
            id: usage.id.to_owned(),
            source: usage.source.to_owned(),
            kind: usage.kind.to_owned(),
            time: format_time(usage.time),
            groups: groups.map(|(_, group)| group.name.to_string()).collect(),
            rate: ToldRate { line: row.line, session: row.session_max_ms.is_some() },
            components: components.collect(),
            multiplier,
            exact: explained.exact.to_string(),
            rounded: explained.rounded.to_string(),
            minimum: explained.minimum.map(|minimum| minimum.to_string()),
            price: explained.price.to_string(),
            unit: unit_name(catalog, row.unit),
            exchanges: exchanges(catalog, usage, row.unit, explained.price, class),
            notes,
        }
    }

    fn text(&self, catalog: &Path) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: &str| writeln!(out, "{name:<12}{value}").expect("a String takes everything");
        line("record", &format!("{} from {}, type {}, at {}", self.id, self.source, self.kind, self.time));
        if !self.groups.is_empty() {
            line("groups", &self.groups.join(", "));
        }
        let sessions = if self.rate.session { ", of sessions" } else { "" };
        line("rate", &format!("{}:{}{sessions}, in {}", catalog.display(), self.rate.line, self.unit));
        if self.components.is_empty() {
            line("", "free: no components");
        }
        self.components.iter().for_each(|term| line("", &term.text()));
        if let Some(multiplier) = &self.multiplier {
            let value = multiplier.value.as_ref().map_or("otherwise".to_owned(), |value| format!("{value:?}"));
            line("multiplied", &format!("× {} ({value})", multiplier.factor));
        }
        line("exact", &self.exact);
        line("rounded", &format!("{} (once, half up)", self.rounded));
        if let Some(minimum) = &self.minimum {
            line("minimum", minimum);
        }
        line("price", &format!("{} {}", self.price, self.unit));
        self.exchanges.iter().for_each(|exchange| line("exchange", &exchange.text(&self.price)));
        self.notes.iter().for_each(|note| line("note", note));
        out
    }
}

impl ToldTerm {
    fn text(&self) -> String {
        let element = self.element.as_ref().map(|element| format!("{element:?}: ")).unwrap_or_default();
        let counted = if self.counted == self.given {
            self.given.clone()
        } else {
            format!("{} (rounded up from {})", self.counted, self.given)
        };
        let per = if self.per == "1" { String::new() } else { format!(" / {}", self.per) };
        format!("{element}{} {counted} × {}{per} = {}", self.quantity, self.rate, self.exact)
    }
}

impl ToldExchange {
    fn text(&self, price: &str) -> String {
        let needed_by = self.needed_by.join(", ");
        match (&self.amount, &self.value) {
            (Some(amount), Some(value)) => {
                let class = self.class.as_deref().unwrap_or("*");
                format!("{amount} {} = {price} / {value} (class {class}; for {needed_by})", self.unit)
            }
            (Some(amount), None) => format!("{amount} {} (nothing to exchange; for {needed_by})", self.unit),
            _ => format!("no row into {} is in force: no_exchange for {needed_by}", self.unit),
        }
    }
}

/// The price in each unit that a plan or limit would need of this record.
fn exchanges(catalog: &Catalog, usage: &Usage<'_>, from: UnitId, price: Amount, class: &str) -> Vec<ToldExchange> {
    let mut needed: Vec<(UnitId, Vec<String>)> = Vec::new();
    let mut need = |unit: UnitId, by: String| match needed.iter_mut().find(|(known, _)| *known == unit) {
        _ if unit == from => {}
        Some((_, list)) => list.push(by),
        None => needed.push((unit, vec![by])),
    };
    for plan in &catalog.plans {
        if let Some(unit) = plan.unit {
            need(unit, format!("plan {}", plan.name));
        }
        for limit in &plan.limits {
            let fits = limit.kind.as_ref().is_none_or(|kind| kind.fits(usage.kind))
                && limit.group.is_none_or(|group| lookup::group_fits(catalog, group, usage.dimensions));
            if let (Measure::Unit(unit), true) = (limit.measure, fits) {
                need(unit, format!("limit {}.{}", plan.name, limit.name));
            }
        }
    }
    if let Some(payg) = &catalog.payg {
        need(payg.unit, "payg".to_owned());
    }
    let exchanged = |(unit, needed_by): (UnitId, Vec<String>)| {
        let amount = price::exchange(catalog, price, from, unit, class, usage.time).ok();
        let row = price::exchange_row(catalog, from, unit, class, usage.time).map(|row| &catalog.exchanges[row]);
        ToldExchange {
            unit: unit_name(catalog, unit),
            amount: amount.map(|amount| amount.to_string()),
            value: row.map(|row| row.value.to_string()),
            class: row.map(|row| row.class.as_deref().unwrap_or("*").to_owned()),
            needed_by,
        }
    };
    needed.into_iter().map(exchanged).collect()
}

fn unit_name(catalog: &Catalog, unit: UnitId) -> String {
    catalog.units[usize::from(unit)].name.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: &str = r#"
default_plan = "free"
[unit.usd]
scale = 4
[unit.flow]
[unit.credit]
[payg]
unit = "usd"
[group.premium]
match = { model = "opus*" }
[[rate]]
type = "llm.call"
unit = "usd"
minimum = "0.01"
price = [ { quantity = "input_tokens", rate = "5", per = 1_000_000, step = "1000" },
          { quantity = "seconds", rate = "1", per = 3600 } ]
multiply = { field = "model", values = { "opus-4" = "5" }, otherwise = "1" }
each = { field = "features", prices = { "search" = [ { quantity = "requests", rate = "0.001" } ] } }
[[rate]]
type = "stream"
session_max = "1h"
unit = "usd"
price = [ { quantity = "seconds", rate = "0.5", per = 3600 } ]
[[exchange]]
from_unit = "usd"
to_unit = "flow"
value = "0.03283"
class = "*"
[[exchange]]
from_unit = "usd"
to_unit = "flow"
value = "0.04"
class = "insider"
[plan.free]
[[plan.free.limit]]
name = "5h"
measure = { unit = "flow" }
window = { first_use = "5h" }
cap = "5"
[[plan.free.limit]]
name = "other"
measure = { unit = "credit" }
window = "period"
cap = "5"
type = "image"
[plan.pro]
unit = "credit"
"#;

    fn check(class: &str, kind: &str, data: &str) -> String {
        let (catalog, _) = config::catalog::parse(CATALOG, "catalog.toml").unwrap_or_else(|wrong| panic!("{wrong}"));
        let record = format!(
            r#"{{"specversion":"1.0","id":"1","source":"test","type":"{kind}","time":"2026-11-20T07:00:00Z","data":{data}}}"#
        );
        match explain(&catalog, &record, class, 0) {
            Ok(told) => told.text(Path::new("catalog.toml")),
            Err(failure) => format!("{}: {failure}\n", failure.code),
        }
    }

    #[test]
    fn every_step_is_told() {
        let told: Vec<String> = [
            (
                "standard",
                "llm.call",
                r#"{"model":"opus-4","input_tokens":1500,"seconds":1,"features":["search","search"]}"#,
            ),
            ("insider", "llm.call", r#"{"model":"haiku","input_tokens":"1"}"#),
            ("standard", "llm.call", r#"{"status":"failed"}"#),
            ("standard", "stream", r#"{"session":"s","phase":"start"}"#),
            ("standard", "stream", r#"{"session":"s","phase":"end","seconds":60}"#),
            ("standard", "image", "{}"),
            ("standard", "llm.call", r#"{"features":"gpu"}"#),
            ("standard", "llm.call", r#"{"input_tokens":-1}"#),
            ("standard", "llm.call", r#"{"x":{}}"#),
        ]
        .map(|(class, kind, data)| format!("--- class {class}, {kind}: {data}\n{}", check(class, kind, data)))
        .into();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_record_is_a_text_a_file_or_an_error() {
        assert_eq!(read_record(" {}").expect("a text"), " {}");
        let failure = read_record("no such file").expect_err("no file");
        assert_eq!(failure.code, 74);
    }
}
