//! Runs a scenario and compares what came with what its steps expect.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use super::line::Topic;
use super::run::{Listener, Quarantined, Run};
use super::scenario::{Expect, Input, Scenario, Step};
use crate::engine::{Catalog, Ms, calendar};
use crate::ingest::decode::Raw;

/// Something that did not come as a step expected it.
#[derive(Debug)]
pub struct Difference {
    pub step: usize,
    pub line: usize,
    /// What was compared: `notices.1.used`, `account.acme.plan`, ...
    pub what: String,
    /// JSON texts; `nothing` where something is missing.
    pub expected: String,
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  step {} (line {}): {}", self.step, self.line, self.what)?;
        writeln!(out, "    expected {}", self.expected)?;
        write!(out, "    found    {}", self.found)
    }
}

/// What came since it was last compared.
#[derive(Default)]
struct Came {
    notices: Vec<Value>,
    quarantined: Vec<Value>,
}

impl Listener for Came {
    fn notice(&mut self, json: &[u8]) {
        let event: Value = serde_json::from_slice(json).expect("notices are written as JSON");
        self.notices.push(as_compared(event));
    }

    fn quarantined(&mut self, quarantined: &Quarantined<'_>) {
        self.quarantined.push(json!(quarantined));
    }
}

/// Plays all steps. The differences, in order; none: it passes.
pub fn play(scenario: &Scenario, catalog: Arc<Catalog>) -> Vec<Difference> {
    let mut run = Run::new(catalog, false);
    let mut came = Came::default();
    let mut clock = scenario.start;
    let mut differences = Vec::new();
    run.pass_time(clock, &mut came);
    for step in &scenario.steps {
        for time in 1..=step.times {
            if let Some(at) = step.clock {
                clock = clock.max(at);
                run.pass_time(clock, &mut came);
            }
            let id = match step.times {
                1 => format!("step-{}", step.number),
                _ => format!("step-{}-{time}", step.number),
            };
            give(&mut run, Topic::Usage, step.usage.as_ref(), &id, clock, &mut came);
            give(&mut run, Topic::Accounts, step.command.as_ref(), &id, clock, &mut came);
        }
        if let Some(expect) = &step.expect {
            compare_step(step, expect, &run, &mut came, &mut differences);
        }
    }
    let broken = run.take_violations();
    if broken > 0 {
        let last = scenario.steps.last();
        differences.push(Difference {
            step: last.map_or(0, |step| step.number),
            line: last.map_or(0, |step| step.line),
            what: "inputs that broke conservation (a bug in meterd)".to_owned(),
            expected: "0".to_owned(),
            found: broken.to_string(),
        });
    }
    differences
}

fn give(run: &mut Run, topic: Topic, input: Option<&Input>, id: &str, clock: Ms, came: &mut Came) {
    if let Some(input) = input {
        let value = input.value(id, clock);
        run.fold(topic, &Raw { key: None, value: Some(&value), headers: &[], timestamp: clock }, came);
    }
}

/// A notice as expectations name its parts: those of its data, and `account`, `time`, `type` (without `meterd.`).
fn as_compared(mut event: Value) -> Value {
    let mut fields = event["data"].take();
    let kind = event["type"].as_str().unwrap_or_default();
    fields["type"] = Value::from(kind.strip_prefix("meterd.").unwrap_or(kind));
    fields["account"] = event["subject"].take();
    fields["time"] = event["time"].take();
    fields
}

fn compare_step(step: &Step, expect: &Expect, run: &Run, came: &mut Came, differences: &mut Vec<Difference>) {
    let mut differ = |what: String, expected: String, found: String| {
        differences.push(Difference { step: step.number, line: step.line, what, expected, found });
    };
    if let Some(expected) = &expect.notices {
        compare_notices(expected, &std::mem::take(&mut came.notices), &mut differ);
    }
    if let Some(expected) = &expect.quarantined {
        let found = std::mem::take(&mut came.quarantined);
        compare_lists("quarantined", &numbered(expected), &numbered(&found), &mut differ);
    }
    for (id, fields) in &expect.accounts {
        let what = format!("account.{id}");
        match (run.account(id), fields) {
            (None, Value::Null) => {}
            (None, fields) => differ(what, fields.to_string(), "no such account".to_owned()),
            (Some(view), fields) => compare(&what, fields, &json!(view), &mut differ),
        }
    }
}

/// Where several accounts speak, the order counts within each.
fn compare_notices(expected: &[Value], found: &[Value], differ: &mut impl FnMut(String, String, String)) {
    let first = found.first().map(|notice| &notice["account"]);
    let several = found.iter().any(|notice| Some(&notice["account"]) != first);
    let (expected, found) = (numbered(expected), numbered(found));
    if !several {
        return compare_lists("notices", &expected, &found, differ);
    }
    let mut accounts: Vec<&Value> = found.iter().chain(&expected).map(|(_, notice)| &notice["account"]).collect();
    accounts.sort_by_key(|account| account.as_str());
    accounts.dedup();
    for account in accounts {
        let of = |list: &[(usize, Value)]| -> Vec<(usize, Value)> {
            list.iter().filter(|(_, notice)| notice["account"] == *account).cloned().collect()
        };
        compare_lists("notices", &of(&expected), &of(&found), differ);
    }
}

