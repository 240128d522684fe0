//! What all parts of a run share: time, chance, the cluster, the faults in force.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use corosensei::Yielder;
use meterd::engine::Ms;

use super::broker::Broker;
use super::random::Random;

/// 2026-11-20T07:00:00Z
pub const START: Ms = 1_795_158_000_000;

/// How often what goes wrong does, of a million chances each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Of a call to the cluster: it fails, having done nothing.
    pub call: u32,
    /// Of a commit: what the coordinator did is not known; it did nothing, did it, or does it later.
    pub unknown: u32,
    /// Of a commit: the coordinator refuses.
    pub abort: u32,
    /// Of a step of the run: one instance is cut off from the cluster for a while.
    pub cut: u32,
    /// Of a step: a process is killed.
    pub crash: u32,
    /// Of a step: a machine loses its power.
    pub power: u32,
    /// Of a step: a process, or one thread of it, stops for a while.
    pub stall: u32,
    /// Of a step: a process is stopped while another of the same instance is started.
    pub double: u32,
    /// Of a step: a wall clock jumps.
    pub clock: u32,
    /// Of a step: the group is to be assigned anew.
    pub rebalance: u32,
    /// Of a step: a process is asked to stop.
    pub stop: u32,
    /// Of a step: a disk begins to fail, or serves again.
    pub disk: u32,
    /// Of a start: the store is deleted.
    pub deleted: u32,
    /// Of a step: another catalog is loaded.
    pub reload: u32,
    /// No chance: records that a transaction's time suffices for; 0: for all.
    pub narrow: u32,
}

pub struct Sim {
    pub now: Ms,
    pub random: Random,
    pub broker: Broker,
    pub faults: Faults,
    /// Digest of what happened, to compare two runs of one seed.
    pub trace: u64,
    /// Prints what happens.
    pub verbose: bool,
}

pub type Shared = Rc<RefCell<Sim>>;

impl Sim {
    /// Of the many calls of the seam: printed, and no part of the digest.
    pub fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.verbose {
            println!("{}   {what}", self.now - START);
        }
    }

    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let text = format!("{} {what}", self.now - START);
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.verbose {
            println!("{text}");
        }
    }
}

/// The steady clock at a simulated time.
pub fn steady(now: Ms) -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now) + Duration::from_millis((now - START).max(0) as u64)
}

/// Why a thread of a simulated process gives the turn away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It can go on whenever it is its turn.
    Step,
    Until(Ms),
    /// For something to do.
    Idle,
}

/// What is done to a process from outside.
#[derive(Default)]
pub struct Outside {
    pub name: String,
    /// It cannot reach the cluster until then.
    pub cut_until: Cell<Ms>,
    /// What its wall clock is ahead of the true time.
    pub skew: Cell<i64>,
}

/// A blocking thread of a simulated process, as the seam sees it.
#[derive(Clone)]
pub struct Thread<'y> {
    pub yielder: &'y Yielder<(), Wait>,
    pub sim: Shared,
    pub outside: Rc<Outside>,
}

/// The cluster did not answer in time.
pub struct Unreachable;

impl Thread<'_> {
    /// Anything may happen here: others go on, the process may be killed.
    pub fn step(&self) {
        self.yielder.suspend(Wait::Step);
    }

    pub fn idle(&self) {
        self.yielder.suspend(Wait::Idle);
    }

    pub fn now(&self) -> Ms {
        self.sim.borrow().now
    }

    pub fn sleep_until(&self, at: Ms) {
        while self.now() < at {
            self.yielder.suspend(Wait::Until(at));
        }
    }

    pub fn sleep(&self, time: Duration) {
        self.sleep_until(self.now() + time.as_millis().max(1) as i64);
    }

    /// A request reaches the cluster, or does not within the timeout.
    pub fn reach(&self, timeout: Duration) -> Result<(), Unreachable> {
        self.step();
        let deadline = self.now() + timeout.as_millis() as i64;
        while self.now() < deadline.min(self.outside.cut_until.get()) {
            self.sleep(Duration::from_millis(50));
        }
        if self.outside.cut_until.get() > self.now() || self.fails() { Err(Unreachable) } else { Ok(()) }
    }

    fn fails(&self) -> bool {
        let mut sim = self.sim.borrow_mut();
        let chance = sim.faults.call;
        sim.random.chance(chance)
    }

    pub fn draw(&self) -> [u8; 16] {
        let mut sim = self.sim.borrow_mut();
        let (high, low) = (sim.random.next(), sim.random.next());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_le_bytes());
        bytes[8..].copy_from_slice(&low.to_le_bytes());
        bytes
    }
}
