//! One thread for each input topic: polls, copies records into batches, hands them to the shard of their partition.
//!
//! Usage is read as a member of the consumer group, whose rebalances decide which partitions this instance owns; the
//! same partitions of the accounts topic are read by a consumer that is in no group. A partition is assigned paused, and
//! read from the journal's offset once it is recovered. Polling never stops for long: a group member that does not poll
//! is thrown out.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::native::{self, Event, Events, GroupMetadata};
use super::ownership::Ownership;
use super::raw::{Input, RawBatch};
use super::trouble::Trouble;
use crate::stop::Stop;

/// Bytes waiting in all shards for one input, above which its consumer waits: of partitions that flow, and of all. The
/// first is what one instance folds in some tenths of a second; pausing instead would drop what the client has fetched.
const QUEUED_FLOWING: usize = 32 << 20;
const QUEUED_ALL: usize = 256 << 20;
/// Bytes waiting for one partition, above which the partition is paused, and below which it flows again.
const QUEUED_ONE: usize = 64 << 20;
const QUEUED_RESUME: usize = 8 << 20;
/// A batch is handed over when it has this many records or bytes, or nothing more is there at once.
const BATCH_RECORDS: usize = 1_024;
const BATCH_BYTES: usize = 512 << 10;
/// The longest the consumer waits without polling.
const POLL_GAP: Duration = Duration::from_secs(1);
/// How long a partition that was just assigned may take until it can seek.
const SEEK_READY: Duration = Duration::from_secs(1);

/// What a consumer gives to the shard of a partition.
#[derive(Debug)]
pub enum Fetched {
    Records(RawBatch),
    /// The topic's end was reached; the next record will have this offset or a later one.
    End {
        offset: i64,
    },
    /// What was known of the end holds no longer.
    EndUnknown,
}

/// Receives what is fetched.
pub trait Route: Send {
    fn fetched(&self, input: Input, partition: i32, epoch: u64, fetched: Fetched);
}

/// Decides over the group's partitions; called inside the poll of the group's consumer.
pub trait Rebalance: Send {
    /// Partitions were assigned to this member of the group, and are paused.
    fn assigned(&self, partitions: &[i32], member: &str) -> Result<(), Stop>;
    /// Partitions are being taken; after this returns another instance may have them. `lost`: it may already.
    fn revoked(&self, partitions: &[i32], lost: bool);
}

/// What a consumer thread is told to do.
#[derive(Debug)]
pub enum Order {
    /// Read the partition from `offset`, for the epoch.
    Start {
        partition: i32,
        epoch: u64,
        offset: i64,
        queued: Arc<AtomicUsize>,
    },
    Stop {
        partition: i32,
    },
}

/// Counters that tell a consumer whether its shards keep up; one for each input.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Bytes handed over and not folded yet.
    pub bytes: AtomicUsize,
    /// Partitions whose merge waits for this input: polling must go on.
    pub starving: AtomicUsize,
}

pub struct InputConsumer<R: Route> {
    pub input: Input,
    pub topic: String,
    /// The same, as the client takes it.
    pub topic_name: CString,
    pub consumer: Arc<BaseConsumer<Context>>,
    pub orders: Receiver<Order>,
    pub backlog: Arc<Backlog>,
    pub route: R,
    /// Of the group's consumer.
    pub rebalance: Option<Box<dyn Rebalance>>,
    pub ownership: Arc<Ownership>,
    pub stopping: Arc<AtomicBool>,
}

struct Live {
    epoch: u64,
    next: i64,
    queued: Arc<AtomicUsize>,
    paused: bool,
    batch: RawBatch,
    /// Bytes that were handed over; and how many of them were folded when the consumer last waited.
    handed: usize,
    folded: usize,
}

impl Live {
    fn new(epoch: u64, next: i64, queued: Arc<AtomicUsize>) -> Live {
        Live { epoch, next, queued, paused: false, batch: RawBatch::default(), handed: 0, folded: 0 }
    }

