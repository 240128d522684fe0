//! Texts that are held once.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// The names of types and values that accounts count under, shared between them. One for each engine; a name that no
/// account uses any more is dropped in time.
#[derive(Debug)]
pub struct Names {
    known: HashTable<Arc<str>>,
    /// Names held at which unused ones are looked for.
    sweep_at: usize,
}

/// A text that is held once, with its hash.
#[derive(Clone, Debug)]
pub struct Name {
    pub text: Arc<str>,
    pub hash: u64,
}

impl Default for Names {
    fn default() -> Names {
        Names { known: HashTable::new(), sweep_at: Names::SWEEP_MIN }
    }
}

impl Names {
    const SWEEP_MIN: usize = 65_536;

    /// The text as all accounts hold it.
    pub fn name(&mut self, text: &str) -> Name {
        let hash = hash_of(text);
        Name { text: self.intern(hash, text), hash }
    }

    pub fn find(&self, hash: u64, text: &str) -> Option<&Arc<str>> {
        self.known.find(hash, |name| **name == *text)
    }

    pub fn intern(&mut self, hash: u64, text: &str) -> Arc<str> {
        if let Some(name) = self.find(hash, text) {
            return name.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.sweep_at = (self.known.len() * 2).max(Names::SWEEP_MIN);
        }
        let name: Arc<str> = text.into();
        self.known.insert_unique(hash, name.clone(), |name| hash_of(name));
        name
    }
}

/// The same in every process and table: nothing depends on the order that it gives.
pub fn hash_of(text: &str) -> u64 {
    FixedState::with_seed(0).hash_one(text)
}
