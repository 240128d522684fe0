//! All that is counted, in one place; [`super::families`] gives it names for Prometheus.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::instrument::{Counter, Gauge, Histogram};
use super::recent::{Quantiles, Recent};
use super::tally::{NOTICE_TYPES, PLAIN_OUTCOMES, Tally};
use crate::engine::Reason;

/// Microseconds: 1 ms to 60 s.
const LATENCY_BOUNDS: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    60_000_000,
];
/// Microseconds: 10 ms to 10 min.
const WORK_BOUNDS: &[u64] =
    &[10_000, 100_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000, 300_000_000, 600_000_000];
const RECORDS_BOUNDS: &[u64] = &[1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000];

/// The two topics that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    Usage,
    Accounts,
}

/// Shared by all threads of the daemon.
pub struct Metrics {
    /// By [`Input`].
    pub(super) records_read: [Counter; 2],
    pub(super) bytes_read: [Counter; 2],
    pub(super) plain: Vec<Counter>,
    pub(super) rejected: Vec<Counter>,
    pub(super) quarantined: Vec<Counter>,
    pub(super) notices: Vec<Counter>,
    pub(super) conservation_violations: Counter,

    pub(super) commits: Counter,
    pub(super) aborts: Counter,
    pub(super) unknown_outcomes: Counter,
    pub(super) commit_micros: Histogram,
    pub(super) batch_records: Histogram,
    pub(super) end_to_end_micros: Histogram,
    recent: Mutex<Recent>,

    pub(super) checkpoint_records: Counter,
    pub(super) checkpoint_bytes: Counter,
    pub(super) checkpoint_micros: Histogram,
    pub(super) recovery_micros: Histogram,
    pub(super) replayed_records: Counter,
    pub(super) rebalances: Counter,
    pub(super) clock_disagreements: Counter,
    pub(super) store_failures: Counter,
    pub(super) ready: Gauge,

    partitions: RwLock<BTreeMap<i32, Arc<PartitionMetrics>>>,
}

/// Of one partition that this instance owns.
#[derive(Debug, Default)]
pub struct PartitionMetrics {
    /// Records between what was folded and the end of the topic, by [`Input`].
    pub lag_records: [Gauge; 2],
    /// How long a transaction has held back the end that committed readers see: of usage, accounts, journal, state.
    pub held_back_seconds: [Gauge; 4],
    /// Wall clock − timestamp of the oldest usage record not yet folded; 0 at the end.
    pub lag_ms: Gauge,
    pub clock_ms: Gauge,
    pub accounts: Gauge,
    pub identities: Gauge,
    /// Accounts that wait for a timer.
    pub timers_armed: Gauge,
    /// Of them, those whose timer is due and has not fired yet.
    pub timers_due: Gauge,
    /// Since the oldest change that no checkpoint holds yet; 0 where none is open.
    pub checkpoint_age_ms: Gauge,
    /// Journaled inputs that recovery has still to fold; 0 when live.
    pub replay_left_records: Gauge,
    /// 1 when recovered and folding live.
    pub live: Gauge,
}

/// Sums over all labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub records: u64,
    pub bytes: u64,
    pub notices: u64,
    pub commits: u64,
    pub aborts: u64,
    pub conservation_violations: u64,
    pub accounts: i64,
    pub timers_armed: i64,
    pub lag_records: i64,
    /// The greatest of the partitions.
    pub lag_ms: i64,
}

impl Metrics {
    pub fn new() -> Arc<Metrics> {
        let counters = |count: usize| (0..count).map(|_| Counter::default()).collect::<Vec<_>>();
        let size = Tally::default();
        Arc::new(Metrics {
            records_read: Default::default(),
            bytes_read: Default::default(),
            plain: counters(size.plain.len()),
            rejected: counters(size.rejected.len()),
            quarantined: counters(size.quarantined.len()),
            notices: counters(size.notices.len()),
            conservation_violations: Counter::default(),
            commits: Counter::default(),
            aborts: Counter::default(),
            unknown_outcomes: Counter::default(),
            commit_micros: Histogram::new(LATENCY_BOUNDS),
            batch_records: Histogram::new(RECORDS_BOUNDS),
            end_to_end_micros: Histogram::new(LATENCY_BOUNDS),
            recent: Mutex::new(Recent::new(Instant::now())),
            checkpoint_records: Counter::default(),
            checkpoint_bytes: Counter::default(),
            checkpoint_micros: Histogram::new(WORK_BOUNDS),
            recovery_micros: Histogram::new(WORK_BOUNDS),
            replayed_records: Counter::default(),
            rebalances: Counter::default(),
            clock_disagreements: Counter::default(),
            store_failures: Counter::default(),
            ready: Gauge::default(),
            partitions: RwLock::default(),
        })
    }

    /// Records taken from a topic, and the bytes of their keys and values.
    pub fn read(&self, input: Input, records: u64, bytes: u64) {
        self.records_read[input as usize].add(records);
        self.bytes_read[input as usize].add(bytes);
    }

