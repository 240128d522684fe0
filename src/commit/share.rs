//! How much of its bounds a batch may take. The bounds suit brokers as they usually are; where a transaction's time does not
//! suffice for what a batch writes, the next ones are smaller, and they grow again later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::producer::TRANSACTION_TIMEOUT;

/// All that the bounds allow.
pub const WHOLE: u32 = 1 << 16;
/// What is never cut: less would not be quicker, and a small transaction that takes long has other reasons.
const LEAST: u32 = WHOLE / 64;
/// A transaction that takes so long is near its end by the coordinator's hand.
const LONG: Duration = TRANSACTION_TIMEOUT.checked_div(2).expect("two is not zero");
/// After one that was so quick the share grows, once in so long a time.
const QUICK: Duration = TRANSACTION_TIMEOUT.checked_div(8).expect("eight is not zero");
const GROW_AFTER: Duration = Duration::from_secs(10);
/// How often the same is tried: brokers may have had other reasons.
const TRIED: u32 = 2;

/// The share of their bounds that batches may take, in parts of [`WHOLE`]. The committer sets it, the shards keep to it.
#[derive(Debug)]
pub struct Share {
    present: AtomicU32,
    least: u32,
}

impl Default for Share {
    fn default() -> Share {
        Share::cut_to(LEAST)
    }
}

impl Share {
    /// Whole at first, and never cut below `least`.
    pub fn cut_to(least: u32) -> Share {
        Share { present: AtomicU32::new(WHOLE), least }
    }

    pub fn present(&self) -> u32 {
        self.present.load(Ordering::Relaxed)
    }
}

/// Sets the share by the time that transactions take.
#[derive(Debug)]
pub struct Pace {
    share: Arc<Share>,
    changed: Option<Instant>,
    /// Transactions in a row that took too long for what they wrote.
    too_long: u32,
}

impl Pace {
    pub fn new(share: Arc<Share>) -> Pace {
        Pace { share, changed: None, too_long: 0 }
    }

    /// A transaction that wrote `taken` of the bounds has ended, well or not.
    pub fn note(&mut self, taken: u32, took: Duration, now: Instant) {
        if took < LONG {
            self.too_long = 0;
            if took <= QUICK {
                self.grow(now);
            }
            return;
        }
        // So that what it wrote goes out in two, at least.
        let present = self.share.present();
        let halved = (taken.min(present) / 2).max(self.share.least);
        if halved < present {
            self.share.present.store(halved, Ordering::Relaxed);
            let parts = WHOLE / halved;
            tracing::warn!(took_ms = took.as_millis() as u64, "a transaction took long: batches are cut to 1/{parts}");
        }
        self.changed = Some(now);
        self.too_long += 1;
    }

    pub fn share(&self) -> u32 {
        self.share.present()
    }

    /// The same again would take too long again.
    pub fn is_stuck(&self) -> bool {
        self.too_long >= TRIED
    }

    /// What was stuck will be folded in smaller batches.
    pub fn forget(&mut self) {
        self.too_long = 0;
    }

    fn grow(&mut self, now: Instant) {
        let present = self.share.present();
        if present < WHOLE && self.changed.is_none_or(|changed| now.duration_since(changed) >= GROW_AFTER) {
            self.share.present.store((present * 2).min(WHOLE), Ordering::Relaxed);
            self.changed = Some(now);
        }
    }
}

/// So much of a bound, at least 1.
pub fn part_of(bound: usize, share: u32) -> usize {
    (bound as u64 * u64::from(share) / u64::from(WHOLE)).max(1) as usize
}

/// How much of a bound something is, at most all.
pub fn taken_of(bound: usize, size: usize) -> u32 {
    (size as u64 * u64::from(WHOLE) / bound as u64).min(u64::from(WHOLE)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_halved_and_grows_again_slowly() {
        let share = Arc::<Share>::default();
        let mut pace = Pace::new(Arc::clone(&share));
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        pace.note(WHOLE, LONG, at(0));
        assert_eq!((share.present(), pace.is_stuck()), (WHOLE / 2, false));
        pace.note(WHOLE / 4, LONG, at(1));
        assert_eq!((share.present(), pace.is_stuck()), (WHOLE / 8, true), "half of what took long");
        pace.note(WHOLE / 8, QUICK * 2, at(30));
        assert_eq!((share.present(), pace.is_stuck()), (WHOLE / 8, false), "neither long nor quick");
        for (second, expected) in [(31, WHOLE / 4), (32, WHOLE / 4), (41, WHOLE / 2), (51, WHOLE), (61, WHOLE)] {
            pace.note(WHOLE / 8, QUICK, at(second));
            assert_eq!(share.present(), expected, "after {second} s");
        }
    }

    #[test]
    fn there_is_a_least() {
        let share = Arc::<Share>::default();
        let mut pace = Pace::new(Arc::clone(&share));
        (0..9).for_each(|_| pace.note(1, LONG, Instant::now()));
        assert_eq!(share.present(), LEAST);
    }

    #[test]
    fn a_part_is_never_nothing() {
        assert_eq!((part_of(20_000, WHOLE), part_of(20_000, WHOLE / 64), part_of(20_000, 1)), (20_000, 312, 1));
        assert_eq!((taken_of(20_000, 0), taken_of(20_000, 5_000), taken_of(20_000, 90_000)), (0, WHOLE / 4, WHOLE));
    }
}
