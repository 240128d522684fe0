//! The phase without faults. It is over when everything is caught up with, and has failed when nothing moves any more: how
//! long catching up takes is a matter of the backlog, that it goes on is not.

use meterd::daemon::owned::Phase;
use meterd::engine::Ms;
use meterd::ingest::raw::Input;

use super::super::disk::Health;
use super::super::log::Topic;
use super::super::process::topic;
use super::super::sim::Faults;
use super::World;

/// Without faults something must have been committed or folded in this time: longer than any timeout of a client or of
/// meterd.
const STILL_MAX_MS: i64 = 120_000;
/// Whoever moves for so long does not come nearer to the end.
const CALM_MAX_MS: i64 = 3_600_000;
/// How often it is looked at what has moved.
const LOOK_EVERY_MS: i64 = 1_000;

/// What moves while a run catches up: what was committed, and what the owners have folded.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moved {
    /// The group's, of both inputs of all partitions.
    offsets: i64,
    /// Records in the journals that readers see.
    batches: usize,
    /// Next offsets of the owners.
    folded: i64,
}

impl World {
    pub fn catch_up(&mut self) -> Result<(), String> {
        let begun = self.now();
        let (mut moved, mut moved_at, mut looked) = (self.moved(), begun, begun);
        while !self.is_caught_up() {
            self.step()?;
            let now = self.now();
            if now < looked + LOOK_EVERY_MS {
                continue;
            }
            looked = now;
            let present = self.moved();
            if present != moved {
                (moved, moved_at) = (present, now);
            }
            if now > moved_at + STILL_MAX_MS || now > begun + CALM_MAX_MS {
                return Err(format!(
                    "not caught up after {} ms without faults, of which nothing moved in the last {} ms: {}",
                    now - begun,
                    now - moved_at,
                    self.standing()
                ));
            }
        }
        Ok(())
    }

    fn moved(&self) -> Moved {
        let sim = self.common.sim.borrow();
        let journals = (0..self.setup.partitions).map(|number| sim.broker.log(Topic::Journal, number));
        let owners = self.slots.iter().filter_map(|slot| slot.process.as_ref());
        let owned = owners.flat_map(|process| process.state.owned.values());
        Moved {
            offsets: sim.broker.offsets.values().sum(),
            batches: journals.map(|journal| journal.committed().count()).sum(),
            folded: owned.flat_map(|owned| owned.next_offsets()).sum(),
        }
    }

    pub fn calm_down(&mut self) {
        let now = self.now();
        self.calm_since = Some(now);
        {
            let mut sim = self.common.sim.borrow_mut();
            // The brokers stay as slow as they are.
            sim.faults = Faults { narrow: sim.faults.narrow, ..Faults::default() };
            sim.note(format_args!("calm"));
        }
        for slot in &mut self.slots {
            slot.disk.set_health(Health::Good);
            slot.skew = 0;
            slot.start_at = slot.start_at.min(now);
            for process in slot.process.iter_mut().chain(&mut slot.former) {
                process.still_until = [Ms::MIN; 10];
                process.outside.cut_until.set(Ms::MIN);
                process.outside.skew.set(0);
            }
        }
        if let Some((id, epoch)) = self.external.take() {
            // What the coordinator has ended already needs no end.
            let _ended = self.common.sim.borrow_mut().broker.end(&id, epoch, true);
        }
    }

    fn is_caught_up(&self) -> bool {
        let sim = self.common.sim.borrow();
        let since = self.calm_since.unwrap_or(Ms::MAX);
        if sim.now < since + 3_500 || !sim.broker.ending().is_empty() || !sim.broker.group.is_stable() {
            return false;
        }
        if self.slots.iter().any(|slot| slot.process.is_none() || !slot.former.is_empty()) {
            return false;
        }
        if sim.broker.group.members() != self.slots.len() {
            return false;
        }
        (0..self.setup.partitions).all(|number| {
            let owners: Vec<_> =
                self.slots.iter().filter_map(|slot| slot.process.as_ref()?.state.owned.get(&number)).collect();
            let [owned] = owners[..] else { return false };
            let behind = |input: Input| {
                let last = sim.broker.log(topic(input), number).committed().last();
                last.is_some_and(|last| last.offset >= owned.next_offsets()[input.index()])
            };
            owned.phase == Phase::Live && owned.at_ends() && owned.is_settled() && !Input::BOTH.into_iter().any(behind)
        })
    }

    pub fn standing(&self) -> String {
        let sim = self.common.sim.borrow();
        let mut text = format!(
            "group of {} ({}), ending {:?}",
            sim.broker.group.members(),
            if sim.broker.group.is_stable() { "stable" } else { "rebalancing" },
            sim.broker.ending()
        );
        for slot in &self.slots {
            let Some(process) = &slot.process else {
                text += &format!("\n{} is down", slot.name);
                continue;
            };
            for (number, owned) in &process.state.owned {
                text += &format!(
                    "\n{} owns {number}: {:?}, next {:?}, at ends {}",
                    process.outside.name,
                    owned.phase,
                    owned.next_offsets(),
                    owned.at_ends()
                );
            }
            text += &format!("\n{} has {} former processes; {}", slot.name, slot.former.len(), process.standing());
        }
        text
    }
}
