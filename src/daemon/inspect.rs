//! For those who read a deployment without being part of it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::startup::Found;
use super::{configuration, settings, startup};
use crate::commit::Stop;
use crate::commit::batch::Names;
use crate::commit::reader::Reader;
use crate::commit::recovery::Recovery;
use crate::commit::ways_out::WaysOut;
use crate::config::Config;
use crate::shard::Budget;
use crate::store::memory::MemoryStore;
use crate::telemetry::Metrics;

/// Recovery over librdkafka's clients.
pub type KafkaRecovery = Recovery<Reader>;

/// A deployment's topics, and what reads them. Nothing of it writes to Kafka or touches the local store.
pub struct Inspection {
    pub recovery: KafkaRecovery,
    pub names: Arc<Names>,
    pub partitions: i32,
    pub events_partitions: i32,
    pub dlq_partitions: i32,
}

/// Checks brokers and topics as a start does.
pub fn inspect(config: &Config) -> Result<Inspection, Stop> {
    let found = startup::look(config, &settings::admin(config), false)?;
    let configuration = configuration(config, &found)?;
    let Found { partitions, events_partitions, dlq_partitions, limits, place } = found;
    let recovery = Recovery {
        reader: Reader::open(&settings::free_consumer(config))?,
        topics: config.kafka.topics.clone(),
        store: Arc::new(MemoryStore::default()),
        metrics: Metrics::new(),
        // What is compared is read again and again: nothing grows cold.
        budget: Budget::new(usize::MAX),
        place,
        started_with: configuration.hash(),
        configuration: Arc::new(ArcSwap::from_pointee(configuration)),
        mock: false,
        ways_out: WaysOut::default(),
    };
    let names = Arc::new(Names::new(&config.kafka, limits.dlq_bytes));
    Ok(Inspection { recovery, names, partitions, events_partitions, dlq_partitions })
}
