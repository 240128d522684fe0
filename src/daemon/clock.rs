//! The wall clock, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::Ms;

/// Milliseconds since 1970, UTC.
pub fn wall() -> Ms {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Ms::try_from(since.as_millis()).unwrap_or(Ms::MAX),
        Err(before) => -Ms::try_from(before.duration().as_millis()).unwrap_or(Ms::MAX),
    }
}
