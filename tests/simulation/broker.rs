//! The simulated cluster: partitions, the transaction coordinator, and the group's offsets.
//!
//! Transactions are those of clients without KIP-890: a producer keeps its epoch from one transaction to the next, so an
//! EndTxn that comes late may end a later transaction; only a new producer is safe from it. Markers are written one by
//! one after EndTxn was answered; until they are, what was committed cannot be read, and the next transaction waits.

use std::collections::{BTreeMap, BTreeSet};

use meterd::engine::Ms;

use super::group::Group;
use super::log::{Content, Log, Topic};

/// After so long an open transaction is aborted by the coordinator.
pub const TRANSACTION_TIMEOUT_MS: i64 = 10_000;

pub type Place = (Topic, i32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A newer epoch of the transactional id is known.
    Fenced,
    /// The former transaction is not ended yet.
    Concurrent,
    /// There is no such transaction.
    InvalidState,
    UnknownMember,
    IllegalGeneration,
    FencedInstance,
}

#[derive(Default)]
struct Producer {
    epoch: i32,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Empty,
    Ongoing(Transaction),
    Ending {
        transaction: Transaction,
        commit: bool,
    },
}

struct Transaction {
    id: u64,
    begun: Ms,
    /// Partitions whose markers are still to be written.
    places: BTreeSet<Place>,
    /// Offsets that wait for the transaction's end.
    offsets: BTreeMap<Place, i64>,
}

pub struct Broker {
    logs: BTreeMap<Place, Log>,
    producers: BTreeMap<String, Producer>,
    transactions: u64,
    pub group: Group,
    pub offsets: BTreeMap<Place, i64>,
    /// EndTxn requests that are still on the network.
    late: Vec<LateEnd>,
}

struct LateEnd {
    at: Ms,
    id: String,
    epoch: i32,
    commit: bool,
}

