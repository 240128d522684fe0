//! Checkpoints of a partition are continuous and fuzzy: accounts that changed wait in the order in which they first
//! became dirty, and each batch carries a slice of the oldest, encoded at the end of its own fold. An account's record
//! says which batch it is as of; the horizon is the first batch since which some account is dirty.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::partition::Partition;
use crate::engine::{Account, Ms};
use crate::store::encoding::{self, PartKey};
use crate::store::record;

/// Key and value of records for the state topic.
pub type StateWrites = Vec<(Vec<u8>, Vec<u8>)>;

impl Partition {
    /// What is folded from here on belongs to batch `sequence`.
    pub fn begin_batch(&mut self, sequence: u64) {
        self.batch = sequence;
    }

    /// The first batch since which some account is dirty; without dirty accounts the batch after the present one.
    pub fn horizon(&self) -> u64 {
        self.dirty.front().map_or(self.batch + 1, |slot| self.accounts.get(*slot).dirty_since)
    }

    pub fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// Encodes the accounts that are dirty since batch `through` or before, the oldest first, until `bytes_max` is
    /// passed. To be called after the last input of a batch: what is encoded is as of that batch.
    pub fn slice(&mut self, through: u64, bytes_max: usize, writes: &mut StateWrites) -> usize {
        let mut bytes = 0;
        let mut parts = Vec::new();
        while let Some(&slot) = self.dirty.front() {
            if bytes >= bytes_max || self.accounts.get(slot).dirty_since > through {
                break;
            }
            self.dirty.pop_front();
            let batch = self.batch;
            let held = self.accounts.get_mut(slot);
            parts.clear();
            encoding::encode(&held.account, &self.engine.catalogs, &mut parts);
            let mut hashes = Vec::with_capacity(parts.len());
            for part in &parts {
                let hash = hash_part(&part.bytes);
                let head = part.key == PartKey::HEAD;
                if head || !held.parts.contains(&(part.key, hash)) {
                    let (key, value) = (record::part_key(&held.id, part.key), record::part_value(batch, &part.bytes));
                    bytes += key.len() + value.len();
                    writes.push((key, value));
                }
                if !head {
                    hashes.push((part.key, hash));
                }
            }
            held.parts = hashes.into();
            held.as_of = batch;
            held.dirty_since = 0;
        }
        bytes
    }

    /// Takes up an account as it was stored, before anything is folded.
    pub fn load(&mut self, id: &str, account: Account, as_of: u64, parts: &[(PartKey, &[u8])]) {
        let hash = super::accounts::hash_account(id);
        let slot = self.accounts.insert(id, hash, account);
        let held = self.accounts.get_mut(slot);
        held.as_of = as_of;
        let stored = parts.iter().filter(|(key, _)| *key != PartKey::HEAD);
        held.parts = stored.map(|(key, bytes)| (*key, hash_part(bytes))).collect();
        let due = held.account.next_due();
        if let Some(due) = due {
            held.armed = due;
            self.timers.arm(due, hash, slot);
        }
    }

    /// Takes up the position at which the fold stands.
    pub fn resume(&mut self, clock: Ms, cursor: super::timers::Cursor, oldest: Ms) {
        self.clock = clock;
        self.cursor = cursor;
        self.oldest = oldest;
    }
}

fn hash_part(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x7061_7274, 0x6861_7368);
    hasher.write(bytes);
    hasher.finish()
}
