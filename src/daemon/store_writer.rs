//! The thread that brings the local store after the commits. It keeps only the newest of each key, and writes in larger
//! atomic batches; what is not written yet comes from the state topic after a crash.

use std::collections::HashMap;
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
        let mut pending: HashMap<i32, Pending> = HashMap::new();
        let mut written = Instant::now();
        let mut failed: Option<Instant> = None;
        loop {
            let message = inbox.recv_timeout(WRITE_EVERY);
            let mut closing = false;
            match message {
                Ok(ToStore::Committed { partition, writes, state_end }) => {
                    pending.entry(partition).or_default().add(writes, state_end);
                }
                Ok(ToStore::Released { partition }) => {
                    if let Some(mut left) = pending.remove(&partition) {
                        self.write(partition, &mut left, false);
                    }
                }
                Ok(ToStore::Close) | Err(RecvTimeoutError::Disconnected) => closing = true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let bytes: usize = pending.values().map(|partition| partition.bytes).sum();
            let resting = failed.is_some_and(|at| at.elapsed() < RETRY_AFTER) && !closing;
            if closing || (!resting && (written.elapsed() >= WRITE_EVERY || bytes > PENDING_BYTES_MAX)) {
                let served = pending.iter_mut().all(|(partition, left)| self.write(*partition, left, closing));
                failed = (!served).then(Instant::now);
                written = Instant::now();
            }
            if closing {
                if let Err(error) = self.store.flush() {
                    tracing::warn!(%error, "the store could not be flushed; the next start reads more from Kafka");
                }
                return;
            }
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
