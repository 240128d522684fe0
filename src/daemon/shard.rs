//! A thread that owns the accounts of some partitions: folds what is fetched, hands closed batches to the committer,
//! answers readers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::answers;
use super::clock::Now;
use super::group::Assignment;
use super::message::{Outcome, ToShard};
use super::owned::{Owned, Phase, Turned};
use super::settings::Settings;
use crate::commit::Stop;
use crate::commit::batch::{Batch, Names};
use crate::commit::configuration::FoldConfiguration;
use crate::commit::share::Share;
use crate::engine::calendar::format_time;
use crate::engine::{Catalog, Ms};
use crate::ingest::consumer::{Backlog, Order, Orders};
use crate::ingest::raw::Input;
use crate::query::{PartitionStatus, Query, Reply, TopicStatus};
use crate::telemetry::Metrics;

/// Messages taken before folding goes on.
const MESSAGES_TURN: usize = 64;
/// The longest a shard sleeps while nothing arrives.
const SLEEP: Duration = Duration::from_millis(50);
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// A question for the ends of a partition's inputs.
#[derive(Clone, Copy, Debug)]
pub struct EndsQuestion {
    pub partition: i32,
    pub epoch: u64,
}

/// The partitions of all shards, as readers see them.
pub type Board = Arc<Mutex<BTreeMap<i32, PartitionStatus>>>;

pub struct Shard {
    pub inbox: Receiver<ToShard>,
    pub committer: Sender<Vec<Batch>>,
    pub committer_idle: Arc<AtomicBool>,
    pub share: Arc<Share>,
    /// By `Input::index`.
    pub orders: [Orders; 2],
    pub backlog: [Arc<Backlog>; 2],
    pub ends: Sender<EndsQuestion>,
    pub names: Arc<Names>,
    pub settings: Settings,
    pub metrics: Arc<Metrics>,
    pub board: Board,
    /// Ends of the inputs as they were asked for last, by partition.
    pub known_ends: Arc<Mutex<BTreeMap<i32, [i64; 2]>>>,
}

/// What a shard holds.
#[derive(Default)]
pub struct State {
    pub owned: BTreeMap<i32, Owned>,
    /// Which partitions count as starving, so that the counters go down again.
    starving: BTreeMap<i32, Input>,
    /// A configuration that some partition has still to take up.
    reload: Option<(Arc<Catalog>, Arc<FoldConfiguration>)>,
    reloading: Vec<i32>,
    shown: Option<Instant>,
}

/// What a turn of a shard says of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There was something to fold, and may be more.
    Busy,
    Idle,
    /// It was told to stop.
    Stop,
}

impl Shard {
    /// Runs until told to stop.
    pub fn run(mut self) -> Result<(), Stop> {
        let mut state = State::default();
        let mut busy = false;
        loop {
            let wait = if busy { Duration::ZERO } else { self.sleep(&state, Now::read()) };
            let first = match self.inbox.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            match self.turn(&mut state, first, Now::read())? {
                Turn::Stop => return Ok(()),
                turn => busy = turn == Turn::Busy,
            }
        }
    }

    /// Takes the messages that wait, after `first`; folds; hands over.
    pub fn turn(&mut self, state: &mut State, first: Option<ToShard>, now: Now) -> Result<Turn, Stop> {
        let mut first = first;
        for _ in 0..=MESSAGES_TURN {
            let Some(message) = first.take().or_else(|| self.inbox.try_recv().ok()) else { break };
            if !self.take(state, message, now)? {
                return Ok(Turn::Stop);
            }
        }
        let busy = self.fold(state, now);
        self.hand_over(state, now);
        self.show(state, now);
        Ok(if busy { Turn::Busy } else { Turn::Idle })
    }

