//! From a record to its notice: each record is the first of a new account and so large that it crosses every cap. The
//! time is taken from the call that produces the record to the read_committed reader's first notice caused by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::produce::{finish, now_ms, producer, send};
use super::{ASK_TIMEOUT, LoadError, partition_count};
use crate::engine::calendar;

/// What takes longer is counted as this: ten minutes.
const MICROS_MAX: u64 = 600_000_000;
/// How long notices are waited for after the last record.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Plan {
    pub brokers: String,
    pub usage_topic: String,
    pub events_topic: String,
    pub records: u64,
    /// Records a second.
    pub rate: u64,
    /// Distinguishes the accounts of this run.
    pub run: u64,
    pub kind: String,
    pub model: String,
    /// The quantity that crosses the caps, and how much of it each record brings.
    pub quantity: String,
    pub amount: u64,
}

pub struct Latency {
    /// In µs, of the records whose notice came.
    pub micros: Histogram<u64>,
    /// Records without a notice.
    pub silent: u64,
}

/// Produces at the rate and reads notices until all came or nothing more does.
pub fn measure(plan: &Plan, progress: impl Fn(u64) + Sync) -> Result<Latency, LoadError> {
    let consumer = events_consumer(plan)?;
    let partitions = partition_count(&plan.brokers, &plan.usage_topic)?;
    let began = Instant::now();
    // Nanoseconds since `began` at which each record was produced; 0: not yet.
    let produced: Vec<AtomicU64> = (0..plan.records).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| produce_all(plan, partitions, began, &produced));
        let read = read_notices(plan, &consumer, began, &produced, progress);
        sending.join().expect("the producing thread does not panic")?;
        read
    })
}

/// Reads the notices from their present end on.
fn events_consumer(plan: &Plan) -> Result<BaseConsumer, LoadError> {
    let partitions = partition_count(&plan.brokers, &plan.events_topic)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &plan.brokers)
        .set("group.id", "meterd-bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let (_, high) = consumer.fetch_watermarks(&plan.events_topic, partition, ASK_TIMEOUT)?;
        list.add_partition_offset(&plan.events_topic, partition, Offset::Offset(high))?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

fn produce_all(plan: &Plan, partitions: i32, began: Instant, produced: &[AtomicU64]) -> Result<(), LoadError> {
    let producer = producer(&plan.brokers, "0")?;
    for (number, at) in produced.iter().enumerate() {
        let due = Duration::from_secs_f64(number as f64 / plan.rate as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let account = format!("latency-{}-{number}", plan.run);
        let value = format!(
            r#"{{"specversion":"1.0","id":"{number}","source":"meterd-bench/{}","type":"{}","subject":"{account}","time":"{}","data":{{"model":"{}","{}":{}}}}}"#,
            plan.run,
            plan.kind,
            calendar::format_time(now_ms()),
            plan.model,
            plan.quantity,
            plan.amount,
        );
        at.store(began.elapsed().as_nanos() as u64, Ordering::Release);
        send(&producer, &plan.usage_topic, &account, value.as_bytes(), partitions)?;
        producer.poll(Duration::ZERO);
    }
    finish(&producer)
}

fn read_notices(
    plan: &Plan,
    consumer: &BaseConsumer,
    began: Instant,
    produced: &[AtomicU64],
    progress: impl Fn(u64),
) -> Result<Latency, LoadError> {
    let source = format!("meterd-bench/{}", plan.run);
    let mut micros = Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("3 significant digits are allowed");
    let mut told = vec![false; produced.len()];
    let mut open = produced.len() as u64;
    let mut last = Instant::now();
    while open > 0 && (last.elapsed() < PATIENCE || produced.last().is_some_and(|at| at.load(Ordering::Acquire) == 0)) {
        let message = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(_))) => continue,
            Some(Err(error)) => return Err(error.into()),
        };
        let came = began.elapsed();
        let Some(number) = message.payload().and_then(|value| caused_by(value, &source)) else { continue };
        if number < told.len() && !std::mem::replace(&mut told[number], true) {
            let produced = Duration::from_nanos(produced[number].load(Ordering::Acquire));
            micros.saturating_record(came.saturating_sub(produced).as_micros() as u64);
            open -= 1;
            last = Instant::now();
            progress(1);
        }
    }
    Ok(Latency { micros, silent: open })
}

/// The number of this run's record that caused a notice, or was echoed.
fn caused_by(value: &[u8], source: &str) -> Option<usize> {
    let event: serde_json::Value = serde_json::from_slice(value).ok()?;
    let cause = if event["source"] == source { &event } else { &event["data"]["cause"] };
    if cause["source"] == source { cause["id"].as_str()?.parse().ok() } else { None }
}
