//! Checkpoints of a partition are continuous and fuzzy: accounts that changed wait in the order in which they first
//! became dirty, and each batch carries a slice of the oldest, encoded at the end of its own fold. An account's record
//! says which batch it is as of; the horizon is the first batch since which some account is dirty.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::accounts::Body;
use super::partition::{GROUP, Partition};
use super::writes::StateWrites;
use crate::engine::Ms;
use crate::store::PartKey;

/// What an account's checkpoint takes, about.
const ACCOUNT_BYTES: usize = 512;

impl Partition {
    /// What is folded from here on belongs to batch `sequence`.
    pub fn begin_batch(&mut self, sequence: u64) {
        self.batch = sequence;
    }

    /// The first batch since which some account is dirty; without dirty accounts the batch after the present one.
    pub fn horizon(&self) -> u64 {
        self.dirty.front().map_or(self.batch + 1, |(_, since)| *since)
    }

    pub fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// Encodes the accounts that are dirty since batch `through` or before, the oldest first, until `bytes_max` is
    /// passed. To be called after the last input of a batch: what is encoded is as of that batch, and so is what has
    /// been cold since an earlier one.
    pub fn slice(&mut self, through: u64, bytes_max: usize, writes: &mut StateWrites) -> usize {
        let before = writes.bytes_len();
        let short = self.is_short();
        writes.reserve(bytes_max.min(self.dirty.len().saturating_mul(ACCOUNT_BYTES)));
        for number in 0.. {
            let Some(&(slot, since)) = self.dirty.front() else { break };
            if writes.bytes_len() - before >= bytes_max || since > through {
                break;
            }
            if number % GROUP == 0 {
                self.fetch_dirty();
            }
            self.dirty.pop_front();
            self.accounts.get_mut(slot).dirty = false;
            let batch = self.batch;
            let mut write = |id: &str, key: PartKey, part: &[u8]| writes.push_part(id, key, batch, part);
            match self.accounts.get(slot).body {
                Body::Cold(_) => self.accounts.take_unstored(slot, write),
                Body::Warm(_) => {
                    let warm = self.accounts.warmed(slot).1;
                    let parts = self.encoder.encode(&warm.account, &self.engine.catalogs);
                    write(&warm.id, PartKey::HEAD, parts.head());
                    let hashes: Box<[_]> = parts.rest().map(|(key, bytes)| (key, hash_part(bytes))).collect();
                    for (stored, (key, bytes)) in hashes.iter().zip(parts.rest()) {
                        if !warm.parts.contains(stored) {
                            write(&warm.id, key, bytes);
                        }
                    }
                    warm.parts = hashes;
                    self.accounts.weigh(slot, parts.bytes_len());
                    if short && !self.accounts.warmed(slot).1.used {
                        self.accounts.freeze(slot, parts);
                    }
                }
            }
        }
        writes.bytes_len() - before
    }

    /// Takes up the position at which the fold stands.
    pub fn resume(&mut self, clock: Ms, cursor: super::timers::Cursor, oldest: Ms) {
        self.clock = clock;
        self.cursor = cursor;
        self.oldest = oldest;
    }
}

pub(super) fn hash_part(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x7061_7274, 0x6861_7368);
    hasher.write(bytes);
    hasher.finish()
}
