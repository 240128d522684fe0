//! The committed JSON Schemas against what the checks accept and what the daemon writes.

use std::path::{Path, PathBuf};

use bumpalo::Bump;
use jsonschema::Validator;
use meterd::cli::schema::Document;
use meterd::config::catalog;
use meterd::ingest::decode::{Decoder, Raw};
use serde_json::{Value, json};

fn validator(document: Document) -> Validator {
    let schema: Value = serde_json::from_str(document.schema()).expect("a schema is JSON");
    jsonschema::draft202012::meta::validate(&schema).expect("a schema of 2020-12");
    jsonschema::draft202012::new(&schema).expect("a schema that compiles")
}

fn errors(validator: &Validator, instance: &Value) -> Vec<String> {
    validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// TOML as editors hold it against a schema: times are strings.
fn json_of(text: &str) -> Option<Value> {
    fn convert(value: toml::Value) -> Value {
        match value {
            toml::Value::Datetime(time) => Value::String(time.to_string()),
            toml::Value::Array(items) => items.into_iter().map(convert).collect(),
            toml::Value::Table(entries) => entries.into_iter().map(|(key, value)| (key, convert(value))).collect(),
            other => serde_json::to_value(other).expect("plain values"),
        }
    }
    toml::from_str(text).ok().map(convert)
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn shipped_catalogs_and_configuration_fit() {
    let catalogs = validator(Document::Catalog);
    for entry in std::fs::read_dir(project("config/catalogs")).expect("catalogs") {
        let path = entry.expect("an entry").path();
        let catalog = json_of(&std::fs::read_to_string(&path).expect("a catalog")).expect("TOML");
        assert_eq!(errors(&catalogs, &catalog), [""; 0], "{}", path.display());
    }
    let config = std::fs::read_to_string(project("config/meterd.toml")).expect("the configuration");
    // What is commented out is an example of its form.
    let is_key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.trim_matches('"').contains(' '));
    let lines = config.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_key(rest) => rest,
        _ => line,
    });
    let config = json_of(&lines.collect::<Vec<_>>().join("\n")).expect("TOML");
    assert_eq!(errors(&validator(Document::Config), &config), [""; 0]);
    assert!(config["kafka"]["properties"]["sasl.password"]["file"].is_string(), "{config}");
}

/// The schema of catalogs refuses nothing that is right, and every unknown or missing key.
#[test]
fn the_schema_of_catalogs_agrees_with_the_checks() {
    let schema = validator(Document::Catalog);
    let mut agreed = 0;
    for entry in std::fs::read_dir(project("tests/hostile/catalogs")).expect("mistakes") {
        let recorded = std::fs::read_to_string(entry.expect("an entry").path()).expect("cases");
        for case in recorded.split("# --- ").skip(1) {
            let (title, body) = case.split_once('\n').expect("a title");
            let text =
                if title.ends_with("(whole)") { body.to_owned() } else { format!("default_plan = \"free\"\n{body}") };
            let Some(instance) = json_of(&text) else { continue };
            let structural =
                |one: &str| one.contains("unknown key") || one.contains("is missing") || one.contains("expected");
            let told: Vec<&str> = body.lines().filter(|line| line.starts_with("#>")).collect();
            let wrong = errors(&schema, &instance);
            if told.iter().any(|one| structural(one)) {
                assert!(!wrong.is_empty(), "{title}: the schema takes it");
                agreed += 1;
            } else if told.iter().all(|one| one.contains(" warning ")) {
                assert_eq!(wrong, [""; 0], "{title}: the schema refuses it");
                agreed += 1;
            }
        }
    }
    assert!(agreed > 45, "only {agreed} cases were compared");
}

/// Each record with whether it can be read; the decoder and the schema must agree.
fn check_records(document: Document, records: &[(bool, Value)]) {
    let schema = validator(document);
    let (catalog, _) = catalog::parse("default_plan = \"free\"\n[plan.free]", "catalog.toml").expect("a catalog");
    let mut decoder = Decoder::default();
    for (good, record) in records {
        let text = record.to_string();
        let raw = Raw { key: Some(b"acme"), value: Some(text.as_bytes()), headers: &[], timestamp: 0 };
        let read = match document {
            Document::Usage => decoder.usage(&catalog, &raw, 1 << 16, &Bump::new()).map(|_| ()),
            _ => decoder.command(&raw, 1 << 16, &Bump::new()).map(|_| ()),
        };
        assert_eq!(read.is_ok(), *good, "the decoder says {read:?} of {text}");
        assert_eq!(
            errors(&schema, record).is_empty(),
            *good,
            "the schema says {:?} of {text}",
            errors(&schema, record)
        );
    }
}

