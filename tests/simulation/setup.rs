//! What a seed decides before its run begins.

use std::time::Duration;

use meterd::engine::Ms;

use super::random::Random;
use super::sim::{Faults, START};

#[derive(Clone, Debug)]
pub struct Setup {
    pub partitions: i32,
    pub events_partitions: i32,
    pub instances: usize,
    pub is_static: bool,
    /// Time that one step may take at most.
    pub pace_ms: u64,
    pub begin: Ms,
    /// How long things go wrong.
    pub faulty_ms: i64,
    /// Mean time between two records.
    pub gap_ms: u64,
    pub interval: Duration,
    pub checkpoint: Duration,
    pub records_max: usize,
    pub store_every: Duration,
    /// Records carry the time of the broker that appended them, else their producer's.
    pub append_time: bool,
    /// Some inputs are written in transactions, of which some are aborted.
    pub transactions: bool,
    /// The naive model judges too.
    pub naive: bool,
    pub faults: Faults,
}

impl Setup {
    pub fn draw(random: &mut Random) -> Setup {
        let partitions = random.between(1, 3) as i32;
        let mut faults = Faults::default();
        // Each run has some kinds of faults only, else the rare ones would hide behind the common ones.
        let some = |random: &mut Random, of: &mut u32, most: u64| {
            if random.below(3) > 0 {
                *of = random.below(most) as u32;
            }
        };
        some(random, &mut faults.call, 4_000);
        some(random, &mut faults.unknown, 150_000);
        some(random, &mut faults.abort, 100_000);
        some(random, &mut faults.cut, 300);
        some(random, &mut faults.crash, 600);
        some(random, &mut faults.power, 200);
        some(random, &mut faults.stall, 800);
        some(random, &mut faults.double, 120);
        some(random, &mut faults.clock, 300);
        some(random, &mut faults.rebalance, 400);
        some(random, &mut faults.stop, 200);
        some(random, &mut faults.disk, 300);
        some(random, &mut faults.deleted, 300_000);
        some(random, &mut faults.reload, 150);
        // Midnight in Rome and in UTC, and the end of a month, are within some runs.
        let begin = match random.below(4) {
            0 => START + 15 * 3_600_000 + 59 * 60_000 + 50_000,
            1 => START + 10 * 86_400_000 + 16 * 3_600_000 + 59 * 60_000 + 50_000,
            _ => START,
        };
        Setup {
            partitions,
            events_partitions: if random.below(4) == 0 { 1 } else { partitions },
            instances: random.between(1, 3) as usize,
            is_static: random.below(2) == 0,
            pace_ms: *random.pick(&[1, 2, 5, 10]),
            begin,
            faulty_ms: random.between(8_000, 40_000),
            gap_ms: *random.pick(&[20, 60, 150, 400]),
            interval: Duration::from_millis(*random.pick(&[0, 0, 30])),
            checkpoint: Duration::from_millis(*random.pick(&[0, 300, 1_500, 6_000])),
            records_max: *random.pick(&[3, 20, 50_000]),
            store_every: Duration::from_millis(*random.pick(&[100, 1_000, 20_000])),
            append_time: random.below(4) > 0,
            transactions: random.below(3) == 0,
            naive: true,
            faults,
        }
    }
}

/// Of some seeds: how many records a transaction's time suffices for, more than one account may need. Drawn apart, so that
/// the others stay what they were.
pub fn narrow(seed: u64) -> u32 {
    let mut random = Random::new(seed ^ 0x6E61_7272_6F77);
    if random.below(8) == 0 { random.between(90, 130) as u32 } else { 0 }
}
