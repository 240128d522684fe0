//! Counters, gauges and histograms over plain atomics. All operations are relaxed: a scrape may see one of two related
//! values a moment before the other, and nothing is decided by them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// Counts of values by upper bound, in whole units: microseconds, records or bytes.
#[derive(Debug)]
pub struct Histogram {
    /// Ascending, inclusive; values above the last are counted only in the total.
    bounds: &'static [u64],
    /// One for each bound, then one for what is above; not cumulative.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram as it was read once.
pub struct HistogramRead {
    /// (upper bound, count of values up to it).
    pub cumulative: Vec<(u64, u64)>,
    pub count: u64,
    pub sum: u64,
}

impl Counter {
    pub fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Relaxed);
        }
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Histogram {
    pub fn new(bounds: &'static [u64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    pub fn read(&self) -> HistogramRead {
        let mut count = 0;
        let mut cumulative = Vec::with_capacity(self.bounds.len());
        for (bound, counter) in self.bounds.iter().zip(&self.counts) {
            count += counter.load(Relaxed);
            cumulative.push((*bound, count));
        }
        count += self.counts[self.bounds.len()].load(Relaxed);
        HistogramRead { cumulative, count, sum: self.sum.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_the_rest_counts_in_the_total_only() {
        let histogram = Histogram::new(&[10, 100]);
        for value in [0, 10, 11, 100, 101] {
            histogram.observe(value);
        }
        let read = histogram.read();
        assert_eq!(read.cumulative, [(10, 2), (100, 4)]);
        assert_eq!((read.count, read.sum), (5, 222));
    }
}
