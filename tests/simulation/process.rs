//! One process of meterd: the real shard, committer, recoveries and store writer, driven in turns. What is written anew
//! here is only what connects them to threads and to the Kafka client: polling, callbacks, questions for ends.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use corosensei::{Coroutine, CoroutineResult};
use crossbeam_channel::{Receiver, Sender, unbounded};
use meterd::commit::Stop;
use meterd::commit::configuration::FoldConfiguration;
use meterd::commit::kafka::LogRecord;
use meterd::commit::ownership::Ownership;
use meterd::commit::share::{Share, WHOLE};
use meterd::daemon::clock::Now;
use meterd::daemon::group::{Assignment, Shards};
use meterd::daemon::message::ToShard;
use meterd::daemon::settings::Settings;
use meterd::daemon::shard::{self, EndsQuestion, Shard, Turn};
use meterd::daemon::sink::Needed;
use meterd::daemon::store_writer::ToStore;
use meterd::engine::Ms;
use meterd::ingest::consumer::{Backlog, Fetched, Order};
use meterd::ingest::raw::{Input, RawBatch};
use meterd::store::Store;

mod tasks;

use super::broker::Refused;
use super::common::Common;
use super::disk::Disk;
use super::log::Topic;
use super::member::{Callback, Member};
use super::sim::{Outside, Wait, steady};

const RECOVERIES: usize = 2;
/// Some notices: what runs write is little, so that it must be cut to less than in life.
const SHARE_LEAST: u32 = WHOLE / 2_048;
const DRAIN_AT_REVOKE_MS: i64 = 2_000;
const DRAIN_AT_STOP_MS: i64 = 5_000;

type Task = Coroutine<(), Wait, Result<(), Stop>>;

/// The parts of a process that can stand still while the others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Shard,
    Committer,
    Recovery(usize),
    Usage,
    Accounts,
    Member,
    Ends,
    Store,
    Trim,
}

impl Part {
    pub const ALL: [Part; 10] = [
        Part::Shard,
        Part::Committer,
        Part::Recovery(0),
        Part::Recovery(1),
        Part::Usage,
        Part::Accounts,
        Part::Member,
        Part::Ends,
        Part::Store,
        Part::Trim,
    ];
    pub const WEIGHTS: [u32; 10] = [20, 30, 12, 12, 12, 12, 6, 6, 4, 1];
}

pub struct Process {
    pub name: String,
    pub outside: Rc<Outside>,
    common: Common,
    /// Parts stand still until then, by place in [`Part::ALL`].
    pub still_until: [Ms; 10],
    ownership: Arc<Ownership>,
    shard: Option<Shard>,
    pub state: shard::State,
    shards: Shards,
    committer: Option<(Task, Wait)>,
    recoveries: Vec<(Task, Wait)>,
    jobs: (Sender<Assignment>, Receiver<Assignment>),
    share: Arc<Share>,
    /// By `Input::index`.
    consumers: [Consumer; 2],
    accounts_orders: Sender<Order>,
    pub member: Member,
    questions: Receiver<EndsQuestion>,
    asking: Option<Asking>,
    writer: Option<(Task, Wait)>,
    to_store: Sender<ToStore>,
    needed: Needed,
    pub configuration: Arc<ArcSwap<FoldConfiguration>>,
    opened: Rc<Cell<bool>>,
    revoking: Option<Draining>,
    stopping: Option<Stopping>,
    /// Why the process ended; `Ok`: it was asked to.
    pub ended: Option<Result<(), Stop>>,
}

struct Consumer {
    orders: Receiver<Order>,
    backlog: Arc<Backlog>,
    live: BTreeMap<i32, Live>,
}

struct Live {
    epoch: u64,
    next: i64,
    queued: Arc<AtomicUsize>,
    /// The end that was told last.
    told: Option<i64>,
}

struct Asking {
    question: EndsQuestion,
    asked: Ms,
    accounts: Option<i64>,
}

/// Partitions that write what is dirty.
struct Draining {
    partitions: BTreeSet<i32>,
    waiting: BTreeSet<i32>,
    drained: Receiver<i32>,
    deadline: Ms,
}

struct Stopping {
    draining: Draining,
    closing: bool,
    closed: bool,
}

