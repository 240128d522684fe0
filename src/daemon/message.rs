//! What the daemon's threads tell each other.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::group::Assignment;
use crate::commit::batch::Batch;
use crate::commit::committer::Places;
use crate::commit::configuration::FoldConfiguration;
use crate::commit::recovery::Recovered;
use crate::engine::{Catalog, Ms};
use crate::ingest::consumer::Fetched;
use crate::ingest::raw::Input;
use crate::query::Query;

/// To the thread that owns a partition's accounts.
pub enum ToShard {
    Fetched {
        input: Input,
        partition: i32,
        epoch: u64,
        fetched: Fetched,
    },
    /// Recovered; to be claimed, then live.
    Recovered {
        assignment: Assignment,
        recovered: Box<Recovered>,
    },
    Committed(Box<Outcome>),
    /// The batch's epoch is over.
    Dropped {
        partition: i32,
        epoch: u64,
    },
    /// The answer to a question for both inputs' ends.
    Ends {
        partition: i32,
        epoch: u64,
        ends: [i64; 2],
        asked: Ms,
    },
    /// Write what is dirty, fold nothing more, then say so.
    Drain {
        partition: i32,
        epoch: u64,
        done: Sender<i32>,
    },
    Revoked {
        partition: i32,
    },
    Ask {
        partition: Option<i32>,
        query: Query,
    },
    Reload {
        catalog: Arc<Catalog>,
        configuration: Arc<FoldConfiguration>,
    },
    Stop,
}

/// A batch that was committed, and where.
pub struct Outcome {
    pub batch: Batch,
    pub places: Places,
}
