//! Section 12.2: scenario files, run by this model.

use crate::catalog::Catalog;
use crate::decode::Raw;
use crate::model::{Model, Output, Topic};
use crate::time::{self, Ms};
use crate::view;
use serde_json::{Map, Value, json};
use std::path::Path;
use toml::{Table, Value as Toml};

fn to_json(value: &Toml, nulls: bool) -> Value {
    match value {
        Toml::String(s) if nulls && s == "null" => Value::Null,
        Toml::String(s) => json!(s),
        Toml::Integer(i) => json!(i),
        Toml::Float(f) => json!(f),
        Toml::Boolean(b) => json!(b),
        Toml::Datetime(d) => json!(d.to_string()),
        Toml::Array(items) => items.iter().map(|i| to_json(i, nulls)).collect::<Vec<_>>().into(),
        Toml::Table(fields) => {
            fields.iter().map(|(k, v)| (k.clone(), to_json(v, nulls))).collect::<Map<String, Value>>().into()
        }
    }
}

/// What stands at a path of dots; a key that itself contains dots is tried first.
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    match value {
        Value::Object(fields) => {
            let mut ends: Vec<usize> = path.match_indices('.').map(|m| m.0).collect();
            ends.push(path.len());
            ends.into_iter().rev().find_map(|end| {
                let rest = path.get(end + 1..).unwrap_or("");
                fields.get(&path[..end]).and_then(|v| find(v, rest))
            })
        }
        Value::Array(items) => {
            let (index, rest) = path.split_once('.').unwrap_or((path, ""));
            items.get(index.parse::<usize>().ok()?).and_then(|v| find(v, rest))
        }
        _ => None,
    }
}

fn matches(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(e), Value::Object(f)) => {
            if e.is_empty() {
                return f.is_empty();
            }
            e.iter().all(|(path, e)| find(found, path).is_some_and(|f| matches(e, f)))
        }
        (Value::Array(e), Value::Array(f)) => e.len() == f.len() && e.iter().zip(f).all(|(e, f)| matches(e, f)),
        _ => expected == found,
    }
}

struct Run {
    model: Model,
    clock: Ms,
    notices: Vec<Value>,
    quarantined: Vec<Value>,
}

impl Run {
    fn gather(&mut self) {
        for output in self.model.outputs.drain(..) {
            match output {
                Output::Notice(account, notice) => {
                    let mut flat = notice["data"].as_object().cloned().unwrap_or_default();
                    let type_ = notice["type"].as_str().unwrap_or_default().trim_start_matches("meterd.");
                    // An access.denied has a `type` of its own in data; the notice's stands first.
                    flat.insert("type".into(), json!(type_));
                    flat.insert("account".into(), json!(account));
                    flat.insert("time".into(), notice["time"].clone());
                    self.notices.push(Value::Object(flat));
                }
                Output::Quarantined(record) => self.quarantined.push(record),
            }
        }
    }

    fn input(&mut self, topic: Topic, t: &Table, id: String) {
        let text = |key: &str, default: &str| match t.get(key) {
            Some(v) => to_json(v, false).as_str().unwrap_or_default().to_owned(),
            None => default.to_owned(),
        };
        let data = t.get("data").map_or(json!({}), |d| to_json(d, true));
        let event = json!({
            "specversion": "1.0", "id": text("id", &id), "source": text("source", "test"), "type": text("type", "use"),
            "subject": text("account", ""), "time": text("time", &time::text(self.clock)), "data": data,
        });
        let raw = Raw { timestamp: self.clock, key: None, headers: Vec::new(), value: event.to_string().into_bytes() };
        self.model.record(topic, &raw);
        self.gather();
    }

    fn expect(&mut self, expect: &Table) -> Vec<String> {
        let mut wrong = Vec::new();
        self.model.settle();
        self.gather();
        if let Some(expected) = expect.get("notices") {
            let found = std::mem::take(&mut self.notices);
            wrong.extend(ordered(&to_json(expected, true), &found));
        }
        if let Some(Value::Array(expected)) = expect.get("quarantined").map(|q| to_json(q, true)) {
            let found = std::mem::take(&mut self.quarantined);
            let same = expected.len() == found.len() && expected.iter().zip(&found).all(|(e, f)| matches(e, f));
            if !same {
                wrong.push(format!("quarantined: expected {}, found {}", json!(expected), json!(found)));
            }
        }
        if let Some(Toml::Table(accounts)) = expect.get("account") {
            for (id, expected) in accounts {
                wrong.extend(self.account(id, &to_json(expected, true)));
            }
        }
        wrong
    }

