//! A record as Kafka gives it, borrowed from the client's buffer.

use crate::engine::Ms;

/// Any bytes may stand in key, value and headers.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
    /// Of the record in Kafka.
    pub timestamp: Ms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

impl<'a> Raw<'a> {
    /// The last header of that name; the inner `None` is one without a value.
    pub fn header(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.headers.iter().rev().find(|header| header.key == name.as_bytes()).map(|header| header.value)
    }
}
