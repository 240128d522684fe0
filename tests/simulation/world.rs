//! One run of one seed: processes, cluster, producers and faults, stepped by one scheduler; then a phase without faults in
//! which everything must be caught up with; then the judgement.

mod calm;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use corosensei::{Coroutine, CoroutineResult};
use meterd::commit::Stop;
use meterd::commit::configuration::FoldConfiguration;
use meterd::commit::recovery::{Place, Recovered};
use meterd::config::daemon::Topics;
use meterd::daemon::settings::Settings;
use meterd::engine::Ms;
use meterd::ingest::raw::Input;
use meterd::store::Store;
use meterd::store::memory::MemoryStore;
use meterd::telemetry::Metrics;

use super::broker::{Broker, TRANSACTION_TIMEOUT_MS};
use super::check::{self, Counts};
use super::common::Common;
use super::disk::{Disk, Health};
use super::log::{TOPICS, Topic};
use super::process::{Part, Process, topic};
use super::random::Random;
use super::setup::{self, Setup};
use super::sim::{Faults, Outside, Shared, Sim, Thread, Wait};
use super::workload::Workload;

const CATALOG: &str = include_str!("catalog.toml");
/// Without faults a process that is asked to stop must have stopped in this time.
const STOP_MS: i64 = 120_000;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub counts: Counts,
    pub trace: u64,
    pub steps: u64,
    pub crashes: u64,
    pub rebalances: u64,
    pub recoveries: u64,
    pub simulated_ms: i64,
}

struct Slot {
    name: String,
    disk: Arc<Disk>,
    process: Option<Process>,
    /// Processes of this instance that were stopped while another was started.
    former: Vec<Process>,
    start_at: Ms,
    incarnation: u64,
    skew: i64,
}

struct World {
    setup: Setup,
    common: Common,
    slots: Vec<Slot>,
    workload: Workload,
    configurations: Vec<Arc<FoldConfiguration>>,
    produce_at: Ms,
    /// A producer's open transaction: its id, its epoch.
    external: Option<(String, i32)>,
    report: Report,
    calm_since: Option<Ms>,
    /// All processes were asked to stop, and are kept to be judged.
    ending: bool,
    idle: u64,
}

pub fn run(seed: u64, metrics: &Arc<Metrics>, verbose: bool, naive: bool) -> Result<Report, String> {
    let mut random = Random::new(seed);
    let mut setup = Setup { naive, ..Setup::draw(&mut random) };
    setup.faults.narrow = setup::narrow(seed);
    let workload = Workload::new(&mut random, setup.partitions);
    let sim = Sim {
        now: setup.begin,
        random,
        broker: Broker::new(setup.partitions),
        faults: setup.faults,
        trace: 0,
        verbose,
    };
    if verbose {
        println!("{setup:#?}");
    }
    let mut world = World::new(setup, Rc::new(RefCell::new(sim)), workload, Arc::clone(metrics));
    world.run()
}

impl World {
    fn new(setup: Setup, sim: Shared, workload: Workload, metrics: Arc<Metrics>) -> World {
        let [usage, accounts, events, dlq, journal, state] = TOPICS.map(str::to_owned);
        let topics = Topics { usage, accounts, events, dlq, journal, state };
        let place = Place {
            cluster: "simulated".into(),
            topics: TOPICS.iter().map(|topic| ((*topic).to_owned(), format!("id-{topic}"))).collect(),
            partitions: setup.partitions,
            group: "meterd".into(),
        };
        let configurations = catalogs().map(|(name, text)| {
            Arc::new(FoldConfiguration {
                catalog: text,
                catalog_name: name.into(),
                record_bytes_max: 65_536,
                accept_replayed: false,
                partitioner: "murmur2".into(),
                partitions: setup.partitions,
                group: "meterd".into(),
                topics: [topics.accounts.clone(), topics.usage.clone()],
            })
        });
        let settings = Settings {
            group: "meterd".into(),
            instance: String::new(),
            advertise: None,
            interval: setup.interval,
            records_max: setup.records_max,
            checkpoint: setup.checkpoint,
            identities: true,
            witnessed: true,
        };
        let common = Common {
            sim,
            topics,
            events_partitions: setup.events_partitions,
            place,
            settings,
            store_every: setup.store_every,
            metrics,
            is_static: setup.is_static,
        };
        let slots = (0..setup.instances).map(|number| Slot {
            name: format!("meterd-{number}"),
            disk: Arc::default(),
            process: None,
            former: Vec::new(),
            start_at: setup.begin,
            incarnation: 0,
            skew: 0,
        });
        World {
            slots: slots.collect(),
            produce_at: setup.begin,
            setup,
            common,
            workload,
            configurations: configurations.into(),
            external: None,
            report: Report::default(),
            calm_since: None,
            ending: false,
            idle: 0,
        }
    }

