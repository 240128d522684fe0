//! Kafka in: raw records become usage records and commands.

pub mod consumer;
pub mod decode;
pub mod json;
pub mod merge;
pub mod native;
pub mod ownership;
pub mod partition;
pub mod raw;
pub mod topics;
mod trouble;