    /// Adds what a committed batch did, and empties the tally for the next.
    pub fn add(&self, tally: &mut Tally) {
        let tally = std::mem::take(tally);
        for (counters, counts) in [
            (&self.plain, &tally.plain[..]),
            (&self.rejected, &tally.rejected[..]),
            (&self.quarantined, &tally.quarantined[..]),
            (&self.notices, &tally.notices[..]),
        ] {
            for (counter, count) in counters.iter().zip(counts) {
                counter.add(*count);
            }
        }
        self.conservation_violations.add(tally.conservation_violations);
    }

    /// A transaction was committed: how long from its begin, and how many input records it covers.
    pub fn committed(&self, took: Duration, records: u64) {
        self.commits.add(1);
        self.commit_micros.observe(micros(took));
        self.batch_records.observe(records);
    }

    /// A transaction was aborted, definitely.
    pub fn aborted(&self) {
        self.aborts.add(1);
    }

    /// A commit or abort whose outcome had to be looked for in the journal.
    pub fn outcome_unknown(&self) {
        self.unknown_outcomes.add(1);
    }

    /// For each committed notice of an input: now − the input's Kafka timestamp, in ms.
    pub fn end_to_end(&self, latencies_ms: impl Iterator<Item = i64>) {
        let histogram = &self.end_to_end_micros;
        self.recent().record(
            Instant::now(),
            latencies_ms.inspect(|latency| histogram.observe((*latency).max(0) as u64 * 1_000)),
        );
    }

    /// A slice of a checkpoint is ready for its commit.
    pub fn checkpoint_encoded(&self, took: Duration) {
        self.checkpoint_micros.observe(micros(took));
    }

    /// A slice of a checkpoint was committed.
    pub fn checkpointed(&self, records: u64, bytes: u64) {
        self.checkpoint_records.add(records);
        self.checkpoint_bytes.add(bytes);
    }

    /// Journaled inputs were folded again.
    pub fn replayed(&self, records: u64) {
        self.replayed_records.add(records);
    }

    /// A partition is live so long after it was assigned.
    pub fn recovered(&self, took: Duration) {
        self.recovery_micros.observe(micros(took));
    }

    /// Partitions were assigned or revoked.
    pub fn rebalanced(&self) {
        self.rebalances.add(1);
    }

    /// The wall clock was further from the broker's than a tick allows.
    pub fn clock_disagreed(&self) {
        self.clock_disagreements.add(1);
    }

    /// The local store failed and was set aside, or goes on without.
    pub fn store_failed(&self) {
        self.store_failures.add(1);
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// The metrics of a partition, made when first asked for.
    pub fn partition(&self, partition: i32) -> Arc<PartitionMetrics> {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.entry(partition).or_default().clone()
    }

    /// When the partition was revoked: a lag that nobody moves must not stay.
    pub fn forget_partition(&self, partition: i32) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    pub fn partitions(&self) -> Vec<(i32, Arc<PartitionMetrics>)> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|(partition, metrics)| (*partition, metrics.clone())).collect()
    }

    pub fn totals(&self) -> Totals {
        let sum = |counters: &[Counter]| counters.iter().map(Counter::get).sum::<u64>();
        let mut totals = Totals {
            records: sum(&self.plain) + sum(&self.rejected) + sum(&self.quarantined),
            bytes: sum(&self.bytes_read),
            notices: sum(&self.notices),
            commits: self.commits.get(),
            aborts: self.aborts.get(),
            conservation_violations: self.conservation_violations.get(),
            ..Totals::default()
        };
        for (_, of) in self.partitions() {
            totals.accounts += of.accounts.get();
            totals.timers_armed += of.timers_armed.get();
            totals.lag_records += of.lag_records.iter().map(Gauge::get).sum::<i64>();
            totals.lag_ms = totals.lag_ms.max(of.lag_ms.get());
        }
        totals
    }

    /// What became of the records, by outcome.
    pub fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let sum = |counters: &[Counter]| counters.iter().map(Counter::get).sum();
        let plain = PLAIN_OUTCOMES.iter().zip(&self.plain).map(|(name, counter)| (*name, counter.get()));
        plain.chain([("rejected", sum(&self.rejected)), ("quarantined", sum(&self.quarantined))]).collect()
    }

    /// Reasons of quarantine that occurred.
    pub fn quarantine_reasons(&self) -> Vec<(&'static str, u64)> {
        let names = Reason::ALL.iter().map(|reason| reason.name());
        names.zip(self.quarantined.iter().map(Counter::get)).filter(|(_, count)| *count > 0).collect()
    }

    /// Notices by type, those that occurred.
    pub fn notice_types(&self) -> Vec<(&'static str, u64)> {
        let counts = self.notices.iter().map(Counter::get);
        NOTICE_TYPES.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    /// End-to-end latency of the last minute.
    pub fn latency_minute(&self) -> Quantiles {
        self.recent().minute(Instant::now())
    }

    /// End-to-end latency of the last five to ten seconds.
    pub fn latency_moment(&self) -> Quantiles {
        self.recent().moment(Instant::now())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
