//! Accounts in their stored form, how they come to be so, and how they are decoded again.
//!
//! Layout of a packed account: length of the id less 1 (1 byte), the id; the number of parts besides the head (1 byte,
//! 255: 4 more follow, little-endian), for each its kind (1 byte), index (4 bytes), hash of what was stored last (8
//! bytes, 0: nothing), length (4 bytes) and bytes; then the head to the end.

use std::ops::Deref;

use super::accounts::{Accounts, Body, Slot, Warm, weight};
use super::checkpoint::hash_part;
use crate::engine::{Account, Catalog, Catalogs};
use crate::store::PartKey;
use crate::store::encoding::{self, DecodeError, Encoder, Parts};

/// Warm accounts that are kept whatever memory says.
const WARM_MIN: usize = 256;
/// Warm accounts looked at after an input, while memory is short.
const LOOKS: usize = 8;
/// Of those, so many grow cold at most.
const COOLED: usize = 2;

/// An account to be read.
pub enum Found<'a> {
    Warm(&'a Account),
    Cold(Box<Account>),
}

impl Deref for Found<'_> {
    type Target = Account;

    fn deref(&self) -> &Account {
        match self {
            Found::Warm(account) => account,
            Found::Cold(account) => account,
        }
    }
}

/// A packed account, taken apart.
pub struct Packed<'a> {
    pub id: &'a str,
    /// Key, hash of what was stored last, bytes; the head is not among them.
    pub parts: Vec<(PartKey, u64, &'a [u8])>,
    pub head: &'a [u8],
}

impl Accounts {
    /// The account, decoded if it was cold.
    pub fn warm(&mut self, slot: Slot, catalogs: &Catalogs) -> &mut Warm {
        if let Body::Cold(cell) = self.get(slot).body {
            let bytes = self.cells.get(cell);
            let packed = Packed::read(bytes);
            let (account, due) = decode(&packed, catalogs);
            let warm = Warm {
                id: packed.id.into(),
                account,
                armed: due,
                parts: packed.parts.iter().filter(|part| part.1 != 0).map(|part| (part.0, part.1)).collect(),
                slot,
                used: true,
                weight: weight(bytes.len()),
            };
            self.cells.free(cell);
            let place = self.warm_up(warm);
            self.get_mut(slot).body = Body::Warm(place);
        }
        let warm = self.warmed(slot).1;
        warm.used = true;
        warm
    }

    /// The account as it is, to be read.
    pub fn read(&self, slot: Slot, catalogs: &Catalogs) -> Found<'_> {
        match self.get(slot).body {
            Body::Warm(place) => {
                let warm = self.warm[place as usize].as_ref().expect("a warm account has its place in the slab");
                Found::Warm(&warm.account)
            }
            Body::Cold(cell) => Found::Cold(Box::new(decode(&Packed::read(self.cells.get(cell)), catalogs).0)),
        }
    }

    /// Lets some of the warm accounts that were not used since the hand passed them grow cold.
    pub fn cool(&mut self, catalogs: &Catalogs) {
        let mut cooled = 0;
        let mut encoder = Encoder::default();
        for _ in 0..LOOKS {
            if cooled == COOLED || self.warm_len() <= WARM_MIN {
                return;
            }
            self.hand = if self.hand + 1 < self.warm.len() { self.hand + 1 } else { 0 };
            let Some(warm) = &mut self.warm[self.hand] else { continue };
            if std::mem::take(&mut warm.used) {
                continue;
            }
            let slot = warm.slot;
            let parts = encoder.encode(&warm.account, catalogs);
            self.freeze(slot, parts);
            cooled += 1;
        }
    }

    /// Keeps only the stored form of a warm account.
    pub fn freeze(&mut self, slot: Slot, parts: Parts<'_>) {
        let Body::Warm(place) = self.get(slot).body else { return };
        let warm = self.warm[place as usize].take().expect("a warm account has its place in the slab");
        self.free_warm.push(place);
        self.warm_bytes -= warm.weight as usize;
        let stored = |key| warm.parts.iter().find(|(known, _)| *known == key).map_or(0, |(_, hash)| *hash);
        let rest = parts.rest().map(|(key, bytes)| (key, stored(key), bytes)).collect();
        let packed = Packed { id: &warm.id, parts: rest, head: parts.head() }.write();
        let cell = self.cells.put(&packed);
        self.get_mut(slot).body = Body::Cold(cell);
    }

    /// The parts of a cold account that were not stored as they are, which from now on count as stored.
    pub fn take_unstored(&mut self, slot: Slot, mut take: impl FnMut(&str, PartKey, &[u8])) {
        let Body::Cold(cell) = self.get(slot).body else { return };
        let mut packed = Packed::read(self.cells.get(cell));
        take(packed.id, PartKey::HEAD, packed.head);
        let mut changed = false;
        for (key, stored, bytes) in &mut packed.parts {
            let hash = hash_part(bytes);
            if hash != *stored {
                take(packed.id, *key, bytes);
                (*stored, changed) = (hash, true);
            }
        }
        if changed {
            let again = packed.write();
            self.cells.get_mut(cell).copy_from_slice(&again);
        }
    }

    /// Puts what came from the store or the state topic in the place of an account's packed form.
    pub(super) fn replace_cold(&mut self, slot: Slot, packed: &[u8]) {
        let Body::Cold(cell) = self.get(slot).body else { unreachable!("accounts are cold while they are read") };
        self.cells.free(cell);
        let cell = self.cells.put(packed);
        self.get_mut(slot).body = Body::Cold(cell);
    }

    /// The packed form of a cold account.
    pub(super) fn packed(&self, slot: Slot) -> Option<Packed<'_>> {
        match self.get(slot).body {
            Body::Cold(cell) => Some(Packed::read(self.cells.get(cell))),
            Body::Warm(_) => None,
        }
    }
}

