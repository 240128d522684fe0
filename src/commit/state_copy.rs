//! The state of a partition as it was stored: the local store, completed from the state topic.
//!
//! The store is a cache of the topic and says up to which offset of it it is complete. One path serves a cold start, a
//! warm one, and a partition that comes back after another instance owned it.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::configuration::FoldConfiguration;
use super::journal::Genesis;
use super::kafka::Log;
use super::reader::Stretch;
use super::recovery::Recovery;
use super::stop::Stop;
use crate::shard::Loading;
use crate::store::StoreError;
use crate::store::record::{self, RecordError, StateRecord};

/// Records by which a recovery itself completes the store, at most.
const WRITES_MAX: usize = 20_000;

#[derive(Default)]
pub struct StateCopy {
    pub accounts: Loading,
    pub configurations: HashMap<[u8; 16], FoldConfiguration>,
    pub genesis: Option<Genesis>,
    /// The offset of the state topic up to which the local store is complete; `None`: what it holds is of no use.
    pub stored: Option<i64>,
}

/// Reads the partition's state up to `high`, the state topic's high watermark.
pub fn read<L: Log>(recovery: &Recovery<L>, partition: i32, high: i64) -> Result<StateCopy, Stop> {
    let (low, _) = recovery.reader.watermarks(&recovery.topics.state, partition)?;
    let (mut copy, from) = match from_store(recovery, partition, high) {
        Some((copy, offset)) => (StateCopy { stored: Some(offset), ..copy }, offset.max(low)),
        None => (StateCopy { stored: cleared(recovery, partition, low), ..StateCopy::default() }, low),
    };
    let stretch = Stretch { topic: &recovery.topics.state, partition, from, until: high };
    let mut writes = BTreeMap::new();
    recovery.reader.read(stretch, &mut |record| {
        let (key, value) = (record.key().unwrap_or_default(), record.value().unwrap_or_default());
        copy.take(key, value).map_err(|error| {
            let place = format!("{}/{partition} at offset {}", recovery.topics.state, record.offset());
            Stop::data(format!("{place} is no state record of this meterd: {error}"))
        })?;
        if writes.len() <= WRITES_MAX {
            writes.insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    })?;
    // More than a little is left to the store's writer, once the partition is live.
    if from < high && writes.len() <= WRITES_MAX && copy.stored.is_some() {
        let mut records = writes.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        match recovery.store.apply(partition, copy.stored, &mut records, &recovery.complete(high)) {
            Ok(()) => copy.stored = Some(high),
            Err(error) => note_failure(recovery, partition, &error.to_string()),
        }
    }
    Ok(copy)
}

/// Whether a genesis, whatever its content, is among the state topic's records from `low` to before `high`.
pub fn has_genesis<L: Log>(recovery: &Recovery<L>, partition: i32, (low, high): (i64, i64)) -> Result<bool, Stop> {
    let stretch = Stretch { topic: &recovery.topics.state, partition, from: low, until: high };
    let (key, mut found) = (record::genesis_key(), false);
    recovery.reader.read(stretch, &mut |record| {
        found |= record.key() == Some(&key);
        Ok(())
    })?;
    Ok(found)
}

/// Makes the store's copy of the partition empty, and so complete up to where the state topic begins.
pub fn cleared<L: Log>(recovery: &Recovery<L>, partition: i32, low: i64) -> Option<i64> {
    let begin = || {
        recovery.store.clear(partition)?;
        recovery.store.apply(partition, None, &mut std::iter::empty(), &recovery.complete(low))
    };
    match begin() {
        Ok(()) => Some(low),
        Err(error) => {
            note_failure(recovery, partition, &error.to_string());
            None
        }
    }
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
            if matches!(error, StoreError::Damaged(_)) {
                keep_damaged(recovery, partition);
            }
            note_failure(recovery, partition, &error.to_string());
            return None;
        }
    };
    if let Some(error) = damage {
        keep_damaged(recovery, partition);
        note_failure(recovery, partition, &error.to_string());
        return None;
    }
    if complete.state_topic != recovery.complete(0).state_topic || complete.state_offset > high {
        tracing::warn!(partition, ?complete, high, "the store belongs to another state topic; rebuilding it");
        return None;
    }
    Some((copy, complete.state_offset))
}

/// What is damaged is looked at later; that it cannot be kept is no reason to wait.
fn keep_damaged<L: Log>(recovery: &Recovery<L>, partition: i32) {
    match recovery.store.keep_damaged(partition) {
        Ok(()) => tracing::warn!(partition, "the damaged copy is kept in the store as damaged-{partition}"),
        Err(error) => tracing::warn!(partition, %error, "the damaged copy could not be kept"),
    }
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