    /// Whether much waits, and none of it was folded since the last look.
    fn is_blocked(&mut self) -> bool {
        let queued = self.queued.load(Ordering::Relaxed);
        let folded = self.handed.saturating_sub(queued);
        let before = std::mem::replace(&mut self.folded, folded);
        queued > QUEUED_RESUME && folded == before
    }
}

/// Serves logs and errors of the consumers; rebalances are served by the poll itself.
pub struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a consumer met an error");
    }
}

impl ConsumerContext for Context {}

/// The Kafka client's own log lines.
pub fn log_client(level: RDKafkaLogLevel, facility: &str, message: &str) {
    let message = crate::telemetry::logs::escaped(message);
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(facility, "kafka client: {message}");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(facility, "kafka client: {message}"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, "kafka client: {message}"),
    }
}

impl<R: Route> InputConsumer<R> {
    /// Polls until told to stop.
    pub fn run(self) -> Result<(), Stop> {
        let consumer = Arc::clone(&self.consumer);
        let mut events = Events::of(&consumer);
        let mut live: BTreeMap<i32, Live> = BTreeMap::new();
        let mut polled = Instant::now();
        let mut trouble = Trouble::new(polled);
        let mut gathered = 0;
        while !self.stopping.load(Ordering::Acquire) {
            // One, and then a poll: while brokers are slow each may take seconds.
            let obeyed = match self.orders.try_recv() {
                Ok(order) => {
                    self.obey(&mut live, order)?;
                    true
                }
                Err(_) => false,
            };
            self.resume_drained(&mut live)?;
            self.mend(&mut live, &mut trouble)?;
            if !obeyed && self.is_behind(&live) {
                if polled.elapsed() < POLL_GAP {
                    self.hand_over(&mut live);
                    gathered = 0;
                    std::thread::sleep(Duration::from_micros(500));
                    continue;
                }
                self.pause_blocked(&mut live);
            }
            polled = Instant::now();
            // Orders, pauses and the backlog are looked at between stretches of records.
            for _ in 0..BATCH_RECORDS {
                let waits = gathered == 0 && self.orders.is_empty();
                let wait = if waits { Duration::from_millis(10) } else { Duration::ZERO };
                match events.poll(wait) {
                    Some(Event::Record(record)) => {
                        let partition = record.partition();
                        let Some(place) = live.get_mut(&partition) else { continue };
                        if let Some(code) = record.error() {
                            let offset = record.offset();
                            return Err(Stop::data(format!("{}/{partition} at {offset}: {code}", self.topic)));
                        }
                        if record.offset() < place.next {
                            continue;
                        }
                        place.next = record.offset() + 1;
                        record.copy_to(&mut place.batch);
                        gathered += 1;
                        if place.batch.len() >= BATCH_RECORDS || place.batch.bytes_len() >= BATCH_BYTES {
                            self.hand_over_one(partition, place);
                        }
                    }
                    Some(Event::End { partition, offset, .. }) => {
                        if let Some(place) = live.get_mut(&partition).filter(|place| offset >= place.next) {
                            self.hand_over_one(partition, place);
                            self.route.fetched(self.input, partition, place.epoch, Fetched::End { offset });
                        }
                    }
                    Some(Event::Assign(partitions)) => {
                        self.assign(&partitions)?;
                        break;
                    }
                    Some(Event::Revoke { partitions, lost }) => {
                        self.hand_over(&mut live);
                        self.revoke(&mut live, &partitions, lost)?;
                        break;
                    }
                    Some(Event::Error { code, fatal, text }) => {
                        self.judge(&mut live, code, fatal, &text, &mut trouble)?;
                    }
                    None => break,
                }
            }
            self.hand_over(&mut live);
            gathered = 0;
        }
        Ok(())
    }

    fn hand_over(&self, live: &mut BTreeMap<i32, Live>) {
        for (partition, place) in live.iter_mut() {
            self.hand_over_one(*partition, place);
        }
    }

