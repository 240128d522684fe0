//! Records that cannot be applied: quarantined with their reason and as they came; the next record is processed.

use std::time::Duration;

use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};

use crate::http;
use crate::log::{self, Record};
use crate::simulated::rfc3339;
use crate::traffic::{CATALOG, call, command, event};
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

fn closed_catalog() -> String {
    CATALOG.replacen("default_plan", "create_accounts = false\ndefault_plan", 1)
}

/// The quarantined record with this value, however it was cut.
fn with_value<'a>(quarantined: &'a [Record], value: &[u8]) -> &'a Record {
    let kept = &value[..value.len().min(1024)];
    let found = quarantined.iter().find(|record| [value, kept].contains(&record.value.as_deref().unwrap_or_default()));
    found.unwrap_or_else(|| panic!("not quarantined: {}", String::from_utf8_lossy(kept)))
}

#[test]
fn each_kind_of_bad_record_is_quarantined_with_its_reason() {
    let world = World::new("bad-input", &closed_catalog()).initialised(1);
    let daemon = world.start("a");
    let producer = world.producer();
    let start = command("start", "subscription.start", "acme", &json!({"plan": "pro", "seats": 4}));
    producer.send_json(&world.accounts(), "acme", &start);
    producer.flush();
    world.await_consumed(LIMIT);

    let now = chrono::Utc::now().timestamp_millis();
    let at = |id: &str, time_ms: i64| {
        let mut late = call(id, "acme", "haiku-4.5", 10);
        late["time"] = rfc3339(time_ms).into();
        late.to_string()
    };
    let with = |id: &str, field: &str, value: Value| {
        let mut record = call(id, "acme", "haiku-4.5", 10);
        record["data"][field] = value;
        record.to_string()
    };
    let bytes = |text: String| text.into_bytes();
    let mut not_utf8 = bytes(call("not-utf8", "acme", "haiku-4.5", 10).to_string());
    let place = not_utf8.windows(3).position(|text| text == b"ana").expect("the user is named");
    not_utf8[place] = 0xff;
    let usage: Vec<(&str, Vec<u8>)> = vec![
        ("bad_json", b"{\"specversion\":\"1.0\"".to_vec()),
        ("bad_json", not_utf8),
        ("bad_json", b"".to_vec()),
        ("bad_json", bytes(call("twice", "acme", "haiku-4.5", 10).to_string().replacen('{', "{\"id\":\"x\",", 1))),
        ("too_large", bytes(with("large", "note", "n".repeat(70_000).into()))),
        ("not_cloudevent", b"{\"hello\":1}".to_vec()),
        ("bad_key", bytes(call("key", "another", "haiku-4.5", 10).to_string())),
        ("bad_field", bytes(with("status", "status", "perhaps".into()))),
        ("bad_quantity", bytes(with("negative", "input_tokens", (-1).into()))),
        ("too_late", bytes(at("late", now - 2 * 3_600_000))),
        ("too_early", bytes(at("early", now + 3_600_000))),
        ("no_rate", bytes(with("model", "model", "unheard-of".into()))),
        ("no_payg", bytes(with("payg", "billing", "payg".into()))),
    ];
    for (number, (_, value)) in usage.iter().enumerate() {
        producer.send(&world.usage(), "acme", value);
        // A good one after each: it must be applied.
        producer.send_json(&world.usage(), "acme", &call(&format!("good-{number}"), "acme", "haiku-4.5", 10));
    }
    let unknown = call("nobody", "nobody", "haiku-4.5", 10).to_string();
    producer.send(&world.usage(), "nobody", unknown.as_bytes());
    let commands = [
        ("bad_command", command("typo", "topup", "acme", &json!({"unit": "credit", "amuont": "5"})).to_string()),
        ("bad_command", command("type", "tipup", "acme", &json!({})).to_string()),
        ("unknown_account", command("cancel", "subscription.cancel", "nobody", &json!({})).to_string()),
    ];
    commands.iter().for_each(|(_, value)| producer.send(&world.accounts(), &key_of(value), value.as_bytes()));
    producer.flush();
    world.await_consumed(LIMIT);

    let quarantined = world.quarantined();
    let expected = usage.iter().map(|(reason, value)| (*reason, value.clone(), world.usage()));
    let expected = expected.chain([("unknown_account", bytes(unknown), world.usage())]);
    let expected = expected.chain(commands.map(|(reason, value)| (reason, bytes(value), world.accounts())));
    let expected: Vec<_> = expected.collect();
    assert_eq!(quarantined.len(), expected.len());
    for (reason, value, topic) in &expected {
        let record = with_value(&quarantined, value);
        let header = |name: &str| record.header(&format!("__meterd.errors.{name}"));
        assert_eq!(header("reason").as_deref(), Some(*reason), "{record:?}");
        assert_eq!(header("topic").as_ref(), Some(topic), "{record:?}");
        assert_eq!(header("partition").as_deref(), Some("0"), "{record:?}");
        assert!(header("message").is_some_and(|message| !message.is_empty()), "{record:?}");
        assert!(header("timestamp").is_some(), "{record:?}");
        let offset: usize = header("offset").and_then(|offset| offset.parse().ok()).expect("an offset");
        let source = log::read(&world.broker, topic, log::Isolation::Committed);
        assert_eq!(source[offset].value.as_deref().unwrap_or_default(), *value, "the offset is that of the record");
        assert_eq!(source[offset].key, record.key, "{record:?}");
    }

    let view = http::get(daemon.http, "/v1/accounts/acme").expect("the daemon answers").json();
    let month = view["totals"].as_object().expect("totals").values().next().expect("a month").clone();
    assert_eq!(month["records"], usage.len(), "{view}");
    assert_every_record_has_one_disposition(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
}

fn key_of(event: &str) -> String {
    let event: Value = serde_json::from_str(event).expect("an event is JSON");
    event["subject"].as_str().expect("it has a subject").to_owned()
}

/// Guarantee 1: the counts of dispositions add up to the records consumed.
fn assert_every_record_has_one_disposition(world: &World, daemon: &crate::daemon::Daemon) {
    for topic in [world.usage(), world.accounts()] {
        assert!(!log::read(&world.broker, &topic, log::Isolation::Committed).is_empty(), "the test sends to {topic}");
    }
    let sent: i64 = [world.usage(), world.accounts()].iter().flat_map(|topic| log::ends(&world.broker, topic)).sum();
    assert_eq!(daemon.metric("meterd_records_read_total", &[]), sent as u64);
    assert_eq!(daemon.metric("meterd_dispositions_total", &[]), sent as u64);
    let quarantined = daemon.metric("meterd_dispositions_total", &["outcome=\"quarantined\""]);
    assert_eq!(quarantined, world.quarantined().len() as u64);
    assert_eq!(daemon.metric("meterd_conservation_violations_total", &[]), 0);
}

#[test]
fn headers_of_any_bytes_stop_nothing_and_are_kept() {
    let world = World::new("bad-headers", CATALOG).initialised(1);
    let daemon = world.start("a");
    let producer = world.producer();
    let good = call("good", "acme", "haiku-4.5", 10).to_string();
    let bad = b"not json".as_slice();
    for value in [good.as_bytes(), bad] {
        let headers = log::raw_headers(&[(b"\xff\xfe", b"\x00\x80"), (b"trace", b"\xf0\x28"), (b"plain", b"text")]);
        producer.send_record(BaseRecord::to(&world.usage()).key("acme").payload(value).headers(headers));
    }
    let attribute =
        log::raw_headers(&[(b"ce_specversion", b"1.0"), (b"ce_id", b"\xff"), (b"ce_source", b"s"), (b"ce_type", b"t")]);
    let binary = b"{\"note\":\"an attribute that is not UTF-8\"}".as_slice();
    producer.send_record(BaseRecord::to(&world.usage()).key("acme").payload(binary).headers(attribute));
    producer.send_json(&world.usage(), "acme", &call("after", "acme", "haiku-4.5", 10));
    producer.flush();
    world.await_consumed(LIMIT);

    let quarantined = world.quarantined();
    assert_eq!(quarantined.len(), 2, "{quarantined:?}");
    let kept = with_value(&quarantined, bad);
    assert_eq!(kept.headers[0], (b"\xff\xfe".to_vec(), Some(b"\x00\x80".to_vec())));
    assert_eq!(kept.headers[1], (b"trace".to_vec(), Some(b"\xf0\x28".to_vec())));
    assert_eq!(kept.header("__meterd.errors.reason").as_deref(), Some("bad_json"));
    assert_eq!(with_value(&quarantined, binary).header("__meterd.errors.reason").as_deref(), Some("not_cloudevent"));
    let view = http::get(daemon.http, "/v1/accounts/acme").expect("the daemon answers").json();
    let month = view["totals"].as_object().expect("totals").values().next().expect("a month").clone();
    assert_eq!(month["records"], 2, "{view}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn keys_of_another_partitioner_are_quarantined_and_named() {
    let world = World::new("partitioner", CATALOG).initialised(4);
    let daemon = world.start("a");
    let (murmur2, crc32) = (world.producer(), log::Producer::with_partitioner(&world.broker, "consistent"));
    for number in 0..40 {
        let account = format!("m-{number}");
        murmur2.send_json(&world.usage(), &account, &call("1", &account, "haiku-4.5", 10));
        let account = format!("c-{number}");
        crc32.send_json(&world.usage(), &account, &call("1", &account, "haiku-4.5", 10));
    }
    murmur2.flush();
    crc32.flush();
    world.await_consumed(LIMIT);
    let quarantined = world.quarantined();
    // Of 40 keys about 30 are placed elsewhere by the other partitioner.
    assert!((15..40).contains(&quarantined.len()), "{}", quarantined.len());
    for record in &quarantined {
        assert!(record.key_text().starts_with("c-"), "{record:?}");
        assert_eq!(record.header("__meterd.errors.reason").as_deref(), Some("wrong_partition"));
        let message = record.header("__meterd.errors.message").expect("a message");
        assert!(message.contains("crc32"), "{message}");
    }
    assert_eq!(daemon.metric("meterd_dispositions_total", &["outcome=\"applied\""]), 80 - quarantined.len() as u64);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_record_as_large_as_the_broker_takes_is_cut_in_quarantine() {
    let world = World::new("large", CATALOG).initialised(1);
    let daemon = world.start("a");
    let producer = world.producer();
    let mut large = event("large", "gateway", "llm.call", "acme", &json!({"model": "haiku-4.5"}));
    large["data"]["note"] = "n".repeat(900_000).into();
    producer.send_json(&world.usage(), "acme", &large);
    // More than librdkafka sends unless it is told to, and not cut: what was its key is to be seen.
    let key = "k".repeat(1_020_000);
    producer.send_json(&world.usage(), &key, &call("key", "acme", "haiku-4.5", 10));
    producer.send_json(&world.usage(), "acme", &call("after", "acme", "haiku-4.5", 10));
    producer.flush();
    world.await_consumed(LIMIT);
    let quarantined = world.quarantined();
    assert_eq!(quarantined.len(), 2);
    assert_eq!(quarantined[0].header("__meterd.errors.reason").as_deref(), Some("too_large"));
    assert_eq!(quarantined[0].value.as_deref(), Some(&large.to_string().as_bytes()[..1024]));
    assert_eq!(quarantined[1].header("__meterd.errors.reason").as_deref(), Some("bad_key"));
    assert_eq!(quarantined[1].key.as_deref(), Some(key.as_bytes()));
    assert_eq!(daemon.metric("meterd_dispositions_total", &["outcome=\"applied\""]), 1);
    assert_eq!(daemon.stop(), 0);
}