    /// One message. False: stop.
    fn take(&mut self, state: &mut State, message: ToShard, now: Now) -> Result<bool, Stop> {
        match message {
            ToShard::Fetched { input, partition, epoch, fetched } => {
                if let Some(owned) = state.owned.get_mut(&partition).filter(|owned| owned.epoch == epoch) {
                    owned.fetched(input, fetched, &self.backlog[input.index()]);
                } else if let crate::ingest::consumer::Fetched::Records(batch) = fetched {
                    // Of a dead epoch: only the count of what waits is kept right.
                    self.backlog[input.index()].bytes.fetch_sub(batch.bytes_len(), Ordering::Relaxed);
                }
            }
            // Of an assignment that ended while it was recovered: the next one may have been faster.
            ToShard::Recovered { assignment: Assignment { partition, epoch, .. }, .. }
                if state.owned.get(&partition).is_some_and(|owned| owned.epoch > epoch) => {}
            ToShard::Recovered { assignment, recovered } => {
                let partition = assignment.partition;
                let configuration = Arc::clone(&recovered.configuration);
                let owned = Owned::new(assignment, *recovered, Arc::clone(&self.names), now);
                state.owned.insert(partition, owned);
                // Recovered under the configuration of before a reload that came meanwhile.
                let outdated = state.reload.as_ref().is_some_and(|(_, latest)| latest.hash() != configuration.hash());
                if outdated && !state.reloading.contains(&partition) {
                    state.reloading.push(partition);
                }
            }
            ToShard::Committed(outcome) => self.committed(state, *outcome, now)?,
            ToShard::Dropped { partition, epoch } => {
                if state.owned.get(&partition).is_some_and(|owned| owned.epoch == epoch) {
                    self.forget(state, partition);
                    for orders in &self.orders {
                        // What was fetched for it is nobody's. A consumer that is gone has said why.
                        let _stopping = orders.send(Order::Stop { partition });
                    }
                }
            }
            ToShard::Ends { partition, epoch, ends, asked } => {
                if let Some(owned) = state.owned.get_mut(&partition).filter(|owned| owned.epoch == epoch) {
                    owned.ends(ends, asked);
                }
            }
            ToShard::Drain { partition, epoch, done } => {
                match state.owned.get_mut(&partition).filter(|owned| owned.epoch == epoch) {
                    Some(owned) => owned.drain(done),
                    None => {
                        // Nothing of it is here; whoever asked need not wait.
                        let _gone = done.send(partition);
                    }
                }
            }
            ToShard::Revoked { partition } => self.forget(state, partition),
            ToShard::Ask { partition, query } => self.ask(state, partition, query, now),
            ToShard::Reload { catalog, configuration } => {
                state.reloading = state.owned.keys().copied().collect();
                state.reload = Some((catalog, configuration));
            }
            ToShard::Stop => return Ok(false),
        }
        Ok(true)
    }

    fn committed(&self, state: &mut State, outcome: Outcome, now: Now) -> Result<(), Stop> {
        let Some(owned) = state.owned.get_mut(&outcome.batch.partition) else { return Ok(()) };
        if owned.epoch != outcome.batch.epoch {
            return Ok(());
        }
        // Else the wall clock would be trusted unseen.
        if self.settings.witnessed && outcome.places.broker_time.is_none() && !outcome.places.settled {
            return Err(Stop::config(format!(
                "expected the brokers to tell when they appended to the journal, found no such time in partition {}: set \
                 message.timestamp.type=LogAppendTime of the journal with kafka-configs.sh, and start again",
                owned.number
            )));
        }
        if owned.committed(outcome.batch, outcome.places, now) {
            for input in Input::BOTH {
                let (offset, queued) = owned.start(input);
                let order = Order::Start { partition: owned.number, epoch: owned.epoch, offset, queued };
                // A consumer that is gone has said why; the daemon is stopping.
                let _stopping = self.orders[input.index()].send(order);
            }
            let took = now.since(owned.assigned);
            self.metrics.recovered(took);
            let took_ms = took.as_millis() as u64;
            tracing::info!(partition = owned.number, offsets = ?owned.next_offsets(), took_ms, "live");
        }
        Ok(())
    }

