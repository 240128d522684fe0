//! The topics of one partition in memory, and what others do just before somebody calls.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use meterd::commit::Stop;
use meterd::commit::batch::Batch;
use meterd::commit::kafka::{Log, LogRecord, Machine, Take};
use meterd::commit::reader::Stretch;
use meterd::config::daemon::Topics;
use meterd::engine::Ms;
use meterd::ingest::raw::{Input, RawBatch};

pub const NAMES: [&str; 6] = ["usage", "accounts", "events", "dlq", "journal", "state"];

pub fn names() -> Topics {
    let [usage, accounts, events, dlq, journal, state] = NAMES.map(str::to_owned);
    Topics { usage, accounts, events, dlq, journal, state }
}

/// What the brokers hold. At most one transaction is open.
#[derive(Default)]
pub struct Broker {
    logs: BTreeMap<&'static str, Vec<Record>>,
    /// By `Input::index`.
    offsets: [Option<i64>; 2],
    pending: Option<[i64; 2]>,
}

#[derive(Clone)]
struct Record {
    offset: i64,
    time: Ms,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    stands: Stands,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Open,
    Committed,
    /// The mark that ends a transaction takes an offset.
    Mark,
}

impl Broker {
    pub fn append(&mut self, topic: &'static str, time: Ms, key: Option<&[u8]>, value: &[u8]) -> i64 {
        self.push(topic, time, key, value, Stands::Committed)
    }

    fn push(&mut self, topic: &'static str, time: Ms, key: Option<&[u8]>, value: &[u8], stands: Stands) -> i64 {
        let log = self.logs.entry(topic).or_default();
        let offset = log.len() as i64;
        log.push(Record { offset, time, key: key.map(<[u8]>::to_vec), value: Some(value.to_vec()), stands });
        offset
    }

    /// The records of a batch with its offsets, in a transaction that stays open; the journal record's offset.
    pub fn open(&mut self, batch: &Batch, time: Ms) -> i64 {
        for (key, value) in batch.state.iter() {
            self.push("state", time, Some(key), value, Stands::Open);
        }
        for notice in batch.notices.iter() {
            self.push("events", time, Some(notice.account), notice.json, Stands::Open);
        }
        self.pending = Some(batch.record.end.next);
        self.push("journal", time, None, &batch.record.encode(), Stands::Open)
    }

    /// The transaction's mark in the group's offsets.
    pub fn end_offsets(&mut self) {
        if let Some(offsets) = self.pending.take() {
            self.offsets = offsets.map(Some);
        }
    }

    /// Its marks in the topics, which may come later.
    pub fn end_records(&mut self) {
        for log in self.logs.values_mut() {
            if log.iter().any(|record| record.stands == Stands::Open) {
                log.iter_mut().filter(|record| record.stands == Stands::Open).for_each(Record::commit);
                let offset = log.len() as i64;
                log.push(Record { offset, time: 0, key: None, value: None, stands: Stands::Mark });
            }
        }
    }

    pub fn commit(&mut self, batch: &Batch, time: Ms) -> i64 {
        let offset = self.open(batch, time);
        self.end_offsets();
        self.end_records();
        offset
    }

    /// Another record stands where one was, as after an election of a leader that did not have it.
    pub fn replace(&mut self, topic: &'static str, offset: i64, value: &[u8]) {
        self.logs.get_mut(topic).expect("the topic has records")[offset as usize].value = Some(value.to_vec());
    }

    /// The records from an offset on are gone.
    pub fn cut(&mut self, topic: &'static str, from: i64) {
        self.logs.get_mut(topic).expect("the topic has records").truncate(from as usize);
    }

    fn log(&self, topic: &str) -> &[Record] {
        self.logs.get(topic).map_or(&[], Vec::as_slice)
    }

    pub fn high(&self, topic: &str) -> i64 {
        self.log(topic).len() as i64
    }

    fn stable_end(&self, topic: &str) -> i64 {
        let open = self.log(topic).iter().find(|record| record.stands == Stands::Open);
        open.map_or(self.high(topic), |record| record.offset)
    }
}

/// A call of whoever reads the topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Watermarks(&'static str),
    StableOffsets,
    /// It came to a transaction that is open, and waits.
    Wait,
}

type Meanwhile = Box<dyn FnOnce(&mut Broker)>;

/// Reads the topics; what is in `meanwhile` happens once, just before the first such call.
pub struct Reader {
    pub broker: Rc<RefCell<Broker>>,
    pub meanwhile: RefCell<Vec<(Call, Meanwhile)>>,
}

impl Reader {
    fn happens(&self, call: Call) -> bool {
        let found = self.meanwhile.borrow().iter().position(|(at, _)| *at == call);
        let Some(found) = found else { return false };
        let (_, happen) = self.meanwhile.borrow_mut().remove(found);
        happen(&mut self.broker.borrow_mut());
        true
    }
}

impl Machine for Reader {}

impl Log for Reader {
    fn watermarks(&self, topic: &str, _partition: i32) -> Result<(i64, i64), Stop> {
        let name = NAMES.into_iter().find(|name| *name == topic).expect("one of the topics");
        self.happens(Call::Watermarks(name));
        Ok((0, self.broker.borrow().high(topic)))
    }

    fn stable_end(&self, topic: &str, _partition: i32) -> Result<i64, Stop> {
        Ok(self.broker.borrow().stable_end(topic))
    }

    fn stable_offsets(&self, topics: [&str; 2], _partition: i32) -> Result<[Option<i64>; 2], Stop> {
        assert_eq!(topics, ["accounts", "usage"]);
        self.happens(Call::StableOffsets);
        while self.broker.borrow().pending.is_some() {
            assert!(self.happens(Call::Wait), "the group's offsets are pending for ever");
        }
        Ok(self.broker.borrow().offsets)
    }

    fn read(&self, stretch: Stretch<'_>, take: Take<'_>) -> Result<(), Stop> {
        let Stretch { topic, from, until, .. } = stretch;
        let mut at = from;
        while at < until {
            let end = self.broker.borrow().stable_end(topic).min(until);
            if at == end {
                assert!(self.happens(Call::Wait), "{topic} stands still at {at}, before {until}");
                continue;
            }
            let found = self.broker.borrow().log(topic)[at as usize..end as usize].to_vec();
            for record in found.iter().filter(|record| record.stands == Stands::Committed) {
                take(record)?;
            }
            at = end;
        }
        Ok(())
    }
}

impl Record {
    fn commit(&mut self) {
        self.stands = Stands::Committed;
    }
}

impl LogRecord for Record {
    fn offset(&self) -> i64 {
        self.offset
    }

    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    fn copy_to(&self, batch: &mut RawBatch) {
        batch.push(self.offset, self.time, self.key(), self.value());
    }
}

pub fn name_of(input: Input) -> &'static str {
    match input {
        Input::Accounts => "accounts",
        Input::Usage => "usage",
    }
}
