//! The fold without Kafka: what `simulate` and `test` run. The same shard, decoding and notices as the daemon's; only
//! records come from files, and the clock from their timestamps alone.

pub mod expect;
pub mod line;
pub mod lines;
pub mod run;
pub mod scenario;
