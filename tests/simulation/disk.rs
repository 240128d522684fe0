//! A store on a simulated disk: it loses what was not synced, tears, fills up, errs. As sled it is atomic within one
//! partition, and as sled it knows the boot during which it was written.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use meterd::store::{Complete, Records, Store, StoreError, Take, check_continues};

use super::random::Random;

#[derive(Default)]
pub struct Disk(Mutex<Files>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Good,
    /// Writes fail.
    Full,
    /// Everything fails.
    Dead,
    /// Some calls fail.
    Flaky,
    /// Reading finds damage.
    Damaged,
}

#[derive(Default)]
struct Files {
    boot: u32,
    health: Health,
    calls: u64,
    /// What a crash leaves for certain.
    synced: BTreeMap<i32, Tree>,
    /// What was done since.
    unsynced: Vec<Write>,
    trees: BTreeMap<i32, Tree>,
}

#[derive(Clone, Default)]
struct Tree {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    complete: Option<Complete>,
}

#[derive(Clone)]
struct Write {
    partition: i32,
    /// `None`: the tree is cleared.
    batch: Option<(Vec<(Vec<u8>, Vec<u8>)>, Complete)>,
}

impl Tree {
    fn write(&mut self, write: &Write) {
        match &write.batch {
            None => *self = Tree::default(),
            Some((records, complete)) => {
                self.records.extend(records.iter().cloned());
                self.complete = Some(complete.clone());
            }
        }
    }
}

impl Disk {
    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_health(&self, health: Health) {
        self.files().health = health;
    }

    /// The operating system writes some of what waits.
    pub fn sync_some(&self, random: &mut Random) {
        let mut files = self.files();
        let count = random.below(files.unsynced.len() as u64 + 1) as usize;
        let writes: Vec<Write> = files.unsynced.drain(..count).collect();
        for write in writes {
            files.synced.entry(write.partition).or_default().write(&write);
        }
    }

    /// The process was killed: what it had not handed to the operating system is gone.
    pub fn killed(&self, random: &mut Random) {
        self.sync_some(random);
        let mut files = self.files();
        files.unsynced.clear();
        files.trees = files.synced.clone();
    }

    /// The machine lost its power: each tree may have stopped at another place, and the last write of each may be torn.
    pub fn lost_power(&self, random: &mut Random) {
        let mut files = self.files();
        files.boot += 1;
        let writes = std::mem::take(&mut files.unsynced);
        let mut trees = files.synced.clone();
        let mut stopped: Vec<i32> = Vec::new();
        for write in writes {
            if stopped.contains(&write.partition) {
                continue;
            }
            let tree = trees.entry(write.partition).or_default();
            match random.below(4) {
                0 => stopped.push(write.partition),
                1 => {
                    stopped.push(write.partition);
                    if let Some((records, complete)) = &write.batch {
                        let some = records.iter().filter(|_| random.below(2) == 0).cloned();
                        tree.records.extend(some);
                        tree.complete = Some(complete.clone());
                    }
                }
                _ => tree.write(&write),
            }
        }
        files.synced.clone_from(&trees);
        files.trees = trees;
    }

    pub fn delete(&self) {
        let mut files = self.files();
        files.unsynced.clear();
        files.synced.clear();
        files.trees.clear();
    }

    fn change(&self, write: Write) -> Result<(), StoreError> {
        let mut files = self.files();
        files.calls += 1;
        let fails = match files.health {
            Health::Good | Health::Damaged => false,
            Health::Full | Health::Dead => true,
            Health::Flaky => files.calls.is_multiple_of(3),
        };
        if fails {
            return Err(StoreError::Io("no space left on device".into()));
        }
        files.trees.entry(write.partition).or_default().write(&write);
        files.unsynced.push(write);
        Ok(())
    }
}

impl Store for Disk {
    fn load(&self, partition: i32, take: Take<'_>) -> Result<Option<Complete>, StoreError> {
        let mut files = self.files();
        files.calls += 1;
        match files.health {
            Health::Dead => return Err(StoreError::Io("input/output error".into())),
            Health::Flaky if files.calls.is_multiple_of(3) => return Err(StoreError::Io("input/output error".into())),
            _ => {}
        }
        let boot = format!("boot-{}", files.boot);
        let damaged = files.health == Health::Damaged;
        let Some(tree) = files.trees.get_mut(&partition) else { return Ok(None) };
        if tree.complete.as_ref().is_some_and(|complete| !complete.holds_in(&boot)) {
            *tree = Tree::default();
            files.unsynced.push(Write { partition, batch: None });
            return Ok(None);
        }
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = tree.records.clone().into_iter().collect();
        if damaged && let Some((_, value)) = records.last_mut() {
            let middle = value.len() / 2;
            value[middle] ^= 1;
        }
        records.iter().for_each(|(key, value)| take(key, value));
        Ok(tree.complete.clone())
    }

    fn apply(
        &self,
        partition: i32,
        after: Option<i64>,
        records: Records<'_>,
        complete: &Complete,
    ) -> Result<(), StoreError> {
        let found = self.files().trees.get(&partition).and_then(|tree| tree.complete.clone());
        check_continues(found.as_ref(), after)?;
        let records = records.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        self.change(Write { partition, batch: Some((records, complete.clone())) })
    }

    fn clear(&self, partition: i32) -> Result<(), StoreError> {
        self.change(Write { partition, batch: None })
    }

    fn boot(&self) -> String {
        format!("boot-{}", self.files().boot)
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut files = self.files();
        if matches!(files.health, Health::Full | Health::Dead) {
            return Err(StoreError::Io("no space left on device".into()));
        }
        files.unsynced.clear();
        files.synced = files.trees.clone();
        Ok(())
    }
}
