//! The clocks, read in one place.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Ms;

/// The moment at which a shard looks at its partitions.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall clock, which may be wrong and may jump.
    pub wall: Ms,
    /// For spans of time.
    pub steady: Instant,
}

impl Now {
    pub fn read() -> Now {
        Now { wall: wall(), steady: Instant::now() }
    }

    pub fn since(&self, earlier: Instant) -> Duration {
        self.steady.saturating_duration_since(earlier)
    }
}

/// Milliseconds since 1970, UTC.
pub fn wall() -> Ms {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Ms::try_from(since.as_millis()).unwrap_or(Ms::MAX),
        Err(before) => -Ms::try_from(before.duration().as_millis()).unwrap_or(Ms::MAX),
    }
}
