//! The thread that brings the local store after the commits. It keeps only the newest of each key, and writes in larger
//! atomic batches; what is not written yet comes from the state topic after a crash.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::shard::StateWrites;
use crate::store::{Complete, Store};
use crate::telemetry::Metrics;

const WRITE_EVERY: Duration = Duration::from_secs(1);
const PENDING_BYTES_MAX: usize = 16 << 20;
/// After a failure nothing is tried for so long.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// What may pile up while the disk does not serve, before a partition's copy is given up.
const HELD_BYTES_MAX: usize = 256 << 20;

pub enum ToStore {
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
    pub metrics: Arc<Metrics>,
}

/// What waits to be written.
pub struct Waiting {
    partitions: BTreeMap<i32, Pending>,
    written: Instant,
    failed: Option<Instant>,
}

#[derive(Default)]
struct Pending {
    writes: HashMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    state_end: i64,
    /// The disk failed for too long: the copy has a hole and is not written any more.
    given_up: bool,
}

impl StoreWriter {
    pub fn run(self, inbox: &Receiver<ToStore>) {
        let mut waiting = Waiting::new(Instant::now());
        loop {
            let message = match inbox.recv_timeout(WRITE_EVERY) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(ToStore::Close),
            };
            let closing = matches!(message, Some(ToStore::Close));
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
            Some(ToStore::Committed { partition, writes, state_end }) => {
                waiting.partitions.entry(partition).or_default().add(writes, state_end);
            }
            Some(ToStore::Released { partition }) => {
                if let Some(mut left) = waiting.partitions.remove(&partition) {
                    self.write(partition, &mut left, false);
                }
            }
            Some(ToStore::Close) => closing = true,
            None => {}
        }
        let bytes: usize = waiting.partitions.values().map(|partition| partition.bytes).sum();
        let resting = waiting.failed.is_some_and(|at| now - at < RETRY_AFTER) && !closing;
        if closing || (!resting && (now - waiting.written >= WRITE_EVERY || bytes > PENDING_BYTES_MAX)) {
            let mut left = waiting.partitions.iter_mut();
            let served = left.all(|(partition, left)| self.write(*partition, left, closing));
            waiting.failed = (!served).then_some(now);
            waiting.written = now;
        }
        if closing && let Err(error) = self.store.flush() {
            tracing::warn!(%error, "the store could not be flushed; the next start reads more from Kafka");
        }
    }

    /// Writes what is pending of a partition. False: the disk does not serve.
    fn write(&self, partition: i32, pending: &mut Pending, closed: bool) -> bool {
        if pending.given_up || (pending.writes.is_empty() && !closed) {
            return true;
        }
        let complete = Complete {
            state_offset: pending.state_end,
            state_topic: self.state_topic.clone(),
            boot: self.store.boot(),
            closed,
        };
        let mut records = pending.writes.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        match self.store.apply(partition, &mut records, &complete) {
            Ok(()) => {
                pending.writes.clear();
                pending.bytes = 0;
                true
            }
            Err(error) => {
                self.metrics.store_failed();
                tracing::warn!(partition, %error, "the store cannot be written; running from memory");
                pending.given_up = pending.bytes > HELD_BYTES_MAX;
                if pending.given_up {
                    pending.writes = HashMap::new();
                }
                false
            }
        }
    }
}

impl Waiting {
    pub fn new(now: Instant) -> Waiting {
        Waiting { partitions: BTreeMap::new(), written: now, failed: None }
    }
}

impl Pending {
    fn add(&mut self, writes: StateWrites, state_end: i64) {
        if self.given_up {
            return;
        }
        for (key, value) in writes {
            self.bytes += key.len() + value.len();
            self.writes.insert(key, value);
        }
        self.state_end = self.state_end.max(state_end);
    }
}
