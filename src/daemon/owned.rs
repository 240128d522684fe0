//! One partition while this instance owns it: its queues, its fold, its open batch.
//!
//! ```text
//! recovered ─ claim committed ─► live ─ drain ─► drained
//! ```
//! At most one batch of a partition is on its way to the committer; the next one is folded meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use crossbeam_channel::Sender;

use super::checkpoints::{self, Checkpoints};
use super::clock::Now;
use super::group::Assignment;
use super::queue::Queue;
use super::settings::Settings;
use crate::commit::accepted::Accepted;
use crate::commit::batch::{Batch, Names, Notices, OpenBatch, SLICE_BYTES_MAX};
use crate::commit::committer::Places;
use crate::commit::configuration::FoldConfiguration;
use crate::commit::journal::{Genesis, JournalRecord, Position, Writer};
use crate::commit::marks::Marks;
use crate::commit::recovery::Recovered;
use crate::commit::replay::clock_of;
use crate::commit::share::part_of;
use crate::engine::effects::Refusal;
use crate::engine::{self, Catalog, Ms};
use crate::ingest::consumer::{Backlog, Fetched};
use crate::ingest::decode::Raw;
use crate::ingest::merge::{self, Next, Side};
use crate::ingest::raw::{Head, Input, RawBatch};
use crate::shard::{Cursor, GROUP, Gate, Partition, Read, StateWrites};
use crate::store::record;

/// Inputs folded before other partitions and messages are looked at.
const TURN: usize = 1_024;
/// Timers of other accounts that fire between two inputs.
const TIMERS_TURN: usize = 1_000;
/// Clocks closer than this agree whatever the catalog's `future` is.
const AGREE_MIN: Ms = 1_000;
const WITNESS_AGAIN: Duration = Duration::from_secs(10);

pub struct Owned {
    pub number: i32,
    pub epoch: u64,
    pub assigned: Instant,
    pub fold: Partition,
    pub phase: Phase,
    /// The last batch that was closed.
    sequence: u64,
    open: OpenBatch,
    /// How far timers had fired when the last batch was closed.
    closed_at: Cursor,
    in_flight: Option<InFlight>,
    queues: [Queue; 2],
    marks: Marks,
    genesis: Option<Genesis>,
    place: [u8; 16],
    configured: bool,
    configuration: Arc<FoldConfiguration>,
    checkpoints: Checkpoints,
    /// The claim must write every account that changed.
    unrepeatable: bool,
    /// The broker's time and when it was heard.
    witness: Option<(Ms, Instant)>,
    tick: Tick,
    draining: Option<Sender<i32>>,
    /// Answers to readers that wait for the commit of a batch.
    waiting: Vec<(u64, Answer)>,
    /// What the claim tells the store's writer.
    follows: Option<(Option<i64>, i64)>,
    names: Arc<Names>,
    /// Of a batch that was committed: its memory is used again.
    spare: Notices,
    /// What the records of a group need besides themselves while they are folded.
    arena: Bump,
}

/// An answer that may leave once its batch is committed.
pub type Answer = Box<dyn FnOnce() + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The empty record that begins an ownership is not committed yet.
    Claiming,
    Live,
    /// The wall clock and the broker's disagree: nothing that the wall clock decides is folded.
    Held,
}

struct InFlight {
    sequence: u64,
    claim: bool,
    /// The latest time among its identities.
    latest: Ms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tick {
    Idle,
    Asked(Instant),
    /// Timers may fire up to this instant.
    Until(Ms),
}

/// What a turn found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turned {
    pub folded: usize,
    /// The input whose next record must be known.
    pub starving: Option<Input>,
    /// A timer is due by the wall clock, and both ends must be asked for.
    pub asks: bool,
}