impl Process {
    pub fn start(
        name: &str,
        incarnation: u64,
        common: &Common,
        disk: &Arc<Disk>,
        configuration: FoldConfiguration,
        skew: i64,
    ) -> Process {
        let outside = Rc::new(Outside {
            name: format!("{name}.{incarnation}"),
            cut_until: Cell::new(Ms::MIN),
            skew: Cell::new(skew),
        });
        let configuration = Arc::new(ArcSwap::from_pointee(configuration));
        let ownership = Arc::new(Ownership::default());
        let backlog: [Arc<Backlog>; 2] = Default::default();
        let (accounts_orders, accounts_inbox) = unbounded();
        let (usage_orders, usage_inbox) = unbounded();
        let (to_shard, inbox) = unbounded();
        let (to_committer, batches) = unbounded();
        let (to_store, store_inbox) = unbounded();
        let (to_ends, questions) = unbounded();
        let idle = Arc::new(AtomicBool::new(false));
        let share = Arc::new(Share::cut_to(SHARE_LEAST));
        let shards = Shards(vec![to_shard]);
        let member = Member::new(common.is_static.then(|| name.to_owned()));
        let store: Arc<dyn Store> = Arc::clone(disk) as Arc<dyn Store>;
        let shard = Shard {
            inbox,
            committer: to_committer,
            committer_idle: Arc::clone(&idle),
            share: Arc::clone(&share),
            orders: [accounts_orders.clone(), usage_orders],
            backlog: backlog.clone(),
            ends: to_ends,
            names: Arc::new(common.names()),
            settings: Settings { instance: name.to_owned(), ..common.settings.clone() },
            metrics: Arc::clone(&common.metrics),
            board: shard::Board::default(),
            known_ends: Arc::default(),
        };
        let [accounts_backlog, usage_backlog] = backlog;
        let consumer = |orders, backlog| Consumer { orders, backlog, live: BTreeMap::new() };
        let mut process = Process {
            name: name.to_owned(),
            outside,
            common: common.clone(),
            still_until: [Ms::MIN; 10],
            ownership,
            shard: Some(shard),
            state: shard::State::default(),
            shards,
            committer: None,
            recoveries: Vec::new(),
            jobs: unbounded(),
            share,
            consumers: [consumer(accounts_inbox, accounts_backlog), consumer(usage_inbox, usage_backlog)],
            accounts_orders,
            member,
            questions,
            asking: None,
            writer: None,
            to_store,
            needed: Needed::default(),
            configuration,
            opened: Rc::default(),
            revoking: None,
            stopping: None,
            ended: None,
        };
        let transactional_id = if common.is_static { name.to_owned() } else { format!("{name}.{incarnation}") };
        process.committer = Some((process.committer_task(&store, transactional_id, batches, idle), Wait::Step));
        process.writer = Some((process.writer_task(&store, store_inbox), Wait::Step));
        process.recoveries = (0..RECOVERIES).map(|_| (process.recovery_task(&store), Wait::Step)).collect();
        process
    }

    /// The part goes on for a step. False: it had nothing to do.
    pub fn go_on(&mut self, part: Part, now: Ms) -> bool {
        let result = match part {
            Part::Shard => self.turn_shard(now),
            Part::Committer => resume(&mut self.committer, now),
            Part::Recovery(number) => {
                let mut task = Some(self.recoveries.remove(number));
                let result = resume(&mut task, now);
                if let Some(task) = task {
                    self.recoveries.insert(number, task);
                }
                result
            }
            Part::Usage => self.poll_usage(now),
            Part::Accounts => self.poll_accounts(),
            Part::Member => self.pass_member(now),
            Part::Ends => Ok(self.ask_ends(now)),
            Part::Store => resume(&mut self.writer, now),
            Part::Trim => Ok(self.trim()),
        };
        match result {
            Ok(busy) => busy,
            Err(stop) => {
                self.ended = Some(Err(stop));
                true
            }
        }
    }

    fn turn_shard(&mut self, now: Ms) -> Result<bool, Stop> {
        let Some(shard) = &mut self.shard else { return Ok(false) };
        let now = Now { wall: now.saturating_add(self.outside.skew.get()), steady: steady(now) };
        let waited = !shard.inbox.is_empty();
        match shard.turn(&mut self.state, None, now)? {
            Turn::Stop => {
                // With the shard the committer's channel ends.
                self.shard = None;
                Ok(true)
            }
            turn => Ok(waited || turn == Turn::Busy),
        }
    }

    fn pass_member(&mut self, now: Ms) -> Result<bool, Stop> {
        if !self.opened.get() || self.outside.cut_until.get() > now {
            return Ok(false);
        }
        let sim = Rc::clone(&self.common.sim);
        self.member.pass(&mut sim.borrow_mut()).map_err(|refused| match refused {
            Refused::FencedInstance => Stop::config("the instance is fenced: another process uses it"),
            other => Stop::bug(format!("a member was refused: {other:?}")),
        })?;
        Ok(false)
    }