    fn run(&mut self) -> Result<Report, String> {
        let begin = self.setup.begin;
        while self.now() < begin + self.setup.faulty_ms {
            self.step()?;
        }
        self.calm_down();
        self.catch_up()?;
        let now = self.now();
        self.ending = true;
        for process in self.slots.iter_mut().filter_map(|slot| slot.process.as_mut()) {
            process.stop(now);
        }
        let runs = |slot: &Slot| slot.process.as_ref().is_some_and(|process| process.ended.is_none());
        while self.slots.iter().any(runs) {
            self.step()?;
            if self.now() > now + STOP_MS {
                return Err(format!("not stopped after two minutes without faults: {}", self.standing()));
            }
        }
        self.settle_transactions();
        self.judge()?;
        self.report.simulated_ms = self.now() - begin;
        self.report.trace = self.common.sim.borrow().trace;
        Ok(self.report.clone())
    }

    fn now(&self) -> Ms {
        self.common.sim.borrow().now
    }

    fn step(&mut self) -> Result<(), String> {
        self.report.steps += 1;
        let waits = self.idle > 40 * self.slots.len() as u64;
        let now = {
            let mut sim = self.common.sim.borrow_mut();
            let pace = if waits { 40 } else { self.setup.pace_ms };
            // What has a deadline is not to miss it because of the simulator's own pace.
            let pace = if self.calm_since.is_some() && !waits { 1 } else { pace };
            sim.now += sim.random.below(pace + 1) as i64;
            let now = sim.now;
            sim.broker.pass(now);
            for id in sim.broker.ending() {
                if sim.random.below(3) == 0 {
                    let which = sim.random.next();
                    sim.broker.mark(&id, which, now);
                }
            }
            now
        };
        self.produce(now);
        match self.calm_since {
            None => self.go_wrong(now),
            // Whoever tends the machines finds those that were left behind.
            Some(since) if now > since + 15_000 => self.slots.iter_mut().for_each(|slot| slot.former.clear()),
            Some(_) => {}
        }
        self.start_what_is_down(now);
        self.let_one_go_on(now)
    }

    fn let_one_go_on(&mut self, now: Ms) -> Result<(), String> {
        let part = {
            let mut sim = self.common.sim.borrow_mut();
            Part::ALL[sim.random.weighted(&Part::WEIGHTS)]
        };
        let mut running: Vec<&mut Process> = Vec::new();
        for slot in &mut self.slots {
            running.extend(slot.process.as_mut().filter(|process| process.ended.is_none()));
            running.extend(slot.former.iter_mut());
        }
        if running.is_empty() {
            return Ok(());
        }
        let which = self.common.sim.borrow_mut().random.below(running.len() as u64) as usize;
        let process = &mut running[which];
        let place = Part::ALL.iter().position(|known| *known == part).expect("one of them");
        if process.still_until[place] > now {
            return Ok(());
        }
        let busy = process.go_on(part, now);
        self.idle = if busy { 0 } else { self.idle + 1 };
        if process.ended.is_some() {
            let ended = process.ended.clone().expect("it ended");
            let name = process.outside.name.clone();
            self.judge_end(&name, ended, now)?;
            self.put_away(now);
        }
        Ok(())
    }

