//! The records in quarantine: each refused input once, in order, as it came, with the reason that the fold gives.

use super::report::{Difference, Halt, shown};
use super::written::{Found, Written};
use crate::config::daemon::Topics;
use crate::wire::quarantine::Quarantined;

pub struct Quarantine<'r> {
    written: Written<'r>,
    topics: &'r Topics,
    /// The input partition whose records are compared.
    of: i32,
    /// Records were removed from the topic's beginning, and the first that is left was not met yet.
    seeking: bool,
    pub compared: u64,
}

/// Names that tell where a record came from, and why it is here.
const NAMES: [&str; 4] = ["topic", "partition", "offset", "reason"];

impl<'r> Quarantine<'r> {
    pub fn new(written: Written<'r>, topics: &'r Topics, of: i32) -> Quarantine<'r> {
        let seeking = written.cut;
        Quarantine { written, topics, of, seeking, compared: 0 }
    }

    pub fn compare(&mut self, batch: u64, expected: &[Quarantined]) -> Result<(), Halt> {
        for record in expected {
            let wanted = describe(|name| header(record, name));
            let Some(found) = self.next()? else {
                if self.seeking {
                    return Ok(());
                }
                return Err(self.differs(batch, wanted, None, "the end of the topic".into()));
            };
            let there = describe(|name| own_header(&found, name));
            if there != wanted {
                if self.seeking {
                    self.written.put_back(found);
                    continue;
                }
                return Err(self.differs(batch, wanted, Some(found.offset), there));
            }
            // What does not fit into the topic is cut, and what fits is the operator's to change.
            let same = |found: &[u8], expected: &Option<Vec<u8>>| {
                let expected = expected.as_deref().unwrap_or_default();
                found.starts_with(expected) || expected.starts_with(found)
            };
            if !same(&found.key, &record.key) || !same(&found.value, &record.value) {
                let wanted = format!("{wanted}: {}", shown(record.value.as_deref().unwrap_or_default()));
                let there = format!("{there}: {}", shown(&found.value));
                return Err(self.differs(batch, wanted, Some(found.offset), there));
            }
            self.seeking = false;
            self.compared += 1;
        }
        Ok(())
    }

    /// After the last batch: nothing else may have been there when the journal was looked at.
    pub fn finish(&mut self, batch: u64) -> Result<(), Halt> {
        match self.next()? {
            Some(found) if found.offset < self.written.settled => {
                let there = describe(|name| own_header(&found, name));
                Err(self.differs(batch, "no further record".into(), Some(found.offset), there))
            }
            _ => Ok(()),
        }
    }

    /// The next record that came from this partition of one of the inputs.
    fn next(&mut self) -> Result<Option<Found>, Halt> {
        while let Some(found) = self.written.next()? {
            let topic = own_header(&found, "topic");
            let ours = [&self.topics.usage, &self.topics.accounts].iter().any(|input| **input == topic);
            if ours && own_header(&found, "partition") == self.of.to_string() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn differs(&self, batch: u64, expected: String, offset: Option<i64>, found: String) -> Halt {
        Halt::differs(Difference {
            what: "quarantined record",
            topic: self.written.topic.to_owned(),
            partition: self.written.partition,
            offset,
            batch: Some(batch),
            expected,
            found,
            ..Difference::default()
        })
    }
}

fn describe(header: impl Fn(&str) -> String) -> String {
    NAMES.map(|name| format!("{name} {}", header(name))).join(", ")
}

fn own_header(found: &Found, name: &str) -> String {
    found.header(&format!("__meterd.errors.{name}")).unwrap_or_default().to_owned()
}

fn header(record: &Quarantined, name: &str) -> String {
    let name = format!("__meterd.errors.{name}");
    let found = record.headers.iter().rev().find(|(key, _)| *key == name.as_bytes());
    let value = found.and_then(|(_, value)| value.as_deref()).unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}
