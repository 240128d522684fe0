//! The accounts of one partition: found by id through a hash table, addressed by slot.
//!
//! An account is *warm* while it is folded: decoded, in a slab of its own. Once memory is short, one that was not used
//! for a while grows *cold*: only its stored form is kept, byte for byte as it goes into the state topic, and the next
//! touch decodes it again. A recovered account begins cold. Whether it is dirty has nothing to do with it: a cold one
//! waits for its checkpoint as it is.

use std::hash::Hasher;

use compact_str::CompactString;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::cells::{Cell, Cells};
use super::slab::Slab;
use crate::engine::{Account, Ms};
use crate::store::PartKey;

/// Place of an account in its partition's slab; stable while the partition is held.
pub type Slot = u32;

/// No timer is armed.
pub const NEVER: Ms = Ms::MAX;

/// The table is cut by the hash's first bits, so that growth is a short pause.
const PIECES: usize = 64;
/// What a warm account takes besides what grows with its stored form, about.
const WARM_BYTES: usize = 1_024;
/// A decoded account takes so many times its stored form, about.
const WARM_TIMES: usize = 4;
/// A slot with its share of hash table and timers, about.
const SLOT_BYTES: usize = 72;

/// What is known of every account.
pub struct Held {
    /// Stable over restarts and versions: the timer cursor in the journal is made of it.
    pub hash: u64,
    pub body: Body,
    /// Changed since it was last written.
    pub dirty: bool,
    /// False for stubs.
    pub exists: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Body {
    Warm(u32),
    Cold(Cell),
}

/// A decoded account.
pub struct Warm {
    pub id: CompactString,
    pub account: Account,
    /// The due time under which the account stands in the partition's timers.
    pub armed: Ms,
    /// Hashes of the parts that were stored last, where the account has more than its head.
    pub parts: Box<[(PartKey, u64)]>,
    pub slot: Slot,
    /// Since the hand passed by.
    pub used: bool,
    /// Bytes that it counts for.
    pub weight: u32,
}

pub struct Accounts {
    slab: Slab<Held>,
    by_hash: Vec<HashTable<Slot>>,
    pub(super) warm: Slab<Option<Warm>>,
    pub(super) free_warm: Vec<u32>,
    pub(super) warm_bytes: usize,
    pub(super) cells: Cells,
    /// Where the search for accounts that were not used goes on.
    pub(super) hand: usize,
    /// During a replay, by slot: the batch whose end the stored copy of an account shows.
    as_of: Vec<u64>,
}

/// Hash of an account's id: the order of timers due at one instant (docs/reference.md 6.1).
pub fn hash_account(id: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6d65_7465_7264_2061, 0x6363_6f75_6e74_2031);
    hasher.write(id.as_bytes());
    hasher.finish()
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts {
            slab: Slab::default(),
            by_hash: (0..PIECES).map(|_| HashTable::new()).collect(),
            warm: Slab::default(),
            free_warm: Vec::new(),
            warm_bytes: 0,
            cells: Cells::default(),
            hand: 0,
            as_of: Vec::new(),
        }
    }
}

impl Accounts {
    pub fn find(&self, id: &str, hash: u64) -> Option<Slot> {
        let same = |slot: &Slot| self.slab[*slot as usize].hash == hash && self.id(*slot) == id;
        self.by_hash[piece(hash)].find(hash, same).copied()
    }

    /// The slot of the account with this hash, most likely.
    pub(super) fn likely(&self, hash: u64) -> Slot {
        self.by_hash[piece(hash)].iter_hash(hash).next().copied().unwrap_or_default()
    }

    /// Where the account of a slot stands, if it is warm.
    pub(super) fn place(&self, slot: Slot) -> Option<&Option<Warm>> {
        match self.slab.get(slot as usize)?.body {
            Body::Warm(place) => self.warm.get(place as usize),
            Body::Cold(_) => None,
        }
    }

