//! Produces usage records as fast as asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::record::{Records, Shape};
use super::{LoadError, partition_count};
use crate::engine::Ms;
use crate::ingest::partition::{Partitioner, place};

/// Records between two looks at the clock.
const RECORDS_BETWEEN_LOOKS: u64 = 64;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Plan {
    pub brokers: String,
    pub topic: String,
    pub records: u64,
    /// Records a second; `None`: as fast as they go.
    pub rate: Option<u64>,
    pub seed: u64,
    pub threads: u64,
    pub shape: Shape,
}

#[derive(Clone, Copy, Debug)]
pub struct Produced {
    pub records: u64,
    pub bytes: u64,
    pub seconds: f64,
}

/// Counts what the broker refused.
#[derive(Default)]
pub(super) struct Deliveries {
    refused: AtomicU64,
}

impl rdkafka::ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Produces all records, each thread its share; `progress` is told how many more were taken by the client.
pub fn produce(plan: &Plan, progress: impl Fn(u64) + Sync) -> Result<Produced, LoadError> {
    let partitions = partition_count(&plan.brokers, &plan.topic)?;
    let began = Instant::now();
    let bytes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| {
                scope.spawn({
                    let progress = &progress;
                    move || produce_share(plan, thread, partitions, progress)
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("a producing thread does not panic"));
        joined.sum::<Result<u64, LoadError>>()
    })?;
    Ok(Produced { records: plan.records, bytes, seconds: began.elapsed().as_secs_f64() })
}

/// One thread's records, every `threads`-th of all. Gives their bytes.
fn produce_share(plan: &Plan, thread: u64, partitions: i32, progress: &impl Fn(u64)) -> Result<u64, LoadError> {
    let producer = producer(&plan.brokers, "20")?;
    let mut records = Records::new(&plan.shape, plan.seed.wrapping_add(thread));
    let began = Instant::now();
    let count = (plan.records + plan.threads - 1 - thread) / plan.threads;
    let mut bytes = 0;
    let mut now = now_ms();
    for number in 0..count {
        if number % RECORDS_BETWEEN_LOOKS == 0 {
            now = now_ms();
            producer.poll(Duration::ZERO);
            progress(RECORDS_BETWEEN_LOOKS.min(count - number));
            if let Some(rate) = plan.rate {
                let due = Duration::from_secs_f64((number * plan.threads) as f64 / rate as f64);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
        let (account, value) = records.next(number, now);
        bytes += value.len() as u64;
        send(&producer, &plan.topic, account, value, partitions)?;
    }
    finish(&producer)?;
    Ok(bytes)
}

/// A producer for many small records; `linger_ms` is how long it waits to fill a batch.
pub(super) fn producer(brokers: &str, linger_ms: &str) -> Result<BaseProducer<Deliveries>, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("compression.type", "lz4")
        .set("linger.ms", linger_ms)
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "500000")
        .set("queue.buffering.max.kbytes", "262144")
        .create_with_context(Deliveries::default())
}

/// Sends a record to the partition where the Java client would put its key; waits while the client's queue is full.
pub(super) fn send(
    producer: &BaseProducer<Deliveries>,
    topic: &str,
    account: &str,
    value: &[u8],
    partitions: i32,
) -> Result<(), KafkaError> {
    let partition = place(Partitioner::Murmur2, account.as_bytes(), partitions).expect("murmur2 places every key");
    let mut record = BaseRecord::to(topic).partition(partition).key(account).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Waits until everything was delivered.
pub(super) fn finish(producer: &BaseProducer<Deliveries>) -> Result<(), LoadError> {
    producer.flush(FLUSH_TIMEOUT)?;
    match producer.context().refused.load(Ordering::Relaxed) {
        0 => Ok(()),
        refused => Err(LoadError::Refused(refused)),
    }
}

pub(super) fn now_ms() -> Ms {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(Ms::MAX)
}