impl Owned {
    pub fn new(assignment: Assignment, recovered: Recovered, names: Arc<Names>, now: Now) -> Owned {
        let Assignment { partition: number, epoch, at: assigned } = assignment;
        let follows = Some((recovered.stored, recovered.state_end));
        let Recovered { sequence, position, marks, genesis, place, configured, configuration, .. } = recovered;
        let (fold, unrepeatable) = (recovered.fold, recovered.unrepeatable);
        // What was folded again waits for its checkpoint from now on, also where no input comes.
        let mut checkpoints = Checkpoints::new();
        if fold.dirty_len() > 0 {
            checkpoints.began(sequence, now.steady);
        }
        let queue = |input: Input| Queue {
            batches: VecDeque::new(),
            next: position.next[input.index()],
            position: position.next[input.index()],
            at_end: false,
            queued: Arc::default(),
        };
        Owned {
            number,
            epoch,
            assigned,
            phase: Phase::Claiming,
            sequence,
            open: OpenBatch::new(Arc::clone(&names), number, now.steady),
            closed_at: fold.cursor(),
            fold,
            in_flight: None,
            queues: Input::BOTH.map(queue),
            marks,
            genesis,
            place,
            configured,
            configuration,
            checkpoints,
            unrepeatable,
            witness: None,
            tick: Tick::Idle,
            draining: None,
            waiting: Vec::new(),
            follows,
            names,
            spare: Notices::default(),
            arena: Bump::new(),
        }
    }

    /// The next offset of an input, and the counter of what waits for it.
    pub fn start(&self, input: Input) -> (i64, Arc<AtomicUsize>) {
        let queue = &self.queues[input.index()];
        (queue.next, Arc::clone(&queue.queued))
    }

    pub fn next_offsets(&self) -> [i64; 2] {
        [self.queues[0].next, self.queues[1].next]
    }

    pub fn at_ends(&self) -> bool {
        self.queues.iter().all(|queue| queue.at_end && queue.batches.is_empty())
    }

    /// The Kafka timestamp of the oldest usage record that waits.
    pub fn oldest_waiting(&self) -> Option<Ms> {
        self.queues[Input::Usage.index()].head().map(|head| head.timestamp)
    }

    pub fn fetched(&mut self, input: Input, fetched: Fetched, backlog: &Backlog) {
        self.queues[input.index()].fetched(fetched, backlog);
    }

    /// What batches write from the next one on takes no more than this share of its bounds.
    pub fn use_share(&mut self, share: u32) {
        if self.open.is_empty() {
            self.open.share = share;
        }
    }

    /// Folds what can be folded now.
    pub fn turn(&mut self, settings: &Settings, now: Now, backlog: &[Arc<Backlog>; 2]) -> Turned {
        let mut turned = Turned::default();
        let behind = checkpoints::is_far_behind(self.checkpoint_age(now), settings.checkpoint);
        if self.phase == Phase::Claiming || self.draining.is_some() || behind {
            return turned;
        }
        let agrees = self.agrees(now);
        self.phase = if agrees { Phase::Live } else { Phase::Held };
        while turned.folded < TURN {
            if self.open.is_over(settings.records_max, self.fold.accepted_len()) {
                return turned;
            }
            self.fold.fire_due(&Gate::Live, TIMERS_TURN, &mut self.open);
            match merge::next(self.queues[0].side(), self.queues[1].side()) {
                Next::Take(input) => {
                    let folded = match input {
                        Input::Usage => self.fold_usage(settings, now.wall, agrees, &backlog[input.index()]),
                        Input::Accounts => self.fold_command(now.wall, agrees, &backlog[input.index()]),
                    };
                    if folded == 0 {
                        return turned;
                    }
                    turned.folded += folded;
                }
                Next::WaitFor(input) => {
                    turned.starving = Some(input);
                    return turned;
                }
                Next::Ended => {
                    turned.asks = agrees && self.tick(now);
                    return turned;
                }
                Next::Nothing => return turned,
            }
        }
        turned
    }

    /// Folds the next command. 0 where it must wait: the wall clock, which is in doubt, would decide its time.
    fn fold_command(&mut self, wall: Ms, agrees: bool, backlog: &Backlog) -> usize {
        let queue = &mut self.queues[Input::Accounts.index()];
        let Some((batch, index)) = queue.batches.front() else { return 0 };
        let Some(head) = batch.head(*index) else { return 0 };
        let clock = clock_of(head.timestamp, wall);
        let clamped = clock != head.timestamp;
        if clamped && !agrees {
            return 0;
        }
        let mut headers = Vec::new();
        let raw = batch.raw(*index, &mut headers);
        self.open.begin_record(Input::Accounts, head, &raw, wall, clamped);
        let outcome = self.fold.command(&raw, clock, &Gate::Live, &mut self.open);
        self.open.end_record(&raw, &outcome);
        queue.next = head.offset + 1;
        queue.advance(1, backlog);
        1
    }

