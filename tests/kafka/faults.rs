//! Everything at once on three brokers: daemons killed, stopped in the middle and asked to leave, stores deleted and
//! damaged, brokers killed, for as long as asked. `scripts/soak` runs it long, the tests run it short.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::broker::Cluster;
use crate::daemon::Daemon;
use crate::follower::{Judged, follow};
use crate::log;
use crate::random::Random;
use crate::simulated::{assert_same_notices, simulate};
use crate::traffic::{CATALOG, Traffic};
use crate::world::World;

const BROKERS: u64 = 3;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Longer than the session timeout (10 s): what stands still so long has lost its partitions.
const STALL: Duration = Duration::from_secs(13);
/// How long everything may take to be caught up with once nothing fails any more.
const CALM: Duration = Duration::from_secs(300);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub time: Duration,
    pub daemons: usize,
    pub partitions: u32,
    pub accounts: u64,
    pub records_per_second: u64,
    /// Spread over the time.
    pub kills: u64,
    pub stalls: u64,
    pub leaves: u64,
    pub broker_kills: u64,
    pub report_every: Duration,
}

/// What happened.
#[derive(Debug, Default)]
struct Figures {
    kills: u64,
    without_store: u64,
    damaged: u64,
    absent: u64,
    stalls: u64,
    leaves: u64,
    /// Instances that ended by themselves, with their exit codes, and were started again.
    ended: Vec<(i32, String)>,
    ready_ms: Vec<u64>,
}

struct Instance {
    name: &'static str,
    daemon: Option<Daemon>,
    /// Until it is started again or goes on.
    rests_until: Option<Instant>,
    stalled: bool,
    spawned: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Stall,
    Leave,
}

/// Lets it happen, prints figures, and checks everything at the end.
pub fn run(test: &str, plan: Plan) {
    let cluster = Cluster::start(BROKERS as u32);
    let world = World::at(&cluster.address, test, CATALOG).initialised(plan.partitions);
    let mut random = Random::seeded(test);
    let mut traffic = Traffic::new(Random::seeded(test), plan.accounts);
    let mut instances: Vec<Instance> = NAMES[..plan.daemons].iter().map(|name| Instance::start(name, &world)).collect();
    traffic.send_commands(&world.producer(), &world);
    world.await_consumed(CALM);

    let (over, followed) = (AtomicBool::new(false), AtomicBool::new(false));
    let (sent, broker_kills) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut figures = Figures::default();
    let begun = Instant::now();
    let judged = std::thread::scope(|scope| {
        let follower = scope.spawn(|| follow(&world.broker, &world.events(), &followed));
        let sender = scope.spawn(|| send(&mut traffic, &world, plan.records_per_second, &over, &sent));
        let breaker_random = Random::from(random.next());
        let breaker = scope.spawn(|| break_brokers(&cluster, &world, plan, breaker_random, &over, &broker_kills));
        let done = || (sent.load(Ordering::Relaxed), broker_kills.load(Ordering::Relaxed));
        while begun.elapsed() < plan.time {
            break_daemons(&mut instances, &world, plan, &mut random, &mut figures, begun + plan.time);
            figures.print(begun.elapsed(), done());
        }
        over.store(true, Ordering::Relaxed);
        sender.join().expect("everything could be sent");
        breaker.join().expect("brokers come back");
        calm(&mut instances, &world, &mut figures);
        world.await_consumed(CALM);
        followed.store(true, Ordering::Relaxed);
        let judged = follower.join().expect("the follower reads on");
        figures.print(begun.elapsed(), done());
        judged
    });
    judge(&world, &judged, &mut figures, instances);
}

/// Judged by a reader of its own, by the engine over the whole input, and by `meterd verify`.
fn judge(world: &World, judged: &Judged, figures: &mut Figures, instances: Vec<Instance>) {
    let expected = simulate(world, None);
    println!(
        "notices {} (doubled {}, lost {}); expected {}; {}",
        judged.notices,
        judged.doubled,
        judged.lost,
        expected.notices.values().map(Vec::len).sum::<usize>(),
        expected.summary
    );
    assert_eq!((judged.doubled, judged.lost), (0, 0), "{:?}", judged.first);
    assert_same_notices(&world.notices(), &expected.notices);
    for instance in &instances {
        let daemon = instance.daemon.as_ref().expect("all were started again");
        assert_eq!(daemon.metric("meterd_conservation_violations_total", &[]), 0);
    }
    for instance in instances {
        let code = instance.daemon.expect("all were started again").stop();
        assert_eq!(code, 0, "{}", instance.name);
    }
    world.assert_verified();
    println!("differences 0; verified");
    for (code, said) in figures.ended.drain(..) {
        println!("ended by itself with {code}: {said}");
    }
}

