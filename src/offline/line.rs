//! The lines that `simulate` reads (docs/reference.md 12.1, 16): an input, or an instant to which the clock moves.

use bumpalo::Bump;

use crate::engine::{Ms, calendar};
use crate::ingest::decode::Header;
use crate::ingest::json::{Invalid, Kind, Reader};

/// Which of the two inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Usage,
    Accounts,
}

impl Topic {
    /// As lines name it.
    pub fn short_name(self) -> &'static str {
        match self {
            Topic::Usage => "usage",
            Topic::Accounts => "accounts",
        }
    }

    /// As causes of notices name it.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Usage => "meter.usage",
            Topic::Accounts => "meter.accounts",
        }
    }
}

#[derive(Debug, PartialEq)]
pub enum Line<'a> {
    Input { topic: Topic, timestamp: Ms, key: Option<&'a str>, value: &'a str, headers: &'a [Header<'a>] },
    Clock(Ms),
}

/// The members met so far.
#[derive(Default)]
struct Members<'a> {
    topic: Option<Topic>,
    timestamp: Option<Ms>,
    clock: Option<Ms>,
    key: Option<&'a str>,
    value: Option<&'a str>,
    headers: &'a [Header<'a>],
    seen: u8,
}

/// Reads a line, or says what is wrong with it. The value of an input is not judged: that is for decoding.
pub fn read<'a>(text: &'a str, arena: &'a Bump) -> Result<Line<'a>, String> {
    let mut reader = Reader::new(text, arena);
    let mut members = Members::default();
    let mut wrong = None;
    let read = members.read(&mut reader, arena, &mut wrong).and_then(|()| reader.end());
    if let Some(message) = wrong {
        return Err(message);
    }
    read.map_err(|Invalid| {
        let fault = reader.fault();
        format!("expected {} at byte {}", fault.expected, fault.at)
    })?;
    match members {
        Members { clock: Some(clock), topic: None, timestamp: None, value: None, key: None, headers: [], .. } => {
            Ok(Line::Clock(clock))
        }
        Members {
            clock: None,
            topic: Some(topic),
            timestamp: Some(timestamp),
            value: Some(value),
            key,
            headers,
            ..
        } => Ok(Line::Input { topic, timestamp, key, value, headers }),
        _ => Err("expected topic, timestamp and value, or clock alone".to_owned()),
    }
}

/// Whether a text is JSON by its grammar alone, whatever decoding demands besides.
pub fn is_json(text: &str) -> bool {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => true,
        Err(error) => error.to_string().starts_with("recursion limit"),
    }
}

impl<'a> Members<'a> {
    /// Walks the line; what is JSON but not of this form is told in `wrong`.
    fn read(&mut self, reader: &mut Reader<'a>, arena: &'a Bump, wrong: &mut Option<String>) -> Result<(), Invalid> {
        reader.enter_object()?;
        let mut first = true;
        while let Some(name) = reader.name(&mut first)? {
            let bit = match name {
                "topic" => 1,
                "timestamp" => 2,
                "clock" => 4,
                "key" => 8,
                "value" => 16,
                "headers" => 32,
                other => {
                    *wrong = Some(format!("expected topic, timestamp, value, key, headers or clock, found {other:?}"));
                    return reader.refuse("another name");
                }
            };
            if self.seen & bit != 0 {
                return reader.refuse("no repeated name in an object");
            }
            self.seen |= bit;
            match name {
                "topic" => self.topic = Some(topic(reader, wrong)?),
                "timestamp" => self.timestamp = Some(time(name, reader, wrong)?),
                "clock" => self.clock = Some(time(name, reader, wrong)?),
                "key" => self.key = optional_text(reader)?,
                "value" => self.value = Some(value(reader)?),
                _ => self.headers = headers(reader, arena)?,
            }
        }
        Ok(())
    }
}

fn topic(reader: &mut Reader<'_>, wrong: &mut Option<String>) -> Result<Topic, Invalid> {
    match reader.string()? {
        "usage" => Ok(Topic::Usage),
        "accounts" => Ok(Topic::Accounts),
        other => {
            *wrong = Some(format!("topic: expected \"usage\" or \"accounts\", found {other:?}"));
            reader.refuse("a topic")
        }
    }
}

fn time(name: &str, reader: &mut Reader<'_>, wrong: &mut Option<String>) -> Result<Ms, Invalid> {
    let text = reader.string()?;
    match calendar::parse_time(text) {
        Some(at) => Ok(at),
        None => {
            *wrong = Some(format!("{name}: expected an RFC 3339 time as \"2026-11-20T07:00:00Z\", found {text:?}"));
            reader.refuse("a time")
        }
    }
}

