//! Reading a stretch of a partition to a known end, for recovery and for judging unknown outcomes.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::kafka::{Log, LogRecord, Machine, Take};
use super::producer::TRANSACTION_TIMEOUT;
use super::stop::Stop;
use crate::ingest::consumer::Context;
use crate::ingest::native::{Event, Events, Record};
use crate::ingest::raw::RawBatch;

/// How long reading may stand still: an open transaction's timeout, the broker's scan for it, and some air.
const STALL_MAX: Duration = TRANSACTION_TIMEOUT.saturating_add(Duration::from_secs(20));
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long brokers may fail requests while the daemon runs: restarted one after the other they know no leaders meanwhile.
pub const BROKERS_AWAY_MAX: Duration = Duration::from_secs(300);
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Makes a call again while the brokers fail it and it is wanted.
pub fn wait_out<T>(
    machine: &impl Machine,
    wanted: impl Fn() -> bool,
    mut call: impl FnMut() -> Result<T, Stop>,
) -> Result<T, Stop> {
    let begun = machine.now();
    loop {
        match call() {
            Err(stop) if stop.is_broker() && wanted() && machine.now() - begun < BROKERS_AWAY_MAX => {
                tracing::warn!("trying again: {stop}");
                machine.sleep(TRY_AGAIN_AFTER);
            }
            result => return result,
        }
    }
}

/// Reads committed records; asks for high watermarks that include uncommitted ones.
pub struct Reader {
    committed: BaseConsumer<Context>,
    uncommitted: BaseConsumer<Context>,
}

/// A stretch of a partition: offsets from `from` to before `until`.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub from: i64,
    pub until: i64,
}

impl Reader {
    /// `config` has the brokers, the group and security; positions and isolation are set here.
    pub fn open(config: &ClientConfig) -> Result<Reader, Stop> {
        let create = |isolation: &str| {
            let mut config = config.clone();
            config.set("isolation.level", isolation);
            config.set("enable.partition.eof", "true");
            config.create_with_context::<_, BaseConsumer<Context>>(Context).map_err(|error| {
                Stop::config(format!("expected a consumer for recovery, found {error}: check [kafka.properties]"))
            })
        };
        Ok(Reader { committed: create("read_committed")?, uncommitted: create("read_uncommitted")? })
    }
}

impl Machine for Reader {}

impl Log for Reader {
    fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), Stop> {
        retry(&self.uncommitted, topic, || self.uncommitted.fetch_watermarks(topic, partition, Duration::from_secs(5)))
            .map_err(|error| unreachable_partition(topic, partition, &error.to_string()))
    }

    fn stable_end(&self, topic: &str, partition: i32) -> Result<i64, Stop> {
        retry(&self.committed, topic, || self.committed.fetch_watermarks(topic, partition, Duration::from_secs(5)))
            .map(|(_, end)| end)
            .map_err(|error| unreachable_partition(topic, partition, &error.to_string()))
    }

    fn stable_offsets(&self, topics: [&str; 2], partition: i32) -> Result<[Option<i64>; 2], Stop> {
        let deadline = Instant::now() + STALL_MAX;
        loop {
            let mut list = TopicPartitionList::new();
            for topic in topics {
                list.add_partition(topic, partition);
            }
            match self.committed.committed_offsets(list, CALL_TIMEOUT) {
                Ok(found) => match read_offsets(&found, topics, partition) {
                    Ok(offsets) => return Ok(offsets),
                    Err(error) if Instant::now() > deadline => {
                        return Err(unreachable_partition(topics[1], partition, &error));
                    }
                    Err(_) => {}
                },
                Err(error) if Instant::now() > deadline => {
                    return Err(unreachable_partition(topics[1], partition, &error.to_string()));
                }
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends when the end of the partition is seen at or after `until` (an end before it may be an open transaction) or a
    /// record at or after `until` is.
    fn read(&self, stretch: Stretch<'_>, take: Take<'_>) -> Result<(), Stop> {
        let Stretch { topic, partition, from, until } = stretch;
        if from >= until {
            return Ok(());
        }
        // A client that has never talked to the leader takes most of a second to begin fetching; a question wakes it.
        self.stable_end(topic, partition)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from))
            .and_then(|()| self.committed.assign(&list))
            .map_err(|error| Stop::bug(format!("assigning {topic}/{partition}: {error}")))?;
        let result = self.read_assigned(stretch, take);
        self.committed.unassign().map_err(|error| Stop::bug(format!("giving up {topic}/{partition}: {error}")))?;
        result
    }
}