    fn hand_over_one(&self, partition: i32, place: &mut Live) {
        if place.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut place.batch);
        let bytes = batch.bytes_len();
        self.backlog.bytes.fetch_add(bytes, Ordering::Relaxed);
        place.handed += bytes;
        let queued = place.queued.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.route.fetched(self.input, partition, place.epoch, Fetched::Records(batch));
        // Told by the fetch that brought the last record, and so sooner than by an empty one after it. Behind the mark
        // of a transaction the watermark lies higher, and the client's own event tells the end.
        if native::fetched_high(&self.consumer, &self.topic_name, partition) == place.next {
            self.route.fetched(self.input, partition, place.epoch, Fetched::End { offset: place.next });
        }
        if queued > QUEUED_ONE && !place.paused {
            self.pause(partition, place);
        }
    }

    fn pause(&self, partition: i32, place: &mut Live) {
        place.paused = self.consumer.pause(&self.list(&[partition])).is_ok();
        self.route.fetched(self.input, partition, place.epoch, Fetched::EndUnknown);
    }

    /// Whether the shards have enough to fold, and none waits for this input. What waits in paused partitions is not
    /// fetched any more: it keeps nobody waiting before it is very much.
    fn is_behind(&self, live: &BTreeMap<i32, Live>) -> bool {
        let all = self.backlog.bytes.load(Ordering::Relaxed);
        let paused = live.values().filter(|place| place.paused);
        let paused: usize = paused.map(|place| place.queued.load(Ordering::Relaxed)).sum();
        let behind = all > QUEUED_ALL || all.saturating_sub(paused) > QUEUED_FLOWING;
        behind && self.backlog.starving.load(Ordering::Relaxed) == 0
    }

    /// After a wait: a partition of which nothing is folded must not make the others wait again.
    fn pause_blocked(&self, live: &mut BTreeMap<i32, Live>) {
        for (partition, place) in live.iter_mut().filter(|(_, place)| !place.paused) {
            if place.is_blocked() {
                self.pause(*partition, place);
            }
        }
    }

    fn resume_drained(&self, live: &mut BTreeMap<i32, Live>) -> Result<(), Stop> {
        for (partition, place) in live.iter_mut() {
            if place.paused && place.queued.load(Ordering::Relaxed) < QUEUED_RESUME {
                self.consumer.resume(&self.list(&[*partition])).map_err(|error| self.client_fault("resume", &error))?;
                place.paused = false;
            }
        }
        Ok(())
    }

    fn obey(&self, live: &mut BTreeMap<i32, Live>, order: Order) -> Result<(), Stop> {
        match order {
            Order::Start { partition, epoch, offset, queued } => {
                let held = || self.ownership.holds(partition, epoch);
                if !held() {
                    return Ok(());
                }
                // A client that has never talked to the leader takes most of a second to begin fetching; a question
                // wakes it. Whether it is answered does not matter here.
                let _woken = self.consumer.fetch_watermarks(&self.topic, partition, Duration::from_secs(1));
                if self.rebalance.is_some() {
                    if !self.seek(partition, offset, &held)? {
                        return Ok(());
                    }
                } else {
                    if live.remove(&partition).is_some() {
                        self.unassign(partition)?;
                    }
                    let mut list = TopicPartitionList::new();
                    list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
                        .and_then(|()| self.consumer.incremental_assign(&list))
                        .map_err(|error| self.client_fault("assign", &error))?;
                }
                live.insert(partition, Live::new(epoch, offset, queued));
            }
            Order::Stop { partition } => {
                if live.remove(&partition).is_some() && self.rebalance.is_none() {
                    self.unassign(partition)?;
                }
            }
        }
        Ok(())
    }

    fn unassign(&self, partition: i32) -> Result<(), Stop> {
        let list = self.list(&[partition]);
        self.consumer.incremental_unassign(&list).map_err(|error| self.client_fault("unassign", &error))
    }

    /// Goes to the offset and lets records flow. A partition that was assigned a moment ago is not ready to seek yet; one
    /// whose first fetch went out before the pause, to an offset that retention removed, never will be, and is assigned
    /// anew. False: it was taken meanwhile.
    fn seek(&self, partition: i32, offset: i64, held: &dyn Fn() -> bool) -> Result<bool, Stop> {
        let begun = Instant::now();
        loop {
            match self.consumer.seek(&self.topic, partition, Offset::Offset(offset), Duration::from_secs(5)) {
                Ok(()) => break,
                Err(_) if !held() => return Ok(false),
                Err(_) if begun.elapsed() < SEEK_READY => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => {
                    tracing::info!(partition, offset, %error, "cannot seek; assigning anew");
                    self.unassign(partition)?;
                    let mut list = TopicPartitionList::new();
                    list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
                        .and_then(|()| self.consumer.incremental_assign(&list))
                        .map_err(|error| self.client_fault("assign", &error))?;
                    break;
                }
            }
        }
        self.consumer.resume(&self.list(&[partition])).map_err(|error| self.client_fault("resume", &error))?;
        Ok(true)
    }

    fn assign(&self, partitions: &TopicPartitionList) -> Result<(), Stop> {
        let Some(rebalance) = &self.rebalance else { return Ok(()) };
        let numbers = numbers(partitions);
        // It stays what it is until the assignment is taken up.
        let member = GroupMetadata::of(&self.consumer).map(|metadata| metadata.member()).unwrap_or_default();
        let mut list = TopicPartitionList::new();
        for partition in &numbers {
            // No offset that would have to be asked for: an answer that comes after the seek would undo it.
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(0))
                .map_err(|error| self.client_fault("assign", &error))?;
        }
        self.consumer.incremental_assign(&list).map_err(|error| self.client_fault("assign", &error))?;
        if !numbers.is_empty() {
            self.consumer.pause(&list).map_err(|error| self.client_fault("pause", &error))?;
        }
        rebalance.assigned(&numbers, &member)
    }

    fn revoke(&self, live: &mut BTreeMap<i32, Live>, partitions: &TopicPartitionList, lost: bool) -> Result<(), Stop> {
        let Some(rebalance) = &self.rebalance else { return Ok(()) };
        let numbers = numbers(partitions);
        for partition in &numbers {
            live.remove(partition);
        }
        rebalance.revoked(&numbers, lost);
        self.consumer.incremental_unassign(partitions).map_err(|error| self.client_fault("unassign", &error))
    }

    fn judge(
        &self,
        live: &mut BTreeMap<i32, Live>,
        code: RDKafkaErrorCode,
        fatal: bool,
        text: &str,
        trouble: &mut Trouble,
    ) -> Result<(), Stop> {
        match code {
            RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset => {
                self.find_out_of_range(live, text)
            }
            RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::Fenced => Err(Stop::config(format!(
                "expected to be the only process of this kafka.instance, found it fenced ({text}): another process uses \
                 the same instance; give each its own"
            ))),
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed => {
                Err(Stop::config(format!("reading {}: {code}: {text}: check the ACLs of topic and group", self.topic)))
            }
            _ if fatal => Err(Stop::broker(format!("reading {}: {code}: {text}", self.topic))),
            _ => {
                if trouble.met(code, Instant::now()) {
                    tracing::warn!(%code, text, topic = self.topic, "the client met an error and goes on");
                }
                self.forget_ends(live);
                Ok(())
            }
        }
    }

    /// What errors left to be done, once it is time.
    fn mend(&self, live: &mut BTreeMap<i32, Live>, trouble: &mut Trouble) -> Result<(), Stop> {
        let now = Instant::now();
        if trouble.takes_missing(now) {
            match self.is_gone() {
                Some(true) => {
                    return Err(Stop::config(format!(
                        "expected the topic {}, found that the brokers know none of this name: it was deleted. What was \
                         not folded of it is lost; a topic created anew needs a new group, journal and state",
                        self.topic
                    )));
                }
                Some(false) => {}
                None => trouble.still_missing(now),
            }
        }
        if trouble.takes_refresh(now) { self.look_for_ends(live) } else { Ok(()) }
    }

    /// Whether the brokers say that there is no such topic; none: they say nothing.
    fn is_gone(&self) -> Option<bool> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), Duration::from_secs(5)).ok()?;
        let found = metadata.topics().iter().find(|topic| topic.name() == self.topic)?;
        let code = found.error().map(RDKafkaErrorCode::from);
        Some(matches!(code, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)))
    }

    /// After an error what was known of the ends is stale. Gives the partitions that flow.
    fn forget_ends(&self, live: &mut BTreeMap<i32, Live>) -> Vec<i32> {
        self.hand_over(live);
        let flowing: Vec<i32> = live.iter().filter(|(_, place)| !place.paused).map(|(number, _)| *number).collect();
        for partition in &flowing {
            self.route.fetched(self.input, *partition, live[partition].epoch, Fetched::EndUnknown);
        }
        flowing
    }

    /// The client tells an end once for each offset; pausing and resuming makes it look again.
    fn look_for_ends(&self, live: &mut BTreeMap<i32, Live>) -> Result<(), Stop> {
        // What came since the error may have brought an end that was known before it.
        let flowing = self.forget_ends(live);
        if flowing.is_empty() {
            return Ok(());
        }
        let list = self.list(&flowing);
        self.consumer
            .pause(&list)
            .and_then(|()| self.consumer.resume(&list))
            .map_err(|error| self.client_fault("pause", &error))
    }

    /// Stops with both numbers; an error of a partition that is not read yet is no matter.
    fn find_out_of_range(&self, live: &BTreeMap<i32, Live>, text: &str) -> Result<(), Stop> {
        for (partition, place) in live {
            let marks = self.consumer.fetch_watermarks(&self.topic, *partition, Duration::from_secs(10));
            let (low, high) = marks.map_err(|error| self.client_fault("watermarks", &error))?;
            if place.next < low || place.next > high {
                return Err(Stop::data(format!(
                    "expected {}/{partition} to hold offset {}, found offsets {low} to {high} ({text}): its retention \
                     removed records that meterd had not folded, or it was truncated. Restore it; `meterd run --rebuild {partition}` goes on \
                     without them",
                    self.topic, place.next
                )));
            }
        }
        Ok(())
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }

    fn client_fault(&self, what: &str, error: &KafkaError) -> Stop {
        Stop::broker(format!("expected to {what} partitions of {}, found {error}: check the brokers", self.topic))
    }
}