    /// Why a process may end: it was asked to, the cluster was away, another process has its name.
    fn judge_end(&mut self, name: &str, ended: Result<(), Stop>, now: Ms) -> Result<(), String> {
        self.common.sim.borrow_mut().note(format_args!("{name} ended: {ended:?}"));
        let Err(stop) = ended else { return Ok(()) };
        let faults_echo = self.calm_since.is_none_or(|since| now < since + 40_000);
        match stop.code {
            69 | 78 if faults_echo => Ok(()),
            _ => Err(format!("{name} stopped with {}: {}", stop.code, stop.message)),
        }
    }

    fn put_away(&mut self, now: Ms) {
        for slot in &mut self.slots {
            slot.former.retain(|process| process.ended.is_none());
            if slot.process.as_ref().is_some_and(|process| process.ended.is_some()) && !self.ending {
                slot.process = None;
                slot.start_at = now + 200;
            }
        }
    }

    fn start_what_is_down(&mut self, now: Ms) {
        let common = self.common.clone();
        for slot in &mut self.slots {
            if slot.process.is_some() || slot.start_at > now {
                continue;
            }
            let mut sim = common.sim.borrow_mut();
            let deleted = sim.faults.deleted;
            if sim.random.chance(deleted) {
                slot.disk.delete();
            }
            slot.incarnation += 1;
            let which = if self.calm_since.is_some() { 0 } else { sim.random.below(self.configurations.len() as u64) };
            let which = if sim.faults.reload == 0 { 0 } else { which };
            sim.note(format_args!("{}.{} starts", slot.name, slot.incarnation));
            drop(sim);
            let configuration = FoldConfiguration::clone(&self.configurations[which as usize]);
            let process = Process::start(&slot.name, slot.incarnation, &common, &slot.disk, configuration, slot.skew);
            slot.process = Some(process);
        }
    }

    fn produce(&mut self, now: Ms) {
        // After the faults a few records more show that everything works.
        if now < self.produce_at || self.calm_since.is_some_and(|since| now > since + 3_000) {
            return;
        }
        let mut sim = self.common.sim.borrow_mut();
        let sim = &mut *sim;
        self.produce_at = now + sim.random.below(self.setup.gap_ms * 2) as i64;
        let count = if sim.random.below(20) == 0 { 30 } else { 1 };
        for _ in 0..count {
            let made = self.workload.next(&mut sim.random, now);
            let (topic, partition) = (topic(made.input), made.partition);
            if self.setup.transactions && made.input == Input::Usage && sim.random.below(2) == 0 {
                self.external = produce_in_transaction(sim, self.external.take(), (topic, partition), made.content);
                continue;
            }
            let time = match (self.setup.append_time, sim.random.below(10)) {
                (true, _) => now,
                (false, 0) => now + sim.random.between(0, 1_900),
                (false, _) => now - sim.random.between(0, 1_500),
            };
            sim.broker.log_mut(topic, partition).append(time, made.content, None);
        }
    }

