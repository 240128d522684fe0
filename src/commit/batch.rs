//! A batch: what a shard folded of one partition and what came of it, until it goes into a transaction.

use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;

use super::journal::{JournalRecord, Run};
use super::share::{WHOLE, part_of, taken_of};
use crate::config::daemon::Kafka;
use crate::engine::effects::Refusal;
use crate::engine::{Ms, Notice, Outcome};
use crate::ingest::decode::Raw;
use crate::ingest::raw::{Head, Input};
use crate::shard::accounts::hash_account;
use crate::shard::{Sink, StateWrites};
use crate::telemetry::Tally;
use crate::wire::body::kind;
use crate::wire::notice::{CauseInput, Envelope, write_notice};
use crate::wire::quarantine::{Origin, Quarantined};

/// Notices of one batch, and records for quarantine, at most.
const NOTICES_MAX: usize = 20_000;
/// Bytes of notices, of quarantined records and of inputs of one batch, at most; one input may exceed it.
const BYTES_MAX: usize = 8 << 20;
/// Identities of one batch, and accounts that are told something in it, at most, so that a journal record stays under
/// 256 KiB.
const ACCEPTED_MAX: usize = 8_000;
const TOLD_MAX: usize = 10_000;
/// Bytes of checkpoints in one batch, at most.
pub const SLICE_BYTES_MAX: usize = 4 << 20;
/// Inputs that alternate make a run each.
const RUNS_MAX: usize = 4_000;

/// Names that go into notices and quarantined records.
#[derive(Debug)]
pub struct Names {
    /// `meterd/<consumer group>`.
    pub source: String,
    /// By `Input::index`.
    pub topics: [String; 2],
    /// A quarantined record with its headers must fit into this.
    pub dlq_bytes_max: usize,
}

impl Names {
    pub fn new(kafka: &Kafka, dlq_bytes_max: usize) -> Names {
        let topics = [kafka.topics.accounts.clone(), kafka.topics.usage.clone()];
        Names { source: format!("meterd/{}", kafka.group), topics, dlq_bytes_max }
    }
}

/// Notices as they will stand in the events topic, in one buffer.
#[derive(Debug, Default)]
pub struct Notices {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    key_end: usize,
    end: usize,
    sequence: u64,
    kind: &'static str,
    /// Of the input that caused it; `None` for a timer's.
    timestamp: Option<Ms>,
}

/// A notice of a batch.
#[derive(Clone, Copy, Debug)]
pub struct NoticeBytes<'a> {
    pub account: &'a [u8],
    pub json: &'a [u8],
    pub sequence: u64,
    /// The type without `meterd.`.
    pub kind: &'static str,
    /// Kafka timestamp of the input that caused it; `None` for a timer's.
    pub timestamp: Option<Ms>,
}

/// A closed batch, owned by the committer until the outcome of its transaction is known.
#[derive(Debug)]
pub struct Batch {
    pub partition: i32,
    pub epoch: u64,
    pub record: JournalRecord,
    pub notices: Notices,
    pub quarantined: Vec<Quarantined>,
    pub state: StateWrites,
    /// Of a claim: up to which offset of the state topic the local store is complete, if its copy is of use, and where
    /// that topic ended.
    pub follows: Option<(Option<i64>, i64)>,
    pub tally: Tally,
    /// Records and bytes folded, by `Input::index`.
    pub read: [(u64, u64); 2],
    /// Of the bounds of what it writes, in parts of [`WHOLE`].
    pub share: u32,
}

impl Batch {
    /// How much it writes of what a batch may write, in parts of [`WHOLE`].
    pub fn taken(&self) -> u32 {
        let quarantined = self.quarantined.iter().map(Quarantined::len).sum();
        let by_bytes = taken_of(BYTES_MAX, self.notices.bytes.len().max(quarantined));
        let by_state = taken_of(SLICE_BYTES_MAX, self.state.bytes_len());
        by_bytes.max(by_state).max(taken_of(NOTICES_MAX, self.notices.len().max(self.quarantined.len())))
    }

    /// Whether what it wrote would be less under this share. A claim writes what it must.
    pub fn exceeds(&self, share: u32) -> bool {
        self.follows.is_none() && self.share > share && self.taken() / 4 * 3 >= share
    }
}