fn numbers(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

/// The sending half of a consumer's orders.
pub type Orders = Sender<Order>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_of_which_nothing_is_folded_is_blocked() {
        let queued = Arc::new(AtomicUsize::new(0));
        let mut live = Live::new(1, 0, Arc::clone(&queued));
        let hand = |live: &mut Live, handed: usize, folded: usize| {
            live.handed += handed;
            queued.fetch_add(handed, Ordering::Relaxed);
            queued.fetch_sub(folded, Ordering::Relaxed);
            live.is_blocked()
        };
        assert!(!hand(&mut live, QUEUED_RESUME, 0), "it does not hold much");
        assert!(hand(&mut live, QUEUED_RESUME, 0));
        assert!(!hand(&mut live, QUEUED_RESUME, 1), "something was folded");
        assert!(hand(&mut live, 0, 0), "and nothing more");
        assert!(!hand(&mut live, 0, QUEUED_RESUME * 2), "it drains");
    }

    struct Nowhere;

    impl Route for Nowhere {
        fn fetched(&self, _input: Input, _partition: i32, _epoch: u64, _fetched: Fetched) {}
    }

    /// What is wanted may lie behind what waits: a consumer that waited for the shards would wait for ever.
    #[test]
    fn a_consumer_that_is_waited_for_does_not_wait() {
        let client = rdkafka::ClientConfig::new().set("group.id", "tests").create_with_context(Context);
        let consumer = InputConsumer {
            input: Input::Usage,
            topic: "usage".into(),
            topic_name: CString::new("usage").expect("no zero in it"),
            consumer: Arc::new(client.expect("a client needs no brokers")),
            orders: crossbeam_channel::unbounded().1,
            backlog: Arc::default(),
            route: Nowhere,
            rebalance: None,
            ownership: Arc::default(),
            stopping: Arc::default(),
        };
        let live = BTreeMap::new();
        assert!(!consumer.is_behind(&live));
        consumer.backlog.bytes.store(QUEUED_FLOWING + 1, Ordering::Relaxed);
        assert!(consumer.is_behind(&live));
        consumer.backlog.starving.store(1, Ordering::Relaxed);
        assert!(!consumer.is_behind(&live));
    }
}
