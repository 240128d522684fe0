//! Records as they came, copied out of the Kafka client's buffers into one arena for a batch.

use bumpalo::Bump;

use super::decode::{Header, Raw};
use crate::engine::Ms;

/// Which of the two inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Input {
    Accounts,
    Usage,
}

impl Input {
    pub const BOTH: [Input; 2] = [Input::Accounts, Input::Usage];

    pub fn other(self) -> Input {
        match self {
            Input::Accounts => Input::Usage,
            Input::Usage => Input::Accounts,
        }
    }

    /// For arrays that hold one thing for each input.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Consecutive records of one topic and partition, in offset order.
///
/// Layout of `bytes`, for each record from its `start`: key, value, then for each header the lengths of its key and
/// value (4 bytes each, little-endian, -1 for an absent value), the key and the value.
#[derive(Debug, Default)]
pub struct RawBatch {
    bytes: Vec<u8>,
    records: Vec<Meta>,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    offset: i64,
    timestamp: Ms,
    start: u32,
    /// -1: absent.
    key: i32,
    /// -1: absent.
    value: i32,
    headers: u32,
}

/// A record of a batch: its place and time; `raw` gives its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub offset: i64,
    pub timestamp: Ms,
    pub bytes: usize,
}

impl RawBatch {
    /// Starts a record; its headers follow by `push_header`.
    pub fn push(&mut self, offset: i64, timestamp: Ms, key: Option<&[u8]>, value: Option<&[u8]>) {
        let start = u32::try_from(self.bytes.len()).expect("a batch is cut long before 4 GiB");
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let (key, value) = (length(key), length(value));
        self.records.push(Meta { offset, timestamp, start, key, value, headers: 0 });
    }

    pub fn push_header(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.bytes.extend_from_slice(&length(Some(key)).to_le_bytes());
        self.bytes.extend_from_slice(&length(value).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.records.last_mut().expect("a header belongs to a record").headers += 1;
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    pub fn head(&self, index: usize) -> Option<Head> {
        let meta = self.records.get(index)?;
        let bytes = meta.key.max(0) as usize + meta.value.max(0) as usize;
        Some(Head { offset: meta.offset, timestamp: meta.timestamp, bytes })
    }

    /// The record's bytes; its headers stand in the arena.
    pub fn raw_in<'a>(&'a self, index: usize, arena: &'a Bump) -> Raw<'a> {
        let meta = &self.records[index];
        let mut rest = &self.bytes[meta.start as usize..];
        let key = take(&mut rest, meta.key);
        let value = take(&mut rest, meta.value);
        let header = |_| take_header(&mut rest);
        let headers: &[Header<'_>] = match meta.headers {
            0 => &[],
            count => arena.alloc_slice_fill_with(count as usize, header),
        };
        Raw { key, value, headers, timestamp: meta.timestamp }
    }

    /// The record's bytes; `headers` holds its headers, and allocates only if there are some.
    pub fn raw<'a>(&'a self, index: usize, headers: &'a mut Vec<Header<'a>>) -> Raw<'a> {
        let meta = &self.records[index];
        let mut rest = &self.bytes[meta.start as usize..];
        let key = take(&mut rest, meta.key);
        let value = take(&mut rest, meta.value);
        headers.clear();
        for _ in 0..meta.headers {
            headers.push(take_header(&mut rest));
        }
        Raw { key, value, headers, timestamp: meta.timestamp }
    }
}

fn length(bytes: Option<&[u8]>) -> i32 {
    bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).expect("Kafka's lengths are of 31 bits"))
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Header<'a> {
    let (key_length, value_length) = (take_length(rest), take_length(rest));
    let key = take(rest, key_length).unwrap_or_default();
    Header { key, value: take(rest, value_length) }
}

fn take_length(rest: &mut &[u8]) -> i32 {
    let (length, after) = rest.split_at(4);
    *rest = after;
    i32::from_le_bytes(length.try_into().expect("four bytes"))
}

fn take<'a>(rest: &mut &'a [u8], length: i32) -> Option<&'a [u8]> {
    if length < 0 {
        return None;
    }
    let (taken, after) = rest.split_at(length as usize);
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_pushed() {
        let mut batch = RawBatch::default();
        batch.push(7, 70, Some(b"acme"), Some(b"{}"));
        batch.push(8, 80, None, None);
        batch.push_header(b"\xff", Some(b"x"));
        batch.push_header(b"empty", None);
        batch.push(9, 90, Some(b""), Some(b"z"));
        let mut headers = Vec::new();
        let raw = batch.raw(1, &mut headers);
        assert_eq!((raw.key, raw.value, raw.timestamp), (None, None, 80));
        assert_eq!((raw.headers[0].key, raw.headers[0].value), (&b"\xff"[..], Some(&b"x"[..])));
        assert_eq!((raw.headers[1].key, raw.headers[1].value), (&b"empty"[..], None));
        let arena = Bump::new();
        assert_eq!(batch.raw_in(1, &arena).headers, raw.headers);
        let mut headers = Vec::new();
        let raw = batch.raw(2, &mut headers);
        assert_eq!((raw.key, raw.value), (Some(&b""[..]), Some(&b"z"[..])));
        assert_eq!(batch.head(0).map(|head| (head.offset, head.bytes)), Some((7, 6)));
    }
}
