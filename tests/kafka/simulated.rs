//! What the daemon should have written, told by `meterd simulate` on what really stands in the input topics, and the
//! comparison with what an independent reader finds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use crate::daemon;
use crate::log::{self, Isolation, Record};
use crate::world::World;

pub struct Simulated {
    /// By account, in order.
    pub notices: BTreeMap<String, Vec<Value>>,
    /// The views at the end, by account.
    pub accounts: BTreeMap<String, Value>,
    pub quarantined: Vec<Value>,
    pub summary: Value,
}

/// Runs the engine over the records of both input topics, merged by their Kafka timestamps (a command before a usage
/// record of the same millisecond), and then lets the clock go on to `clock_ms`.
pub fn simulate(world: &World, clock_ms: Option<i64>) -> Simulated {
    let mut lines = String::new();
    for (topic, record) in inputs(world) {
        writeln!(lines, "{}", line(topic, &record)).expect("memory takes text");
    }
    if let Some(clock_ms) = clock_ms {
        writeln!(lines, "{}", json!({"clock": rfc3339(clock_ms)})).expect("memory takes text");
    }
    let input = world.directory.path().join("input.jsonl");
    fs::write(&input, lines).expect("the directory is ours");
    let path = |path: &std::path::Path| path.to_str().expect("paths are text").to_owned();
    let output = daemon::meterd(&["simulate", "--catalog", &path(&world.catalog()), &path(&input)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut told =
        Simulated { notices: BTreeMap::new(), accounts: BTreeMap::new(), quarantined: vec![], summary: json!({}) };
    for line in String::from_utf8(output.stdout).expect("simulate writes text").lines() {
        let mut line: Value = serde_json::from_str(line).expect("simulate writes JSON lines");
        if let Some(notice) = line.get_mut("notice") {
            let account = notice["subject"].as_str().expect("a notice has a subject").to_owned();
            told.notices.entry(account).or_default().push(notice.take());
        } else if let Some(view) = line.get_mut("account") {
            told.accounts.insert(view["account"].as_str().expect("a view names its account").to_owned(), view.take());
        } else if let Some(quarantined) = line.get_mut("quarantined") {
            told.quarantined.push(quarantined.take());
        } else if let Some(summary) = line.get_mut("summary") {
            told.summary = summary.take();
        }
    }
    told
}

/// Both input topics in the order of processing.
pub fn inputs(world: &World) -> Vec<(&'static str, Record)> {
    let mut all = Vec::new();
    for (name, topic) in [("accounts", world.accounts()), ("usage", world.usage())] {
        all.extend(log::read(&world.broker, &topic, Isolation::Committed).into_iter().map(|record| (name, record)));
    }
    // Stable: records of one partition keep their order within a millisecond.
    all.sort_by_key(|(name, record)| (record.timestamp_ms, *name));
    all
}

fn line(topic: &str, record: &Record) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // A JSON string stands for the raw bytes of the record.
    let value = text(record.value.as_deref().unwrap_or_default());
    let mut line = json!({"topic": topic, "timestamp": rfc3339(record.timestamp_ms), "value": value});
    if let Some(key) = &record.key {
        line["key"] = text(key).into();
    }
    if !record.headers.is_empty() {
        let pair =
            |(key, value): &(Vec<u8>, Option<Vec<u8>>)| (text(key), text(value.as_deref().unwrap_or_default()).into());
        line["headers"] = Value::Object(record.headers.iter().map(pair).collect());
    }
    line
}

pub fn rfc3339(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).expect("a time within chrono's range");
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Checks that the notices found are exactly those expected: each once, in order for each account, the same but for
/// `source` and the cause's partition and offset.
pub fn assert_same_notices(found: &[Record], expected: &BTreeMap<String, Vec<Value>>) {
    let mut by_account: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in found {
        let notice = record.json();
        let account = record.key_text().to_owned();
        assert_eq!(notice["subject"], account.as_str(), "the key of a notice is its account");
        assert_eq!(record.header("content-type").as_deref(), Some("application/cloudevents+json"), "{record:?}");
        by_account.entry(account).or_default().push(comparable(notice));
    }
    let mut differences = Vec::new();
    let nothing = Vec::new();
    let accounts: std::collections::BTreeSet<_> = by_account.keys().chain(expected.keys()).collect();
    for account in accounts {
        let found = by_account.get(account).unwrap_or(&nothing);
        let expected: Vec<_> = expected.get(account).unwrap_or(&nothing).iter().cloned().map(comparable).collect();
        if *found != expected {
            differences.push(difference(account, found, &expected));
        }
    }
    let first: Vec<_> = differences.iter().take(5).map(String::as_str).collect();
    assert!(
        differences.is_empty(),
        "the notices of {} accounts differ; first:\n{}",
        differences.len(),
        first.join("\n")
    );
}

fn comparable(mut notice: Value) -> Value {
    notice["source"].take();
    if let Some(cause) = notice["data"]["cause"].as_object_mut() {
        cause.remove("partition");
        cause.remove("offset");
        // The configured name of the topic, of which only the last part is the same in all tests.
        if let Some(topic) = cause.get_mut("topic") {
            *topic = topic.as_str().and_then(|name| name.rsplit('.').next()).into();
        }
    }
    notice
}

fn difference(account: &str, found: &[Value], expected: &[Value]) -> String {
    let same = std::iter::zip(found, expected).take_while(|(found, expected)| found == expected).count();
    let at = |list: &[Value]| list.get(same).map_or("nothing".to_owned(), Value::to_string);
    format!(
        "{account}: {} found, {} expected, the first {same} the same; then\n  found    {}\n  expected {}",
        found.len(),
        expected.len(),
        at(found),
        at(expected)
    )
}
