//! The state of a partition as it was stored: the local store, completed from the state topic.
//!
//! The store is a cache of the topic and says up to which offset of it it is complete. One path serves a cold start, a
//! warm one, and a partition that comes back after another instance owned it.

use hashbrown::HashMap;

use super::configuration::FoldConfiguration;
use super::journal::Genesis;
use super::kafka::Log;
use super::reader::Stretch;
use super::recovery::Recovery;
use super::stop::Stop;
use crate::shard::Loading;
use crate::store::Complete;
use crate::store::record::{self, RecordError, StateRecord};

/// Records written to the store at once while it is completed.
const CHUNK: usize = 20_000;

#[derive(Default)]
pub struct StateCopy {
    pub accounts: Loading,
    pub configurations: HashMap<[u8; 16], FoldConfiguration>,
    pub genesis: Option<Genesis>,
}

/// Reads the partition's state up to `high`, the state topic's high watermark.
pub fn read<L: Log>(recovery: &Recovery<L>, partition: i32, high: i64) -> Result<StateCopy, Stop> {
    let (low, _) = recovery.reader.watermarks(&recovery.topics.state, partition)?;
    let (mut copy, from) = match from_store(recovery, partition, high) {
        Some((copy, offset)) => (copy, offset.max(low)),
        None => {
            if let Err(error) = recovery.store.clear(partition) {
                note_failure(recovery, partition, &error.to_string());
            }
            (StateCopy::default(), low)
        }
    };
    let stretch = Stretch { topic: &recovery.topics.state, partition, from, until: high };
    let mut writes = Vec::new();
    recovery.reader.read(stretch, &mut |record| {
        let (key, value) = (record.key().unwrap_or_default(), record.value().unwrap_or_default());
        copy.take(key, value).map_err(|error| {
            let place = format!("{}/{partition} at offset {}", recovery.topics.state, record.offset());
            Stop::data(format!("{place} is no state record of this meterd: {error}"))
        })?;
        writes.push((key.to_vec(), value.to_vec()));
        if writes.len() == CHUNK {
            // Complete only up to where it was before: what is ahead of that is written again, with the same end.
            apply(recovery, partition, &mut writes, &recovery.complete(from));
        }
        Ok(())
    })?;
    apply(recovery, partition, &mut writes, &recovery.complete(high.max(from)));
    Ok(copy)
}

/// What the local store holds, and the state topic's offset from which to go on; `None`: nothing that can be used.
fn from_store<L: Log>(recovery: &Recovery<L>, partition: i32, high: i64) -> Option<(StateCopy, i64)> {
    let mut copy = StateCopy::default();
    let mut damage = None;
    let found = recovery.store.load(partition, &mut |key, value| {
        if let Err(error) = copy.take(key, value) {
            damage.get_or_insert(error);
        }
    });
    let complete = match found {
        Ok(complete) => complete?,
        Err(error) => {
            note_failure(recovery, partition, &error.to_string());
            return None;
        }
    };
    if let Some(error) = damage {
        note_failure(recovery, partition, &error.to_string());
        return None;
    }
    if complete.state_topic != recovery.complete(0).state_topic || complete.state_offset > high {
        tracing::warn!(partition, ?complete, high, "the store belongs to another state topic; rebuilding it");
        return None;
    }
    Some((copy, complete.state_offset))
}

fn apply<L: Log>(recovery: &Recovery<L>, partition: i32, writes: &mut Vec<(Vec<u8>, Vec<u8>)>, complete: &Complete) {
    let mut records = writes.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    if let Err(error) = recovery.store.apply(partition, &mut records, complete) {
        note_failure(recovery, partition, &error.to_string());
    }
    writes.clear();
}

fn note_failure<L: Log>(recovery: &Recovery<L>, partition: i32, error: &str) {
    recovery.metrics.store_failed();
    tracing::warn!(partition, error, "the store does not serve; the state comes from Kafka");
}

impl StateCopy {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        match record::read(key, value)? {
            StateRecord::Part { account, key, as_of, bytes } => {
                self.accounts.take(account, key, as_of, bytes);
            }
            StateRecord::Configuration { hash, bytes } => {
                let configuration = FoldConfiguration::decode(bytes).ok_or(RecordError::Content)?;
                self.configurations.insert(hash, configuration);
            }
            StateRecord::Genesis { bytes } => {
                self.genesis = Some(postcard::from_bytes(bytes).map_err(|_| RecordError::Content)?);
            }
        }
        Ok(())
    }
}
