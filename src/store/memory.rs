//! The store in memory: for the embedded broker, for tests, and where the disk does not serve.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use super::{Complete, Records, Store, StoreError, Take, check_continues};

#[derive(Default)]
pub struct MemoryStore {
    partitions: Mutex<HashMap<i32, Kept>>,
}

#[derive(Default)]
struct Kept {
    complete: Option<Complete>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Store for MemoryStore {
    fn load(&self, partition: i32, take: Take<'_>) -> Result<Option<Complete>, StoreError> {
        let partitions = self.partitions.lock().map_err(|_| poisoned())?;
        let Some(kept) = partitions.get(&partition) else { return Ok(None) };
        kept.records.iter().for_each(|(key, value)| take(key, value));
        Ok(kept.complete.clone())
    }

    fn apply(
        &self,
        partition: i32,
        after: Option<i64>,
        records: Records<'_>,
        complete: &Complete,
    ) -> Result<(), StoreError> {
        let mut partitions = self.partitions.lock().map_err(|_| poisoned())?;
        let kept = partitions.entry(partition).or_default();
        check_continues(kept.complete.as_ref(), after)?;
        kept.records.extend(records.map(|(key, value)| (key.to_vec(), value.to_vec())));
        kept.complete = Some(complete.clone());
        Ok(())
    }

    fn clear(&self, partition: i32) -> Result<(), StoreError> {
        self.partitions.lock().map_err(|_| poisoned())?.remove(&partition);
        Ok(())
    }

    fn boot(&self) -> String {
        String::new()
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn poisoned() -> StoreError {
    StoreError::Io("a thread that wrote to it has panicked".into())
}
