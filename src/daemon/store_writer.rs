//! The thread that brings the local store after the commits. It keeps only the newest of each key, and writes many at
//! once in the order of their keys; what is not written yet comes from the state topic after a crash.
//!
//! The store must never hold up the fold. Where more is committed than the disk takes, what waits is dropped: the copy
//! stands still *behind* the topic, whose records are read again once there is less to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::commit::Stop;
use crate::commit::kafka::Log;
use crate::commit::reader::Stretch;
use crate::shard::StateWrites;
use crate::store::{Complete, Store, StoreError};
use crate::telemetry::Metrics;

pub const WRITE_EVERY: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What may wait of all partitions together, before a copy falls behind.
const PENDING_BYTES_MAX: usize = 96 << 20;
/// After a failure nothing is tried for so long.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// There is time for the store once no second of these had more than this committed ...
const QUIET_BYTES: usize = 8 << 20;
const QUIET_FOR: Duration = Duration::from_secs(10);
/// ... and the store's turn has come after this at the latest.
const BEHIND_MAX: Duration = Duration::from_secs(300);
/// Bytes read at once of what a copy lacks.
const CHUNK_BYTES: usize = 32 << 20;

pub enum ToStore {
    /// A partition's copy is complete up to `stored` (`None`: it is of no use), and what is committed from here on begins
    /// at `state_end`.
    Follow { partition: i32, stored: Option<i64>, state_end: i64 },
    /// Committed records of a partition's state, and the offset after the last of them.
    Committed { partition: i32, writes: StateWrites, state_end: i64 },
    /// The partition is another's now: what is here of it is written, and no more comes.
    Released { partition: i32 },
    /// Write everything and mark it as closed in order.
    Close,
}

pub struct StoreWriter {
    pub store: Arc<dyn Store>,
    pub state_topic: String,
    /// How long what was committed may wait. What changes again meanwhile is written once.
    pub every: Duration,
    pub metrics: Arc<Metrics>,
}

/// What waits to be written.
pub struct Waiting {
    partitions: BTreeMap<i32, Pending>,
    written: Instant,
    failed: Option<Instant>,
    looked: Instant,
    /// Bytes committed since then.
    lately: usize,
    /// When much was committed last.
    busy: Option<Instant>,
}

#[derive(Default)]
struct Pending {
    writes: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    state_end: i64,
    /// Up to which the copy is complete; `None`: it is to be cleared first.
    complete: Option<i64>,
    /// Since when the copy lacks what was committed after it.
    behind: Option<Instant>,
}