fn optional_text<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, Invalid> {
    match reader.kind()? {
        Kind::Null => reader.null().map(|()| None),
        _ => reader.string().map(Some),
    }
}

/// A string stands for the raw bytes of the record, anything else for its text.
fn value<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Invalid> {
    if reader.kind()? == Kind::Text {
        return reader.string();
    }
    let start = reader.at();
    reader.pass_over()?;
    Ok(reader.since(start))
}

fn headers<'a>(reader: &mut Reader<'a>, arena: &'a Bump) -> Result<&'a [Header<'a>], Invalid> {
    let mut headers = bumpalo::collections::Vec::new_in(arena);
    let mut names = bumpalo::collections::Vec::new_in(arena);
    reader.enter_object()?;
    let mut first = true;
    while let Some(name) = reader.name(&mut first)? {
        reader.kind()?;
        let value = optional_text(reader)?;
        names.push(name);
        headers.push(Header { key: name.as_bytes(), value: value.map(str::as_bytes) });
    }
    reader.no_repeated(&mut names)?;
    Ok(headers.into_bump_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let arena = Bump::new();
        let found = match read(text, &arena) {
            Ok(line) => format!("{line:?}"),
            Err(message) => message,
        };
        assert!(found.contains(expect), "{text}\nexpected {expect}\nfound {found}");
    }

    #[test]
    fn reads_lines() {
        let at = r#""timestamp":"1970-01-01T00:00:01Z""#;
        check(r#"{"clock":"1970-01-01T00:00:01Z"}"#, "Clock(1000)");
        check(
            &format!(r#"{{"topic":"usage",{at},"value":{{"a":"}}\"]",  "b":[1]}}}}"#),
            r#"value: "{\"a\":\"}\\\"]\",  \"b\":[1]}""#,
        );
        check(
            &format!(r#"{{ "value" : "{{\"a\":1}}" , "topic":"accounts",{at}}}"#),
            r#"topic: Accounts, timestamp: 1000, key: None, value: "{\"a\":1}""#,
        );
        check(&format!(r#"{{"topic":"usage",{at},"value":""}}"#), r#"value: """#);
        check(&format!(r#"{{"topic":"usage",{at},"value":12 ,"key":"k"}}"#), r#"key: Some("k"), value: "12""#);
        check(&format!(r#"{{"topic":"usage",{at},"value":null}}"#), r#"value: "null""#);
        check(&format!(r#"{{"topic":"usage",{at},"value":[],"headers":{{"a":"b"}}}}"#), "headers: [Header { key: [97]");
        check(&format!(r#"{{"topic":"usage",{at},"value":{{"a":1,"a":01}}}}"#), r#"value: "{\"a\":1,\"a\":01}""#);
    }

    #[test]
    fn says_what_is_wrong_with_a_line() {
        let at = r#""timestamp":"1970-01-01T00:00:01Z""#;
        for (text, expect) in [
            ("", "expected an object"),
            ("[]", "expected an object"),
            ("{}", "topic, timestamp and value"),
            (r#"{"clock":"now"}"#, "clock: expected an RFC 3339 time"),
            (r#"{"clock":5}"#, "expected a string"),
            (r#"{"clock":"1970-01-01T00:00:01Z"} x"#, "nothing after"),
            (r#"{"clock":"1970-01-01T00:00:01Z","clock":"1970-01-01T00:00:01Z"}"#, "no repeated name"),
            (&format!(r#"{{"topic":"usage",{at}}}"#), "topic, timestamp and value"),
            (&format!(r#"{{"topic":"meter.usage",{at},"value":{{}}}}"#), "topic: expected"),
            (&format!(r#"{{"topic":"usage",{at},"value":{{}},"partition":0}}"#), r#"found "partition""#),
            (&format!(r#"{{"topic":"usage",{at},"value":{{"a":1}}"#), "a comma or the end"),
            (&format!(r#"{{"topic":"usage",{at},"value":{{"a":1"#), "end of a value"),
            (&format!(r#"{{"topic":"usage",{at},"value":{{"a":"#), "end of a value"),
            (&format!(r#"{{"topic":"usage",{at},"value":{{"a"#), "end of a string"),
            (&format!(r#"{{"topic":"usage",{at},"value":}}"#), "a JSON value"),
            (&format!(r#"{{"topic":"usage",{at},"value":1,"headers":{{"a":1}}}}"#), "a string"),
        ] {
            check(text, expect);
        }
        assert!(is_json(r#"{"a":1,"a":"\ud800"}"#) && !is_json(r#"{"a":01}"#));
        assert!(is_json(&format!("{}{}", "[".repeat(500), "]".repeat(500))));
    }
}