    fn forget(&self, state: &mut State, partition: i32) {
        if let Some(mut owned) = state.owned.remove(&partition) {
            owned.abandon(&self.backlog);
        }
        if let Some(input) = state.starving.remove(&partition) {
            self.backlog[input.index()].starving.fetch_sub(1, Ordering::Relaxed);
        }
        self.metrics.forget_partition(partition);
        self.board.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    /// Folds a turn of each partition. True: there was something to fold, and may be more.
    fn fold(&mut self, state: &mut State, now: Now) -> bool {
        let mut busy = false;
        for (number, owned) in &mut state.owned {
            if state.reloading.contains(number)
                && state.reload.as_ref().is_some_and(|(catalog, configuration)| owned.reload(catalog, configuration))
            {
                state.reloading.retain(|waiting| waiting != number);
            } else if state.reloading.contains(number) {
                continue;
            }
            owned.use_share(self.share.present());
            let held_before = owned.phase == Phase::Held;
            let turned = owned.turn(&self.settings, now, &self.backlog);
            if owned.phase == Phase::Held && !held_before {
                self.metrics.clock_disagreed();
                tracing::warn!(
                    partition = owned.number,
                    "the wall clock and the broker's disagree by more than `future`: timers wait until they agree"
                );
            }
            busy |= turned.folded > 0;
            note_starving(&mut state.starving, &self.backlog, *number, turned);
            if turned.asks {
                let question = EndsQuestion { partition: *number, epoch: owned.epoch };
                // The asker is gone only while the daemon stops.
                let _stopping = self.ends.send(question);
            }
        }
        busy
    }

    /// Gives the committer what is ready, if it waits.
    fn hand_over(&mut self, state: &mut State, now: Now) {
        if !self.committer_idle.load(Ordering::Acquire) {
            return;
        }
        // A commit carries checkpoints of one partition, the one that is due the longest.
        let due = |owned: &Owned| Some((owned.checkpoint_due(&self.settings, now)?, owned.number));
        let wants = state.owned.values().filter(|owned| owned.wants_commit(&self.settings, now));
        let turn = wants.filter_map(due).max().map(|(_, number)| number);
        let mut batches = Vec::new();
        for owned in state.owned.values_mut() {
            owned.finish_drain();
            let turn = turn == Some(owned.number);
            if owned.wants_commit(&self.settings, now) && (turn || !owned.is_idle(now)) {
                let begun = Instant::now();
                let batch = owned.close(&self.settings, now, turn);
                if !batch.state.is_empty() {
                    self.metrics.checkpoint_encoded(begun.elapsed());
                }
                batches.push(batch);
            }
        }
        if !batches.is_empty() {
            // A committer that is gone has said why; the daemon is stopping.
            let _stopping = self.committer.send(batches);
        }
    }

    fn ask(&self, state: &mut State, partition: Option<i32>, query: Query, now: Now) {
        let found = match partition {
            Some(number) => state.owned.get_mut(&number),
            // Keys may be anywhere: the partition that holds the account, else any.
            None => {
                let holding = state.owned.values().find(|owned| answers::holds(&owned.fold, &query.ask));
                let number = holding.or(state.owned.values().next()).map(|owned| owned.number);
                number.and_then(|number| state.owned.get_mut(&number))
            }
        };
        let Some(owned) = found.filter(|owned| owned.phase != Phase::Claiming) else {
            // A reader that left needs no answer.
            let _left = query.reply.send(Reply::NotReady);
            return;
        };
        let reply = answers::answer(&owned.fold, &query.ask, now.wall);
        owned.answer(Box::new(move || {
            let _left = query.reply.send(reply);
        }));
    }

    /// How long nothing need be looked at.
    fn sleep(&self, state: &State, now: Now) -> Duration {
        let due = state.owned.values().filter_map(Owned::next_due).min();
        let until_due = due.map_or(SLEEP, |due| Duration::from_millis((due - now.wall).clamp(1, 50) as u64));
        let waits = state.owned.values().any(|owned| owned.wants_commit(&self.settings, now));
        if waits { Duration::from_micros(200) } else { until_due.min(SLEEP) }
    }

    /// Puts what readers and operators see on the board.
    fn show(&self, state: &mut State, now: Now) {
        if state.shown.is_some_and(|at| now.since(at) < STATUS_EVERY) {
            return;
        }
        state.shown = Some(now.steady);
        let ends = self.known_ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        for owned in state.owned.values() {
            let status = status(owned, ends.get(&owned.number), now);
            let metrics = self.metrics.partition(owned.number);
            metrics.lag_records[crate::telemetry::Input::Usage as usize].set(status.usage.lag);
            metrics.lag_records[crate::telemetry::Input::Accounts as usize].set(status.commands.lag);
            metrics.lag_ms.set(status.lag_ms);
            metrics.clock_ms.set(owned.fold.clock().max(0));
            metrics.accounts.set(status.accounts as i64);
            metrics.identities.set(status.identities as i64);
            metrics.timers_armed.set(status.timers_armed as i64);
            metrics.timers_due.set(i64::from(owned.next_due().is_some_and(|due| due <= now.wall)));
            metrics.checkpoint_age_ms.set(status.checkpoint_age_ms);
            metrics.replay_left_records.set(0);
            metrics.live.set(i64::from(owned.phase == Phase::Live));
            board.insert(owned.number, status);
            if let Some((identities, most)) = owned.fold.overrun() {
                tracing::warn!(
                    "identities alone take {} MB, and three quarters of store.memory, {} MB, are for them and the accounts: \
                     accounts keep a quarter of that, the process takes more than it was given. Raise store.memory, or \
                     lower the catalog's `late`, for which they are kept",
                    identities >> 20,
                    most >> 20
                );
            }
        }
    }
}

fn note_starving(starving: &mut BTreeMap<i32, Input>, backlog: &[Arc<Backlog>; 2], number: i32, turned: Turned) {
    let before = starving.get(&number).copied();
    if before == turned.starving {
        return;
    }
    if let Some(input) = before {
        backlog[input.index()].starving.fetch_sub(1, Ordering::Relaxed);
        starving.remove(&number);
    }
    if let Some(input) = turned.starving {
        backlog[input.index()].starving.fetch_add(1, Ordering::Relaxed);
        starving.insert(number, input);
    }
}

fn status(owned: &Owned, ends: Option<&[i64; 2]>, now: Now) -> PartitionStatus {
    let next = owned.next_offsets();
    let topic = |input: Input| {
        let offset = next[input.index()];
        let end = ends.map(|ends| ends[input.index()].max(offset));
        let lag = if owned.at_ends() { 0 } else { end.map_or(0, |end| end - offset) };
        TopicStatus { offset, end, lag }
    };
    let clock = owned.fold.clock();
    PartitionStatus {
        partition: owned.number,
        state: match owned.phase {
            Phase::Claiming => "recovering",
            Phase::Live => "live",
            Phase::Held => "paused",
        },
        clock: (clock != Ms::MIN).then(|| format_time(clock)),
        usage: topic(Input::Usage),
        commands: topic(Input::Accounts),
        lag_ms: owned.oldest_waiting().map_or(0, |oldest| (now.wall - oldest).max(0)),
        accounts: owned.fold.accounts_len() as u64,
        identities: owned.fold.identities_len() as u64,
        timers_armed: owned.fold.timers().len() as u64,
        checkpoint_age_ms: owned.checkpoint_age(now).as_millis() as i64,
        replay_left: 0,
    }
}