    fn account(&self, id: &str, expected: &Value) -> Vec<String> {
        let found = self
            .model
            .accounts
            .get(id)
            .map(|a| view::view(&self.model.catalog, a, self.model.clock, self.model.sequence(id)));
        let (Some(found), Value::Object(fields)) = (&found, expected) else {
            let fine = found.is_none() == expected.is_null();
            return if fine { vec![] } else { vec![format!("account {id}: expected {expected}, found {found:?}")] };
        };
        let mut wrong = Vec::new();
        for (path, expected) in fields {
            let found = find(found, path);
            if !found.is_some_and(|f| matches(expected, f)) {
                let found = found.map_or("nothing".to_owned(), Value::to_string);
                wrong.push(format!("account {id}: {path}: expected {expected}, found {found}"));
            }
        }
        wrong
    }
}

/// In number and order; where the expected ones name accounts, the order counts within each.
fn ordered(expected: &Value, found: &[Value]) -> Vec<String> {
    let Value::Array(expected) = expected else { return vec!["notices: expected a list".into()] };
    let brief = |v: &Value| {
        let mut fields = v.as_object().cloned().unwrap_or_default();
        fields.remove("cause");
        Value::Object(fields).to_string()
    };
    let all: Vec<String> = found.iter().map(brief).collect();
    if expected.len() != found.len() {
        return vec![format!(
            "notices: expected {}, found {}:\n      {}",
            expected.len(),
            found.len(),
            all.join("\n      ")
        )];
    }
    let mut left: Vec<&Value> = found.iter().collect();
    for e in expected {
        let account = e.get("account");
        let at = left.iter().position(|f| account.is_none_or(|a| f.get("account") == Some(a)));
        let Some(at) = at else { return vec![format!("notices: none is left for {e}")] };
        let f = left.remove(at);
        if !matches(e, f) {
            return vec![format!("notice: expected {e}\n      found {}", brief(f))];
        }
    }
    vec![]
}

/// Runs a scenario file; returns what differs.
pub fn test(path: &Path) -> Result<Vec<String>, String> {
    let read = |p: &Path| std::fs::read_to_string(p).map_err(|e| format!("{}: {e}", p.display()));
    let table: Table = read(path)?.parse().map_err(|e| format!("{}: {e}", path.display()))?;
    let catalog = table.get("catalog").and_then(Toml::as_str).ok_or("catalog is missing")?;
    let catalog = read(&path.parent().unwrap_or(Path::new(".")).join(catalog))?;
    let instant = |v: &Toml| time::parse(to_json(v, false).as_str().unwrap_or_default());
    let start = table.get("start").and_then(instant).unwrap_or(1_767_225_600_000);
    let mut model = Model::new(Catalog::parse(&catalog));
    model.clock(start);
    let mut run = Run { model, clock: start, notices: Vec::new(), quarantined: Vec::new() };
    let mut wrong = Vec::new();
    for (n, step) in table.get("step").and_then(Toml::as_array).into_iter().flatten().enumerate() {
        let Toml::Table(step) = step else { continue };
        let times = step.get("times").and_then(Toml::as_integer);
        for k in 1..=times.unwrap_or(1) {
            let id = if times.is_some() { format!("step-{}-{k}", n + 1) } else { format!("step-{}", n + 1) };
            if let Some(clock) = step.get("clock") {
                run.clock = instant(clock).ok_or("clock: expected a time")?.max(run.clock);
                run.model.clock(run.clock);
                run.gather();
            }
            if let Some(Toml::Table(usage)) = step.get("usage") {
                run.input(Topic::Usage, usage, id.clone());
            }
            if let Some(Toml::Table(command)) = step.get("command") {
                run.input(Topic::Accounts, command, id);
            }
        }
        if let Some(Toml::Table(expect)) = step.get("expect") {
            wrong.extend(run.expect(expect).into_iter().map(|w| format!("step {}: {w}", n + 1)));
        }
    }
    Ok(wrong)
}
