//! Records that no producer should write, each with the reason that its quarantine names; and anything at all, which must
//! give a record or a refusal.

use bumpalo::Bump;
use meterd::config::catalog;
use meterd::engine::{Catalog, Reason};
use meterd::ingest::decode::{Decoder, Header, Raw};
use proptest::prelude::*;

const RECORD_BYTES_MAX: usize = 65_536;
const TIME: &str = "2026-11-20T07:00:00Z";

/// A record under construction; `None` is null.
#[derive(Clone, Default)]
struct Record {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Record {
    fn with_raw<T>(&self, read: impl FnOnce(&Raw<'_>) -> T) -> T {
        let headers: Vec<Header<'_>> =
            self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        read(&Raw { key: self.key.as_deref(), value: self.value.as_deref(), headers: &headers, timestamp: 1 })
    }

    fn usage(&self, catalog: &Catalog) -> Result<(), (Reason, String)> {
        let read =
            self.with_raw(|raw| Decoder::default().usage(catalog, raw, RECORD_BYTES_MAX, &Bump::new()).map(|_| ()));
        read.map_err(|refusal| (refusal.reason, refusal.message))
    }

    fn command(&self) -> Result<(), (Reason, String)> {
        let read = self.with_raw(|raw| Decoder::default().command(raw, RECORD_BYTES_MAX, &Bump::new()).map(|_| ()));
        read.map_err(|refusal| (refusal.reason, refusal.message))
    }

    /// Sets or removes the key, the value or a header.
    fn set(&mut self, name: &[u8], value: &[u8]) {
        let value = (!value.is_empty()).then(|| value.to_vec());
        match name {
            b"key" => self.key = value,
            b"value" => self.value = value,
            _ => {
                self.headers.retain(|(other, _)| other != name);
                if value.is_some() {
                    self.headers.push((name.to_vec(), value));
                }
            }
        }
    }
}

fn hostile_catalog() -> Catalog {
    let text = include_str!("catalog.toml");
    catalog::parse(text, "tests/hostile/catalog.toml").expect("the catalog is valid").0
}

/// The value of a structured record of these members.
fn structured(members: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut value = b"{".to_vec();
    for (place, (name, json)) in members.iter().enumerate() {
        value.extend(if place == 0 { b"\"".as_slice() } else { b",\"" });
        value.extend(name);
        value.extend(b"\":");
        value.extend(json);
    }
    value.push(b'}');
    value
}

fn good_members() -> Vec<(Vec<u8>, Vec<u8>)> {
    let data = r#"{"user":"ana","model":"opus","input_tokens":1200}"#;
    let time = format!("\"{TIME}\"");
    let members = [
        ("specversion", "\"1.0\""),
        ("id", "\"req-1\""),
        ("source", "\"gateway\""),
        ("type", "\"llm.call\""),
        ("subject", "\"acme\""),
        ("time", &time),
        ("data", data),
    ];
    members.map(|(name, json)| (name.as_bytes().to_vec(), json.as_bytes().to_vec())).to_vec()
}

fn good_binary() -> Record {
    let mut record = Record::default();
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", "req-1"),
        ("ce_source", "gateway"),
        ("ce_type", "llm.call"),
        ("ce_subject", "acme"),
        ("ce_time", TIME),
        ("content-type", "application/json"),
        ("value", r#"{"user":"ana"}"#),
    ] {
        record.set(name.as_bytes(), value.as_bytes());
    }
    record
}

/// `<0A>` and `<300*a>` resolved.
fn bytes_of(text: &str) -> Vec<u8> {
    let Some((before, rest)) = text.split_once('<') else { return text.as_bytes().to_vec() };
    let (inside, after) = rest.split_once('>').expect("every < has its >");
    let mut bytes = before.as_bytes().to_vec();
    match inside.split_once('*') {
        Some((times, repeated)) => {
            for _ in 0..times.parse().expect("a number of times") {
                bytes.extend(repeated.as_bytes());
            }
        }
        None => bytes.push(u8::from_str_radix(inside, 16).expect("a byte")),
    }
    bytes.extend(bytes_of(after));
    bytes
}

/// `name=value ; name=value`
fn settings(text: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let parts = text.split(" ; ").filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').expect(part)).map(|(name, value)| (bytes_of(name), bytes_of(value))).collect()
}

fn usage_case(mode: &str, text: &str) -> Record {
    let mut members = good_members();
    match mode {
        "value" => Record { value: Some(bytes_of(text)), ..Record::default() },
        "data" => {
            members.retain(|(name, _)| name != b"data");
            members.push((b"data".to_vec(), bytes_of(text)));
            Record { value: Some(structured(&members)), ..Record::default() }
        }
        "event" => {
            let mut record = Record::default();
            for (name, json) in settings(text) {
                if name == b"key" {
                    record.key = Some(json);
                    continue;
                }
                members.retain(|(other, _)| *other != name);
                if !json.is_empty() {
                    members.push((name, json));
                }
            }
            record.value = Some(structured(&members));
            record
        }
        "record" | "binary" => {
            let structured = Record { value: Some(structured(&members)), ..Record::default() };
            let mut record = if mode == "binary" { good_binary() } else { structured };
            settings(text).iter().for_each(|(name, value)| record.set(name, value));
            record
        }
        other => panic!("unknown mode {other}"),
    }
}

fn cases(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (expect, rest) = line.split_once(' ').expect(line);
        let (mode, payload) = rest.split_once(' ').unwrap_or((rest, ""));
        (expect, mode, payload)
    })
}