    fn go_wrong(&mut self, now: Ms) {
        let sim = Rc::clone(&self.common.sim);
        let faults: Faults = self.setup.faults;
        let happens = |chance: u32| sim.borrow_mut().random.chance(chance);
        let below = |bound: u64| sim.borrow_mut().random.below(bound);
        let note = |what: std::fmt::Arguments<'_>| sim.borrow_mut().note(what);
        let which = below(self.slots.len() as u64) as usize;
        let configurations = &self.configurations;
        let slot = &mut self.slots[which];
        if happens(faults.rebalance) {
            let mut sim = sim.borrow_mut();
            sim.broker.group.turn = sim.random.below(3) as usize;
            sim.broker.group.disturb(now);
            self.report.rebalances += 1;
        }
        if happens(30) {
            let mut sim = sim.borrow_mut();
            for partition in 0..self.setup.partitions {
                let high = sim.broker.log(Topic::State, partition).high();
                sim.broker.log_mut(Topic::State, partition).compact(high - 5);
            }
        }
        if happens(faults.disk) {
            let health = [Health::Good, Health::Full, Health::Dead, Health::Flaky, Health::Damaged][below(5) as usize];
            slot.disk.set_health(health);
            note(format_args!("the disk of {} is {health:?}", slot.name));
        }
        if happens(500) {
            slot.disk.sync_some(&mut sim.borrow_mut().random);
        }
        if let Some(former) = slot.former.first()
            && former.still_until[0] < now - 60_000
        {
            slot.former.remove(0);
        }
        let Some(process) = &mut slot.process else { return };
        if happens(faults.crash) || happens(faults.power) {
            let power = faults.crash == 0 || below(3) == 0 && faults.power > 0;
            note(format_args!("{} {}", process.outside.name, if power { "loses power" } else { "is killed" }));
            slot.process = None;
            let random = &mut sim.borrow_mut().random;
            if power {
                slot.disk.lost_power(random)
            } else {
                slot.disk.killed(random)
            }
            slot.start_at = now + random.between(0, 4_000);
            self.report.crashes += 1;
            return;
        }
        if happens(faults.double) && slot.former.is_empty() {
            // On another machine: the store of the former process is held by it.
            note(format_args!("{} stands still, and another is started", process.outside.name));
            let mut former = slot.process.take().expect("it runs");
            former.still_until = [now + 500 + below(20_000) as i64; 10];
            slot.former.push(former);
            slot.disk = Arc::default();
            slot.start_at = now + below(3_000) as i64;
            return;
        }
        if happens(faults.stall) {
            let long = if below(3) == 0 { 25_000 } else { 2_000 };
            let until = now + below(long) as i64;
            match below(3) {
                0 => process.still_until = [until; 10],
                _ => process.still_until[below(Part::ALL.len() as u64) as usize] = until,
            }
            note(format_args!("{} stands still in part", process.outside.name));
        }
        if happens(faults.cut) {
            let long = if below(3) == 0 { 30_000 } else { 2_000 };
            process.outside.cut_until.set(now + below(long) as i64);
            note(format_args!("{} is cut off", process.outside.name));
        }
        if happens(faults.clock) {
            slot.skew = match below(8) {
                0 => 3_600_000,
                1 => -3_600_000,
                2 => 365 * 86_400_000,
                3 => -now,
                4 => below(3_000) as i64 - 1_500,
                5 => below(6_000) as i64 - 3_000,
                _ => 0,
            };
            process.outside.skew.set(slot.skew);
            note(format_args!("the clock of {} is ahead by {}", process.outside.name, slot.skew));
        }
        if happens(faults.stop) {
            process.stop(now);
            note(format_args!("{} is asked to stop", process.outside.name));
        }
        if happens(faults.reload) {
            let configuration = &configurations[below(configurations.len() as u64) as usize];
            process.reload(configuration).expect("the catalogs are valid");
            note(format_args!("{} loads {}", process.outside.name, configuration.catalog_name));
        }
    }

    fn settle_transactions(&mut self) {
        let mut sim = self.common.sim.borrow_mut();
        let now = sim.now;
        // Those of processes that are gone time out.
        sim.broker.pass(now + TRANSACTION_TIMEOUT_MS + 1);
        while let Some(id) = sim.broker.ending().pop() {
            sim.broker.mark(&id, 0, now);
        }
    }