/// A batch that is being folded.
#[derive(Debug)]
pub struct OpenBatch {
    names: Arc<Names>,
    partition: i32,
    pub notices: Notices,
    pub quarantined: Vec<Quarantined>,
    quarantined_bytes: usize,
    pub runs: Vec<Run>,
    /// Whether a record of the last run was held back by the wall clock.
    clamped: bool,
    digests: HashMap<u32, u32>,
    checksum: crc32fast::Hasher,
    pub tally: Tally,
    pub read: [(u64, u64); 2],
    pub started: Instant,
    /// Of the bounds of what it writes, in parts of [`WHOLE`].
    pub share: u32,
    current: Option<(Input, Head)>,
}

impl OpenBatch {
    pub fn new(names: Arc<Names>, partition: i32, started: Instant) -> OpenBatch {
        OpenBatch {
            names,
            partition,
            notices: Notices::default(),
            quarantined: Vec::new(),
            quarantined_bytes: 0,
            runs: Vec::new(),
            clamped: false,
            digests: HashMap::new(),
            checksum: crc32fast::Hasher::new(),
            tally: Tally::default(),
            read: [(0, 0); 2],
            started,
            share: WHOLE,
            current: None,
        }
    }

    /// Nothing was folded into it.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Notes that the next input is folded under a sample of the wall clock, which held its time back or not.
    pub fn begin_record(&mut self, input: Input, head: Head, raw: &Raw<'_>, wall: Ms, clamped: bool) {
        let until = head.offset + 1;
        match self.runs.last_mut() {
            Some(Run::Records { input: last, until: last_until, wall: last_wall })
                if *last == input && (*last_wall == wall || (!self.clamped && wall > *last_wall)) =>
            {
                *last_until = until;
                *last_wall = wall;
                self.clamped |= clamped;
            }
            _ => {
                self.runs.push(Run::Records { input, until, wall });
                self.clamped = clamped;
            }
        }
        checksum(&mut self.checksum, head, raw);
        let (records, bytes) = &mut self.read[input.index()];
        *records += 1;
        *bytes += head.bytes as u64;
        self.current = Some((input, head));
    }

    /// Notes what became of it.
    pub fn end_record(&mut self, raw: &Raw<'_>, outcome: &Outcome) {
        if let (Outcome::Refused(refusal), Some((input, head))) = (outcome, self.current) {
            self.quarantine(input, head, raw, refusal);
        }
        self.tally.outcome(outcome);
        self.current = None;
    }

    pub fn tick(&mut self, clock: Ms) {
        match self.runs.last_mut() {
            Some(Run::Tick { clock: last }) => *last = (*last).max(clock),
            _ => self.runs.push(Run::Tick { clock }),
        }
    }

    /// No more inputs should be folded into it.
    pub fn is_over(&self, records_max: usize, accepted: usize) -> bool {
        let records = self.read[0].0 + self.read[1].0;
        let bytes = self.read[0].1 + self.read[1].1;
        records as usize >= records_max
            || bytes as usize >= BYTES_MAX
            || self.quarantined_bytes >= part_of(BYTES_MAX, self.share)
            || self.runs.len() >= RUNS_MAX
            || accepted >= ACCEPTED_MAX
            || self.digests.len() >= TOLD_MAX
            || self.notices.entries.len().max(self.quarantined.len()) >= part_of(NOTICES_MAX, self.share)
            || self.notices.bytes.len() >= part_of(BYTES_MAX, self.share)
    }

    /// For each account with notices its hash and the digest of its notices, in order of hash.
    pub fn digests(&self) -> Vec<(u32, u32)> {
        let mut digests: Vec<(u32, u32)> = self.digests.iter().map(|(hash, digest)| (*hash, *digest)).collect();
        digests.sort_unstable();
        digests
    }

    pub fn checksum(&self) -> u32 {
        self.checksum.clone().finalize()
    }

    fn quarantine(&mut self, input: Input, head: Head, raw: &Raw<'_>, refusal: &Refusal) {
        let origin =
            Origin { topic: &self.names.topics[input.index()], partition: self.partition, offset: head.offset };
        let record = Quarantined::new(raw, origin, refusal, self.names.dlq_bytes_max);
        self.quarantined_bytes += record.len();
        self.quarantined.push(record);
    }
}

