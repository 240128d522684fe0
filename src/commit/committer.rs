//! One thread, one producer, one Kafka transaction after the other.
//!
//! ```text
//!   batches ─ begin ─ send ─ drain ─ metadata, ownership ─ offsets ─ commit ─┬─ committed: shards, store, readers
//!                ▲                                                           ├─ definite abort: the same buffers again
//!                └── the same buffers, unless the journal has them ◄─ new producer ◄─ unknown outcome
//! ```
//!
//! - Every transaction sends, for every partition it writes a record for, that partition's offsets, moved or not: only
//!   the coordinator's answer to them fences a member that lost its partitions. Without it there is no commit.
//! - Group metadata is taken first; then it is checked that each partition is still owned in the epoch of its effects;
//!   then offsets go out with exactly that metadata.
//! - Buffers are kept until the outcome is known. After an unknown outcome the producer is created anew, which ends the
//!   old transaction, and the journal says whether it was committed.
//! - What is too large for a transaction's time goes out in one for each partition, then is folded again in smaller batches.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::batch::Batch;
use super::kafka::{Cluster, Membership, Transactions};
use super::ownership::Ownership;
use super::producer::{Delivered, Fault, TRANSACTION_TIMEOUT, topic_name};
use super::reader::{BROKERS_AWAY_MAX, wait_out};
use super::share::Pace;
use super::stop::Stop;
use crate::config::daemon::Topics;
use crate::ingest::native::Outgoing;
use crate::ingest::raw::Input;
use crate::telemetry::Metrics;

/// How long the coordinator may take for one call before its outcome counts as unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a transaction's records may take, so that it is aborted from here and not by the coordinator.
const SEND_TIME: Duration = TRANSACTION_TIMEOUT.saturating_sub(Duration::from_secs(2));
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take until a member hears that a partition is another's: more than its session timeout.
const LOSS_HEARD_MAX: Duration = Duration::from_secs(60);
/// How long a transaction waits for what other partitions have ready: this part of what the last one took, at most so long.
const GATHER_PART: u32 = 8;
const GATHER_MAX: Duration = Duration::from_millis(2);
/// Fenced this often within a minute: another process uses the transactional id.
const FENCED_MAX: usize = 3;
/// A membership that began anew tells within this time which partitions it has lost. What it still holds then was given to it
/// again, perhaps by way of others.
const ANEW_AFTER: Duration = Duration::from_secs(5);

/// Where committed batches go.
pub trait Committed {
    fn committed(&mut self, batch: Batch, places: Places);
    /// The batch's epoch is over: it was not and will not be committed.
    fn dropped(&mut self, batch: Batch);
    /// The batch is too large for a transaction's time: its partition is recovered, and folds in smaller ones.
    fn refold(&mut self, batch: Batch);
    /// The last record in a partition's journal, read after its open transactions ended.
    fn last_journaled(&mut self, partition: i32) -> Result<Option<Journaled>, Stop>;
}

/// The last record of a journal, and where its transaction's records end.
#[derive(Clone, Copy, Debug)]
pub struct Journaled {
    pub sequence: u64,
    pub attempt: u128,
    pub places: Places,
}

/// Where a batch's records came to stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    pub journal_offset: i64,
    /// The broker's time when it appended the journal record.
    pub broker_time: Option<i64>,
    /// The offset after the batch's last state record.
    pub state_end: Option<i64>,
    /// The outcome was not known at first; the journal told it.
    pub settled: bool,
}

pub struct Committer<K: Cluster, C> {
    pub cluster: K,
    pub topics: Topics,
    /// Partitions of the events topic.
    pub events_partitions: i32,
    pub dlq_partitions: i32,
    pub ownership: Arc<Ownership>,
    pub sink: C,
    pub metrics: Arc<Metrics>,
    /// True while the committer waits: a batch that is closed now goes out at once.
    pub idle: Arc<AtomicBool>,
    /// How much batches may write.
    pub pace: Pace,
    /// Of the embedded broker, which has no isolation: an abort ends the daemon.
    pub mock: bool,
    pub producer: Option<K::Producer>,
    pub fenced: Vec<Instant>,
}

struct Names {
    events: CString,
    dlq: CString,
    journal: CString,
    state: CString,
}

