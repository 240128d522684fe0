//! Scenario files (docs/reference.md 12.2): steps of time, usage and commands, and what is expected after them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Spanned;

use crate::engine::{Ms, calendar};

/// Where the clock begins unless the file says.
const START: &str = "2026-01-01T00:00:00Z";

pub struct Scenario {
    pub catalog: PathBuf,
    pub start: Ms,
    pub steps: Vec<Step>,
}

pub struct Step {
    /// From 1.
    pub number: usize,
    /// In the file, from 1.
    pub line: usize,
    pub clock: Option<Ms>,
    pub usage: Option<Input>,
    pub command: Option<Input>,
    pub times: u32,
    pub expect: Option<Expect>,
}

/// A record; what is absent has a default when it is made.
pub struct Input {
    account: String,
    kind: Option<String>,
    id: Option<String>,
    source: Option<String>,
    time: Option<String>,
    data: Option<Value>,
}

#[derive(Default)]
pub struct Expect {
    pub notices: Option<Vec<Value>>,
    /// By account.
    pub accounts: Vec<(String, Value)>,
    pub quarantined: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    catalog: PathBuf,
    start: Option<toml::Value>,
    #[serde(rename = "about")]
    _about: Option<String>,
    #[serde(default)]
    step: Vec<Spanned<StepText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepText {
    clock: Option<toml::Value>,
    usage: Option<InputText>,
    command: Option<InputText>,
    times: Option<u32>,
    expect: Option<ExpectText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputText {
    account: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    source: Option<String>,
    time: Option<toml::Value>,
    data: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectText {
    notices: Option<Vec<toml::Table>>,
    account: Option<toml::Table>,
    quarantined: Option<Vec<toml::Table>>,
}

/// Whether a file is TOML of another kind, like a catalog beside the scenarios: it has no steps.
pub fn is_other(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.parse::<toml::Table>().is_ok_and(|table| !table.contains_key("step"))
}

/// Reads a scenario, or says what is wrong with it.
pub fn load(path: &Path) -> Result<Scenario, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read it: {error}"))?;
    let mut scenario = parse(&text)?;
    scenario.catalog = path.parent().unwrap_or(Path::new("")).join(&scenario.catalog);
    Ok(scenario)
}

fn parse(text: &str) -> Result<Scenario, String> {
    let file: FileText = toml::from_str(text).map_err(|error| error.to_string())?;
    let start = match &file.start {
        Some(value) => instant("start", value)?,
        None => calendar::parse_time(START).expect("a constant time"),
    };
    let mut steps = Vec::with_capacity(file.step.len());
    for (place, step) in file.step.into_iter().enumerate() {
        let line = text[..step.span().start].matches('\n').count() + 1;
        let number = place + 1;
        let step = Step::of(number, line, step.into_inner());
        steps.push(step.map_err(|message| format!("step {number} (line {line}): {message}"))?);
    }
    Ok(Scenario { catalog: file.catalog, start, steps })
}

impl Step {
    fn of(number: usize, line: usize, text: StepText) -> Result<Step, String> {
        let StepText { clock, usage, command, times, expect } = text;
        if clock.is_none() && usage.is_none() && command.is_none() && expect.is_none() {
            return Err("expected clock, usage, command or expect, found nothing".to_owned());
        }
        if command.as_ref().is_some_and(|command| command.kind.is_none()) {
            return Err("command: expected a type, as type = \"meterd.topup\", found none".to_owned());
        }
        let times = times.unwrap_or(1);
        if times == 0 {
            return Err("times: expected 1 or more, found 0".to_owned());
        }
        Ok(Step {
            number,
            line,
            clock: clock.map(|value| instant("clock", &value)).transpose()?,
            usage: usage.map(Input::of).transpose()?,
            command: command.map(Input::of).transpose()?,
            times,
            expect: expect.map(Expect::of).transpose()?,
        })
    }
}

impl Input {
    fn of(text: InputText) -> Result<Input, String> {
        let time = match text.time {
            None => None,
            Some(toml::Value::String(time)) => Some(time),
            Some(toml::Value::Datetime(time)) => Some(time.to_string()),
            Some(other) => return Err(format!("time: expected a time, found {other}")),
        };
        let data = text.data.map(|data| json_of(toml::Value::Table(data))).transpose()?;
        Ok(Input { account: text.account, kind: text.kind, id: text.id, source: text.source, time, data })
    }

    /// The record's value: a structured CloudEvent. `default_id` and the time of the clock stand for what is absent.
    pub fn value(&self, default_id: &str, clock: Ms) -> Vec<u8> {
        let event = json!({
            "specversion": "1.0",
            "id": self.id.as_deref().unwrap_or(default_id),
            "source": self.source.as_deref().unwrap_or("test"),
            "type": self.kind.as_deref().unwrap_or("use"),
            "subject": self.account,
            "time": self.time.clone().unwrap_or_else(|| calendar::format_time(clock)),
            "data": self.data,
        });
        event.to_string().into_bytes()
    }
}

impl Expect {
    fn of(text: ExpectText) -> Result<Expect, String> {
        let tables = |tables: Option<Vec<toml::Table>>| {
            let values = tables.map(|tables| tables.into_iter().map(|table| json_of(toml::Value::Table(table))));
            values.map(Iterator::collect::<Result<Vec<Value>, String>>).transpose()
        };
        let accounts = text.account.unwrap_or_default().into_iter();
        Ok(Expect {
            notices: tables(text.notices)?,
            accounts: accounts.map(|(id, fields)| Ok((id, json_of(fields)?))).collect::<Result<_, String>>()?,
            quarantined: tables(text.quarantined)?,
        })
    }
}

fn instant(name: &str, value: &toml::Value) -> Result<Ms, String> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Datetime(time) => time.to_string(),
        other => return Err(format!("{name}: expected a time as \"2026-11-20T07:00:00Z\", found {other}")),
    };
    calendar::parse_time(&text)
        .ok_or_else(|| format!("{name}: expected a time as \"2026-11-20T07:00:00Z\", found {text:?}"))
}

