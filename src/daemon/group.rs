//! What happens when the consumer group gives or takes partitions. Called inside the poll of the group's consumer: it
//! only changes epochs and hands on; recovery runs elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::message::ToShard;
use super::store_writer::ToStore;
use crate::commit::Stop;
use crate::commit::ownership::Ownership;
use crate::ingest::consumer::{Order, Orders, Rebalance};
use crate::telemetry::Metrics;

/// How long the dirty accounts of partitions that go elsewhere may take to be written, so that the next owner folds
/// nothing again.
const DRAIN_AT_REVOKE: Duration = Duration::from_secs(2);

/// A partition that was given to this instance, to be recovered.
#[derive(Clone, Copy, Debug)]
pub struct Assignment {
    pub partition: i32,
    pub epoch: u64,
    pub at: Instant,
}

pub struct Group {
    pub ownership: Arc<Ownership>,
    pub partitions: i32,
    pub recoveries: Sender<Assignment>,
    pub shards: Shards,
    pub accounts: Orders,
    pub store: Sender<ToStore>,
    pub metrics: Arc<Metrics>,
}

/// The shards; a partition belongs to one of them.
#[derive(Clone)]
pub struct Shards(pub Vec<Sender<ToShard>>);

impl Shards {
    /// A shard that is gone has said why; the daemon is stopping.
    pub fn send(&self, partition: i32, message: ToShard) {
        let _stopping = self.0[partition as usize % self.0.len()].send(message);
    }

    pub fn send_all(&self, mut message: impl FnMut() -> ToShard) {
        for shard in &self.0 {
            let _stopping = shard.send(message());
        }
    }
}

impl Group {
    /// Asks the shards to write what is dirty, and waits for it.
    pub fn drain(ownership: &Ownership, shards: &Shards, partitions: &[i32], wait: Duration) -> usize {
        let (done, drained) = bounded(partitions.len().max(1) * 2);
        let mut asked = 0;
        for partition in partitions {
            if let Some(epoch) = ownership.epoch(*partition) {
                shards.send(*partition, ToShard::Drain { partition: *partition, epoch, done: done.clone() });
                asked += 1;
            }
        }
        let deadline = Instant::now() + wait;
        let mut waiting: Vec<i32> = partitions.to_vec();
        while asked > 0 && !waiting.is_empty() {
            match drained.recv_deadline(deadline) {
                Ok(partition) => waiting.retain(|one| *one != partition),
                Err(_) => return waiting.len(),
            }
        }
        0
    }
}

impl Rebalance for Group {
    fn assigned(&self, partitions: &[i32], member: &str) -> Result<(), Stop> {
        self.metrics.rebalanced();
        for &partition in partitions {
            if partition >= self.partitions {
                return Err(Stop::config(format!(
                    "expected {} partitions, found partition {partition} assigned: the topics were given more \
                     partitions, and accounts would move. Keep the count, or begin with new topics",
                    self.partitions
                )));
            }
            let epoch = self.ownership.assign(partition, member);
            tracing::info!(partition, epoch, "assigned");
            // The recovery threads are gone only while the daemon stops.
            let _stopping = self.recoveries.send(Assignment { partition, epoch, at: Instant::now() });
        }
        Ok(())
    }

    fn revoked(&self, partitions: &[i32], lost: bool) {
        self.metrics.rebalanced();
        if !lost {
            let left = Group::drain(&self.ownership, &self.shards, partitions, DRAIN_AT_REVOKE);
            if left > 0 {
                tracing::info!(left, "partitions go with dirty accounts; the next owner folds some batches again");
            }
        }
        for &partition in partitions {
            self.ownership.revoke(partition);
            tracing::info!(partition, lost, "revoked");
            self.shards.send(partition, ToShard::Revoked { partition });
            let _stopping = self.accounts.send(Order::Stop { partition });
            let _stopping = self.store.send(ToStore::Released { partition });
        }
    }
}