impl Sink for OpenBatch {
    fn told(&mut self, account: &str, input: Option<(&str, &str)>, notices: &[Notice]) {
        let current = self.current.filter(|_| input.is_some());
        let cause = current.zip(input).map(|((topic, head), (id, source))| CauseInput {
            topic: &self.names.topics[topic.index()],
            partition: self.partition,
            offset: head.offset,
            id,
            source,
        });
        let envelope = Envelope { account, source: &self.names.source, cause };
        let timestamp = current.map(|(_, head)| head.timestamp);
        let first = self.notices.bytes.len();
        for notice in notices {
            let start = self.notices.bytes.len();
            self.notices.bytes.extend_from_slice(account.as_bytes());
            let key_end = self.notices.bytes.len();
            write_notice(&mut self.notices.bytes, &envelope, notice);
            let (end, kind) = (self.notices.bytes.len(), kind(&notice.body));
            let timestamp = timestamp.filter(|_| notice.cause == crate::engine::Cause::Input);
            let sequence = notice.sequence;
            self.notices.entries.push(Entry { start, key_end, end, sequence, kind, timestamp });
            self.tally.notice(&notice.body);
        }
        let digest = self.digests.entry(hash_account(account) as u32).or_default();
        let mut hasher = crc32fast::Hasher::new_with_initial(*digest);
        hasher.update(&self.notices.bytes[first..]);
        *digest = hasher.finalize();
    }

    fn is_full(&self) -> bool {
        // Timers take half of a batch at most, so that inputs go on between the parts of a mass of them.
        self.notices.entries.len() >= part_of(NOTICES_MAX / 2, self.share)
            || self.notices.bytes.len() >= part_of(BYTES_MAX / 2, self.share)
            || self.digests.len() >= TOLD_MAX / 2
    }
}

impl Notices {
    /// Without notices, but with the memory that they took, unless it was unusually much.
    pub fn emptied(mut self) -> Notices {
        self.bytes.clear();
        self.entries.clear();
        if self.bytes.capacity() > 2 * BYTES_MAX { Notices::default() } else { self }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = NoticeBytes<'_>> {
        self.entries.iter().map(|entry| NoticeBytes {
            account: &self.bytes[entry.start..entry.key_end],
            json: &self.bytes[entry.key_end..entry.end],
            sequence: entry.sequence,
            kind: entry.kind,
            timestamp: entry.timestamp,
        })
    }
}