impl Reader {
    fn read_assigned(&self, stretch: Stretch<'_>, take: Take<'_>) -> Result<(), Stop> {
        let Stretch { topic, partition, until, .. } = stretch;
        let mut events = Events::of(&self.committed);
        let mut progress = Instant::now();
        let mut at = stretch.from;
        loop {
            match events.poll(Duration::from_millis(100)) {
                Some(Event::Record(record)) if record.topic() == topic && record.partition() == partition => {
                    if let Some(code) = record.error() {
                        return Err(Stop::data(format!("{topic}/{partition} at offset {}: {code}", record.offset())));
                    }
                    if record.offset() >= until {
                        return Ok(());
                    }
                    at = record.offset() + 1;
                    progress = Instant::now();
                    take(&record)?;
                    if at >= until {
                        return Ok(());
                    }
                }
                Some(Event::End { topic: ended, partition: of, offset })
                    if ended == topic && of == partition && offset >= until =>
                {
                    return Ok(());
                }
                Some(Event::Error { code, fatal, text }) => judge_error(stretch, code, fatal, &text)?,
                _ => {}
            }
            if progress.elapsed() > STALL_MAX {
                return Err(Stop::broker(format!(
                    "expected to read {topic}/{partition} to offset {until} (its high watermark), found the last stable \
                     offset standing at {at} for {STALL_MAX:?}: a transaction hangs; see kafka-transactions.sh \
                     find-hanging and abort"
                )));
            }
        }
    }
}

impl LogRecord for Record<'_> {
    fn offset(&self) -> i64 {
        Record::offset(self)
    }

    fn key(&self) -> Option<&[u8]> {
        Record::key(self)
    }

    fn value(&self) -> Option<&[u8]> {
        Record::value(self)
    }

    fn copy_to(&self, batch: &mut RawBatch) {
        Record::copy_to(self, batch);
    }
}

/// Whether reading can go on after an error of the client.
pub fn judge_error(stretch: Stretch<'_>, code: RDKafkaErrorCode, fatal: bool, text: &str) -> Result<(), Stop> {
    let Stretch { topic, partition, from, .. } = stretch;
    match code {
        RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset => Err(Stop::data(format!(
            "expected {topic}/{partition} to hold offset {from}, found it out of range ({text}): the topic was truncated \
             or its retention removed records that meterd had not folded"
        ))),
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::UnknownTopicOrPartition => {
            Err(Stop::config(format!("reading {topic}/{partition}: {code}: check that it exists and its ACLs")))
        }
        _ if fatal => Err(Stop::broker(format!("reading {topic}/{partition}: {code}: {text}"))),
        _ => {
            tracing::debug!(%code, text, topic, partition, "the client met an error and goes on");
            Ok(())
        }
    }
}

fn read_offsets(list: &TopicPartitionList, topics: [&str; 2], partition: i32) -> Result<[Option<i64>; 2], String> {
    let mut offsets = [None; 2];
    for (place, topic) in topics.iter().enumerate() {
        let element = list.find_partition(topic, partition).ok_or("the answer lacks a partition")?;
        // The call succeeds with the error on the element: an unstable offset is not "never committed".
        element.error().map_err(|error| error.to_string())?;
        offsets[place] = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
    }
    Ok(offsets)
}

fn retry<T>(client: &BaseConsumer<Context>, topic: &str, mut call: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    let deadline = Instant::now() + CALL_TIMEOUT;
    loop {
        match call() {
            Err(_) if Instant::now() < deadline => {
                // That a partition had no leader when the client looked, it believes for minutes unless it looks again.
                let _looked = client.fetch_metadata(Some(topic), Duration::from_secs(5));
                std::thread::sleep(Duration::from_millis(100));
            }
            result => return result,
        }
    }
}

fn unreachable_partition(topic: &str, partition: i32, error: &str) -> Stop {
    Stop::broker(format!("expected the leader of {topic}/{partition} to answer, found {error}: check the brokers"))
}
