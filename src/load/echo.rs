//! The least that processes records exactly once: each goes unchanged from one topic to another, in transactions with its
//! offsets. What the daemon's latency is compared with.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedMessage};

use super::{ASK_TIMEOUT, LoadError};
use crate::commit::kafka::Transactions;
use crate::commit::producer::{TransactionalProducer, topic_name};
use crate::ingest::native::{GroupMetadata, Outgoing};

/// Records of one transaction, at most.
const RECORDS_MAX: usize = 10_000;

pub struct Plan {
    /// A member of a consumer group.
    pub consumer: ClientConfig,
    /// With a transactional id.
    pub producer: ClientConfig,
    pub from: String,
    pub to: String,
}

/// Echoes what is produced from now on, until the process is ended or something fails. `progress` hears of each transaction.
pub fn echo(plan: &Plan, mut progress: impl FnMut(u64)) -> Result<(), LoadError> {
    let consumer: BaseConsumer = plan.consumer.clone().set("auto.offset.reset", "latest").create()?;
    consumer.subscribe(&[plan.from.as_str()])?;
    let producer = TransactionalProducer::open(&plan.producer, [String::new(), String::new()], ASK_TIMEOUT)?;
    let mut records = Vec::new();
    loop {
        take(&consumer, &mut records)?;
        if let Some(member) = GroupMetadata::of(&consumer).filter(|_| !records.is_empty()) {
            transact(&producer, member, plan, &records)?;
            progress(records.len() as u64);
        }
        records.clear();
    }
}

/// Waits for a record, and takes what else is there.
fn take(consumer: &BaseConsumer, records: &mut Vec<OwnedMessage>) -> Result<(), LoadError> {
    let mut wait = Duration::from_millis(100);
    while records.len() < RECORDS_MAX {
        match consumer.poll(wait) {
            None => break,
            Some(Ok(message)) => {
                records.push(message.detach());
                wait = Duration::ZERO;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

fn transact(
    producer: &TransactionalProducer,
    member: GroupMetadata,
    plan: &Plan,
    records: &[OwnedMessage],
) -> Result<(), LoadError> {
    let to = topic_name(&plan.to);
    let mut offsets: Vec<(&str, i32, i64)> = Vec::new();
    producer.begin()?;
    for record in records {
        let (partition, next) = (record.partition(), record.offset() + 1);
        producer.send(&Outgoing { topic: &to, partition, key: record.key(), value: record.payload(), headers: &[] })?;
        match offsets.iter_mut().find(|(_, of, _)| *of == partition) {
            Some((.., offset)) => *offset = next,
            None => offsets.push((&plan.from, partition, next)),
        }
    }
    producer.drain(ASK_TIMEOUT)?;
    producer.send_offsets(member, &offsets, ASK_TIMEOUT)?;
    Ok(producer.commit(ASK_TIMEOUT)?)
}
