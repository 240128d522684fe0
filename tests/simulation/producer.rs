//! The committer's side of the seam: a member of the group with transactional producers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use meterd::commit::Stop;
use meterd::commit::kafka::{Cluster, Machine, Membership, Transactions};
use meterd::commit::producer::{Delivered, Fault};
use meterd::ingest::native::Outgoing;

use super::broker::{Place, Refused};
use super::log::{Content, Topic};
use super::member::Identity;
use super::sim::{Thread, steady};

pub struct SimCluster<'y> {
    pub thread: Thread<'y>,
    pub transactional_id: String,
    pub member: Rc<RefCell<Identity>>,
}

impl Machine for SimCluster<'_> {
    fn now(&self) -> Instant {
        steady(self.thread.now())
    }

    fn sleep(&self, time: Duration) {
        self.thread.sleep(time);
    }

    fn draw(&self) -> Result<[u8; 16], Stop> {
        Ok(self.thread.draw())
    }
}

impl Membership for Identity {
    fn generation(&self) -> i32 {
        self.generation
    }

    fn member(&self) -> String {
        self.member.clone()
    }
}

impl<'y> Cluster for SimCluster<'y> {
    type Membership = Identity;
    type Producer = SimProducer<'y>;

    fn membership(&self) -> Option<Identity> {
        self.thread.step();
        Some(self.member.borrow().clone())
    }

    fn open(&self, timeout: Duration) -> Result<SimProducer<'y>, Fault> {
        let deadline = self.thread.now() + timeout.as_millis() as i64;
        loop {
            if self.thread.reach(timeout).is_ok() {
                let given = self.thread.sim.borrow_mut().broker.init(&self.transactional_id);
                if let Ok(epoch) = given {
                    return Ok(SimProducer {
                        thread: self.thread.clone(),
                        id: self.transactional_id.clone(),
                        epoch,
                        queue: RefCell::default(),
                        broken: Cell::new(false),
                    });
                }
            }
            if self.thread.now() > deadline {
                return Err(Fault::Unknown("the coordinator does not answer".into()));
            }
            self.thread.sleep(Duration::from_millis(20));
        }
    }
}

pub struct SimProducer<'y> {
    thread: Thread<'y>,
    id: String,
    epoch: i32,
    /// Records of the transaction that were not sent yet.
    queue: RefCell<Vec<(Place, Content)>>,
    /// After an outcome that is not known, or a fence, librdkafka gives the producer up.
    broken: Cell<bool>,
}

/// What becomes of a request that ends a transaction.
enum Fate {
    Done,
    Refused,
    Lost,
    AnswerLost,
    Late(i64),
}