    fn poll_usage(&mut self, now: Ms) -> Result<bool, Stop> {
        if self.stopping.is_some() {
            return self.go_on_stopping(now);
        }
        if let Some(draining) = &mut self.revoking {
            if draining.is_over(now) {
                let partitions = std::mem::take(&mut draining.partitions);
                self.revoking = None;
                self.member.serving = false;
                self.revoked(&partitions);
            }
            return Ok(true);
        }
        match self.member.callbacks.pop_front() {
            Some(Callback::Assign(partitions)) => {
                for partition in partitions {
                    let epoch = self.ownership.assign(partition, &self.member.identity.borrow().member);
                    let _held = self.jobs.0.send(Assignment { partition, epoch, at: steady(now) });
                }
                return Ok(true);
            }
            Some(Callback::Revoke { partitions, lost }) => {
                for partition in &partitions {
                    self.consumers[Input::Usage.index()].live.remove(partition);
                }
                if lost {
                    self.revoked(&partitions);
                } else {
                    self.member.serving = true;
                    self.revoking = Some(self.drain(&partitions, now + DRAIN_AT_REVOKE_MS));
                }
                return Ok(true);
            }
            None => {}
        }
        self.poll(Input::Usage)
    }

    fn poll_accounts(&mut self) -> Result<bool, Stop> {
        if self.stopping.is_some() { Ok(false) } else { self.poll(Input::Accounts) }
    }

    fn poll(&mut self, input: Input) -> Result<bool, Stop> {
        let consumer = &mut self.consumers[input.index()];
        while let Ok(order) = consumer.orders.try_recv() {
            match order {
                Order::Start { partition, epoch, offset, queued } => {
                    if self.ownership.holds(partition, epoch) {
                        consumer.live.insert(partition, Live { epoch, next: offset, queued, told: None });
                    }
                }
                Order::Stop { partition } => {
                    consumer.live.remove(&partition);
                }
            }
        }
        let mut sim = self.common.sim.borrow_mut();
        if self.outside.cut_until.get() > sim.now {
            return Ok(false);
        }
        let numbers: Vec<i32> = consumer.live.keys().copied().collect();
        if numbers.is_empty() {
            return Ok(false);
        }
        let number = *sim.random.pick(&numbers);
        let live = consumer.live.get_mut(&number).expect("one of them");
        let topic = topic(input);
        let tell = |fetched| {
            let message = ToShard::Fetched { input, partition: number, epoch: live.epoch, fetched };
            self.shards.send(number, message);
        };
        if sim.faults.call > 0 && sim.random.chance(2_000) {
            // An error of the client: what was known of the end is stale.
            live.told = None;
            tell(Fetched::EndUnknown);
            return Ok(true);
        }
        let count = sim.random.between(1, 12) as usize;
        let tells_end = sim.random.below(2) == 0;
        let log = sim.broker.log(topic, number);
        if live.next < log.start() || live.next > log.high() {
            return Err(Stop::data(format!("{}/{number} does not hold offset {}", topic.name(), live.next)));
        }
        let (records, next) = log.fetch(live.next, count);
        let end = log.stable_end();
        live.next = next;
        let some = !records.is_empty();
        if some {
            let mut batch = RawBatch::default();
            for record in &records {
                LogRecord::copy_to(record, &mut batch);
            }
            let bytes = batch.bytes_len();
            consumer.backlog.bytes.fetch_add(bytes, Ordering::Relaxed);
            live.queued.fetch_add(bytes, Ordering::Relaxed);
            tell(Fetched::Records(batch));
        }
        // The client tells an end once.
        if next == end && live.told != Some(end) && (!some || tells_end) {
            tell(Fetched::End { offset: end });
            live.told = Some(end);
        }
        Ok(some)
    }

    /// Asks the shard to write what is dirty of these.
    fn drain(&self, partitions: &BTreeSet<i32>, deadline: Ms) -> Draining {
        let (done, drained) = unbounded();
        for partition in partitions {
            if let Some(epoch) = self.ownership.epoch(*partition) {
                self.shards.send(*partition, ToShard::Drain { partition: *partition, epoch, done: done.clone() });
            }
        }
        Draining { partitions: partitions.clone(), waiting: partitions.clone(), drained, deadline }
    }

    fn revoked(&mut self, partitions: &BTreeSet<i32>) {
        for partition in partitions.iter().copied() {
            self.ownership.revoke(partition);
            self.shards.send(partition, ToShard::Revoked { partition });
            let _held = self.accounts_orders.send(Order::Stop { partition });
            let _held = self.to_store.send(ToStore::Released { partition });
        }
    }