/// A steady stream of usage, until it is over.
fn send(traffic: &mut Traffic, world: &World, per_second: u64, over: &AtomicBool, sent: &AtomicU64) {
    let producer = world.producer();
    let begun = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * per_second as f64) as u64;
        while sent.load(Ordering::Relaxed) < due {
            traffic.send_usage(&producer, world);
            sent.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    producer.flush_within(CALM);
}

/// Kills one broker after the other; the next one only once all replicas are in sync again.
fn break_brokers(
    cluster: &Cluster,
    world: &World,
    plan: Plan,
    mut random: Random,
    over: &AtomicBool,
    kills: &AtomicU64,
) {
    let every = plan.time.as_millis() as u64 / (plan.broker_kills + 1);
    let begun = Instant::now();
    for kill in 1..=plan.broker_kills {
        while begun.elapsed().as_millis() < u128::from(every * kill) && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
        if over.load(Ordering::Relaxed) {
            return;
        }
        let broker = 1 + random.below(BROKERS) as u32;
        cluster.kill_broker(broker);
        kills.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(random.below(4_000)));
        cluster.start_stopped();
        log::await_in_sync(&world.broker, BROKERS as usize);
    }
}

/// Faults of daemons until the next figures are due.
fn break_daemons(
    instances: &mut [Instance],
    world: &World,
    plan: Plan,
    random: &mut Random,
    figures: &mut Figures,
    end: Instant,
) {
    let until = (Instant::now() + plan.report_every).min(end);
    while Instant::now() < until {
        let left = [
            (Fault::Kill, plan.kills.saturating_sub(figures.kills)),
            (Fault::Stall, plan.stalls.saturating_sub(figures.stalls)),
            (Fault::Leave, plan.leaves.saturating_sub(figures.leaves)),
        ];
        let all: u64 = left.iter().map(|(_, left)| left).sum();
        if all > 0 {
            let mut chosen = random.below(all);
            let fault = left.iter().find(|(_, left)| {
                let here = chosen < *left;
                chosen = chosen.saturating_sub(*left);
                here
            });
            let up: Vec<usize> = (0..instances.len()).filter(|at| instances[*at].is_up()).collect();
            if let (Some((fault, _)), false) = (fault, up.is_empty()) {
                let at = up[random.below(up.len() as u64) as usize];
                instances[at].suffer(*fault, world, random, figures);
            }
        }
        // Twice the mean interval at most, so that all fit in.
        let mean = end.saturating_duration_since(Instant::now()).as_millis() as u64 / all.max(1);
        let pause = Instant::now() + Duration::from_millis(random.below(mean.max(1) * 2 * 9 / 10 + 1).min(20_000));
        while Instant::now() < pause.min(until) {
            instances.iter_mut().for_each(|instance| instance.look_after(world, figures));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Nothing fails any more: everybody comes back and is ready.
fn calm(instances: &mut [Instance], world: &World, figures: &mut Figures) {
    let deadline = Instant::now() + CALM;
    for instance in instances.iter_mut() {
        instance.rests_until = instance.rests_until.map(|_| Instant::now());
    }
    while !instances.iter().all(|instance| instance.daemon.as_ref().is_some_and(Daemon::is_ready)) {
        instances.iter_mut().for_each(|instance| instance.look_after(world, figures));
        assert!(Instant::now() < deadline, "not all instances are ready {CALM:?} after the last fault");
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Instance {
    fn start(name: &'static str, world: &World) -> Instance {
        let (daemon, spawned) = (Some(world.start(name)), None);
        Instance { name, daemon, rests_until: None, stalled: false, spawned }
    }

    fn is_up(&self) -> bool {
        self.daemon.is_some() && self.rests_until.is_none()
    }

    fn suffer(&mut self, fault: Fault, world: &World, random: &mut Random, figures: &mut Figures) {
        match fault {
            Fault::Stall => {
                self.daemon.as_ref().expect("it is up").signal("STOP");
                self.stalled = true;
                self.rests_until = Some(Instant::now() + STALL);
                figures.stalls += 1;
            }
            Fault::Leave => {
                let code = self.daemon.take().expect("it is up").end();
                if code != 0 {
                    figures.ended.push((code, format!("{} when asked to leave", self.name)));
                }
                figures.leaves += 1;
                self.rests_until = Some(Instant::now());
            }
            Fault::Kill => {
                self.daemon.take().expect("it is up").kill();
                figures.kills += 1;
                if random.one_in(4) {
                    world.delete_store(self.name);
                    figures.without_store += 1;
                } else if random.one_in(8) {
                    world.damage_store(self.name);
                    figures.damaged += 1;
                }
                // Some stay away until others have taken their partitions over.
                let away = if random.one_in(8) { Duration::from_secs(12) } else { Duration::ZERO };
                figures.absent += u64::from(!away.is_zero());
                self.rests_until = Some(Instant::now() + away);
            }
        }
    }

    /// Wakes it, starts it again, notes when it is ready or has ended by itself.
    fn look_after(&mut self, world: &World, figures: &mut Figures) {
        if self.rests_until.is_some_and(|until| Instant::now() >= until) {
            self.rests_until = None;
            if std::mem::take(&mut self.stalled) {
                self.daemon.as_ref().expect("a stalled one is there").signal("CONT");
            } else {
                self.daemon = Some(world.spawn(self.name));
                self.spawned = Some(Instant::now());
            }
        }
        let Some(daemon) = &mut self.daemon else { return };
        if self.stalled {
            return;
        }
        if let Some(code) = daemon.ended() {
            let said = daemon.said();
            let last = said.lines().rev().find(|line| line.starts_with("meterd:")).unwrap_or("nothing").to_owned();
            println!("{} ended by itself with {code}: {last}", self.name);
            figures.ended.push((code, last));
            self.daemon = None;
            self.rests_until = Some(Instant::now() + Duration::from_secs(1));
        } else if let Some(spawned) = self.spawned
            && daemon.is_ready()
        {
            figures.ready_ms.push(spawned.elapsed().as_millis() as u64);
            self.spawned = None;
        }
    }
}

impl Figures {
    fn print(&self, time: Duration, (sent, broker_kills): (u64, u64)) {
        let mut ready = self.ready_ms.clone();
        ready.sort_unstable();
        let quantile = |share: usize| ready.get((ready.len() * share / 100).min(ready.len().saturating_sub(1)));
        println!(
            "{} s: {} records sent; {} SIGKILLs ({} stores deleted, {} damaged, {} stayed away for 12 s), {} stalls of 13 s, \
             {} orderly leaves, {broker_kills} broker kills; {} ended by themselves; ready after a start: p50 {:?} ms, p99 \
             {:?} ms, most {:?} ms of {}",
            time.as_secs(),
            sent,
            self.kills,
            self.without_store,
            self.damaged,
            self.absent,
            self.stalls,
            self.leaves,
            self.ended.len(),
            quantile(50).copied().unwrap_or_default(),
            quantile(99).copied().unwrap_or_default(),
            ready.last().copied().unwrap_or_default(),
            ready.len(),
        );
    }
}

#[test]
fn faults_of_daemons_and_brokers_together_do_not_show() {
    run(
        "faults",
        Plan {
            time: Duration::from_secs(75),
            daemons: 3,
            partitions: 8,
            accounts: 1_000,
            records_per_second: 400,
            kills: 14,
            stalls: 2,
            leaves: 2,
            broker_kills: 2,
            report_every: Duration::from_secs(15),
        },
    );
}

/// As long as `scripts/soak` says.
#[test]
#[ignore = "scripts/soak runs it"]
fn soak() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: expected a whole number")),
        Err(_) => default,
    };
    let minutes = number("METERD_SOAK_MINUTES", 60);
    let kills = number("METERD_SOAK_KILLS", minutes * 8);
    run(
        "soak",
        Plan {
            time: Duration::from_secs(minutes * 60),
            daemons: number("METERD_SOAK_DAEMONS", 3).clamp(1, NAMES.len() as u64) as usize,
            partitions: 8,
            accounts: number("METERD_SOAK_ACCOUNTS", 5_000),
            records_per_second: number("METERD_SOAK_RATE", 300),
            kills,
            stalls: number("METERD_SOAK_STALLS", kills / 12),
            leaves: number("METERD_SOAK_LEAVES", kills / 12),
            broker_kills: number("METERD_SOAK_BROKER_KILLS", kills / 5),
            report_every: Duration::from_secs(60),
        },
    );
}
