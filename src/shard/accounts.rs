//! The accounts of one partition: a slab addressed by slot, found by id through one hash table.

use std::hash::Hasher;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use crate::engine::{Account, Ms};

/// Place of an account in its partition's slab; stable while the partition is held.
pub type Slot = u32;

/// No timer is armed.
pub const NEVER: Ms = Ms::MAX;

pub struct Held {
    pub id: Box<str>,
    /// Stable over restarts and versions: the timer cursor in the journal is made of it.
    pub hash: u64,
    pub account: Account,
    /// The due time under which the account stands in the partition's timers.
    pub armed: Ms,
    /// The batch whose end the stored copy of this account shows; 0: never stored.
    pub as_of: u64,
    /// The batch that changed it first since it was stored; 0: clean.
    pub dirty_since: u64,
    /// Hashes of the parts that were stored last, where the account has more than its head.
    pub parts: Box<[(crate::store::PartKey, u64)]>,
}

#[derive(Default)]
pub struct Accounts {
    slab: Vec<Held>,
    by_hash: HashTable<Slot>,
}

/// Hash of an account's id: the order of timers due at one instant (docs/reference.md 6.1).
pub fn hash_account(id: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6d65_7465_7264_2061, 0x6363_6f75_6e74_2031);
    hasher.write(id.as_bytes());
    hasher.finish()
}

impl Accounts {
    pub fn find(&self, id: &str, hash: u64) -> Option<Slot> {
        self.by_hash.find(hash, |slot| *self.slab[*slot as usize].id == *id).copied()
    }

    /// The slot of an account with this hash, if there is one; see `Partition::fetch`.
    pub fn likely(&self, hash: u64) -> Slot {
        self.by_hash.iter_hash(hash).next().copied().unwrap_or_default()
    }

    /// Reads a word of the account with this hash, see `Partition::fetch`.
    pub fn fetch(&self, hash: u64) -> u64 {
        self.slab.get(self.likely(hash) as usize).map_or(0, |held| held.hash ^ held.as_of)
    }

    /// Adds an account that `find` did not find.
    pub fn insert(&mut self, id: &str, hash: u64, account: Account) -> Slot {
        let slot = Slot::try_from(self.slab.len()).expect("fewer than 2^32 accounts fit in memory");
        let parts = Box::default();
        self.slab.push(Held { id: id.into(), hash, account, armed: NEVER, as_of: 0, dirty_since: 0, parts });
        let slab = &self.slab;
        self.by_hash.insert_unique(hash, slot, |other| slab[*other as usize].hash);
        slot
    }

    pub fn get(&self, slot: Slot) -> &Held {
        &self.slab[slot as usize]
    }

    pub fn get_mut(&mut self, slot: Slot) -> &mut Held {
        &mut self.slab[slot as usize]
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.slab.iter()
    }

    pub fn slots(&self) -> std::ops::Range<Slot> {
        0..self.slab.len() as Slot
    }
}