/// What was packed was decoded before, or came with its checksum, version and parts from the state topic.
fn decode(packed: &Packed<'_>, catalogs: &Catalogs) -> (Account, crate::engine::Ms) {
    let outline = encoding::outline(packed.head);
    let account = packed.decode(catalogs);
    match (outline, account) {
        (Ok(outline), Ok(account)) => (account, outline.due.unwrap_or(super::accounts::NEVER)),
        (Err(error), _) | (_, Err(error)) => {
            panic!("the stored state of account {:?} cannot be read although its checksum is right: {error}", packed.id)
        }
    }
}

impl<'a> Packed<'a> {
    pub fn read(bytes: &'a [u8]) -> Packed<'a> {
        let id = id_of(bytes);
        let mut rest = &bytes[1 + id.len()..];
        let mut count = u32::from(take::<1>(&mut rest)[0]);
        if count == 255 {
            count = u32::from_le_bytes(*take(&mut rest));
        }
        let mut parts = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let kind = take::<1>(&mut rest)[0];
            let index = u32::from_le_bytes(*take(&mut rest));
            let stored = u64::from_le_bytes(*take(&mut rest));
            let length = u32::from_le_bytes(*take(&mut rest)) as usize;
            let (bytes, after) = rest.split_at(length);
            rest = after;
            parts.push((PartKey { kind, index }, stored, bytes));
        }
        Packed { id, parts, head: rest }
    }

    pub fn write(&self) -> Vec<u8> {
        let length: usize = self.parts.iter().map(|(.., bytes)| 17 + bytes.len()).sum();
        let mut packed = Vec::with_capacity(6 + self.id.len() + length + self.head.len());
        packed.push(u8::try_from(self.id.len() - 1).expect("ids of accounts have 1 to 256 bytes"));
        packed.extend_from_slice(self.id.as_bytes());
        match u8::try_from(self.parts.len()) {
            Ok(count) if count < 255 => packed.push(count),
            _ => {
                packed.push(255);
                packed.extend((self.parts.len() as u32).to_le_bytes());
            }
        }
        for (key, stored, bytes) in &self.parts {
            packed.push(key.kind);
            packed.extend(key.index.to_le_bytes());
            packed.extend(stored.to_le_bytes());
            packed.extend((bytes.len() as u32).to_le_bytes());
            packed.extend_from_slice(bytes);
        }
        packed.extend_from_slice(self.head);
        packed
    }

    /// Whether the account took up this very catalog, or is a stub.
    pub fn is_of(&self, catalog: &Catalog) -> bool {
        encoding::outline(self.head).is_ok_and(|outline| outline.catalog.is_none_or(|hash| hash == catalog.hash))
    }

    pub fn decode(&self, catalogs: &Catalogs) -> Result<Account, DecodeError> {
        let mut parts: Vec<(PartKey, &[u8])> = Vec::with_capacity(1 + self.parts.len());
        parts.push((PartKey::HEAD, self.head));
        parts.extend(self.parts.iter().map(|(key, _, bytes)| (*key, *bytes)));
        encoding::decode(&parts, catalogs)
    }
}

/// The id that a packed account begins with.
pub fn id_of(bytes: &[u8]) -> &str {
    let length = usize::from(bytes[0]) + 1;
    std::str::from_utf8(&bytes[1..=length]).expect("ids were texts when they were packed")
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> &'a [u8; N] {
    let (taken, after) = rest.split_first_chunk().expect("a packed account is whole");
    *rest = after;
    taken
}