/// TOML as JSON. Where TOML has no null, the text `null` stands for it.
fn json_of(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) if text == "null" => Value::Null,
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => match serde_json::Number::from_f64(number) {
            Some(number) => Value::Number(number),
            None => return Err(format!("expected a number that JSON has, found {number}")),
        },
        toml::Value::Boolean(value) => Value::Bool(value),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(elements) => Value::Array(elements.into_iter().map(json_of).collect::<Result<_, _>>()?),
        toml::Value::Table(fields) => {
            let fields = fields.into_iter().map(|(name, field)| Ok((name, json_of(field)?)));
            Value::Object(fields.collect::<Result<Map<_, _>, String>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_a_scenario_is_wrong() {
        for (text, expect) in [
            ("", "catalog"),
            ("catalog = 'c'\nstart = 'noon'", "start: expected a time"),
            ("catalog = 'c'\nstep = [{}]", "step 1 (line 2): expected clock, usage"),
            ("catalog = 'c'\n\n[[step]]\nusage = { account = 'a' }\n\n[[step]]\nclock = 5", "step 2 (line 6): clock"),
            ("catalog = 'c'\n[[step]]\nusages = {}", "usages"),
            ("catalog = 'c'\n[[step]]\nusage = { acount = 'a' }", "acount"),
            ("catalog = 'c'\n[[step]]\ncommand = { account = 'a' }", "expected a type"),
            ("catalog = 'c'\n[[step]]\nclock = 2026-01-01T00:00:00Z\ntimes = 0", "times"),
            ("catalog = 'c'\n[[step]]\nexpect = { notice = [] }", "notice"),
        ] {
            let message = parse(text).err().unwrap_or_default();
            assert!(message.contains(expect), "{text}\nexpected {expect}\nfound {message}");
        }
    }

    #[test]
    fn makes_records() {
        let text = "catalog = 'c'\n[[step]]\nusage = { account = 'a', data = { n = 0.1, of = ['x'], m = 'null' } }\n\
            command = { account = 'a', type = 'meterd.limit.set', time = 2026-01-02T00:00:00Z, data = { cap = 'null' } }";
        let scenario = parse(text).expect("a scenario");
        let step = &scenario.steps[0];
        let value = |input: &Option<Input>| String::from_utf8(input.as_ref().expect("it").value("step-1", 0));
        assert_eq!(
            value(&step.usage).expect("UTF-8"),
            r#"{"data":{"m":null,"n":0.1,"of":["x"]},"id":"step-1","source":"test","specversion":"1.0","subject":"a","time":"1970-01-01T00:00:00.000Z","type":"use"}"#
        );
        let command = value(&step.command).expect("UTF-8");
        assert!(command.contains(r#""data":{"cap":null}"#) && command.contains("2026-01-02T00:00:00Z"), "{command}");
    }
}
