//! What meterd writes to Kafka for others to read: notices and quarantined records. Wire types are not engine types.

pub mod notice;
pub mod quarantine;

pub mod body;

use serde::{Serialize, Serializer};

use crate::engine::{Amount, Ms, calendar};

/// A time as notices and views write it.
#[derive(Clone, Copy)]
pub struct Time(pub Ms);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&calendar::format_time(self.0))
    }
}

/// An amount as notices and views write it: a string, as it is exact.
#[derive(Clone, Copy)]
pub struct Exact(pub Amount);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
