//! After a commit: metrics, the store, readers, and the shard that waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;
use tokio::sync::broadcast;

use super::clock;
use super::group::{Assignment, Shards};
use super::message::{Outcome, ToShard};
use super::store_writer::ToStore;
use crate::commit::Stop;
use crate::commit::batch::Batch;
use crate::commit::committer::{Committed, Journaled, Places};
use crate::commit::kafka::Log;
use crate::commit::ownership::Ownership;
use crate::commit::reader::wait_out;
use crate::commit::recovery::Recovery;
use crate::ingest::raw::Input;
use crate::query::NoticeLine;
use crate::telemetry::{self, Metrics};

/// Journal offsets before which nothing is needed, by partition.
pub type Needed = Arc<Mutex<BTreeMap<i32, i64>>>;

pub struct Sink<L> {
    pub shards: Shards,
    pub store: Sender<ToStore>,
    pub metrics: Arc<Metrics>,
    pub feed: broadcast::Sender<Arc<NoticeLine>>,
    pub needed: Needed,
    pub ownership: Arc<Ownership>,
    pub recoveries: Sender<Assignment>,
    /// Looks into the journal after an unknown outcome.
    pub recovery: Recovery<L>,
}

impl<L: Log> Committed for Sink<L> {
    fn committed(&mut self, mut batch: Batch, places: Places) {
        let partition = batch.partition;
        self.metrics.add(&mut batch.tally);
        for (input, label) in [(Input::Usage, telemetry::Input::Usage), (Input::Accounts, telemetry::Input::Accounts)] {
            let (records, bytes) = batch.read[input.index()];
            self.metrics.read(label, records, bytes);
        }
        let now = clock::wall();
        if !batch.notices.is_empty() {
            let caused = batch.notices.iter().filter_map(|notice| notice.timestamp);
            self.metrics.end_to_end(caused.map(|timestamp| now - timestamp));
            self.publish(&batch);
        }
        if let Some((stored, state_end)) = batch.follows {
            let _stopping = self.store.send(ToStore::Follow { partition, stored, state_end });
        }
        if !batch.state.is_empty() {
            self.metrics.checkpointed(batch.state.len() as u64, batch.state.bytes_len() as u64);
        }
        if let Some(state_end) = places.state_end {
            let writes = std::mem::take(&mut batch.state);
            // The store's thread is gone only while the daemon stops.
            let _stopping = self.store.send(ToStore::Committed { partition, writes, state_end });
        }
        let needed = batch.record.needed_from;
        self.needed.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, needed);
        self.shards.send(partition, ToShard::Committed(Box::new(Outcome { batch, places })));
    }

    fn dropped(&mut self, batch: Batch) {
        let (partition, epoch) = (batch.partition, batch.epoch);
        tracing::info!(partition, epoch, batch = batch.record.sequence, "a batch of a dead epoch was dropped");
        self.shards.send(partition, ToShard::Dropped { partition, epoch });
    }

    fn refold(&mut self, batch: Batch) {
        let (partition, at) = (batch.partition, self.recovery.reader.now());
        let renewed = self.ownership.renew(partition, batch.epoch);
        // Heard by the shard before what is recovered.
        self.dropped(batch);
        if let Some(epoch) = renewed {
            tracing::warn!(partition, epoch, "a batch took too long to commit: it is folded again in smaller ones");
            let _stopping = self.store.send(ToStore::Released { partition });
            // The recovery threads are gone only while the daemon stops.
            let _stopping = self.recoveries.send(Assignment { partition, epoch, at });
        }
    }

    fn last_journaled(&mut self, partition: i32) -> Result<Option<Journaled>, Stop> {
        wait_out(&self.recovery.reader, || true, || self.recovery.last_journaled(partition))
    }
}

impl<L> Sink<L> {
    fn publish(&self, batch: &Batch) {
        if self.feed.receiver_count() == 0 {
            return;
        }
        for notice in batch.notices.iter() {
            let line = NoticeLine {
                account: String::from_utf8_lossy(notice.account).into(),
                kind: notice.kind.trim_start_matches("meterd.").into(),
                sequence: notice.sequence,
                json: notice.json.to_vec(),
            };
            // Nobody listens any more: nothing is lost, the topic has it.
            let _unheard = self.feed.send(Arc::new(line));
        }
    }
}
