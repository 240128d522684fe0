//! How long a transaction has held back the end of a topic that committed readers see. While one hangs, nothing behind it
//! is read, and the lag that is counted to that end stands at 0.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The last stable offsets that stand below their high watermark, and since when they do not move.
#[derive(Debug, Default)]
pub struct HeldBack {
    /// The partition to be looked at next.
    pub next: i32,
    standing: BTreeMap<(usize, i32), (i64, Instant)>,
}

impl HeldBack {
    /// A look at a topic and partition: the high watermark, and the last stable offset as it was asked for after it. How
    /// long the latter has been held back where it is.
    pub fn seen(&mut self, topic: usize, partition: i32, high: i64, stable: i64, now: Instant) -> Duration {
        if stable >= high {
            self.standing.remove(&(topic, partition));
            return Duration::ZERO;
        }
        let (at, since) = self.standing.entry((topic, partition)).or_insert((stable, now));
        if *at != stable {
            (*at, *since) = (stable, now);
        }
        now - *since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_that_stands_still_is_held_back() {
        let begun = Instant::now();
        let mut held = HeldBack::default();
        let looks = [
            // Second, high watermark, last stable offset, seconds held back.
            (0, 100, 100, 0),
            (10, 120, 110, 0),
            (20, 140, 110, 10),
            (30, 160, 110, 20),
            // One transaction after the other is no transaction that hangs.
            (40, 180, 170, 0),
            (50, 200, 190, 0),
            (60, 200, 200, 0),
            (70, 210, 200, 0),
            (80, 210, 200, 10),
        ];
        for (second, high, stable, expect) in looks {
            let now = begun + Duration::from_secs(second);
            assert_eq!(held.seen(0, 7, high, stable, now), Duration::from_secs(expect), "second {second}");
            assert_eq!(held.seen(1, 7, stable, stable, now), Duration::ZERO);
        }
    }
}