fn numbered(list: &[Value]) -> Vec<(usize, Value)> {
    list.iter().cloned().enumerate().collect()
}

/// Number and order must agree, and of each the fields that are expected.
fn compare_lists(
    name: &str,
    expected: &[(usize, Value)],
    found: &[(usize, Value)],
    differ: &mut impl FnMut(String, String, String),
) {
    let nothing = || "nothing".to_owned();
    for place in 0..expected.len().max(found.len()) {
        match (expected.get(place), found.get(place)) {
            (Some((number, expected)), Some((_, found))) => {
                compare(&format!("{name}.{number}"), expected, found, differ);
            }
            (Some((number, expected)), None) => differ(format!("{name}.{number}"), expected.to_string(), nothing()),
            (None, Some((number, found))) => differ(format!("{name}.{number}"), nothing(), found.to_string()),
            (None, None) => {}
        }
    }
}

/// Compares by the fields that are expected, which may be paths; an empty table expects an empty one.
fn compare(what: &str, expected: &Value, found: &Value, differ: &mut impl FnMut(String, String, String)) {
    match (expected, found) {
        (Value::Object(fields), Value::Object(others)) if !fields.is_empty() || others.is_empty() => {
            for (path, expected) in fields {
                let what = format!("{what}.{path}");
                match at_path(found, path) {
                    Some(found) => compare(&what, expected, found, differ),
                    None if expected.is_null() => {}
                    None => differ(what, expected.to_string(), "nothing".to_owned()),
                }
            }
        }
        (Value::Array(elements), Value::Array(others)) if elements.len() == others.len() => {
            for (place, (expected, found)) in elements.iter().zip(others).enumerate() {
                compare(&format!("{what}.{place}"), expected, found, differ);
            }
        }
        _ if same(expected, found) => {}
        _ => differ(what.to_owned(), expected.to_string(), found.to_string()),
    }
}

/// Equal, or the same instant written otherwise.
fn same(expected: &Value, found: &Value) -> bool {
    let instant = |value: &Value| value.as_str().and_then(calendar::parse_time);
    expected == found || instant(expected).is_some_and(|at| instant(found) == Some(at))
}

/// What a path leads to: names and list places apart by dots, the longest name that exists first.
fn at_path<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if let Some(found) = step_into(value, path) {
        return Some(found);
    }
    let dots = path.char_indices().rev().filter(|(_, character)| *character == '.');
    dots.filter_map(|(dot, _)| at_path(step_into(value, &path[..dot])?, &path[dot + 1..])).next()
}

fn step_into<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields.get(name),
        Value::Array(elements) => elements.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(expected: &Value, found: &Value) -> Vec<String> {
        let mut all = Vec::new();
        compare("it", expected, found, &mut |what, expected, found| all.push(format!("{what} {expected} {found}")));
        all
    }

    #[test]
    fn compares_by_the_fields_given() {
        let found = json!({"a": {"b.c": [{"d": 1}, {"d": 2}]}, "at": "2026-01-01T00:00:00.000Z", "no": null, "e": {}});
        for agrees in [
            json!({"a": {"b.c": [{}, {"d": 2}]}}),
            json!({"a.b.c.1.d": 2, "a.b.c.0": {"d": 1}}),
            json!({"at": "2026-01-01T01:00:00+01:00", "no": null, "gone": null, "gone.far": null, "e": {}}),
        ] {
            // `{}` in the first expects an empty table, which {"d": 1} is not.
            let wrong = differences(&agrees, &found);
            assert!(wrong.is_empty() || wrong == [r#"it.a.b.c.0 {} {"d":1}"#], "{wrong:?}");
        }
        for (differs, expect) in [
            (json!({"a": {}}), "it.a {}"),
            (json!({"a.b.c": []}), "it.a.b.c []"),
            (json!({"a.b.c.2": 1}), "it.a.b.c.2 1 nothing"),
            (json!({"a.b.c.1.d": "2"}), r#"it.a.b.c.1.d "2" 2"#),
            (json!({"at": "2026-01-01T00:00:01Z"}), "it.at"),
            (json!({"e": null}), "it.e null {}"),
        ] {
            let wrong = differences(&differs, &found);
            assert!(wrong.len() == 1 && wrong[0].starts_with(expect), "{differs}: {wrong:?}");
        }
    }

    #[test]
    fn order_counts_within_an_account() {
        let notice = |account: &str, kind: &str| json!({"account": account, "type": kind});
        let found = [notice("a", "1"), notice("b", "1"), notice("a", "2")];
        let mut count = 0;
        let mut differ = |_, _, _| count += 1;
        compare_notices(&[notice("b", "1"), notice("a", "1"), notice("a", "2")], &found, &mut differ);
        compare_notices(&[json!({"type": "1"}), json!({"type": "2"})], &found[1..2], &mut differ);
        assert_eq!(count, 1, "a notice that did not come");
        compare_notices(&[notice("b", "1"), notice("a", "2"), notice("a", "1")], &found, &mut |_, _, _| count += 1);
        assert_eq!(count, 3, "two notices in the wrong order");
    }
}
