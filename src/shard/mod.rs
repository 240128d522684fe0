//! A partition's accounts, timers and identities, and the fold over them.

pub mod accounts;
pub mod checkpoint;
pub mod identities;
pub mod partition;
pub mod timers;

pub use accounts::Slot;
pub use checkpoint::StateWrites;
pub use identities::{Identity, IdentityKey};
pub use partition::{Gate, Partition, Read, Rules, Sink};
pub use timers::Cursor;
