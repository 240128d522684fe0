//! A partition's accounts as they are read from the store and the state topic: the newest of each part, still in their
//! stored form. Only what index and timers need is looked at before the partition is live.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::accounts::{Accounts, NEVER, Slot, hash_account};
use super::checkpoint::hash_part;
use super::cold::Packed;
use super::partition::Partition;
use crate::store::PartKey;
use crate::store::encoding::{self, DecodeError};

#[derive(Default)]
pub struct Loading {
    accounts: Accounts,
    /// Parts besides the head, of the few accounts that have some.
    parts: HashMap<Slot, BTreeMap<PartKey, Vec<u8>>>,
    /// The newest batch that an account is as of, and that account.
    newest: Option<(u64, Slot)>,
}

/// An account's stored parts that are not one of this partition.
#[derive(Debug, thiserror::Error)]
#[error("the stored state of account {account:?} cannot be read: {error}")]
pub struct Unreadable {
    pub account: String,
    pub error: DecodeError,
}

impl Loading {
    /// Takes a part of an account; it replaces what came of that part before.
    pub fn take(&mut self, account: &str, key: PartKey, as_of: u64, bytes: &[u8]) {
        let hash = hash_account(account);
        let head: &[u8] = if key == PartKey::HEAD { bytes } else { &[] };
        let packed = || Packed { id: account, parts: Vec::new(), head }.write();
        let slot = match self.accounts.find(account, hash) {
            None => self.accounts.insert_cold(hash, &packed()),
            Some(slot) => {
                if key == PartKey::HEAD {
                    self.accounts.replace_cold(slot, &packed());
                }
                slot
            }
        };
        if key != PartKey::HEAD {
            self.parts.entry(slot).or_default().insert(key, bytes.to_vec());
            return;
        }
        self.accounts.set_as_of(slot, as_of);
        if self.newest.is_none_or(|(newest, _)| as_of > newest) {
            self.newest = Some((as_of, slot));
        }
    }

    /// The newest batch that an account is as of, and the account's id.
    pub fn newest(&self) -> Option<(u64, &str)> {
        self.newest.map(|(as_of, slot)| (as_of, self.accounts.id(slot)))
    }

    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}

impl Partition {
    /// Takes up the accounts as they were stored, before anything is folded.
    pub fn load(&mut self, loading: Loading) -> Result<(), Unreadable> {
        let Loading { mut accounts, parts, .. } = loading;
        for (slot, parts) in parts {
            let packed = accounts.packed(slot).expect("accounts are cold while they are read");
            let rest = parts.iter().map(|(key, bytes)| (*key, hash_part(bytes), bytes.as_slice())).collect();
            let packed = Packed { parts: rest, ..packed };
            // That all parts are there only a decoding tells; what has nothing but a head is whole by its checksum.
            if let Err(error) = packed.decode(&self.engine.catalogs) {
                return Err(Unreadable { account: packed.id.into(), error });
            }
            let packed = packed.write();
            accounts.replace_cold(slot, &packed);
        }
        let mut due = Vec::with_capacity(accounts.len());
        for slot in accounts.slots() {
            let packed = accounts.packed(slot).expect("accounts are cold while they are read");
            let outline = encoding::outline(packed.head).and_then(|outline| {
                outline.check(&self.engine.catalogs)?;
                Ok(outline)
            });
            let outline = match outline {
                Ok(outline) => outline,
                Err(error) => return Err(Unreadable { account: packed.id.into(), error }),
            };
            let hash = accounts.get(slot).hash;
            due.extend(outline.due.filter(|due| *due != NEVER).map(|due| (due, hash, slot)));
            accounts.get_mut(slot).exists = outline.exists();
        }
        self.accounts = accounts;
        self.timers = super::timers::Timers::of(due);
        Ok(())
    }

    /// The replay is over, and the next batch is folded live.
    pub fn end_replay(&mut self) {
        self.accounts.forget_as_of();
    }
}
