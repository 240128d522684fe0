//! The state topic as it is found: for each account its newest parts, compared with the fold at the batch that they are
//! as of.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::report::{Difference, Halt};
use crate::commit::configuration::FoldConfiguration;
use crate::commit::journal::{Genesis, JournalRecord};
use crate::commit::kafka::Log;
use crate::commit::reader::Stretch;
use crate::daemon::inspect::KafkaRecovery as Recovery;
use crate::engine::Account;
use crate::query::view;
use crate::shard::{Loading, Partition};
use crate::store::PartKey;
use crate::store::encoding;
use crate::store::record::{self, RecordError, StateRecord};

pub struct State {
    topic: String,
    partition: i32,
    accounts: HashMap<Box<str>, Checkpoint>,
    pub configurations: HashMap<[u8; 16], FoldConfiguration>,
    pub genesis: Option<Genesis>,
}

#[derive(Default)]
struct Checkpoint {
    as_of: u64,
    /// Of the head.
    offset: i64,
    parts: BTreeMap<PartKey, (i64, Vec<u8>)>,
}

/// Accounts by the batch that their checkpoint is as of.
pub type AsOf = BTreeMap<u64, Vec<Box<str>>>;

impl State {
    pub fn read(recovery: &Recovery, partition: i32) -> Result<State, Halt> {
        let topic = &recovery.topics.state;
        let (from, until) = recovery.reader.watermarks(topic, partition)?;
        let mut state = State {
            topic: topic.clone(),
            partition,
            accounts: HashMap::new(),
            configurations: HashMap::new(),
            genesis: None,
        };
        let mut damaged = None;
        recovery.reader.read(Stretch { topic, partition, from, until }, &mut |record| {
            let (key, value) = (record.key().unwrap_or_default(), record.value().unwrap_or_default());
            if let Err(error) = state.take(record.offset(), key, value) {
                damaged.get_or_insert((record.offset(), error.to_string()));
            }
            Ok(())
        })?;
        match damaged {
            None => Ok(state),
            Some((offset, found)) => {
                let expected = "a state record as meterd writes it".into();
                Err(Halt::differs(Difference { offset: Some(offset), expected, found, ..state.difference(None) }))
            }
        }
    }

    fn take(&mut self, offset: i64, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        match record::read(key, value)? {
            StateRecord::Part { account, key, as_of, bytes } => {
                let stored = self.accounts.entry(account.into()).or_default();
                if key == PartKey::HEAD {
                    (stored.as_of, stored.offset) = (as_of, offset);
                }
                stored.parts.insert(key, (offset, bytes.to_vec()));
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

    pub fn accounts_len(&self) -> usize {
        self.accounts.len()
    }

    /// No checkpoint may be of a batch that the journal does not have.
    pub fn check_future(&self, last: &JournalRecord) -> Result<(), Halt> {
        let future = self.accounts.iter().filter(|(_, stored)| stored.as_of > last.sequence);
        match future.min_by_key(|(_, stored)| stored.offset) {
            None => Ok(()),
            Some((account, stored)) => Err(Halt::differs(Difference {
                offset: Some(stored.offset),
                account: Some(account.to_string()),
                expected: format!("state as of batch {} or before, with which the journal ends", last.sequence),
                found: format!("state as of batch {}", stored.as_of),
                ..self.difference(None)
            })),
        }
    }

    pub fn as_of(&self) -> AsOf {
        let mut accounts = AsOf::new();
        for (account, stored) in &self.accounts {
            accounts.entry(stored.as_of).or_default().push(account.clone());
        }
        accounts
    }

    /// Compares an account's checkpoint with what the fold holds now, after `batch`.
    pub fn compare(&self, batch: u64, account: &str, fold: &Partition) -> Result<(), Halt> {
        let mut parts = Vec::new();
        if let Some(held) = fold.find(account) {
            encoding::encode(&held, fold.catalogs(), &mut parts);
        }
        let Some(stored) = self.accounts.get(account) else {
            return Err(Halt::differs(Difference {
                account: Some(account.to_owned()),
                expected: format!("a checkpoint, as the journal's horizon is after batch {batch}"),
                found: "none".into(),
                ..self.difference(Some(batch))
            }));
        };
        let differs = |part: &&encoding::Part| stored.parts.get(&part.key).is_none_or(|(_, at)| *at != part.bytes);
        let offset = match parts.iter().find(differs) {
            Some(part) => stored.parts.get(&part.key).map_or(stored.offset, |(offset, _)| *offset),
            None if parts.is_empty() => stored.offset,
            None => return Ok(()),
        };
        let parts: Vec<_> = stored.parts.iter().map(|(key, (_, bytes))| (*key, bytes.as_slice())).collect();
        let found = match encoding::decode(&parts, fold.catalogs()) {
            Ok(found) => describe(Some(&found), account, fold),
            Err(error) => error.to_string(),
        };
        Err(Halt::differs(Difference {
            offset: Some(offset),
            account: Some(account.to_owned()),
            expected: describe(fold.find(account).as_deref(), account, fold),
            found,
            ..self.difference(Some(batch))
        }))
    }

    /// After batch `horizon - 1`: the checkpoints must have every account as it is now, or as it was later.
    pub fn compare_all(&self, horizon: u64, fold: &Partition) -> Result<(), Halt> {
        let accounts = fold.accounts();
        for id in accounts.slots().map(|slot| accounts.id(slot)) {
            let later = self.accounts.get(id).is_some_and(|stored| stored.as_of >= horizon);
            if !later {
                self.compare(horizon - 1, id, fold)?;
            }
        }
        Ok(())
    }

    /// The accounts as a recovery takes them.
    pub fn stored(&self) -> Loading {
        let mut loading = Loading::default();
        for (account, stored) in &self.accounts {
            for (key, (_, bytes)) in &stored.parts {
                loading.take(account, *key, stored.as_of, bytes);
            }
        }
        loading
    }

    fn difference(&self, batch: Option<u64>) -> Difference {
        Difference {
            what: "checkpoint",
            topic: self.topic.clone(),
            partition: self.partition,
            batch,
            ..Difference::default()
        }
    }
}

/// An account for a message: its view, or what is left of it.
fn describe(found: Option<&Account>, id: &str, fold: &Partition) -> String {
    let Some(account) = found else { return "no such account".into() };
    match view::view(fold.catalogs(), id, account, fold.clock()) {
        Some(view) => serde_json::to_string(&view).unwrap_or_else(|error| error.to_string()),
        None => format!("a deleted or unknown account after {} notices", account.sequence()),
    }
}