impl SimProducer<'_> {
    fn usable(&self) -> Result<(), Fault> {
        if self.broken.get() { Err(self.give_up("the producer is of no more use")) } else { Ok(()) }
    }

    fn give_up(&self, why: &str) -> Fault {
        self.broken.set(true);
        Fault::Unknown(why.into())
    }

    fn fenced(&self) -> Fault {
        self.broken.set(true);
        Fault::Fenced("a newer epoch of the transactional id is known".into())
    }

    /// Sends some of the queue at once, from its front; gives the places that matter.
    fn send_some(&self, queue: &mut VecDeque<(Place, Content)>, delivered: &mut Vec<Delivered>) -> Result<(), Fault> {
        if self.thread.reach(Duration::from_secs(8)).is_err() {
            return Err(Fault::Abort("a record was not acknowledged in time".into()));
        }
        let waits = {
            let mut sim = self.thread.sim.borrow_mut();
            let sim = &mut *sim;
            let mut left = 1 + sim.random.below(12);
            loop {
                let Some((place, content)) = queue.front() else { break false };
                if left == 0 {
                    break false;
                }
                left -= 1;
                match sim.broker.produce(&self.id, self.epoch, *place, sim.now, content.clone()) {
                    Ok(offset) => {
                        if place.0 == Topic::Journal {
                            sim.tell(format_args!("{} epoch {} journal/{} at {offset}", self.id, self.epoch, place.1));
                        }
                        let (topic, partition) = (place.0.name().to_owned(), place.1);
                        if matches!(place.0, Topic::Journal | Topic::State) {
                            delivered.push(Delivered { topic, partition, offset, timestamp: Some(sim.now) });
                        }
                        queue.pop_front();
                    }
                    Err(Refused::Concurrent) => break true,
                    Err(Refused::Fenced) => return Err(self.fenced()),
                    Err(other) => return Err(Fault::Abort(format!("{other:?}"))),
                }
            }
        };
        if waits {
            self.thread.sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn fate(&self, commit: bool) -> Fate {
        let mut sim = self.thread.sim.borrow_mut();
        let faults = sim.faults;
        if commit && sim.random.chance(faults.abort) {
            return Fate::Refused;
        }
        if !sim.random.chance(faults.unknown) {
            return Fate::Done;
        }
        match sim.random.below(3) {
            0 => Fate::Lost,
            1 => Fate::AnswerLost,
            _ => Fate::Late(sim.random.between(1, 3_000)),
        }
    }

    fn end(&self, commit: bool, timeout: Duration) -> Result<(), Fault> {
        self.usable()?;
        let fate = self.fate(commit);
        let deadline = self.thread.now() + timeout.as_millis() as i64;
        loop {
            if self.thread.reach(timeout).is_err() {
                return Err(self.give_up("the coordinator did not answer"));
            }
            let ended = {
                let mut sim = self.thread.sim.borrow_mut();
                match fate {
                    Fate::Refused => return Err(Fault::Abort("the coordinator refused".into())),
                    Fate::Lost => return Err(self.give_up("the request was lost")),
                    Fate::Late(after) => {
                        let at = sim.now + after;
                        sim.broker.end_late(at, &self.id, self.epoch, commit);
                        return Err(self.give_up("the request is late"));
                    }
                    Fate::Done | Fate::AnswerLost => sim.broker.end(&self.id, self.epoch, commit),
                }
            };
            self.thread
                .sim
                .borrow()
                .tell(format_args!("{} epoch {} ends, commit {commit}: {ended:?}", self.id, self.epoch));
            self.thread.step();
            match ended {
                Ok(()) if matches!(fate, Fate::AnswerLost) => return Err(self.give_up("the answer was lost")),
                Ok(()) => return Ok(()),
                Err(Refused::Fenced) => return Err(self.fenced()),
                // Nothing reached the coordinator: there is nothing to end.
                Err(Refused::InvalidState) if !commit => return Ok(()),
                Err(Refused::Concurrent) if self.thread.now() < deadline => {
                    self.thread.sleep(Duration::from_millis(5));
                }
                Err(other) => return Err(self.give_up(&format!("{other:?}"))),
            }
        }
    }
}

impl Transactions for SimProducer<'_> {
    type Membership = Identity;

    fn begin(&self) -> Result<(), Fault> {
        self.usable()?;
        self.queue.borrow_mut().clear();
        Ok(())
    }

    fn send(&self, record: &Outgoing<'_>) -> Result<(), Fault> {
        self.usable()?;
        let topic = Topic::of(record.topic.to_str().expect("names are text"));
        let content = Content {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        };
        self.queue.borrow_mut().push(((topic, record.partition), content));
        Ok(())
    }

    fn drain(&self, timeout: Duration) -> Result<Vec<Delivered>, Fault> {
        let mut delivered = Vec::new();
        let mut queue = VecDeque::from(self.queue.take());
        let begun = self.thread.now();
        let narrow = self.thread.sim.borrow().faults.narrow as usize;
        let left = if narrow == 0 { 0 } else { queue.len().saturating_sub(narrow) };
        while !queue.is_empty() {
            if left > 0 && queue.len() <= left {
                self.thread.sleep_until(begun + timeout.as_millis() as i64);
                self.thread.sim.borrow_mut().note(format_args!("{} could not send {left} records in time", self.id));
                return Err(Fault::Abort("the time did not suffice for all records".into()));
            }
            self.send_some(&mut queue, &mut delivered)?;
        }
        Ok(delivered)
    }

    fn send_offsets(&self, membership: Identity, offsets: &[(&str, i32, i64)], timeout: Duration) -> Result<(), Fault> {
        self.usable()?;
        let offsets: Vec<_> =
            offsets.iter().map(|(topic, partition, next)| ((Topic::of(topic), *partition), *next)).collect();
        loop {
            if self.thread.reach(timeout).is_err() {
                return Err(Fault::Abort("the group's coordinator did not answer".into()));
            }
            let mut sim = self.thread.sim.borrow_mut();
            let now = sim.now;
            let member = (membership.member.as_str(), membership.generation, membership.instance.as_deref());
            let sent = sim.broker.send_offsets(&self.id, self.epoch, member, &offsets, now);
            sim.tell(format_args!("{} epoch {} offsets {offsets:?} of {membership:?}: {sent:?}", self.id, self.epoch));
            match sent {
                Ok(()) => break,
                Err(Refused::Concurrent) => {}
                Err(Refused::Fenced) => return Err(self.fenced()),
                Err(other) => return Err(Fault::Abort(format!("{other:?}"))),
            }
            drop(sim);
            self.thread.sleep(Duration::from_millis(5));
        }
        self.thread.step();
        Ok(())
    }

    fn commit(&self, timeout: Duration) -> Result<(), Fault> {
        self.end(true, timeout)
    }

    fn abort(&self, timeout: Duration) -> Result<(), Fault> {
        self.end(false, timeout)
    }
}
