//! The local copy of the state topic: accounts' parts by key, with the state-topic offset up to which it is complete.
//!
//! The store is a cache (docs/reference.md 11.5): it is never ahead of a committed transaction, and deleting it loses
//! nothing. [`sled`] holds it on disk; [`memory`] is what runs where the disk does not serve, and in tests.

pub mod encoding;
pub mod memory;
pub mod record;
pub mod sled;

use serde::{Deserialize, Serialize};

pub use encoding::PartKey;
pub use record::StateRecord;

/// What a partition's copy is complete up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// The next offset of the state topic that is not in the copy.
    pub state_offset: i64,
    /// The id of the state topic; a topic that was created again has another.
    pub state_topic: String,
    /// The boot during which this was written. After another boot a copy that was not closed may be torn.
    pub boot: String,
    /// Set by an orderly close, cleared by the first write after it.
    pub closed: bool,
}

impl Complete {
    /// Whether the copy can be trusted in this boot: it was written in it, or closed in order.
    pub fn holds_in(&self, boot: &str) -> bool {
        self.closed || self.boot == boot
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the directory.
    #[error("{0}")]
    Held(String),
    /// The files contradict themselves; they are set aside and rebuilt.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The disk does not serve (full, read-only, failing): the files are kept, the daemon runs from memory.
    #[error("the store cannot be written or read: {0}")]
    Io(String),
    /// A write that would leave a hole in the copy; nothing was written.
    #[error(
        "the copy ends at {found:?} of the state topic, not at {after:?}, where what was to be written continues it"
    )]
    Elsewhere { found: Option<i64>, after: Option<i64> },
}

/// Whether a write that continues a copy which ends at `after` (`None`: there is no copy) continues the one that is here.
/// Else it would leave a hole, or bring back what is older.
pub fn check_continues(found: Option<&Complete>, after: Option<i64>) -> Result<(), StoreError> {
    let found = found.map(|complete| complete.state_offset);
    if found == after { Ok(()) } else { Err(StoreError::Elsewhere { found, after }) }
}

/// Keys and values to be written.
pub type Records<'a> = &'a mut dyn Iterator<Item = (&'a [u8], &'a [u8])>;

/// Receives keys and values.
pub type Take<'a> = &'a mut dyn FnMut(&[u8], &[u8]);

/// What may have two writers for a moment, while a partition comes back before the last of it was written.
pub trait Store: Send + Sync {
    /// Gives key and value of each record of a partition, as in the topic; what they are complete up to, `None` where
    /// there is no copy.
    fn load(&self, partition: i32, take: Take<'_>) -> Result<Option<Complete>, StoreError>;
    /// Writes records, the newest of each key, best in their order, then what the copy is complete up to. A copy that ends
    /// in between holds newer records than it says; they come again from the topic.
    /// `after`: where the copy must end before, `None` where there must be none.
    fn apply(
        &self,
        partition: i32,
        after: Option<i64>,
        records: Records<'_>,
        complete: &Complete,
    ) -> Result<(), StoreError>;
    /// Forgets a partition's copy.
    fn clear(&self, partition: i32) -> Result<(), StoreError>;
    /// Keeps a damaged copy aside, to be looked at, as far as it can be read; the one kept before is given up.
    fn keep_damaged(&self, _partition: i32) -> Result<(), StoreError> {
        Ok(())
    }
    /// Identifies the boot under which what is written now is known to be whole.
    fn boot(&self) -> String;
    /// Makes what was applied durable.
    fn flush(&self) -> Result<(), StoreError>;
}