impl<K: Cluster, C: Committed> Committer<K, C> {
    /// Commits batches until the channel ends.
    pub fn run(mut self, batches: &Receiver<Vec<Batch>>) -> Result<(), Stop> {
        let mut took = Duration::ZERO;
        loop {
            self.idle.store(true, Ordering::Release);
            let mut taken = match batches.recv_timeout(Duration::from_secs(1)) {
                Ok(taken) => taken,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            self.gather(batches, &mut taken, (took / GATHER_PART).min(GATHER_MAX));
            let begun = Instant::now();
            self.commit(taken)?;
            took = begun.elapsed();
        }
    }

    /// What other partitions have ready within a moment goes along: it would wait for a whole transaction, which takes no
    /// longer with it.
    fn gather(&self, batches: &Receiver<Vec<Batch>>, taken: &mut Vec<Batch>, within: Duration) {
        let until = Instant::now() + within;
        let owned = self.ownership.partitions().len();
        while taken.len() < owned
            && let Ok(more) = batches.recv_deadline(until)
        {
            taken.extend(more);
        }
        self.idle.store(false, Ordering::Release);
        while let Ok(more) = batches.try_recv() {
            taken.extend(more);
        }
    }

    /// Brings the batches to a known outcome: committed, or dropped because their epoch ended.
    pub fn commit(&mut self, mut batches: Vec<Batch>) -> Result<(), Stop> {
        let begun_trying = self.cluster.now();
        let mut anew_since = None;
        for attempt in 0u32.. {
            if attempt > 0 && self.cluster.now() - begun_trying > BROKERS_AWAY_MAX {
                break;
            }
            self.drop_dead(&mut batches);
            if batches.is_empty() {
                return Ok(());
            }
            if attempt == 2 && batches.len() > 1 {
                // What does not fit into one transaction's time may fit into one for each partition.
                return batches.into_iter().try_for_each(|batch| self.commit(vec![batch]));
            }
            let begun = self.cluster.now();
            let attempt_id = u128::from_le_bytes(self.cluster.draw()?);
            for batch in &mut batches {
                batch.record.attempt = attempt_id;
            }
            let fault = match self.attempt(&mut batches) {
                Ok(delivered) => {
                    let records = batches.iter().map(|batch| batch.read[0].0 + batch.read[1].0).sum();
                    self.metrics.committed(self.cluster.now() - begun, records);
                    // What a shard closes when it hears of this commit goes out at once.
                    self.idle.store(true, Ordering::Release);
                    self.finish(batches, &delivered);
                    return Ok(());
                }
                Err(fault) => fault,
            };
            self.metrics.aborted();
            tracing::warn!(?fault, attempt, "a transaction did not commit");
            if self.mock {
                return Err(Stop::broker(format!("the embedded broker failed a transaction: {fault:?}")));
            }
            let timed_out = self.cluster.now() - begun >= TRANSACTION_TIMEOUT;
            match self.settle(fault, timed_out, &mut batches)? {
                Settled::NotCommitted => {}
                Settled::Committed(places) => {
                    for (batch, places) in batches.into_iter().zip(places) {
                        self.sink.committed(batch, places);
                    }
                    return Ok(());
                }
            }
            if let [batch] = &batches[..]
                && self.pace.is_stuck()
                && batch.exceeds(self.pace.share())
            {
                self.pace.forget();
                batches.drain(..).for_each(|batch| self.sink.refold(batch));
                return Ok(());
            }
            let member = self.anew(&batches);
            let now = self.cluster.now();
            anew_since = member.is_some().then(|| anew_since.unwrap_or(now));
            if let (Some(member), Some(since), [batch]) = (member, anew_since, &batches[..])
                && now - since >= ANEW_AFTER
            {
                tracing::warn!(partition = batch.partition, "the group's membership began anew: it is recovered");
                self.ownership.adopt(batch.partition, batch.epoch, &member);
                batches.drain(..).for_each(|batch| self.sink.refold(batch));
                return Ok(());
            }
            self.cluster.sleep(Duration::from_millis(20u64 << attempt.min(6)));
        }
        Err(Stop::broker(format!(
            "expected a transaction to commit, found it failing for {} s: look at the brokers' logs, then start meterd \
             again; nothing is lost",
            BROKERS_AWAY_MAX.as_secs()
        )))
    }

    /// After a fault: whether the batches were committed nevertheless. What timed out was fenced by the coordinator itself,
    /// not by another process.
    fn settle(&mut self, fault: Fault, timed_out: bool, batches: &mut Vec<Batch>) -> Result<Settled, Stop> {
        match fault {
            Fault::Abort(_) => {
                let aborted = self.producer.as_ref().map(|producer| producer.abort(CALL_TIMEOUT));
                match aborted {
                    Some(Ok(())) => return Ok(Settled::NotCommitted),
                    Some(Err(Fault::Fenced(text))) if !timed_out => self.note_fence(&text)?,
                    _ => {}
                }
            }
            Fault::Fenced(text) if !timed_out => self.note_fence(&text)?,
            Fault::Hopeless(code, text) => {
                return Err(Stop::config(format!(
                    "expected the broker to take what meterd writes, found {code}: {text}: check max.message.bytes and \
                     the ACLs of meterd's topics"
                )));
            }
            Fault::Fenced(_) | Fault::Unknown(_) => {}
        }
        self.metrics.outcome_unknown();
        self.producer = None;
        match wait_out(&self.cluster, || self.holds_any(batches), || self.opened()) {
            Ok(producer) => self.producer = Some(producer),
            // All of them were taken, and with them the question; the next batches look for the coordinator again.
            Err(stop) if stop.is_broker() && !self.holds_any(batches) => {
                self.drop_dead(batches);
                return Ok(Settled::NotCommitted);
            }
            Err(stop) => return Err(stop),
        }
        self.drop_dead(batches);
        let mut places = Vec::new();
        let mut taken = Vec::new();
        for batch in batches.iter() {
            match (self.sink.last_journaled(batch.partition)?, batch.record.sequence) {
                (Some(found), sequence) if found.sequence == sequence && found.attempt == batch.record.attempt => {
                    places.push(found.places);
                }
                (Some(found), sequence) if found.sequence + 1 == sequence => {}
                (None, 1) => {}
                (found, _) => {
                    self.await_loss(batch, found)?;
                    taken.push(batch.partition);
                }
            }
        }
        // Lost meanwhile: it is not of those whose outcome matters.
        let (lost, left): (Vec<Batch>, _) =
            std::mem::take(batches).into_iter().partition(|batch| taken.contains(&batch.partition));
        *batches = left;
        Vec::into_iter(lost).for_each(|batch| self.sink.dropped(batch));
        match places.len() {
            0 => Ok(Settled::NotCommitted),
            all if all == batches.len() => Ok(Settled::Committed(places)),
            some => Err(Stop::data(format!(
                "expected a transaction to be committed as a whole, found {some} of {} partitions in the journal",
                batches.len()
            ))),
        }
    }

    /// Another wrote to the partition's journal: its new owner, of which this process has not heard yet, as it will within
    /// the session timeout; else somebody who must not.
    fn await_loss(&self, batch: &Batch, found: Option<Journaled>) -> Result<(), Stop> {
        let begun = self.cluster.now();
        while self.ownership.holds(batch.partition, batch.epoch) {
            if self.cluster.now() - begun > LOSS_HEARD_MAX {
                return Err(Stop::data(format!(
                    "expected the journal of partition {} to end with batch {} or {} of this attempt, found {found:?}: \
                     another process writes to it; stop one of them",
                    batch.partition,
                    batch.record.sequence - 1,
                    batch.record.sequence
                )));
            }
            self.cluster.sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn holds_any(&self, batches: &[Batch]) -> bool {
        batches.iter().any(|batch| self.ownership.holds(batch.partition, batch.epoch))
    }

    fn note_fence(&mut self, text: &str) -> Result<(), Stop> {
        let now = self.cluster.now();
        self.fenced.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
        self.fenced.push(now);
        if self.fenced.len() >= FENCED_MAX {
            return Err(Stop::config(format!(
                "expected to be the only process of this instance, found its producer fenced {FENCED_MAX} times within \
                 a minute ({text}): another process uses the same kafka.instance; give each its own"
            )));
        }
        Ok(())
    }

    /// Creates the producer and initialises it.
    pub fn open(&mut self) -> Result<(), Stop> {
        self.producer = Some(self.opened()?);
        Ok(())
    }

    fn opened(&self) -> Result<K::Producer, Stop> {
        self.cluster.open(OPEN_TIMEOUT).map_err(|fault| {
            Stop::broker(format!(
                "expected the transaction coordinator to answer within {} s, found {fault:?}: check that the brokers \
                 are up and that the transactional id is allowed",
                OPEN_TIMEOUT.as_secs()
            ))
        })
    }

    /// The present member of the group, where some of the partitions that are held were assigned to a former one.
    fn anew(&self, batches: &[Batch]) -> Option<String> {
        let membership = self.cluster.membership().filter(|membership| membership.generation() >= 0)?;
        let member = membership.member();
        let of_another = |batch: &Batch| {
            let (partition, epoch) = (batch.partition, batch.epoch);
            self.ownership.holds(partition, epoch) && !self.ownership.holds_as(partition, epoch, &member)
        };
        (!member.is_empty() && batches.iter().any(of_another)).then_some(member)
    }

    fn drop_dead(&mut self, batches: &mut Vec<Batch>) {
        let (alive, dead): (Vec<Batch>, Vec<Batch>) =
            batches.drain(..).partition(|batch| self.ownership.holds(batch.partition, batch.epoch));
        *batches = alive;
        for batch in dead {
            self.sink.dropped(batch);
        }
    }

    fn attempt(&mut self, batches: &mut [Batch]) -> Result<Vec<Delivered>, Fault> {
        if self.producer.is_none() {
            self.open().map_err(|stop| Fault::Unknown(stop.message))?;
        }
        let begun = self.cluster.now();
        let result = self.transact(batches);
        let (taken, now) = (batches.iter().map(Batch::taken).sum(), self.cluster.now());
        self.pace.note(taken, now - begun, now);
        result
    }

    fn transact(&self, batches: &mut [Batch]) -> Result<Vec<Delivered>, Fault> {
        let producer = self.producer.as_ref().expect("the attempt opened it");
        let names = Names {
            events: topic_name(&self.topics.events),
            dlq: topic_name(&self.topics.dlq),
            journal: topic_name(&self.topics.journal),
            state: topic_name(&self.topics.state),
        };
        // The generation is known before anything is sent, so that the journal can name it; the metadata that fences is
        // taken after the drain.
        let generation = self.cluster.membership().map_or(-1, |membership| membership.generation());
        let begun = self.cluster.now();
        producer.begin()?;
        for batch in batches.iter_mut() {
            batch.record.writer.generation = generation;
            self.send_batch(producer, &names, batch)?;
        }
        let delivered = producer.drain(SEND_TIME.saturating_sub(self.cluster.now() - begun))?;
        self.send_offsets(producer, batches)?;
        producer.commit(CALL_TIMEOUT)?;
        Ok(delivered)
    }

    fn send_batch(&self, producer: &K::Producer, names: &Names, batch: &Batch) -> Result<(), Fault> {
        let events = batch.partition % self.events_partitions;
        for notice in batch.notices.iter() {
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"content-type", Some(b"application/cloudevents+json"))];
            producer.send(&Outgoing {
                topic: &names.events,
                partition: events,
                key: Some(notice.account),
                value: Some(notice.json),
                headers,
            })?;
        }
        for record in &batch.quarantined {
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                record.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
            producer.send(&Outgoing {
                topic: &names.dlq,
                partition: batch.partition % self.dlq_partitions,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            })?;
        }
        for (key, value) in batch.state.iter() {
            producer.send(&Outgoing {
                topic: &names.state,
                partition: batch.partition,
                key: Some(key),
                value: Some(value),
                headers: &[],
            })?;
        }
        let record = batch.record.encode();
        producer.send(&Outgoing {
            topic: &names.journal,
            partition: batch.partition,
            key: None,
            value: Some(&record),
            headers: &[],
        })
    }

    fn send_offsets(&self, producer: &K::Producer, batches: &[Batch]) -> Result<(), Fault> {
        let Some(membership) = self.cluster.membership() else {
            return Err(Fault::Abort("the consumer has no group metadata".into()));
        };
        let member = membership.member();
        if membership.generation() < 0 || member.is_empty() {
            return Err(Fault::Abort("the consumer is not a member of its group at this moment".into()));
        }
        // Of another membership than the present one: that the partition is lost has not been told yet.
        let held = |batch: &Batch| self.ownership.holds_as(batch.partition, batch.epoch, &member);
        if let Some(batch) = batches.iter().find(|batch| !held(batch)) {
            return Err(Fault::Abort(format!("partition {} was taken while its batch was sent", batch.partition)));
        }
        let mut offsets = Vec::with_capacity(batches.len() * 2);
        for batch in batches {
            for (topic, input) in [(&self.topics.usage, Input::Usage), (&self.topics.accounts, Input::Accounts)] {
                offsets.push((topic.as_str(), batch.partition, batch.record.end.next[input.index()]));
            }
        }
        producer.send_offsets(membership, &offsets, CALL_TIMEOUT)
    }

    fn finish(&mut self, batches: Vec<Batch>, delivered: &[Delivered]) {
        for batch in batches {
            let mut places = Places::default();
            for record in delivered.iter().filter(|record| record.partition == batch.partition) {
                if record.topic == self.topics.journal {
                    places.journal_offset = record.offset;
                    // The mock cluster makes up the times at which it appends.
                    places.broker_time = record.timestamp.filter(|_| !self.mock);
                } else {
                    places.state_end = places.state_end.max(Some(record.offset + 1));
                }
            }
            self.sink.committed(batch, places);
        }
    }
}

enum Settled {
    /// Where each batch's records stand, in order.
    Committed(Vec<Places>),
    NotCommitted,
}