/// Adds an input to a batch's checksum; a replay that finds other bytes at the same offsets stops.
pub fn checksum(hasher: &mut crc32fast::Hasher, head: Head, raw: &Raw<'_>) {
    hasher.update(&head.offset.to_le_bytes());
    hasher.update(&head.timestamp.to_le_bytes());
    hasher.update(raw.key.unwrap_or_default());
    hasher.update(raw.value.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> OpenBatch {
        let names = Names { source: "meterd/test".into(), topics: ["a".into(), "u".into()], dlq_bytes_max: 1 << 20 };
        OpenBatch::new(Arc::new(names), 0, Instant::now())
    }

    fn refuse(batch: &mut OpenBatch, value: &[u8]) {
        let raw = Raw { key: None, value: Some(value), headers: &[], timestamp: 0 };
        let head = Head { offset: batch.read[1].0 as i64, timestamp: 0, bytes: 0 };
        batch.begin_record(Input::Usage, head, &raw, 0, false);
        let refusal = Refusal::new(crate::engine::effects::Reason::BadKey, "");
        batch.end_record(&raw, &Outcome::Refused(refusal));
    }

    /// How many such records fit.
    fn fits(share: u32, value: &[u8]) -> usize {
        let mut batch = open();
        batch.share = share;
        (1..)
            .find(|_| {
                refuse(&mut batch, value);
                batch.is_over(usize::MAX, 0)
            })
            .expect("it has a bound")
    }

    /// Records for quarantine are written as they came: their bytes count, and many small ones count as many.
    #[test]
    fn a_batch_is_bound_by_what_it_writes() {
        let large = vec![b'x'; 64 << 10];
        assert!((120..=128).contains(&fits(WHOLE, &large)), "{} large ones", fits(WHOLE, &large));
        assert_eq!(fits(WHOLE, b"x"), NOTICES_MAX);
        assert!((30..=32).contains(&fits(WHOLE / 4, &large)), "{} large ones", fits(WHOLE / 4, &large));
        assert_eq!(fits(WHOLE / 4, b"x"), NOTICES_MAX / 4);
    }

    #[test]
    fn each_bound_ends_a_batch_by_itself() {
        type Fill = fn(&mut OpenBatch, usize);
        let entry = Entry { start: 0, key_end: 0, end: 0, sequence: 0, kind: "", timestamp: None };
        let told: Fill = |batch, size| batch.digests = (0..size as u32).map(|account| (account, 0)).collect();
        let written: Fill = |batch, size| batch.notices.bytes = vec![0; size];
        let bounds: [(&str, Fill, usize); 4] = [
            ("bytes read", |batch, size| batch.read = [(0, size as u64 / 3), (0, (size - size / 3) as u64)], BYTES_MAX),
            ("runs", |batch, size| batch.runs = vec![Run::Tick { clock: 0 }; size], RUNS_MAX),
            ("accounts told", told, TOLD_MAX),
            ("bytes of notices", written, BYTES_MAX),
        ];
        for (name, fill, bound) in bounds {
            let over = |size| {
                let mut batch = open();
                fill(&mut batch, size);
                batch.is_over(usize::MAX, 0)
            };
            assert_eq!((over(bound - 1), over(bound)), (false, true), "{name}");
        }
        let mut batch = open();
        assert!(!batch.is_over(usize::MAX, ACCEPTED_MAX - 1) && batch.is_over(usize::MAX, ACCEPTED_MAX), "identities");
        batch.read = [(3, 0), (7, 0)];
        assert!(!batch.is_over(11, 0) && batch.is_over(10, 0), "records");
        batch.notices.entries = vec![entry; NOTICES_MAX - 1];
        assert!(!batch.is_over(usize::MAX, 0), "notices");
        batch.notices.entries.push(entry);
        assert!(batch.is_over(usize::MAX, 0), "notices");
    }

    /// Inputs go on between the parts of a mass of timers.
    #[test]
    fn timers_take_half_of_a_batch() {
        let entry = Entry { start: 0, key_end: 0, end: 0, sequence: 0, kind: "", timestamp: None };
        let full = |entries, bytes, told: usize| {
            let mut batch = open();
            batch.notices = Notices { entries: vec![entry; entries], bytes: vec![0; bytes] };
            batch.digests = (0..told as u32).map(|account| (account, 0)).collect();
            batch.is_full()
        };
        assert!(!full(NOTICES_MAX / 2 - 1, BYTES_MAX / 2 - 1, TOLD_MAX / 2 - 1));
        assert!(full(NOTICES_MAX / 2, 0, 0) && full(0, BYTES_MAX / 2, 0) && full(0, 0, TOLD_MAX / 2));
    }

    /// A run is folded again under the wall clock of its last record: as long as no record was held back by an earlier one.
    #[test]
    fn records_share_a_run_while_the_wall_clock_held_none_of_them_back() {
        let mut batch = open();
        let mut record = |input, offset, wall, clamped| {
            let raw = Raw { key: None, value: None, headers: &[], timestamp: 0 };
            batch.begin_record(input, Head { offset, timestamp: 0, bytes: 5 }, &raw, wall, clamped);
            batch.runs.clone()
        };
        let run = |input, until, wall| Run::Records { input, until, wall };
        assert_eq!(record(Input::Usage, 0, 10, false), [run(Input::Usage, 1, 10)]);
        assert_eq!(record(Input::Usage, 1, 20, false), [run(Input::Usage, 2, 20)], "a later clock changes nothing");
        assert_eq!(record(Input::Usage, 2, 20, true), [run(Input::Usage, 3, 20)], "the same clock");
        assert_eq!(record(Input::Usage, 3, 30, false)[1..], [run(Input::Usage, 4, 30)], "record 2 was held back by 20");
        assert_eq!(
            record(Input::Usage, 4, 25, false)[2..],
            [run(Input::Usage, 5, 25)],
            "an earlier one might hold back"
        );
        assert_eq!(record(Input::Accounts, 0, 25, false)[3..], [run(Input::Accounts, 1, 25)], "another input");
        assert_eq!(batch.read, [(1, 5), (5, 25)]);
        batch.tick(40);
        batch.tick(30);
        assert_eq!(batch.runs[4..], [Run::Tick { clock: 40 }]);
        assert_ne!(batch.checksum(), open().checksum());
    }
}
