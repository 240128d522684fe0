//! The daemon as the HTTP server sees it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rdkafka::consumer::BaseConsumer;
use tokio::sync::broadcast;

use super::group::Shards;
use super::locator::Astray;
use super::message::ToShard;
use super::shard::Board;
use crate::commit::ownership::Ownership;
use crate::ingest::consumer::Context;
use crate::ingest::native::GroupMetadata;
use crate::ingest::partition::{Partitioner, place};
use crate::query::{Ask, Backend, Health, HealthCheck, NoticeLine, PartitionStatus, Query};
use crate::telemetry::Metrics;

pub struct DaemonBackend {
    pub astray: Sender<Astray>,
    pub shards: Shards,
    pub ownership: Arc<Ownership>,
    pub board: Board,
    pub partitioner: Partitioner,
    pub partitions: i32,
    pub feed: broadcast::Sender<Arc<NoticeLine>>,
    /// The group's consumer: it has joined once it has a generation, with partitions or without.
    pub member: Arc<BaseConsumer<Context>>,
    pub stopping: Arc<AtomicBool>,
    pub metrics: Arc<Metrics>,
    pub progress: Progress,
    /// Since when the group has counted this member.
    pub member_since: Mutex<Option<Instant>>,
}

/// A member that the group gave no partitions for so long is a spare one.
const SPARE_AFTER: Duration = Duration::from_secs(3);

impl DaemonBackend {
    /// A generation comes before the partitions do: without any, a member is taken as settled only after a while.
    fn joined(&self, has_partitions: bool) -> bool {
        let counted = GroupMetadata::of(&self.member).is_some_and(|metadata| metadata.generation() >= 0);
        let mut since = self.member_since.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = counted.then(|| since.unwrap_or_else(Instant::now));
        *since = begun;
        begun.is_some_and(|begun| has_partitions || begun.elapsed() >= SPARE_AFTER)
    }
}

/// When each partition's offsets were last seen to move, or had nothing to move to.
#[derive(Default)]
pub struct Progress(Mutex<BTreeMap<i32, ([i64; 2], Instant)>>);

/// A partition with input that stands still for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

impl Progress {
    /// The partitions that have input and stand still.
    fn stuck(&self, partitions: &[PartitionStatus]) -> Vec<i32> {
        let now = Instant::now();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|number, _| partitions.iter().any(|status| status.partition == *number));
        let mut stuck = Vec::new();
        for status in partitions {
            let offsets = [status.commands.offset, status.usage.offset];
            let idle = status.state != "live" || status.commands.lag + status.usage.lag == 0;
            let (last, since) = seen.entry(status.partition).or_insert((offsets, now));
            if idle || *last != offsets {
                (*last, *since) = (offsets, now);
            } else if now.duration_since(*since) > STUCK_AFTER {
                stuck.push(status.partition);
            }
        }
        stuck
    }
}

impl Backend for DaemonBackend {
    fn ask(&self, query: Query) {
        let partition = match &query.ask {
            Ask::List { partition, .. } => Some(*partition),
            Ask::View { account } | Ask::Usage { account, .. } | Ask::Check { account, .. } => {
                place(self.partitioner, account.as_bytes(), self.partitions)
            }
        };
        match partition {
            Some(number) if self.ownership.epoch(number).is_none() => {
                // The locator is gone only while the daemon stops.
                let _stopping = self.astray.send(Astray { partition: number, reply: query.reply });
            }
            Some(number) => self.shards.send(number, ToShard::Ask { partition, query }),
            // Keys are placed by the producer's rules: one shard holds everything then.
            None => self.shards.send(0, ToShard::Ask { partition: None, query }),
        }
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        self.ownership
            .partitions()
            .into_iter()
            .map(|number| board.get(&number).cloned().unwrap_or_else(|| self.recovering(number)))
            .collect()
    }

    fn health(&self) -> Health {
        let partitions = self.partitions();
        let joined = self.joined(!partitions.is_empty());
        let waiting: Vec<String> = partitions
            .iter()
            .filter(|status| status.state != "live")
            .map(|status| format!("{} {}", status.partition, status.state))
            .collect();
        let recovered = waiting.is_empty();
        let stopping = self.stopping.load(Ordering::Acquire);
        let ready = joined && recovered && !stopping;
        self.metrics.set_ready(ready);
        let stuck = self.progress.stuck(&partitions);
        let moving = if stuck.is_empty() { "yes".into() } else { format!("partitions {stuck:?} stand still") };
        let check = |name, ok, detail: String| HealthCheck { name, ok, detail };
        let detail = if recovered { format!("{} live", partitions.len()) } else { waiting.join(", ") };
        Health {
            live: stuck.is_empty(),
            ready,
            checks: vec![
                check("group", joined, if joined { "joined".into() } else { "not joined yet".into() }),
                check("partitions", recovered, detail),
                check("progress", stuck.is_empty(), moving),
                check("running", !stopping, if stopping { "stopping".into() } else { "yes".into() }),
            ],
        }
    }

    fn notices(&self) -> broadcast::Receiver<Arc<NoticeLine>> {
        self.feed.subscribe()
    }
}

impl DaemonBackend {
    fn recovering(&self, partition: i32) -> PartitionStatus {
        PartitionStatus {
            partition,
            state: "recovering",
            clock: None,
            usage: Default::default(),
            commands: Default::default(),
            lag_ms: 0,
            accounts: 0,
            identities: 0,
            timers_armed: 0,
            checkpoint_age_ms: 0,
            replay_left: self.metrics.partition(partition).replay_left_records.get(),
        }
    }
}
