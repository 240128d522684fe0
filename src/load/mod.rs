//! Load for benchmarks: usage records into Kafka, a bare reading loop and a bare transactional one to compare with, and the
//! time from a record to the notice that it gives rise to.

pub mod consume;
pub mod echo;
pub mod latency;
pub mod produce;
pub mod record;

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use crate::commit::producer::Fault;

/// For answers of the broker to questions outside the measured part.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a measurement ended early.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{0}; is a broker listening there, and does the topic exist?")]
    Kafka(#[from] KafkaError),
    #[error("topic {0}: expected at least one partition, found none; create it with `meterd init`")]
    NoPartitions(String),
    #[error("expected a transaction to commit, found {0:?}")]
    Transaction(Fault),
    #[error("expected to send every record, but the broker refused {0}")]
    Refused(u64),
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> LoadError {
        LoadError::Transaction(fault)
    }
}

/// How many partitions a topic has.
fn partition_count(brokers: &str, topic: &str) -> Result<i32, LoadError> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let metadata = client.fetch_metadata(Some(topic), ASK_TIMEOUT)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    match i32::try_from(partitions) {
        Ok(partitions) if partitions > 0 => Ok(partitions),
        _ => Err(LoadError::NoPartitions(topic.to_owned())),
    }
}

/// Seconds of CPU that this process has used, where the system tells.
pub fn cpu_seconds() -> Option<f64> {
    /// Linux counts user and system time for others in hundredths of a second.
    const TICKS_A_SECOND: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the process stands in parentheses and may hold anything; user and system time are the 12th and 13th after it.
    let mut after = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (after.next()?.parse().ok()?, after.next()?.parse().ok()?);
    Some((user + system) / TICKS_A_SECOND)
}
