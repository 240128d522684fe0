//! What daemons wrote to a partition of the events or quarantine topic, in order.

use std::collections::VecDeque;

use super::report::Halt;
use crate::commit::kafka::Log;
use crate::commit::reader::Stretch;
use crate::daemon::inspect::KafkaRecovery as Recovery;
use crate::ingest::raw::RawBatch;

/// Offsets read at once.
const CHUNK: i64 = 50_000;

/// The committed records of a partition, read piece by piece.
pub struct Written<'r> {
    recovery: &'r Recovery,
    pub topic: &'r str,
    pub partition: i32,
    /// Whether records were removed from its beginning.
    pub cut: bool,
    /// What stands before this belongs to batches that the journal held when it was read.
    pub settled: i64,
    next: i64,
    until: i64,
    waiting: VecDeque<Found>,
}

/// A record as it was found.
#[derive(Debug)]
pub struct Found {
    pub offset: i64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'r> Written<'r> {
    pub fn open(recovery: &'r Recovery, topic: &'r str, partition: i32, settled: i64) -> Result<Written<'r>, Halt> {
        let (low, until) = recovery.reader.watermarks(topic, partition)?;
        let waiting = VecDeque::new();
        Ok(Written { recovery, topic, partition, cut: low > 0, settled, next: low, until, waiting })
    }

    pub fn next(&mut self) -> Result<Option<Found>, Halt> {
        while self.waiting.is_empty() && self.next < self.until {
            let until = (self.next + CHUNK).min(self.until);
            let stretch = Stretch { topic: self.topic, partition: self.partition, from: self.next, until };
            let mut batch = RawBatch::default();
            let waiting = &mut self.waiting;
            self.recovery.reader.read(stretch, &mut |record| {
                record.copy_to(&mut batch);
                waiting.push_back(take(&mut batch));
                Ok(())
            })?;
            self.next = until;
        }
        Ok(self.waiting.pop_front())
    }

    /// Puts a record back that is not wanted yet.
    pub fn put_back(&mut self, found: Found) {
        self.waiting.push_front(found);
    }
}

impl Found {
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(key, _)| key == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }
}

/// The only record of a batch, which is empty afterwards.
fn take(batch: &mut RawBatch) -> Found {
    let batch = std::mem::take(batch);
    let head = batch.head(0).expect("one record was copied");
    let mut headers = Vec::new();
    let raw = batch.raw(0, &mut headers);
    let own = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
    Found {
        offset: head.offset,
        key: own(raw.key),
        value: own(raw.value),
        headers: raw.headers.iter().map(|header| (header.key.to_vec(), own(header.value))).collect(),
    }
}
