//! A member of the group: what the Kafka client does in the background. Its callbacks wait until they are served by a poll.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use meterd::engine::Ms;

use super::broker::Refused;
use super::group::Join;
use super::sim::Sim;

const HEARTBEAT_MS: i64 = 1_000;

/// What the client would give as group metadata now.
#[derive(Clone, Debug)]
pub struct Identity {
    pub member: String,
    pub generation: i32,
    pub instance: Option<String>,
}

#[derive(Debug)]
pub enum Callback {
    Assign(BTreeSet<i32>),
    Revoke { partitions: BTreeSet<i32>, lost: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unjoined,
    Joining,
    Stable,
}

pub struct Member {
    pub identity: Rc<RefCell<Identity>>,
    state: State,
    /// After all callbacks that wait.
    held: BTreeSet<i32>,
    pub callbacks: VecDeque<Callback>,
    /// A callback was taken and has not returned.
    pub serving: bool,
    rejoin: bool,
    next: Ms,
}

impl Member {
    pub fn new(instance: Option<String>) -> Member {
        Member {
            identity: Rc::new(RefCell::new(Identity { member: String::new(), generation: -1, instance })),
            state: State::Unjoined,
            held: BTreeSet::new(),
            callbacks: VecDeque::new(),
            serving: false,
            rejoin: false,
            next: Ms::MIN,
        }
    }

    /// Joins, heartbeats, hears of rebalances. `Err`: another process has this instance's name.
    pub fn pass(&mut self, sim: &mut Sim) -> Result<(), Refused> {
        if sim.now < self.next {
            return Ok(());
        }
        match self.state {
            State::Unjoined if self.is_served() => self.join(sim),
            State::Unjoined => Ok(()),
            State::Joining => self.fetch_answer(sim),
            State::Stable if self.rejoin && self.is_served() => self.join(sim),
            State::Stable => self.heartbeat(sim),
        }
    }

    fn is_served(&self) -> bool {
        self.callbacks.is_empty() && !self.serving
    }

    pub fn leave(&self, sim: &mut Sim) {
        let identity = self.identity.borrow();
        if identity.instance.is_none() {
            let now = sim.now;
            sim.broker.group.leave(&identity.member, now);
        }
    }

    fn join(&mut self, sim: &mut Sim) -> Result<(), Refused> {
        let keeps = sim.random.below(2) == 0;
        let (id, instance) = {
            let identity = self.identity.borrow();
            (identity.member.clone(), identity.instance.clone())
        };
        match sim.broker.group.join(&id, instance.as_deref(), self.held.clone(), sim.now, keeps) {
            Ok(member) => {
                self.identity.borrow_mut().member = member;
                self.rejoin = false;
                self.state = State::Joining;
                Ok(())
            }
            Err(Refused::UnknownMember) => {
                self.lose(true);
                Ok(())
            }
            Err(refused) => Err(refused),
        }
    }

    fn fetch_answer(&mut self, sim: &mut Sim) -> Result<(), Refused> {
        let id = self.identity.borrow().member.clone();
        match sim.broker.group.poll(&id) {
            Ok(Join::Pending) => {}
            Ok(Join::Again { generation }) => {
                self.identity.borrow_mut().generation = generation;
                return self.join(sim);
            }
            Ok(Join::Done { generation, assigned }) => {
                // The client's generation is the new one before the callback of the rebalance is served.
                self.identity.borrow_mut().generation = generation;
                self.state = State::Stable;
                self.next = sim.now + HEARTBEAT_MS;
                let revoked: BTreeSet<i32> = self.held.difference(&assigned).copied().collect();
                let added: BTreeSet<i32> = assigned.difference(&self.held).copied().collect();
                sim.note(format_args!("{id} joined in {generation}: +{added:?} -{revoked:?}"));
                self.rejoin = !revoked.is_empty();
                self.held = assigned;
                if !revoked.is_empty() {
                    self.callbacks.push_back(Callback::Revoke { partitions: revoked, lost: false });
                }
                if !added.is_empty() {
                    self.callbacks.push_back(Callback::Assign(added));
                }
            }
            Err(_) => self.lose(true),
        }
        Ok(())
    }

    fn heartbeat(&mut self, sim: &mut Sim) -> Result<(), Refused> {
        let identity = self.identity.borrow().clone();
        let (now, instance) = (sim.now, identity.instance.as_deref());
        self.next = now + HEARTBEAT_MS;
        match sim.broker.group.heartbeat(&identity.member, instance, identity.generation, now) {
            Ok(true) if self.is_served() => {
                self.next = now;
                self.join(sim)
            }
            Ok(_) => Ok(()),
            Err(Refused::UnknownMember) => {
                self.lose(true);
                Ok(())
            }
            Err(Refused::IllegalGeneration) => {
                self.lose(false);
                Ok(())
            }
            Err(refused) => Err(refused),
        }
    }

    /// The membership is gone, and whatever was assigned may be another's.
    fn lose(&mut self, forgotten: bool) {
        let mut identity = self.identity.borrow_mut();
        identity.generation = -1;
        if forgotten {
            identity.member = String::new();
        }
        if !self.held.is_empty() {
            let partitions = std::mem::take(&mut self.held);
            self.callbacks.push_back(Callback::Revoke { partitions, lost: true });
        }
        self.rejoin = false;
        self.state = State::Unjoined;
    }
}