    /// Adds an account that `find` did not find; it is warm.
    pub fn insert(&mut self, id: &str, hash: u64, account: Account) -> Slot {
        let slot = self.push(hash, Body::Warm(0));
        let exists = account.exists();
        let place = self.warm_up(Warm {
            id: id.into(),
            account,
            armed: NEVER,
            parts: Box::default(),
            slot,
            used: true,
            weight: weight(0),
        });
        let held = &mut self.slab[slot as usize];
        (held.body, held.exists) = (Body::Warm(place), exists);
        slot
    }

    /// Adds an account that `find` did not find in its stored form, see [`super::cold`].
    pub(super) fn insert_cold(&mut self, hash: u64, packed: &[u8]) -> Slot {
        let cell = self.cells.put(packed);
        self.push(hash, Body::Cold(cell))
    }

    fn push(&mut self, hash: u64, body: Body) -> Slot {
        let slot = Slot::try_from(self.slab.len()).expect("fewer than 2^32 accounts fit in memory");
        self.slab.push(Held { hash, body, dirty: false, exists: false });
        let slab = &self.slab;
        self.by_hash[piece(hash)].insert_unique(hash, slot, |other| slab[*other as usize].hash);
        slot
    }

    /// Takes a decoded account in; its place.
    pub(super) fn warm_up(&mut self, warm: Warm) -> u32 {
        self.warm_bytes += warm.weight as usize;
        match self.free_warm.pop() {
            Some(place) => {
                self.warm[place as usize] = Some(warm);
                place
            }
            None => self.warm.push(Some(warm)) as u32,
        }
    }

    pub fn get(&self, slot: Slot) -> &Held {
        &self.slab[slot as usize]
    }

    pub fn get_mut(&mut self, slot: Slot) -> &mut Held {
        &mut self.slab[slot as usize]
    }

    /// What is known of an account that is warm, and the account.
    pub fn warmed(&mut self, slot: Slot) -> (&mut Held, &mut Warm) {
        let held = &mut self.slab[slot as usize];
        let Body::Warm(place) = held.body else { unreachable!("an account that was just folded is warm") };
        let warm = self.warm[place as usize].as_mut().expect("a warm account has its place in the slab");
        (held, warm)
    }

    pub fn id(&self, slot: Slot) -> &str {
        match self.slab[slot as usize].body {
            Body::Warm(place) => self.warm[place as usize].as_ref().map_or("", |warm| &*warm.id),
            Body::Cold(cell) => super::cold::id_of(self.cells.get(cell)),
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Accounts that are decoded.
    pub fn warm_len(&self) -> usize {
        self.warm.len() - self.free_warm.len()
    }

    pub fn slots(&self) -> std::ops::Range<Slot> {
        0..self.slab.len() as Slot
    }

    /// The ids of accounts that exist; stubs are left out.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.slots().filter(|slot| self.get(*slot).exists).map(|slot| self.id(slot))
    }

    /// The batch whose end the stored copy of the account shows, as far as a replay needs it.
    pub fn as_of(&self, slot: Slot) -> u64 {
        self.as_of.get(slot as usize).copied().unwrap_or(0)
    }

    pub(super) fn set_as_of(&mut self, slot: Slot, batch: u64) {
        if self.as_of.len() <= slot as usize {
            self.as_of.resize(slot as usize + 1, 0);
        }
        self.as_of[slot as usize] = batch;
    }

    /// Notes how long the stored form of a warm account is now.
    pub(super) fn weigh(&mut self, slot: Slot, stored: usize) {
        let after = weight(stored);
        let warm = self.warmed(slot).1;
        let before = std::mem::replace(&mut warm.weight, after);
        self.warm_bytes = self.warm_bytes + after as usize - before as usize;
    }

    /// The replay is over: what stored copies are as of is of no more use.
    pub fn forget_as_of(&mut self) {
        self.as_of = Vec::new();
    }

    /// Bytes that all accounts take, about.
    pub fn bytes(&self) -> usize {
        self.warm_bytes + self.cells.bytes() + self.slab.len() * SLOT_BYTES
    }
}

/// What a decoded account counts for, by the length of its stored form (0: not known yet).
pub(super) fn weight(stored: usize) -> u32 {
    (WARM_BYTES + stored.max(256) * WARM_TIMES) as u32
}

fn piece(hash: u64) -> usize {
    (hash >> 58) as usize % PIECES
}
