//! The notices in the events topic: each exactly once, in order for its account, and byte for byte those that the fold
//! gives. Within a batch accounts may be told in another order than the fold's, as timers fire between inputs or after
//! them.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde::Deserialize;

use super::report::{Difference, Halt, shown};
use super::written::{Found, Written};
use crate::commit::batch;
use crate::ingest::partition::{Partitioner, place};

pub struct Notices<'r> {
    written: Written<'r>,
    /// Where one partition of events serves several: how keys are placed, among how many, and which is verified.
    among: Option<(Partitioner, i32, i32)>,
    /// The last sequence of each account in the topic so far.
    told: HashMap<Box<str>, u64>,
    /// The sequence of each account as it was loaded; what was told before is only counted.
    loaded: HashMap<Box<str>, u64>,
    /// Records were removed from the topic's beginning, and the first that is left was not met yet.
    seeking: bool,
    pub compared: u64,
}

/// A notice of this partition that was found.
struct Told {
    found: Found,
    account: Box<str>,
    sequence: u64,
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    subject: std::borrow::Cow<'a, str>,
    data: PeekData,
}

#[derive(Deserialize)]
struct PeekData {
    sequence: u64,
}

/// Expected notices by account and sequence.
type Expected<'a> = BTreeMap<(Vec<u8>, u64), &'a [u8]>;

impl<'r> Notices<'r> {
    pub fn new(written: Written<'r>, among: Option<(Partitioner, i32, i32)>) -> Notices<'r> {
        let seeking = written.cut;
        Notices { written, among, told: HashMap::new(), loaded: HashMap::new(), seeking, compared: 0 }
    }

    /// Notes that an account was loaded as it stood after so many notices.
    pub fn loaded(&mut self, account: &str, sequence: u64) {
        self.loaded.insert(account.into(), sequence);
    }

    /// Compares the notices of a batch with those that come next in the topic.
    pub fn compare(&mut self, batch: u64, notices: &batch::Notices) -> Result<(), Halt> {
        let mut expected: Expected<'_> =
            notices.iter().map(|notice| ((notice.account.to_vec(), notice.sequence), notice.json)).collect();
        while !expected.is_empty() {
            let Some(told) = self.next(batch)? else {
                if self.seeking {
                    return Ok(());
                }
                let (account, json) = first(&expected);
                let found = "the end of the topic".into();
                return Err(Halt::differs(Difference { found, ..self.difference(batch, account, json) }));
            };
            match expected.remove(&(told.account.as_bytes().to_vec(), told.sequence)) {
                Some(json) if json == told.found.value => {}
                None if self.seeking => {
                    // It is told by a later batch; what this one told was removed from the topic.
                    self.written.put_back(told.found);
                    return Ok(());
                }
                other => {
                    let (account, json) =
                        other.map_or_else(|| first(&expected), |json| (told.account.as_bytes(), json));
                    let (offset, found) = (Some(told.found.offset), shown(&told.found.value));
                    return Err(Halt::differs(Difference { offset, found, ..self.difference(batch, account, json) }));
                }
            }
            self.count(batch, &told)?;
            self.compared += 1;
        }
        self.seeking &= notices.is_empty() || self.compared == 0;
        Ok(())
    }

    /// After the last batch: nothing else may have been there when the journal was looked at.
    pub fn finish(&mut self, batch: u64) -> Result<(), Halt> {
        match self.next(batch)? {
            Some(told) if told.found.offset < self.written.settled => Err(Halt::differs(Difference {
                offset: Some(told.found.offset),
                account: Some(told.account.into()),
                found: shown(&told.found.value),
                ..self.difference(batch, b"", b"no further notice")
            })),
            _ => Ok(()),
        }
    }

    /// The next notice of this partition that the fold must give, too.
    fn next(&mut self, batch: u64) -> Result<Option<Told>, Halt> {
        while let Some(found) = self.written.next()? {
            let Some(told) = read(found, self.among).map_err(|(found, why)| {
                let difference = self.difference(batch, &found.key, why.as_bytes());
                Halt::differs(Difference { offset: Some(found.offset), found: shown(&found.value), ..difference })
            })?
            else {
                continue;
            };
            if self.loaded.get(&told.account).is_none_or(|loaded| told.sequence > *loaded) {
                return Ok(Some(told));
            }
            self.count(batch, &told)?;
        }
        Ok(None)
    }

    /// Each account's sequence counts 1, 2, 3, …
    fn count(&mut self, batch: u64, told: &Told) -> Result<(), Halt> {
        let before = self.told.insert(told.account.clone(), told.sequence);
        let next = before.map(|before| before + 1).or((!self.written.cut).then_some(1));
        if next.is_some_and(|next| next != told.sequence) {
            let expected = format!("the notice with sequence {} of its account", next.unwrap_or_default());
            return Err(Halt::differs(Difference {
                offset: Some(told.found.offset),
                found: shown(&told.found.value),
                ..self.difference(batch, told.account.as_bytes(), expected.as_bytes())
            }));
        }
        Ok(())
    }

    fn difference(&self, batch: u64, account: &[u8], expected: &[u8]) -> Difference {
        Difference {
            what: "notice",
            topic: self.written.topic.to_owned(),
            partition: self.written.partition,
            batch: Some(batch),
            account: Some(String::from_utf8_lossy(account).into_owned()),
            expected: shown(expected),
            ..Difference::default()
        }
    }
}

fn first<'e>(expected: &'e Expected<'_>) -> (&'e [u8], &'e [u8]) {
    expected.first_key_value().map_or((b"", b"no further notice of this batch"), |((account, _), json)| (account, json))
}

/// Reads what names a notice. `None`: it is of another partition that shares this one of events.
fn read(found: Found, among: Option<(Partitioner, i32, i32)>) -> Result<Option<Told>, (Found, &'static str)> {
    if let Some((partitioner, partitions, of)) = among
        && place(partitioner, &found.key, partitions).is_some_and(|place| place != of)
    {
        return Ok(None);
    }
    let peeked = serde_json::from_slice::<Peek<'_>>(&found.value);
    match peeked.map(|peek| (Box::<str>::from(&*peek.subject), peek.data.sequence)) {
        Ok((account, _)) if account.as_bytes() != found.key => Err((found, "a notice whose key is its account")),
        Ok((account, sequence)) => Ok(Some(Told { found, account, sequence })),
        Err(_) => Err((found, "a notice as meterd writes it")),
    }
}
