//! Kafka in: raw records become usage records and commands.

pub mod decode;
pub mod json;
pub mod partition;
pub mod topics;