    /// Folds usage records up to the next command, as many as are read together; how many. 0 as for a command.
    fn fold_usage(&mut self, settings: &Settings, wall: Ms, agrees: bool, backlog: &Backlog) -> usize {
        let until = match self.queues[Input::Accounts.index()].side() {
            Side::Head(command) => Some(command),
            _ => None,
        };
        let Some((batch, first)) = self.queues[Input::Usage.index()].batches.pop_front() else { return 0 };
        let mut arena = std::mem::take(&mut self.arena);
        let mut gate = if settings.identities { Gate::Live } else { Gate::Unchecked };
        let mut folded = 0;
        for (head, raw, read) in self.read_group(&batch, first, until, &arena) {
            let clock = clock_of(head.timestamp, wall);
            let clamped = clock != head.timestamp;
            if clamped && !agrees {
                break;
            }
            if folded > 0 {
                if self.open.is_over(settings.records_max, self.fold.accepted_len()) {
                    break;
                }
                self.fold.fire_due(&Gate::Live, TIMERS_TURN, &mut self.open);
            }
            self.open.begin_record(Input::Usage, head, &raw, wall, clamped);
            let outcome = self.fold.fold(&read, clock, &mut gate, &mut self.open);
            self.open.end_record(&raw, &outcome);
            self.queues[Input::Usage.index()].next = head.offset + 1;
            folded += 1;
        }
        arena.reset();
        self.arena = arena;
        let queue = &mut self.queues[Input::Usage.index()];
        queue.batches.push_front((batch, first));
        queue.advance(folded, backlog);
        folded
    }

