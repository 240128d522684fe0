//! Which usage records were accepted: one table of 128-bit keyed hashes with each record's time.
//!
//! An identity is remembered until the clock is past its record's time + `late` (docs/reference.md 6.2). Expired entries
//! are ignored at once and swept when their piece of the table is full. The table is cut into pieces by the hash's
//! first byte, so that a sweep or a growth is a short pause.
//!
//! 128 bits under a secret key: among 10⁹ held identities a new record is taken for a duplicate with a probability of
//! 10⁹ / 2¹²⁸ < 10⁻²⁹.

use std::hash::Hasher;

use hashbrown::HashTable;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::engine::Ms;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub high: u64,
    pub low: u64,
}

/// The key of a partition's identities, drawn when its journal begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdentityKey(pub u64, pub u64);

const PIECES: usize = 256;
/// So many bytes are hashed at once; nearly all identities are shorter.
const SHORT: usize = 128;
/// A full piece of which a sweep gives up less than one in so many grows: else nearly each record would sweep again.
const WORTH: usize = 16;

pub struct Identities {
    pieces: Vec<HashTable<Entry>>,
    bytes: usize,
    /// No entry is of before this time.
    earliest: Ms,
}

#[derive(Clone, Copy)]
struct Entry {
    identity: Identity,
    time: Ms,
}

impl IdentityKey {
    /// The identity of a usage record: its account, source and id, each with its length before it.
    pub fn identity(&self, account: &str, source: &str, id: &str) -> Identity {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        let lengths = ((account.len() as u64) << 32 | source.len() as u64).to_le_bytes();
        let parts = [&lengths, account.as_bytes(), source.as_bytes(), id.as_bytes()];
        let mut short = [0; SHORT];
        let mut end = 0;
        let fits = parts.iter().map(|part| part.len()).sum::<usize>() <= SHORT;
        for part in parts {
            if fits {
                short[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            } else {
                hasher.write(part);
            }
        }
        hasher.write(&short[..end]);
        let hash = hasher.finish128();
        Identity { high: hash.h1, low: hash.h2 }
    }
}

impl Default for Identities {
    fn default() -> Identities {
        Identities { pieces: (0..PIECES).map(|_| HashTable::new()).collect(), bytes: 0, earliest: Ms::MAX }
    }
}

impl Identities {
    /// Whether the identity was accepted and is remembered at `clock`. Those of before `oldest` count as forgotten, whether
    /// they were swept or not: else a restart would show.
    pub fn holds(&self, identity: Identity, clock: Ms, late_ms: i64, oldest: Ms) -> bool {
        let found = self.piece(identity).find(identity.low, |entry| entry.identity == identity);
        found.is_some_and(|entry| remembered(entry.time, clock, late_ms) && entry.time >= oldest)
    }

    /// Reads a word of where the identity would stand, see `Partition::fetch`.
    pub fn fetch(&self, identity: Identity) -> u64 {
        self.piece(identity).iter_hash(identity.low).next().map_or(0, |entry| entry.identity.high)
    }

    /// Remembers an accepted record's identity; a later time replaces an expired one.
    pub fn remember(&mut self, identity: Identity, time: Ms, clock: Ms, late_ms: i64) {
        let piece = &mut self.pieces[(identity.high >> 56) as usize];
        if let Some(entry) = piece.find_mut(identity.low, |entry| entry.identity == identity) {
            entry.time = entry.time.max(time);
            return;
        }
        let before = piece.allocation_size();
        if piece.len() == piece.capacity() && !piece.is_empty() {
            let full = piece.len();
            piece.retain(|entry| remembered(entry.time, clock, late_ms));
            if piece.len() > full / WORTH * (WORTH - 1) {
                piece.reserve(full / WORTH * 2, |entry| entry.identity.low);
            }
        }
        piece.insert_unique(identity.low, Entry { identity, time }, |entry| entry.identity.low);
        self.bytes += piece.allocation_size() - before;
        self.earliest = self.earliest.min(time);
    }

    /// Gives up those that are not remembered at `clock`.
    pub fn forget(&mut self, clock: Ms, late_ms: i64) {
        if !remembered(self.earliest, clock, late_ms) {
            self.pieces.iter_mut().for_each(|piece| piece.retain(|entry| remembered(entry.time, clock, late_ms)));
            self.earliest = clock.saturating_sub(late_ms);
        }
    }

    /// Memory that the table takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.pieces.iter().map(HashTable::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn piece(&self, identity: Identity) -> &HashTable<Entry> {
        &self.pieces[(identity.high >> 56) as usize]
    }
}

fn remembered(time: Ms, clock: Ms, late_ms: i64) -> bool {
    clock <= time.saturating_add(late_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_late_has_passed() {
        let key = IdentityKey(1, 2);
        let mut identities = Identities::default();
        let identity = key.identity("acme", "gateway", "r1");
        identities.remember(identity, 1_000, 1_000, 500);
        assert!(identities.holds(identity, 1_500, 500, 1_000));
        assert!(!identities.holds(identity, 1_501, 500, Ms::MIN));
        assert!(!identities.holds(identity, 1_500, 500, 1_001));
        assert_ne!(identity, key.identity("acmeg", "ateway", "r1"));
    }

    #[test]
    fn a_piece_that_is_nearly_all_in_use_grows_instead_of_being_swept_again_and_again() {
        let mut identities = Identities::default();
        let of = |step: i64| Identity { high: 0, low: (step as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        (0..896).for_each(|step| identities.remember(of(step), step, step, i64::MAX));
        assert_eq!(identities.pieces[0].capacity(), 896, "it is full");
        (896..1_500).for_each(|step| identities.remember(of(step), step, step, 890));
        assert_eq!(identities.pieces[0].capacity(), 1_792);
    }

    #[test]
    fn a_full_piece_forgets_only_the_expired() {
        let key = IdentityKey(3, 4);
        let mut identities = Identities::default();
        for step in 0..50_000_i64 {
            let identity = key.identity("acme", "gateway", &step.to_string());
            assert!(!identities.holds(identity, step, 1_000, Ms::MIN));
            identities.remember(identity, step, step, 1_000);
        }
        for step in 49_000..50_000_i64 {
            assert!(identities.holds(key.identity("acme", "gateway", &step.to_string()), 50_000, 1_000, Ms::MIN));
        }
        assert!(identities.len() < 10_000, "{} held", identities.len());
        let tables: usize = identities.pieces.iter().map(HashTable::allocation_size).sum();
        assert_eq!(identities.bytes(), tables);
        identities.forget(50_000, 1_000);
        assert_eq!(identities.len(), 1_000);
    }
}