    fn ask_ends(&mut self, now: Ms) -> bool {
        let cut = self.outside.cut_until.get() > now;
        let Some(mut asking) = self.asking.take() else {
            let Ok(question) = self.questions.try_recv() else { return false };
            let asked = now.saturating_add(self.outside.skew.get());
            self.asking = (!cut).then_some(Asking { question, asked, accounts: None });
            return true;
        };
        if cut {
            return true;
        }
        let EndsQuestion { partition, epoch } = asking.question;
        let sim = self.common.sim.borrow();
        let Some(accounts) = asking.accounts else {
            asking.accounts = Some(sim.broker.log(Topic::Accounts, partition).stable_end());
            self.asking = Some(asking);
            return true;
        };
        let ends = [accounts, sim.broker.log(Topic::Usage, partition).stable_end()];
        self.shards.send(partition, ToShard::Ends { partition, epoch, ends, asked: asking.asked });
        true
    }

    fn trim(&self) -> bool {
        let mut sim = self.common.sim.borrow_mut();
        for (partition, offset) in self.needed.lock().expect("nobody panicked").iter() {
            sim.broker.log_mut(Topic::Journal, *partition).trim(*offset);
        }
        false
    }

    /// SIGTERM.
    pub fn stop(&mut self, now: Ms) {
        if self.stopping.is_none() {
            let partitions = self.ownership.partitions().into_iter().collect();
            let draining = self.drain(&partitions, now + DRAIN_AT_STOP_MS);
            self.stopping = Some(Stopping { draining, closing: false, closed: false });
        }
    }

    fn go_on_stopping(&mut self, now: Ms) -> Result<bool, Stop> {
        let Some(stopping) = &mut self.stopping else { return Ok(false) };
        if !stopping.closing {
            if stopping.draining.is_over(now) {
                stopping.closing = true;
                self.ownership.partitions().into_iter().for_each(|partition| self.ownership.revoke(partition));
                self.shards.send_all(|| ToShard::Stop);
            }
            return Ok(true);
        }
        if self.shard.is_none() && self.committer.is_none() && !stopping.closed {
            stopping.closed = true;
            let _held = self.to_store.send(ToStore::Close);
        }
        if stopping.closed && self.writer.is_none() {
            self.member.leave(&mut self.common.sim.borrow_mut());
            self.ended = Some(Ok(()));
        }
        Ok(true)
    }

    /// Loads another catalog.
    pub fn reload(&self, configuration: &Arc<FoldConfiguration>) -> Result<(), Stop> {
        let catalog = meterd::commit::replay::catalog(configuration)?;
        self.configuration.store(Arc::clone(configuration));
        self.shards
            .send_all(|| ToShard::Reload { catalog: Arc::clone(&catalog), configuration: Arc::clone(configuration) });
        Ok(())
    }

    /// For the message of a run that does not end.
    pub fn standing(&self) -> String {
        format!(
            "stopping {}, closing {}, shard {}, committer {:?}, revoking {}, ended {:?}",
            self.stopping.is_some(),
            self.stopping.as_ref().is_some_and(|stopping| stopping.closing),
            self.shard.is_some(),
            self.committer.as_ref().map(|(_, wait)| *wait),
            self.revoking.is_some(),
            self.ended
        )
    }

    /// Bytes that the consumers believe to wait in the shard.
    pub fn backlog(&self) -> usize {
        self.consumers.iter().map(|consumer| consumer.backlog.bytes.load(Ordering::Relaxed)).sum()
    }
}

impl Draining {
    fn is_over(&mut self, now: Ms) -> bool {
        while let Ok(partition) = self.drained.try_recv() {
            self.waiting.remove(&partition);
        }
        self.waiting.is_empty() || now >= self.deadline
    }
}

pub fn topic(input: Input) -> Topic {
    match input {
        Input::Accounts => Topic::Accounts,
        Input::Usage => Topic::Usage,
    }
}

fn resume(task: &mut Option<(Task, Wait)>, now: Ms) -> Result<bool, Stop> {
    let Some((coroutine, wait)) = task else { return Ok(false) };
    if matches!(wait, Wait::Until(at) if *at > now) {
        return Ok(false);
    }
    match coroutine.resume(()) {
        CoroutineResult::Yield(next) => {
            *wait = next;
            Ok(next == Wait::Step)
        }
        CoroutineResult::Return(result) => {
            *task = None;
            result.map(|()| true)
        }
    }
}