    fn judge(&mut self) -> Result<(), String> {
        let names = self.common.names();
        let exact = self.setup.append_time && !self.setup.transactions && self.setup.faults.clock == 0;
        let mut references = Vec::new();
        {
            let sim = self.common.sim.borrow();
            for number in 0..self.setup.partitions {
                let reference = check::reference(&sim.broker, number, &names, exact, self.setup.naive)?;
                references.push(reference.ok_or(format!("partition {number} has no journal"))?);
            }
            check::outputs(&sim.broker, &references, self.setup.events_partitions)?;
            for reference in &references {
                let last = &reference.journal.last().expect("it is not empty").1;
                let offset = sim.broker.offsets.get(&(Topic::Usage, reference.number));
                if offset != Some(&last.end.next[Input::Usage.index()]) {
                    return Err(format!("partition {}: the group stands at {offset:?}", reference.number));
                }
            }
        }
        for reference in &references {
            self.report.counts.add(&reference.counts);
            let owner = self.slots.iter().find_map(|slot| {
                let process = slot.process.as_ref()?;
                Some((process, process.state.owned.get(&reference.number)?))
            });
            let Some((process, owned)) = owner else {
                return Err(format!("partition {} has no owner", reference.number));
            };
            check::state("as it was held", &owned.fold, reference)?;
            // Where brokers are slow the time to stop does not suffice for all that is dirty.
            if owned.fold.dirty_len() > 0 && self.setup.faults.narrow == 0 {
                return Err(format!("partition {}: {} accounts are dirty", reference.number, owned.fold.dirty_len()));
            }
            if process.backlog() > 0 {
                return Err(format!("{} counts {} bytes that wait", process.name, process.backlog()));
            }
        }
        let mut stores: BTreeMap<String, Arc<dyn Store>> = BTreeMap::new();
        for slot in &self.slots {
            stores.insert(slot.name.clone(), Arc::clone(&slot.disk) as Arc<dyn Store>);
        }
        stores.insert("the state topic alone".into(), Arc::<MemoryStore>::default());
        for (name, store) in stores {
            for reference in &references {
                let mut recovered = self.recover(&store, reference.number)?;
                check::state(&format!("recovered from {name}"), &recovered.fold, reference)?;
                check::identities(&self.common.sim.borrow().broker, &mut recovered.fold, reference)?;
            }
        }
        Ok(())
    }

    /// Recovers a partition when everything is over.
    fn recover(&mut self, store: &Arc<dyn Store>, number: i32) -> Result<Box<Recovered>, String> {
        let (common, store) = (self.common.clone(), Arc::clone(store));
        let configuration = Arc::new(ArcSwap::from(Arc::clone(&self.configurations[0])));
        let found = Rc::new(RefCell::new(None));
        let told = Rc::clone(&found);
        let mut task = Coroutine::<(), Wait, ()>::new(move |yielder, ()| {
            let thread = Thread { yielder, sim: Rc::clone(&common.sim), outside: Rc::<Outside>::default() };
            let recovery = common.recovery(thread, store, configuration);
            *told.borrow_mut() = Some(recovery.recover(number, &|| true));
        });
        while let CoroutineResult::Yield(wait) = task.resume(()) {
            if let Wait::Until(at) = wait {
                self.common.sim.borrow_mut().now = at;
            }
        }
        self.report.recoveries += 1;
        match found.take() {
            Some(Ok(Some(recovered))) => Ok(Box::new(recovered)),
            Some(Err(stop)) => Err(format!("partition {number} cannot be recovered: {}", stop.message)),
            _ => Err(format!("partition {number} was not recovered")),
        }
    }
}

/// A record within a transaction of its producer, which is ended now and then.
fn produce_in_transaction(
    sim: &mut Sim,
    open: Option<(String, i32)>,
    place: (Topic, i32),
    content: super::log::Content,
) -> Option<(String, i32)> {
    let now = sim.now;
    let (id, epoch) = match open {
        Some(open) => open,
        None => {
            let id = format!("gateway-{}", sim.random.below(1_000_000));
            let epoch = sim.broker.init(&id).ok()?;
            (id, epoch)
        }
    };
    if sim.broker.produce(&id, epoch, place, now, content).is_err() {
        // The coordinator ended it.
        return None;
    }
    if sim.random.below(4) > 0 {
        return Some((id, epoch));
    }
    let commit = sim.random.below(4) > 0;
    let _ended = sim.broker.end(&id, epoch, commit);
    None
}

/// Catalogs that a reload may bring: other prices, other caps, a longer and a shorter time to be late.
fn catalogs() -> [(&'static str, String); 3] {
    let dearer = CATALOG
        .replace("rate = \"5\", per = 100", "rate = \"6\", per = 100")
        .replace("cap = \"12\"", "cap = \"9\"")
        .replace("late = \"4s\"", "late = \"7s\"");
    let other = CATALOG
        .replace("late = \"4s\"", "late = \"3s\"")
        .replace("window = { sliding = \"3s\" }\ncap = \"30\"", "window = { first_use = \"4s\" }\ncap = \"30\"")
        .replace("amount = \"150\"", "amount = \"120\"");
    [("seconds.toml", CATALOG.to_owned()), ("dearer.toml", dearer), ("other.toml", other)]
}
