//! Partitions of the simulated topics: offsets, transactions, isolation, retention, compaction.

use std::collections::{BTreeMap, HashSet};

use meterd::engine::Ms;

pub const TOPICS: [&str; 6] = ["usage", "accounts", "events", "dlq", "journal", "state"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Usage,
    Accounts,
    Events,
    Dlq,
    Journal,
    State,
}

impl Topic {
    pub fn of(name: &str) -> Topic {
        let all = [Topic::Usage, Topic::Accounts, Topic::Events, Topic::Dlq, Topic::Journal, Topic::State];
        all[TOPICS.iter().position(|topic| *topic == name).expect("one of the six topics")]
    }

    pub fn name(self) -> &'static str {
        TOPICS[self as usize]
    }
}

/// A record as its producer gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub offset: i64,
    pub time: Ms,
    pub content: Content,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Of a transaction whose marker is not written here yet.
    Open(u64),
    Committed,
    Aborted,
    /// The mark that ends a transaction: it takes an offset and no reader gets it.
    Marker,
    /// Removed by compaction; its offset stays.
    Compacted,
}

/// One partition. Offsets are places in `entries`; what retention removed is kept for the checker.
#[derive(Default)]
pub struct Log {
    entries: Vec<Entry>,
    start: i64,
    /// First offsets of the transactions that are open here.
    open: BTreeMap<u64, i64>,
}

impl Log {
    pub fn start(&self) -> i64 {
        self.start
    }

    pub fn high(&self) -> i64 {
        self.entries.len() as i64
    }

    pub fn stable_end(&self) -> i64 {
        self.open.values().min().copied().unwrap_or(self.high())
    }

    pub fn append(&mut self, time: Ms, content: Content, transaction: Option<u64>) -> i64 {
        let offset = self.high();
        let kind = match transaction {
            None => Kind::Plain,
            Some(transaction) => {
                self.open.entry(transaction).or_insert(offset);
                Kind::Open(transaction)
            }
        };
        self.entries.push(Entry { offset, time, content, kind });
        offset
    }

    /// Writes the marker of a transaction that wrote here.
    pub fn mark(&mut self, time: Ms, transaction: u64, commit: bool) {
        if let Some(first) = self.open.remove(&transaction) {
            for entry in &mut self.entries[first as usize..] {
                if entry.kind == Kind::Open(transaction) {
                    entry.kind = if commit { Kind::Committed } else { Kind::Aborted };
                }
            }
        }
        let offset = self.high();
        self.entries.push(Entry { offset, time, content: Content::default(), kind: Kind::Marker });
    }

    /// What a read_committed reader may have from an offset on, at most `count` records; and the offset after the last
    /// one that was looked at.
    pub fn fetch(&self, from: i64, count: usize) -> (Vec<Entry>, i64) {
        let mut found = Vec::new();
        let mut at = from;
        let end = self.stable_end();
        while at < end && found.len() < count {
            let entry = &self.entries[at as usize];
            if matches!(entry.kind, Kind::Plain | Kind::Committed) {
                found.push(entry.clone());
            }
            at += 1;
        }
        (found, at)
    }

    /// All committed records, those that retention removed included.
    pub fn committed(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.kind, Kind::Plain | Kind::Committed))
    }

    /// DeleteRecords.
    pub fn trim(&mut self, to: i64) {
        self.start = self.start.max(to.min(self.stable_end()));
    }

    /// Removes committed records that a later one of the same key replaced, before `before`.
    pub fn compact(&mut self, before: i64) {
        let before = before.min(self.stable_end()).max(0) as usize;
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        for entry in self.entries[..before].iter_mut().rev() {
            if matches!(entry.kind, Kind::Plain | Kind::Committed) {
                let key = entry.content.key.clone().unwrap_or_default();
                if !seen.insert(key) {
                    entry.kind = Kind::Compacted;
                    entry.content = Content::default();
                }
            }
        }
    }
}