impl Broker {
    pub fn new(partitions: i32) -> Broker {
        let mut logs = BTreeMap::new();
        for topic in [Topic::Usage, Topic::Accounts, Topic::Events, Topic::Dlq, Topic::Journal, Topic::State] {
            for partition in 0..partitions {
                logs.insert((topic, partition), Log::default());
            }
        }
        Broker {
            logs,
            producers: BTreeMap::new(),
            transactions: 0,
            group: Group::new(partitions),
            offsets: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    pub fn log(&self, topic: Topic, partition: i32) -> &Log {
        &self.logs[&(topic, partition)]
    }

    pub fn log_mut(&mut self, topic: Topic, partition: i32) -> &mut Log {
        self.logs.get_mut(&(topic, partition)).expect("a partition of the topic")
    }

    /// InitProducerId: ends what is open, then gives a new epoch.
    pub fn init(&mut self, id: &str) -> Result<i32, Refused> {
        let producer = self.producers.entry(id.to_owned()).or_default();
        match std::mem::take(&mut producer.state) {
            State::Empty => {
                producer.epoch += 1;
                Ok(producer.epoch)
            }
            State::Ongoing(transaction) => {
                producer.epoch += 1;
                producer.state = State::Ending { transaction, commit: false };
                Err(Refused::Concurrent)
            }
            ending => {
                producer.state = ending;
                Err(Refused::Concurrent)
            }
        }
    }

    fn ongoing(&mut self, id: &str, epoch: i32, now: Ms) -> Result<&mut Transaction, Refused> {
        let next = self.transactions + 1;
        let producer = self.producers.get_mut(id).ok_or(Refused::InvalidState)?;
        if producer.epoch != epoch {
            return Err(Refused::Fenced);
        }
        if matches!(producer.state, State::Empty) {
            self.transactions = next;
            let transaction = Transaction { id: next, begun: now, places: BTreeSet::new(), offsets: BTreeMap::new() };
            producer.state = State::Ongoing(transaction);
        }
        match &mut producer.state {
            State::Ongoing(transaction) => Ok(transaction),
            _ => Err(Refused::Concurrent),
        }
    }

    /// AddPartitionsToTxn and Produce.
    pub fn produce(&mut self, id: &str, epoch: i32, place: Place, now: Ms, content: Content) -> Result<i64, Refused> {
        let transaction = self.ongoing(id, epoch, now)?;
        transaction.places.insert(place);
        let number = transaction.id;
        Ok(self.log_mut(place.0, place.1).append(now, content, Some(number)))
    }

    /// AddOffsetsToTxn and TxnOffsetCommit. An empty member with generation -1 is not checked at all, as by the broker.
    pub fn send_offsets(
        &mut self,
        id: &str,
        epoch: i32,
        member: (&str, i32, Option<&str>),
        offsets: &[(Place, i64)],
        now: Ms,
    ) -> Result<(), Refused> {
        self.ongoing(id, epoch, now)?;
        self.group.check(member)?;
        let transaction = self.ongoing(id, epoch, now)?;
        transaction.offsets.extend(offsets.iter().copied());
        Ok(())
    }

    /// EndTxn. Whoever was told that it is done may not see it yet.
    pub fn end(&mut self, id: &str, epoch: i32, commit: bool) -> Result<(), Refused> {
        let producer = self.producers.get_mut(id).ok_or(Refused::InvalidState)?;
        if producer.epoch != epoch {
            return Err(Refused::Fenced);
        }
        match std::mem::take(&mut producer.state) {
            State::Ongoing(transaction) => {
                producer.state = State::Ending { transaction, commit };
                Ok(())
            }
            State::Empty => Err(Refused::InvalidState),
            ending => {
                producer.state = ending;
                Err(Refused::Concurrent)
            }
        }
    }

    pub fn end_late(&mut self, at: Ms, id: &str, epoch: i32, commit: bool) {
        self.late.push(LateEnd { at, id: id.to_owned(), epoch, commit });
    }

    /// What the cluster does by itself: late requests arrive, old transactions are aborted, members expire.
    pub fn pass(&mut self, now: Ms) {
        let (arrived, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|end| end.at <= now);
        self.late = late;
        for LateEnd { id, epoch, commit, .. } in arrived {
            // Nobody waits for the answer.
            let _unheard = self.end(&id, epoch, commit);
        }
        for producer in self.producers.values_mut() {
            match std::mem::take(&mut producer.state) {
                State::Ongoing(transaction) if transaction.begun + TRANSACTION_TIMEOUT_MS < now => {
                    producer.epoch += 1;
                    producer.state = State::Ending { transaction, commit: false };
                }
                state => producer.state = state,
            }
        }
        self.group.pass(now);
    }

    /// Transactions that have ended and whose markers are not all written.
    pub fn ending(&self) -> Vec<String> {
        let ending = self.producers.iter().filter(|(_, producer)| matches!(producer.state, State::Ending { .. }));
        ending.map(|(id, _)| id.clone()).collect()
    }

    /// Writes one marker of a transaction that has ended, `which` counts those that are left.
    pub fn mark(&mut self, id: &str, which: u64, now: Ms) {
        let Some(producer) = self.producers.get_mut(id) else { return };
        let State::Ending { transaction, commit } = &mut producer.state else { return };
        let (number, commit) = (transaction.id, *commit);
        // The group's offsets are a partition of their own.
        let left = transaction.places.len() + usize::from(!transaction.offsets.is_empty());
        if left == 0 {
            producer.state = State::Empty;
            return;
        }
        let place = transaction.places.iter().nth(which as usize % left).copied();
        match place {
            Some(place) => {
                transaction.places.remove(&place);
                self.logs.get_mut(&place).expect("it was written to").mark(now, number, commit);
            }
            None => {
                let offsets = std::mem::take(&mut transaction.offsets);
                if commit {
                    self.offsets.extend(offsets);
                }
            }
        }
        if left == 1 {
            self.producers.get_mut(id).expect("found above").state = State::Empty;
        }
    }

    /// OffsetFetch with require_stable; `None`: a transaction is pending.
    pub fn stable_offset(&self, place: Place) -> Option<Option<i64>> {
        let pending = self.producers.values().any(|producer| match &producer.state {
            State::Ongoing(transaction) | State::Ending { transaction, .. } => transaction.offsets.contains_key(&place),
            State::Empty => false,
        });
        (!pending).then(|| self.offsets.get(&place).copied())
    }
}
