//! What operators see: metrics for Prometheus, latency quantiles for the dashboard, logs.
//!
//! Counting is done by batch: a shard tallies what a batch did in plain integers ([`Tally`]) and adds it to the shared
//! atomics of [`Metrics`] once, so that the way of a record touches no shared cache line. Labels come from fixed sets
//! (topics, outcomes, reasons, types of notices, partition numbers), never from accounts, users or models.

pub mod families;
pub mod history;
pub mod instrument;
pub mod logs;
pub mod metrics;
pub mod recent;
pub mod tally;

pub use metrics::{Input, Metrics, PartitionMetrics};
pub use tally::Tally;
