//! The lines that `simulate` reads (docs/reference.md 12.1, 16): an input, or an instant to which the clock moves.

use bumpalo::Bump;

use crate::engine::{Ms, calendar};
use crate::ingest::decode::Header;
use crate::ingest::json::{Invalid, Kind, Reader, plain_end};

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

/// How the last usage line was written: what stood before its timestamp, and between that and its value, which was the
/// last member. A line that begins in the same way is of the same form if its value is JSON and `}` follows.
#[derive(Debug, Default)]
pub struct LineForm {
    before_timestamp: Box<str>,
    before_value: Box<str>,
}

impl LineForm {
    /// The timestamp and the value of a line of this form.
    #[inline]
    pub fn usage<'a>(&self, line: &'a str) -> Option<(&'a str, &'a str)> {
        if self.before_value.is_empty() {
            return None;
        }
        let rest = line.strip_prefix(&*self.before_timestamp)?;
        let (timestamp, rest) = rest.split_at_checked(plain_end(rest.as_bytes(), 0))?;
        let value = rest.strip_prefix(&*self.before_value)?.strip_suffix('}')?;
        // A string stands for the bytes of a record, and is read the long way.
        value.starts_with('{').then_some((timestamp, value))
    }

    /// Takes up the form of a line that is valid, if it is that of a usage record with timestamp and value last.
    pub fn learn(&mut self, line: &str) {
        let Some((before, rest)) = line.split_once("\"timestamp\"") else { return };
        let Some(open) = rest.find('"') else { return };
        let (colon, rest) = rest.split_at(open + 1);
        let (_, rest) = rest.split_at(plain_end(rest.as_bytes(), 0));
        let Some(value) = rest.find('{') else { return };
        let (before_value, rest) = rest.split_at(value);
        let spaceless = |text: &str| text.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>();
        let usual = spaceless(before) == r#"{"topic":"usage","# && spaceless(colon) == ":\"";
        if usual && spaceless(before_value) == r#"","value":"# && rest.ends_with("}}") {
            self.before_timestamp = format!("{before}\"timestamp\"{colon}").into();
            self.before_value = before_value.into();
        }
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
    fn learns_the_form_of_a_usage_line() {
        let line = |at: &str, value: &str| format!(r#"{{"topic": "usage", "timestamp":"{at}","value": {value}}}"#);
        let mut form = LineForm::default();
        form.learn(r#"{"topic":"accounts","timestamp":"1970-01-01T00:00:01Z","value":{}}"#);
        assert_eq!(form.usage(r#"{"topic":"accounts","timestamp":"1970-01-01T00:00:01Z","value":{}}"#), None);
        form.learn(&line("1970-01-01T00:00:01Z", r#"{"a":{}}"#));
        let next = line("1970-01-01T00:00:02Z", r#"{"b":"}"}"#);
        assert_eq!(form.usage(&next), Some(("1970-01-01T00:00:02Z", r#"{"b":"}"}"#)));
        assert_eq!(form.usage(&next.replace(": ", ":")), None);
        assert_eq!(form.usage(&line("1970-01-01T00:00:02Z", r#""{\"b\":1}""#)), None, "the bytes of a record");
        assert_eq!(form.usage(&next[..next.len() - 1]), Some(("1970-01-01T00:00:02Z", r#"{"b":"}""#)), "no JSON");
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
