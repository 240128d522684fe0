//! A partition's accounts, timers and identities, and the fold over them.

pub mod accounts;
mod ahead;
pub mod budget;
mod cells;
pub mod checkpoint;
pub mod cold;
pub mod identities;
pub mod loading;
pub mod partition;
mod slab;
pub mod timers;
pub mod writes;

pub use accounts::Slot;
pub use budget::Budget;
pub use identities::{Identities, Identity, IdentityKey};
pub use loading::{Loading, Unreadable};
pub use partition::{GROUP, Gate, Partition, Read, Rules, Sink};
pub use timers::Cursor;
pub use writes::StateWrites;
