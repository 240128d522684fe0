//! The last five minutes by the second, for charts that are full as soon as they are opened.

use std::collections::VecDeque;
use std::time::Instant;

use serde::Serialize;

use super::Metrics;

pub const SAMPLES_MAX: usize = 300;

#[derive(Default)]
pub struct History {
    last: Option<Seen>,
    samples: VecDeque<Sample>,
}

/// Counts at the last sample, of which the next takes the difference.
struct Seen {
    at: Instant,
    records: u64,
    notices: u64,
}

/// Rates are for a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    pub records: f64,
    pub notices: f64,
    pub p50_ms: u64,
    pub p99_ms: u64,
    pub lag_records: i64,
}

impl History {
    /// Takes a sample; the first only notes where counting begins.
    pub fn sample(&mut self, metrics: &Metrics, now: Instant) {
        let totals = metrics.totals();
        let seen = Seen { at: now, records: totals.records, notices: totals.notices };
        let Some(last) = self.last.replace(seen) else { return };
        let seconds = now.saturating_duration_since(last.at).as_secs_f64().max(0.001);
        let rate = |new: u64, old: u64| ((new.saturating_sub(old)) as f64 / seconds * 10.0).round() / 10.0;
        let latency = metrics.latency_moment();
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            records: rate(totals.records, last.records),
            notices: rate(totals.notices, last.notices),
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
            lag_records: totals.lag_records,
        });
    }

    /// Oldest first.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Outcome;
    use crate::telemetry::Tally;

    #[test]
    fn tells_rates_and_keeps_five_minutes() {
        let metrics = Metrics::new();
        let mut history = History::default();
        let start = Instant::now();
        history.sample(&metrics, start);
        assert_eq!(history.samples().count(), 0);
        for second in 1..=SAMPLES_MAX as u64 + 5 {
            let mut tally = Tally::default();
            tally.outcome(&Outcome::Applied);
            tally.outcome(&Outcome::Failed);
            metrics.add(&mut tally);
            history.sample(&metrics, start + Duration::from_secs(second));
        }
        assert_eq!(history.samples().count(), SAMPLES_MAX);
        assert!(history.samples().all(|sample| (sample.records - 2.0).abs() < 1e-9));
    }
}
