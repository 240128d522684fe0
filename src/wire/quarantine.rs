//! Quarantined records (docs/reference.md 10): key, value and headers as they came, and why they are here.

use crate::engine::calendar;
use crate::engine::effects::{Reason, Refusal};
use crate::ingest::decode::{Header, Raw};

/// What is left of a value that was too large.
const CUT_VALUE_BYTES: usize = 1_024;
/// Room that the topic's limit leaves for what Kafka adds to a record.
const RECORD_MARGIN_BYTES: usize = 4_096;
/// Of a message in a header.
const MESSAGE_BYTES_MAX: usize = 2_048;

/// Where a record came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
}

/// A record for `meter.dlq`, its own so that it can wait for its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Names and values may be any bytes.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Quarantined {
    /// `bytes_max` is the largest record that the topic takes. What is larger loses first its headers, then the end of
    /// its value, then of its key, and the message says so: bad input must never stop the daemon.
    pub fn new(raw: &Raw<'_>, origin: Origin<'_>, refusal: &Refusal, bytes_max: usize) -> Quarantined {
        let mut message = cut_text(&refusal.message, MESSAGE_BYTES_MAX).to_owned();
        let room = bytes_max.saturating_sub(RECORD_MARGIN_BYTES).saturating_sub(message.len());
        let (mut key, mut value, mut headers) = (raw.key, raw.value, raw.headers);
        if refusal.reason == Reason::TooLarge {
            value = value.map(|value| &value[..value.len().min(CUT_VALUE_BYTES)]);
        }
        let bytes_of_headers: usize = headers.iter().map(header_bytes).sum();
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        if length(key) + length(value) + bytes_of_headers > room {
            headers = &[];
            message += "; its headers were left out, as the record would not fit into the quarantine topic";
            if length(key) + length(value) > room {
                key = key.map(|key| &key[..key.len().min(room)]);
                let left = room - length(key);
                value = value.map(|value| &value[..value.len().min(left)]);
                message += ", and what was longer than it takes was cut";
            }
        }
        let mut kept: Vec<(Vec<u8>, Option<Vec<u8>>)> = headers.iter().map(own).collect();
        kept.extend(own_headers(raw, origin, refusal.reason, message));
        Quarantined { key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec), headers: kept }
    }

    /// Bytes of key, value and headers.
    pub fn len(&self) -> usize {
        let part = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + part(value)).sum();
        part(&self.key) + part(&self.value) + headers
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn own_headers(raw: &Raw<'_>, origin: Origin<'_>, reason: Reason, message: String) -> [(Vec<u8>, Option<Vec<u8>>); 6] {
    let header = |name: &str, value: String| (format!("__meterd.errors.{name}").into_bytes(), Some(value.into_bytes()));
    [
        header("topic", origin.topic.to_owned()),
        header("partition", origin.partition.to_string()),
        header("offset", origin.offset.to_string()),
        header("timestamp", calendar::format_time(raw.timestamp)),
        header("reason", reason.name().to_owned()),
        header("message", message),
    ]
}

/// Name, value and the lengths that Kafka writes before them.
fn header_bytes(header: &Header<'_>) -> usize {
    header.key.len() + header.value.map_or(0, <[u8]>::len) + 10
}

fn own(header: &Header<'_>) -> (Vec<u8>, Option<Vec<u8>>) {
    (header.key.to_vec(), header.value.map(<[u8]>::to_vec))
}

/// The longest beginning of at most so many bytes that ends between two characters.
fn cut_text(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin<'static> = Origin { topic: "meter.usage", partition: 3, offset: 42 };

    fn quarantine(value: &[u8], headers: &[Header<'_>], reason: Reason, bytes_max: usize) -> Quarantined {
        let raw = Raw { key: Some(b"acme"), value: Some(value), headers, timestamp: 1_000 };
        Quarantined::new(&raw, ORIGIN, &Refusal::new(reason, "expected this, found that"), bytes_max)
    }

    fn header<'a>(record: &'a Quarantined, name: &str) -> &'a str {
        let found = record.headers.iter().rev().find(|(key, _)| key == name.as_bytes()).expect(name);
        std::str::from_utf8(found.1.as_deref().expect("a value")).expect("UTF-8")
    }

    #[test]
    fn keeps_everything_and_says_why() {
        let headers = [Header { key: b"\xFF", value: None }, Header { key: b"trace", value: Some(b"\x00\xFE") }];
        let record = quarantine(b"{", &headers, Reason::BadJson, 1_000_000);
        assert_eq!(record.key.as_deref(), Some(b"acme".as_slice()));
        assert_eq!(record.value.as_deref(), Some(b"{".as_slice()));
        assert_eq!(record.headers[..2], [(vec![0xFF], None), (b"trace".to_vec(), Some(vec![0, 0xFE]))]);
        for (name, expect) in [
            ("topic", "meter.usage"),
            ("partition", "3"),
            ("offset", "42"),
            ("timestamp", "1970-01-01T00:00:01.000Z"),
            ("reason", "bad_json"),
            ("message", "expected this, found that"),
        ] {
            assert_eq!(header(&record, &format!("__meterd.errors.{name}")), expect);
        }
    }

    #[test]
    fn cuts_what_is_too_large() {
        let record = quarantine(&[b'x'; 70_000], &[], Reason::TooLarge, 1_000_000);
        assert_eq!(record.value.expect("a value").len(), 1_024);
    }

    #[test]
    fn a_record_always_fits_the_topic() {
        let long = [b'h'; 9_000];
        let headers = [Header { key: b"long", value: Some(&long) }];
        let record = quarantine(&[b'x'; 100], &headers, Reason::BadJson, 10_000);
        assert_eq!(record.headers.len(), 6);
        assert_eq!(record.value.as_ref().map(Vec::len), Some(100));
        assert!(header(&record, "__meterd.errors.message").contains("headers were left out"));
        for bytes_max in [0, 4_096, 5_000, 10_000] {
            let record = quarantine(&[b'x'; 60_000], &headers, Reason::BadField, bytes_max);
            assert!(record.len() <= bytes_max.max(1_000), "{} bytes for {bytes_max}", record.len());
        }
    }
}