impl StoreWriter {
    /// Until told to close. `log` is where a copy that fell behind is completed from.
    pub fn run(self, inbox: &Receiver<ToStore>, log: &impl Log, topic: &str) {
        let mut waiting = Waiting::new(Instant::now());
        let mut looked = Instant::now();
        loop {
            let message = match inbox.recv_timeout(LOOK_EVERY) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(ToStore::Close),
            };
            let closing = matches!(message, Some(ToStore::Close));
            if closing || looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.complete(&mut waiting, closing, log, topic, looked);
            }
            self.take(&mut waiting, message, Instant::now());
            if closing {
                return;
            }
        }
    }

    /// Takes a message, or none for a while, and writes what is due.
    pub fn take(&self, waiting: &mut Waiting, message: Option<ToStore>, now: Instant) {
        let mut closing = false;
        match message {
            Some(ToStore::Follow { partition, stored, state_end }) => {
                let behind = stored.is_none_or(|stored| stored < state_end).then_some(now);
                waiting
                    .partitions
                    .insert(partition, Pending { complete: stored, state_end, behind, ..Pending::default() });
            }
            Some(ToStore::Committed { partition, writes, state_end }) => {
                waiting.lately += writes.bytes_len();
                if let Some(pending) = waiting.partitions.get_mut(&partition) {
                    pending.add(writes, state_end);
                }
            }
            Some(ToStore::Released { partition }) => {
                if let Some(mut left) = waiting.partitions.remove(&partition) {
                    self.write(partition, &mut left, false, now);
                }
            }
            Some(ToStore::Close) => closing = true,
            None => {}
        }
        waiting.look(now);
        let since = now - waiting.written;
        let due = since >= self.every && (waiting.is_quiet(now) || since >= BEHIND_MAX);
        if closing || (due && !waiting.is_resting(now)) {
            let mut left = waiting.partitions.iter_mut();
            let served = left.all(|(partition, left)| self.write(*partition, left, closing, now));
            waiting.failed = (!served).then_some(now);
            waiting.written = now;
        }
        waiting.drop_excess(now);
        if closing && let Err(error) = self.store.flush() {
            tracing::warn!(%error, "the store could not be flushed; the next start reads more from Kafka");
        }
    }

    /// Writes what is pending of a partition. False: the disk does not serve.
    fn write(&self, partition: i32, pending: &mut Pending, closed: bool, now: Instant) -> bool {
        let end = if pending.behind.is_some() { pending.complete } else { Some(pending.state_end) };
        let Some(end) = end else { return true };
        if pending.writes.is_empty() && !closed {
            return true;
        }
        let complete = self.complete_to(end, closed);
        let mut records = pending.writes.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        match self.store.apply(partition, pending.complete, &mut records, &complete) {
            Ok(()) => {
                pending.writes.clear();
                pending.bytes = 0;
                pending.complete = Some(end);
                true
            }
            Err(StoreError::Elsewhere { found, after }) => {
                tracing::info!(partition, ?found, ?after, "the store is completed from where it ends");
                (pending.complete, pending.behind) = (found, Some(now));
                (pending.writes, pending.bytes) = (BTreeMap::new(), 0);
                true
            }
            Err(error) => {
                self.metrics.store_failed();
                tracing::warn!(partition, %error, "the store cannot be written; running from memory");
                false
            }
        }
    }

    fn complete_to(&self, state_offset: i64, closed: bool) -> Complete {
        Complete { state_offset, state_topic: self.state_topic.clone(), boot: self.store.boot(), closed }
    }

    /// Completes the copies that are behind from the state topic, where there is little else to do or it has been long.
    pub fn complete(&self, waiting: &mut Waiting, closing: bool, log: &impl Log, topic: &str, now: Instant) {
        let (quiet, resting) = (waiting.is_quiet(now), waiting.is_resting(now));
        for (partition, pending) in &mut waiting.partitions {
            let Some(since) = pending.behind else { continue };
            if resting || !(quiet || closing || now - since > BEHIND_MAX) {
                continue;
            }
            match self.follow(*partition, pending.complete, log, topic, now) {
                Ok(end) => {
                    pending.complete = Some(end);
                    // What was just committed may not be readable yet.
                    if end >= pending.state_end {
                        (pending.state_end, pending.behind) = (end, None);
                    }
                }
                Err(error) => {
                    self.metrics.store_failed();
                    tracing::warn!(partition, error, "the store stays behind; the next start reads more from Kafka");
                    pending.behind = Some(now);
                }
            }
        }
    }

    /// Reads committed state records from `from` on into the store; the offset up to which it is complete then.
    fn follow(
        &self,
        partition: i32,
        from: Option<i64>,
        log: &impl Log,
        topic: &str,
        now: Instant,
    ) -> Result<i64, String> {
        let text = |stop: Stop| stop.to_string();
        let (low, _) = log.watermarks(topic, partition).map_err(text)?;
        let ends = match from {
            Some(ends) => ends,
            None => {
                let begin = || {
                    self.store.clear(partition)?;
                    self.store.apply(partition, None, &mut std::iter::empty(), &self.complete_to(low, false))
                };
                begin().map_err(|error: StoreError| error.to_string())?;
                low
            }
        };
        let from = ends.max(low);
        let until = log.stable_end(topic, partition).map_err(text)?;
        let mut chunk = Pending { complete: Some(ends), ..Pending::default() };
        log.read(Stretch { topic, partition, from, until }, &mut |record| {
            let (key, value) = (record.key().unwrap_or_default(), record.value().unwrap_or_default());
            chunk.put(key.to_vec(), value.to_vec());
            chunk.state_end = record.offset() + 1;
            if chunk.bytes > CHUNK_BYTES && !self.write_chunk(partition, &mut chunk, now) {
                return Err(Stop::io("the store cannot be written"));
            }
            Ok(())
        })
        .map_err(text)?;
        chunk.state_end = until.max(from);
        if self.write_chunk(partition, &mut chunk, now) {
            Ok(chunk.complete.unwrap_or(ends))
        } else {
            Err("it cannot be written".into())
        }
    }

    fn write_chunk(&self, partition: i32, chunk: &mut Pending, now: Instant) -> bool {
        self.write(partition, chunk, false, now) && chunk.behind.is_none()
    }
}

impl Waiting {
    pub fn new(now: Instant) -> Waiting {
        Waiting { partitions: BTreeMap::new(), written: now, failed: None, looked: now, lately: 0, busy: None }
    }

    /// The disk failed a moment ago.
    fn is_resting(&self, now: Instant) -> bool {
        self.failed.is_some_and(|at| now - at < RETRY_AFTER)
    }

    /// There is time for the store.
    fn is_quiet(&self, now: Instant) -> bool {
        self.busy.is_none_or(|at| now - at >= QUIET_FOR)
    }

    fn look(&mut self, now: Instant) {
        if now - self.looked >= LOOK_EVERY {
            if self.lately > QUIET_BYTES {
                self.busy = Some(now);
            }
            (self.looked, self.lately) = (now, 0);
        }
    }

    /// Where too much waits, the partition of which most does falls behind.
    fn drop_excess(&mut self, now: Instant) {
        while self.partitions.values().map(|pending| pending.bytes).sum::<usize>() > PENDING_BYTES_MAX {
            let Some(most) = self.partitions.values_mut().max_by_key(|pending| pending.bytes) else { return };
            most.behind = Some(now);
            (most.writes, most.bytes) = (BTreeMap::new(), 0);
        }
    }
}

impl Pending {
    fn add(&mut self, writes: StateWrites, state_end: i64) {
        if self.behind.is_none() && state_end > self.state_end {
            writes.iter().for_each(|(key, value)| self.put(key.to_vec(), value.to_vec()));
        }
        self.state_end = self.state_end.max(state_end);
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += value.len();
        let key_length = key.len();
        match self.writes.insert(key, value) {
            Some(older) => self.bytes -= older.len(),
            None => self.bytes += key_length,
        }
    }
}
