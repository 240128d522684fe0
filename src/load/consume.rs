//! The bare loop of a consumer, without any work on the records: what the daemon's reading is compared with.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{ASK_TIMEOUT, LoadError, cpu_seconds, partition_count};

#[derive(Clone, Copy, Debug)]
pub struct Consumed {
    pub records: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub cpu_seconds: Option<f64>,
}

/// Reads a topic from its beginning to where it ended at the start, or `records_max` records of it.
pub fn consume(
    brokers: &str,
    topic: &str,
    records_max: u64,
    mut progress: impl FnMut(u64),
) -> Result<Consumed, LoadError> {
    let partitions = partition_count(brokers, topic)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "meterd-bench")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.min.messages", "500000")
        .set("queued.max.messages.kbytes", "262144")
        .create()?;
    let mut list = TopicPartitionList::new();
    let mut open = 0;
    for partition in 0..partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, ASK_TIMEOUT)?;
        if low < high {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
            open += 1;
        }
    }
    consumer.assign(&list)?;
    let cpu_before = cpu_seconds();
    let began = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    while open > 0 && records < records_max {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                records += 1;
                bytes += message.payload_len() as u64;
                if records % 65_536 == 0 {
                    progress(records);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu_seconds = cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    Ok(Consumed { records, bytes, seconds, cpu_seconds })
}
