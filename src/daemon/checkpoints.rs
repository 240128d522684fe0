//! When a partition's changes are due for a checkpoint, and how many bytes of them go into one commit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clock::Now;
use crate::commit::batch::SLICE_BYTES_MAX;

/// Checkpoints that lag so many intervals behind, and so long at all, hold up the inputs: what would have to be folded
/// again after a crash must not grow without end.
const BEHIND_INTERVALS: u32 = 6;
const BEHIND_MIN: Duration = Duration::from_secs(30);
/// As few as keep their interval, so that no commit takes long.
const SLICE_BYTES_MIN: usize = 128 << 10;

pub struct Checkpoints {
    /// When the batches began that may still have dirty accounts.
    begun: VecDeque<(u64, Instant)>,
    /// Bytes of the next slice.
    slice_bytes: usize,
}

impl Checkpoints {
    pub fn new() -> Checkpoints {
        Checkpoints { begun: VecDeque::new(), slice_bytes: SLICE_BYTES_MIN }
    }

    /// A batch that may have changed accounts.
    pub fn began(&mut self, batch: u64, at: Instant) {
        self.begun.push_back((batch, at));
    }

    /// No account is dirty since a batch before the horizon.
    pub fn reached(&mut self, horizon: u64) {
        while self.begun.front().is_some_and(|(batch, _)| *batch < horizon) {
            self.begun.pop_front();
        }
    }

    /// Of the oldest batch that may have dirty accounts.
    pub fn age(&self, now: Now) -> Option<Duration> {
        self.begun.front().map(|(_, begun)| now.since(*begun))
    }

    /// The last batch whose dirty accounts are old enough.
    pub fn due_through(&self, interval: Duration, now: Now) -> u64 {
        let old = self.begun.iter().take_while(|(_, begun)| now.since(*begun) >= interval);
        old.last().map_or(0, |(batch, _)| *batch)
    }

    pub fn slice_bytes(&self) -> usize {
        self.slice_bytes
    }

    /// After a slice: the next one is larger where this one was late.
    pub fn pace(&mut self, interval: Duration, now: Now) {
        let late = self.age(now).is_some_and(|age| age > interval + interval / 8);
        let bytes = if late { self.slice_bytes * 2 } else { self.slice_bytes / 2 };
        self.slice_bytes = bytes.clamp(SLICE_BYTES_MIN, SLICE_BYTES_MAX);
    }
}

/// Whether changes of this age have waited long enough for inputs to go along with: a transaction for them alone would hold up
/// the inputs that come meanwhile.
pub fn is_overdue(age: Duration, interval: Duration) -> bool {
    age >= interval + interval / 16
}

/// Whether changes of this age are too many intervals old.
pub fn is_far_behind(age: Duration, interval: Duration) -> bool {
    age > (interval * BEHIND_INTERVALS).max(BEHIND_MIN)
}
