//! Section 12.1: JSON lines in, JSON lines out.

use crate::catalog::Catalog;
use crate::decode::Raw;
use crate::model::{Model, Output, Topic};
use crate::time;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Line<'a> {
    topic: Option<String>,
    timestamp: Option<String>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    key: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    clock: Option<String>,
}

/// Takes one line of the input; an error is a line of another form.
pub fn take(model: &mut Model, line: &str) -> Result<(), String> {
    let parsed: Line = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
    if let Some(clock) = parsed.clock {
        model.clock(time::parse(&clock).ok_or("clock: expected an RFC 3339 time")?);
        return Ok(());
    }
    let topic = match parsed.topic.as_deref() {
        Some("usage") => Topic::Usage,
        Some("accounts") => Topic::Accounts,
        _ => return Err(format!("topic: expected usage or accounts: {line}")),
    };
    let timestamp = parsed.timestamp.and_then(|t| time::parse(&t)).ok_or("timestamp: expected an RFC 3339 time")?;
    let value = parsed.value.ok_or("value: expected one")?.get();
    let value = match serde_json::from_str::<Value>(value) {
        Ok(Value::String(text)) => text.into_bytes(),
        _ => value.as_bytes().to_vec(),
    };
    let headers = parsed.headers.unwrap_or_default().into_iter().collect();
    model.record(topic, &Raw { timestamp, key: parsed.key, headers, value });
    Ok(())
}

/// Everything that the input gives, each line of the output as its JSON.
pub fn simulate(catalog: Catalog, input: &str) -> Result<Vec<Value>, String> {
    let mut model = Model::new(catalog);
    for line in input.lines() {
        take(&mut model, line)?;
    }
    model.settle();
    let mut out: Vec<Value> = Vec::new();
    for output in model.outputs.drain(..) {
        out.push(match output {
            Output::Notice(_, notice) => json!({"notice": notice}),
            Output::Quarantined(record) => json!({"quarantined": record}),
        });
    }
    out.extend(model.views().into_iter().map(|v| json!({"account": v})));
    out.push(json!({"summary": model.summary()}));
    Ok(out)
}