    /// Reads the records of a group, and fetches from memory together what folding them will need.
    fn read_group<'a>(
        &mut self,
        batch: &'a RawBatch,
        first: usize,
        until: Option<Ms>,
        arena: &'a Bump,
    ) -> BumpVec<'a, (Head, Raw<'a>, Result<Read<'a>, Refusal>)> {
        let mut group = BumpVec::with_capacity_in(GROUP, arena);
        for index in first..batch.len().min(first + GROUP) {
            let Some(head) = batch.head(index) else { break };
            // A command goes before a usage record of the same millisecond.
            if until.is_some_and(|command| command <= head.timestamp) {
                break;
            }
            let raw = batch.raw_in(index, arena);
            let read = self.fold.read(&raw, arena);
            group.push((head, raw, read));
        }
        self.fold.fetch(group.iter().filter_map(|(.., read)| read.as_ref().ok()));
        group
    }

    /// At both ends: fires what the wall clock has reached, as far as the ends were asked for. True: ask.
    fn tick(&mut self, now: Now) -> bool {
        let Some(due) = self.fold.timers().next_due() else { return false };
        if let Tick::Until(until) = self.tick {
            // The clock was good when this was asked for; that it still is at this moment was checked for `now` alone.
            let until = until.min(now.wall);
            if due <= until {
                self.fold.tick_through(until, &Gate::Live, &mut self.open);
                self.open.tick(self.fold.clock());
                return false;
            }
            self.tick = Tick::Idle;
        }
        let asked_long_ago = matches!(self.tick, Tick::Asked(at) if now.since(at) > Duration::from_secs(5));
        if due <= now.wall && (self.tick == Tick::Idle || asked_long_ago) {
            self.tick = Tick::Asked(now.steady);
            return true;
        }
        false
    }

    /// The leaders' answer: where both inputs end, and the wall clock when they were asked.
    pub fn ends(&mut self, ends: [i64; 2], asked: Ms) {
        let reached = self.at_ends() && self.queues.iter().zip(ends).all(|(queue, end)| end <= queue.position);
        self.tick = if reached { Tick::Until(asked) } else { Tick::Idle };
    }

    /// Whether the wall clock is within `future` of the broker's (docs/reference.md 6.1). Without a witness it does: only
    /// with the embedded broker, whose times are made up, is a partition live that no commit has brought one.
    fn agrees(&self, now: Now) -> bool {
        let Some((broker, heard)) = self.witness else { return true };
        let broker_now = broker.saturating_add(now.since(heard).as_millis() as i64);
        let future = self.fold.catalogs().current().future_ms;
        now.wall.abs_diff(broker_now) <= future.max(AGREE_MIN).unsigned_abs()
    }

    /// A machine that slept has a clock that disagrees with what it was told before it slept: an empty batch asks the broker
    /// again.
    fn lost_witness(&self, now: Now) -> bool {
        let heard = self.witness.map(|(_, heard)| heard);
        self.phase == Phase::Held && heard.is_some_and(|heard| now.since(heard) >= WITNESS_AGAIN)
    }

    /// Something was folded since the last batch was closed: inputs, a tick, or timers that an earlier batch left.
    fn has_work(&self) -> bool {
        !self.open.is_empty() || self.fold.cursor() != self.closed_at
    }

    /// Everything that was folded is committed, and nothing is due.
    pub fn is_settled(&self) -> bool {
        let due = self.next_due().is_some_and(|due| due <= self.fold.clock());
        self.in_flight.is_none() && !self.has_work() && !due
    }

    /// Whether there is something to commit now.
    pub fn wants_commit(&self, settings: &Settings, now: Now) -> bool {
        if self.in_flight.is_some() {
            return false;
        }
        if self.phase == Phase::Claiming {
            return true;
        }
        if self.draining.is_some() {
            return self.has_work() || self.fold.dirty_len() > 0;
        }
        if self.lost_witness(now) {
            return true;
        }
        if self.has_work() {
            let over = self.open.is_over(settings.records_max, self.fold.accepted_len());
            return over || settings.interval.is_zero() || now.since(self.open.started) >= settings.interval;
        }
        self.checkpoint_due(settings, now).is_some_and(|age| checkpoints::is_overdue(age, settings.checkpoint))
    }

    /// How old the oldest change is that is due for a checkpoint, if a batch can be closed now.
    pub fn checkpoint_due(&self, settings: &Settings, now: Now) -> Option<Duration> {
        let age = self.checkpoint_age(now);
        let due = age >= settings.checkpoint && self.checkpoints.age(now).is_some() && self.fold.dirty_len() > 0;
        (due && self.in_flight.is_none()).then_some(age)
    }

    /// Nothing but a checkpoint is to be committed.
    pub fn is_idle(&self, now: Now) -> bool {
        self.phase != Phase::Claiming && self.draining.is_none() && !self.has_work() && !self.lost_witness(now)
    }

    /// Closes the open batch, with a slice of checkpoints if it is the partition's turn.
    pub fn close(&mut self, settings: &Settings, now: Now, turn: bool) -> Batch {
        let sequence = self.sequence + 1;
        let claim = self.phase == Phase::Claiming;
        if self.has_work() {
            self.checkpoints.began(sequence, self.open.started);
        }
        let mut state = self.slice(settings, now, turn);
        let horizon = self.fold.horizon();
        self.checkpoints.reached(horizon);
        self.write_once(&mut state);
        let accepted = Accepted(self.fold.take_accepted());
        let latest = accepted.0.iter().map(|(_, time)| *time).max().unwrap_or(Ms::MIN);
        let late_ms = self.fold.catalogs().current().late_ms;
        let end = Position { next: self.next_offsets(), clock: self.fold.clock(), cursor: self.fold.cursor() };
        let mut open = OpenBatch::new(Arc::clone(&self.names), self.number, now.steady);
        // Until it is told another.
        open.share = self.open.share;
        std::mem::swap(&mut open, &mut self.open);
        self.open.notices = std::mem::take(&mut self.spare).emptied();
        open.tally.conservation_violations += self.fold.take_violations();
        let record = JournalRecord {
            sequence,
            attempt: 0,
            writer: Writer {
                group: settings.group.clone(),
                instance: settings.instance.clone(),
                generation: -1,
                version: env!("CARGO_PKG_VERSION").into(),
                advertise: settings.advertise.clone(),
            },
            place: self.place,
            genesis: self.genesis.take(),
            digests: open.digests(),
            input_checksum: open.checksum(),
            runs: open.runs,
            end,
            accepted,
            configuration: self.configuration.hash(),
            engine_revision: engine::REVISION,
            horizon,
            needed_from: self.marks.needed_from(horizon, end.clock, late_ms),
            oldest: self.fold.oldest(),
        };
        self.sequence = sequence;
        self.closed_at = end.cursor;
        self.fold.begin_batch(sequence + 1);
        self.in_flight = Some(InFlight { sequence, claim, latest });
        Batch {
            partition: self.number,
            epoch: self.epoch,
            record,
            notices: open.notices,
            quarantined: open.quarantined,
            state,
            follows: self.follows.take(),
            tally: open.tally,
            read: open.read,
            share: open.share,
        }
    }

    fn slice(&mut self, settings: &Settings, now: Now, turn: bool) -> StateWrites {
        let mut state = StateWrites::default();
        let draining = self.draining.is_some();
        let through = if draining { u64::MAX } else { self.checkpoints.due_through(settings.checkpoint, now) };
        let share = self.open.share;
        if std::mem::take(&mut self.unrepeatable) {
            self.fold.slice(u64::MAX, usize::MAX, &mut state);
        } else if draining {
            self.fold.slice(through, part_of(SLICE_BYTES_MAX, share), &mut state);
        } else if turn && self.phase != Phase::Claiming {
            self.fold.slice(through, part_of(self.checkpoints.slice_bytes(), share), &mut state);
            self.checkpoints.pace(settings.checkpoint, now);
        }
        state
    }

    /// Genesis and fold configuration go into the state topic with the first batch that names them.
    fn write_once(&mut self, state: &mut StateWrites) {
        if let Some(genesis) = &self.genesis {
            let bytes = postcard::to_stdvec(genesis).expect("encoding into memory has no way to fail");
            state.push(&record::genesis_key(), &record::plain_value(&bytes));
        }
        if !self.configured {
            let key = record::configuration_key(&self.configuration.hash());
            state.push(&key, &record::plain_value(&self.configuration.encode()));
            self.configured = true;
        }
    }

    /// A batch is in Kafka. True: the partition has just become live.
    pub fn committed(&mut self, batch: Batch, places: Places, now: Now) -> bool {
        let Some(flight) = self.in_flight.take() else { return false };
        self.marks.push(flight.sequence, places.journal_offset, flight.latest);
        if let Some(broker_time) = places.broker_time {
            self.witness = Some((broker_time, now.steady));
        }
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(at, _)| *at <= flight.sequence);
        self.waiting = waiting;
        for (_, answer) in ready {
            answer();
        }
        debug_assert_eq!(batch.record.sequence, flight.sequence, "batches are committed in order");
        self.spare = batch.notices;
        // A claim brings the broker's time; where its outcome was told by the journal another one brings it.
        let claimed = flight.claim && !places.settled;
        if claimed {
            self.phase = Phase::Live;
        }
        claimed
    }

    /// Lets an answer leave once everything that it may show is committed.
    pub fn answer(&mut self, answer: Answer) {
        let waits_for = if self.has_work() {
            Some(self.sequence + 1)
        } else {
            self.in_flight.as_ref().map(|flight| flight.sequence)
        };
        match waits_for {
            Some(sequence) => self.waiting.push((sequence, answer)),
            None => answer(),
        }
    }

    pub fn drain(&mut self, done: Sender<i32>) {
        self.draining = Some(done);
    }

    /// Says that the drain is done, if it is.
    pub fn finish_drain(&mut self) {
        if self.in_flight.is_none()
            && !self.has_work()
            && self.fold.dirty_len() == 0
            && let Some(done) = self.draining.as_ref()
        {
            // The one who asked may have given up waiting.
            let _gone = done.send(self.number);
        }
    }

    /// Another configuration from the next batch on; `false` while a batch is open under the present one.
    pub fn reload(&mut self, catalog: &Arc<Catalog>, configuration: &Arc<FoldConfiguration>) -> bool {
        if self.has_work() {
            return false;
        }
        match self.fold.lacks(catalog) {
            Some(lacks) => {
                let partition = self.number;
                tracing::error!(partition, "the new catalog is refused and the old one stays: {lacks}, which it lacks");
            }
            None => {
                self.fold.use_catalog(Arc::clone(catalog));
                self.configuration = Arc::clone(configuration);
                self.configured = false;
            }
        }
        true
    }

    /// When the wall clock reaches the next timer.
    pub fn next_due(&self) -> Option<Ms> {
        self.fold.timers().next_due()
    }

    /// Age of the oldest change that is not in a checkpoint.
    pub fn checkpoint_age(&self, now: Now) -> Duration {
        self.checkpoints.age(now).unwrap_or_default()
    }

    /// Everything that waits is given up: the partition is another's.
    pub fn abandon(&mut self, backlog: &[Arc<Backlog>; 2]) {
        for (queue, backlog) in self.queues.iter_mut().zip(backlog) {
            while let Some((batch, _)) = queue.batches.pop_front() {
                queue.release(batch.bytes_len(), backlog);
            }
        }
    }
}