fn check(case: &str, expect: &str, found: Result<(), (Reason, String)>, wrong: &mut Vec<String>) {
    let (name, message) = match &found {
        Ok(()) => ("ok", ""),
        Err((reason, message)) => (reason.name(), message.as_str()),
    };
    if name != expect {
        wrong.push(format!("expected {expect}, found {name} ({message}): {case:.200}"));
    }
    if message.chars().any(char::is_control) || message.len() > 1_000 {
        wrong.push(format!("a message that cannot be printed: {message:?}"));
    }
}

#[test]
fn usage_is_refused_with_its_reason() {
    let catalog = hostile_catalog();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (expect, mode, text) in cases(include_str!("usage.txt")) {
        check(&format!("{mode} {text}"), expect, usage_case(mode, text).usage(&catalog), &mut wrong);
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 400, "only {count} cases were found");
}

/// What is wrong before the data stays what it is in commands; all the rest of these is no command.
#[test]
fn usage_is_no_command() {
    let mut wrong = Vec::new();
    for (expect, mode, text) in cases(include_str!("usage.txt")) {
        let expect = match expect {
            "too_large" | "bad_json" | "not_cloudevent" | "bad_key" => expect,
            _ => "bad_command",
        };
        check(&format!("{mode} {text}"), expect, usage_case(mode, text).command(), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn commands_are_refused_with_their_reason() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (expect, kind, data) in cases(include_str!("commands.txt")) {
        let mut members = good_members();
        members.retain(|(name, _)| name != b"type" && name != b"data");
        members.push((b"type".to_vec(), format!("\"meterd.{kind}\"").into_bytes()));
        members.push((b"data".to_vec(), bytes_of(data)));
        let record = Record { value: Some(structured(&members)), ..Record::default() };
        check(&format!("{kind} {data}"), expect, record.command(), &mut wrong);
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 150, "only {count} cases were found");
}

#[test]
fn of_repeated_headers_the_last_counts() {
    let catalog = hostile_catalog();
    let mut record = good_binary();
    record.headers.insert(0, (b"ce_id".to_vec(), Some(vec![0xFF])));
    assert_eq!(record.usage(&catalog), Ok(()));
    record.headers.push((b"ce_id".to_vec(), Some(vec![0xFF])));
    assert_eq!(record.usage(&catalog).map_err(|refused| refused.0), Err(Reason::NotCloudevent));
    record.headers.push((b"ce_id".to_vec(), None));
    assert_eq!(record.usage(&catalog).map_err(|refused| refused.0), Err(Reason::NotCloudevent));
}

#[test]
fn a_schema_registry_prefix_is_named() {
    let record = Record { value: Some(b"\0\0\0\0\x2A{}".to_vec()), key: Some(b"acme".to_vec()), headers: Vec::new() };
    let (reason, message) = record.command().expect_err("no JSON");
    assert_eq!(reason, Reason::BadJson);
    assert!(message.contains("schema registry") && message.contains("42"), "{message}");
}

#[test]
fn fields_come_in_order_of_their_ids() {
    let catalog = hostile_catalog();
    let text = r#"{"region":"eu","output_tokens":"2.50","model":["a","b\u0063"],"input_tokens":1e3,"other":true}"#;
    let record = usage_case("data", text);
    record.with_raw(|raw| {
        let (mut decoder, arena) = (Decoder::default(), Bump::new());
        let usage = decoder.usage(&catalog, raw, RECORD_BYTES_MAX, &arena).expect("a good record");
        let named = |id: u16| &*catalog.quantities[usize::from(id)];
        let quantities: Vec<String> = usage.quantities.iter().map(|(id, q)| format!("{}={q}", named(*id))).collect();
        assert_eq!(quantities, ["requests=1", "input_tokens=1000", "output_tokens=2.5"]);
        assert!(usage.quantities.is_sorted_by_key(|(id, _)| *id));
        assert!(usage.dimensions.is_sorted_by_key(|(id, _)| *id));
        let dimensions = format!("{:?}", usage.dimensions);
        assert_eq!(dimensions, r#"[(0, List(["a", "bc"])), (1, Text("eu"))]"#);
    });
}

/// What a decoder learnt of records before changes nothing.
fn gives_the_same_to_who_knows_its_form(record: &Record, catalog: &Catalog) {
    let read = |decoder: &mut Decoder, record: &Record| {
        let arena = Bump::new();
        record.with_raw(|raw| format!("{:?}", decoder.usage(catalog, raw, RECORD_BYTES_MAX, &arena)))
    };
    let fresh = read(&mut Decoder::default(), record);
    let good = Record { value: Some(structured(&good_members())), ..Record::default() };
    let mut decoder = Decoder::default();
    for known in [&good, record, record, &good, record] {
        let found = read(&mut decoder, known);
        assert!(std::ptr::eq(known, &good) || found == fresh, "expected {fresh}\nfound {found}");
    }
}

/// Does what the proptests ask of every record.
fn gives_a_record_or_a_refusal(record: &Record, catalog: &Catalog) {
    gives_the_same_to_who_knows_its_form(record, catalog);
    for found in [record.usage(catalog), record.command()] {
        if let Err((reason, message)) = found {
            assert!(!message.is_empty(), "{} without a message", reason.name());
            assert!(!message.chars().any(char::is_control), "{message:?}");
        }
    }
}

proptest! {
    #[test]
    fn anything_gives_a_record_or_a_refusal(
        key in proptest::option::of(any::<Vec<u8>>()),
        value in proptest::option::of(any::<Vec<u8>>()),
        headers in proptest::collection::vec((any::<Vec<u8>>(), proptest::option::of(any::<Vec<u8>>())), 0..4),
    ) {
        gives_a_record_or_a_refusal(&Record { key, value, headers }, &hostile_catalog());
    }

    /// Good records with a few bytes replaced, removed or repeated.
    #[test]
    fn damage_gives_a_record_or_a_refusal(
        command in any::<bool>(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0..4u8, any::<u8>()), 1..6),
    ) {
        let mut members = good_members();
        if command {
            members[3].1 = b"\"meterd.topup\"".to_vec();
            members[6].1 = br#"{"amount":"12.5","unit":"credit","expires_at":null}"#.to_vec();
        }
        let mut value = structured(&members);
        for (place, edit, byte) in edits {
            let at = place.index(value.len().max(1));
            match edit {
                0 if at < value.len() => value[at] = byte,
                1 if at < value.len() => drop(value.remove(at)),
                2 => value.insert(at.min(value.len()), byte),
                _ => value.extend_from_within(at.min(value.len())..),
            }
        }
        gives_a_record_or_a_refusal(&Record { value: Some(value), ..Record::default() }, &hostile_catalog());
    }

    /// Any JSON as data.
    #[test]
    fn any_data_gives_a_record_or_a_refusal(
        name in prop_oneof![Just("input_tokens".to_owned()), Just("model".to_owned()), Just("user".to_owned()), any::<String>()],
        json in prop_oneof![
            any::<f64>().prop_map(|number| number.to_string()),
            any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
            r#"[-]?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?"#,
            r#"\[("[a-c]{0,2}"(,"[a-c]{0,2}")?)?\]"#,
        ],
    ) {
        let data = format!("{{{}:{json}}}", serde_json::Value::from(name));
        let mut members = good_members();
        members[6].1 = data.into_bytes();
        gives_a_record_or_a_refusal(&Record { value: Some(structured(&members)), ..Record::default() }, &hostile_catalog());
    }
}
