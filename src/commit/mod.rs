//! Exactly once: batches become Kafka transactions, and partitions are recovered from what transactions left behind.

pub mod accepted;
pub mod batch;
pub mod committer;
pub mod configuration;
pub mod journal;
pub mod kafka;
pub mod marks;
pub mod producer;
pub mod reader;
pub mod recovery;
pub mod replay;
pub mod share;
pub mod state_copy;
pub mod tail;
pub mod ways_out;

pub use crate::ingest::ownership;
pub use crate::stop::{self, Stop};
