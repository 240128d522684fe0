//! Records for the state topic, in one buffer.

use crate::store::PartKey;
use crate::store::record;

/// Keys and values of records for the state topic, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateWrites {
    bytes: Vec<u8>,
    /// Where each key and each value ends.
    ends: Vec<(usize, usize)>,
}

impl StateWrites {
    /// Makes room, so that what is added is not moved about.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    /// Adds a part of an account as of a batch.
    pub fn push_part(&mut self, account: &str, key: PartKey, as_of: u64, part: &[u8]) {
        record::push_part_key(&mut self.bytes, account, key);
        let key_end = self.bytes.len();
        record::push_part_value(&mut self.bytes, as_of, part);
        self.ends.push((key_end, self.bytes.len()));
    }

    /// Key and value of each record.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts
            .zip(&self.ends)
            .map(|(start, (key_end, end))| (&self.bytes[start..*key_end], &self.bytes[*key_end..*end]))
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }
}
