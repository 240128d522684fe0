//! meterd reads usage records from Kafka, prices them against a catalog, draws them from each account's grants, counts
//! them in windows, and writes decisions back to Kafka, exactly once.
//!
//! The way of a record, which is also the order of the modules: a consumer ([`ingest`]) hands raw records to the shard
//! that owns their partition ([`shard`]); the shard decodes them and folds them with the [`engine`]; the effects of the
//! fold become notices ([`wire`]) that one Kafka transaction writes together with the offsets and a journal record
//! ([`commit`]); after the commit the local copy ([`store`]) follows and readers ([`query`]) see the new state.

pub mod cli;
pub mod commit;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod ingest;
pub mod load;
pub mod offline;
pub mod query;
pub mod shard;
pub mod stop;
pub mod store;
pub mod telemetry;
pub mod verify;
pub mod wire;
