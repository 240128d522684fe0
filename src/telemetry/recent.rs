//! Quantiles of the last minute, for people who look now: HDR histograms in slots of five seconds that are reused in turn.

use std::time::Instant;

use hdrhistogram::Histogram;

const SLOT_MS: u64 = 5_000;
const SLOTS: usize = 12;
/// Latencies above one hour count as one hour: a backlog, not a latency.
const LATENCY_MS_MAX: u64 = 3_600_000;

pub struct Recent {
    origin: Instant,
    slots: Vec<Slot>,
}

struct Slot {
    /// Which stretch of `SLOT_MS` since `origin` the histogram is of.
    turn: u64,
    latency_ms: Histogram<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantiles {
    pub count: u64,
    pub p50_ms: u64,
    pub p99_ms: u64,
}

impl Recent {
    pub fn new(origin: Instant) -> Recent {
        let empty =
            Histogram::new_with_bounds(1, LATENCY_MS_MAX, 2).expect("two digits of 1 ms to 1 h are valid bounds");
        let slots = (0..SLOTS).map(|_| Slot { turn: 0, latency_ms: empty.clone() }).collect();
        Recent { origin, slots }
    }

    pub fn record(&mut self, now: Instant, latencies_ms: impl Iterator<Item = i64>) {
        let turn = self.turn(now);
        let slot = &mut self.slots[turn as usize % SLOTS];
        if slot.turn != turn {
            slot.latency_ms.reset();
            slot.turn = turn;
        }
        for latency in latencies_ms {
            slot.latency_ms.saturating_record(latency.max(0) as u64);
        }
    }

    /// Of the last minute.
    pub fn minute(&self, now: Instant) -> Quantiles {
        self.quantiles(now, SLOTS as u64)
    }

    /// Of the last five to ten seconds.
    pub fn moment(&self, now: Instant) -> Quantiles {
        self.quantiles(now, 2)
    }

    fn quantiles(&self, now: Instant, turns: u64) -> Quantiles {
        let newest = self.turn(now);
        let mut sum: Option<Histogram<u64>> = None;
        for slot in self.slots.iter().filter(|slot| slot.turn + turns > newest && !slot.latency_ms.is_empty()) {
            match &mut sum {
                None => sum = Some(slot.latency_ms.clone()),
                Some(sum) => sum.add(&slot.latency_ms).expect("slots have the same bounds"),
            }
        }
        let Some(sum) = sum else { return Quantiles::default() };
        Quantiles { count: sum.len(), p50_ms: sum.value_at_quantile(0.5), p99_ms: sum.value_at_quantile(0.99) }
    }

    fn turn(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_millis() as u64 / SLOT_MS
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn forgets_what_is_older_than_the_window() {
        let origin = Instant::now();
        let at = |seconds| origin + Duration::from_secs(seconds);
        let mut recent = Recent::new(origin);
        recent.record(at(0), (0..99).map(|_| 5));
        recent.record(at(12), [90].into_iter());
        assert_eq!(recent.minute(at(12)), Quantiles { count: 100, p50_ms: 5, p99_ms: 5 });
        assert_eq!(recent.moment(at(12)), Quantiles { count: 1, p50_ms: 90, p99_ms: 90 });
        assert_eq!(recent.minute(at(61)).count, 1);
        assert_eq!(recent.minute(at(200)), Quantiles::default());
        recent.record(at(200), [-3, i64::MAX].into_iter());
        assert_eq!(recent.minute(at(200)).count, 2);
    }
}