#[test]
fn the_schema_of_usage_agrees_with_the_decoder() {
    let record =
        |data: Value| json!({"specversion": "1.0", "id": "1", "source": "s", "type": "llm.call", "data": data});
    check_records(
        Document::Usage,
        &[
            (
                true,
                record(
                    json!({"user": "ana", "model": "opus-4.7", "requests": 1, "input_tokens": 1200, "features": ["a"]}),
                ),
            ),
            (true, record(json!({"status": "failed", "billing": "payg", "requests": "0.5", "flag": true, "n": null}))),
            (true, record(json!({"session": "s1", "phase": "start"}))),
            (true, record(json!(null))),
            (
                true,
                json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "2026-11-20T07:00:00+01:00"}),
            ),
            (false, record(json!({"session": "s1"}))),
            (false, record(json!({"status": "broken"}))),
            (false, record(json!({"user": ""}))),
            (false, record(json!({"nested": {"a": 1}}))),
            (false, record(json!({"features": [1]}))),
            (false, record(json!({"requests": -1}))),
            (false, record(json!([]))),
            (false, json!({"specversion": "0.3", "id": "1", "source": "s", "type": "t"})),
            (false, json!({"specversion": "1.0", "id": "1", "source": "s", "type": "meterd.x"})),
            (false, json!({"specversion": "1.0", "source": "s", "type": "t"})),
            (false, json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "yesterday"})),
        ],
    );
}

#[test]
fn the_schema_of_commands_agrees_with_the_decoder() {
    let command =
        |kind: &str, data: Value| json!({"specversion": "1.0", "id": "1", "source": "s", "type": kind, "data": data});
    check_records(
        Document::Command,
        &[
            (
                true,
                command(
                    "meterd.subscription.start",
                    json!({"plan": "pro", "billing": "year", "seats": 3, "paid": false}),
                ),
            ),
            (false, command("meterd.subscription.start", json!({"billing": "year"}))),
            (false, command("meterd.subscription.start", json!({"plan": "pro", "seats": 0}))),
            (true, command("meterd.subscription.change", json!({"seats": 4, "when": "now"}))),
            (false, command("meterd.subscription.change", json!({"when": "later"}))),
            (true, command("meterd.subscription.cancel", json!(null))),
            (true, command("meterd.payment.failed", json!({}))),
            (false, command("meterd.payment.failed", json!({"amount": "1"}))),
            (true, command("meterd.topup", json!({"pack": "small"}))),
            (
                true,
                command(
                    "meterd.topup",
                    json!({"unit": "credit", "amount": "5", "price": 5, "currency": "usd", "expires_at": null}),
                ),
            ),
            (false, command("meterd.topup", json!({"amount": "5"}))),
            (false, command("meterd.topup", json!({"pack": "small", "amount": "5"}))),
            (false, command("meterd.topup", json!({"unit": "credit", "amount": "5", "price": 5}))),
            (
                true,
                command(
                    "meterd.grant.issue",
                    json!({"unit": "credit", "amount": 5, "priority": 0, "group": "premium"}),
                ),
            ),
            (false, command("meterd.grant.issue", json!({"unit": "credit", "amount": "-5"}))),
            (true, command("meterd.grant.void", json!({"grant": "g1"}))),
            (true, command("meterd.balance.adjust", json!({"unit": "credit", "amount": "-5", "reason": "goodwill"}))),
            (
                true,
                command(
                    "meterd.member.set",
                    json!({"user": "ana", "caps": {"a": "25%", "b": "10", "c": null}, "deny": ["x"]}),
                ),
            ),
            (false, command("meterd.member.set", json!({"caps": null}))),
            (true, command("meterd.limit.set", json!({"limit": "5h", "cap": null}))),
            (false, command("meterd.limit.set", json!({"limit": "5h"}))),
            (
                true,
                command(
                    "meterd.account.set",
                    json!({"class": null, "extra_usage": true, "autopay": {"unit": "c", "below": 1, "amount": 5}}),
                ),
            ),
            (false, command("meterd.account.set", json!({"clas": "a"}))),
            (true, command("meterd.refund.request", json!({}))),
            (true, command("meterd.refund.completed", json!({"amount": "5"}))),
            (false, command("meterd.refund.completed", json!({}))),
            (true, command("meterd.account.delete", json!({}))),
            (false, command("meterd.account.forget", json!({}))),
        ],
    );
}

/// Every type of notice as the test `notices` records it.
#[test]
fn the_schema_of_notices_agrees_with_what_is_written() {
    let schema = validator(Document::Notice);
    let recorded = project("tests/snapshots/notices__every_notice_has_all_its_members.snap");
    let recorded = std::fs::read_to_string(recorded).expect("the notices");
    let mut seen = std::collections::BTreeSet::new();
    for line in recorded.lines().filter(|line| line.starts_with('{')) {
        let mut notice: Value = serde_json::from_str(line).expect("a notice");
        assert_eq!(errors(&schema, &notice), [""; 0], "{line}");
        seen.insert(notice["type"].as_str().expect("a type").to_owned());
        let data = notice["data"].as_object_mut().expect("data");
        data.remove("plan");
        assert!(!schema.is_valid(&notice), "a member may be missing: {line}");
    }
    assert_eq!(seen.len(), 20, "{seen:?}");
}
