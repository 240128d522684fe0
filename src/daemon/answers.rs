//! Answers to readers, made from a shard's memory; they leave when what they show is committed.

use crate::engine::Ms;
use crate::query::{Ask, Reply};
use crate::shard::Partition;

/// Whether the account that is asked for is in this partition.
pub fn holds(fold: &Partition, ask: &Ask) -> bool {
    match ask {
        Ask::View { account } | Ask::Usage { account, .. } | Ask::Check { account, .. } => fold.find(account).is_some(),
        Ask::List { .. } => true,
    }
}

/// `wall` is what `check` looks from; a view is as of the partition's clock.
pub fn answer(_fold: &Partition, _ask: &Ask, _wall: Ms) -> Reply {
    Reply::NotFound
}
