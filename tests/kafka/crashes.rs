//! Exactly once: a daemon that is killed again and again, then several at once, must have told what one run without
//! interruption tells.

use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::http;
use crate::log::Producer;
use crate::random::Random;
use crate::simulated::{Simulated, assert_same_notices, simulate};
use crate::traffic::{CATALOG, Traffic};
use crate::world::World;

const ACCOUNTS: u64 = 10_000;
const PARTITIONS: u32 = 8;
const KILLS: u64 = 12;
/// Records sent while the daemon is killed; each time a share of them is on its way.
const RECORDS_KILLED: u64 = 156_000;
/// Records sent while two instances share the work.
const RECORDS_SHARED: u64 = 60_000;
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn kills_and_rebalances_do_not_show() {
    let world = World::new("crashes", CATALOG).initialised(PARTITIONS);
    let mut random = Random::seeded("crashes");
    let mut traffic = Traffic::new(Random::seeded("crashes' traffic"), ACCOUNTS);
    let producer = world.producer();
    let daemon = world.start("a");
    // Commands first: one that is on its way together with usage of its account has no order to it.
    traffic.send_commands(&producer, &world);
    world.await_consumed(LIMIT);

    let begun = Instant::now();
    let daemon = kill_again_and_again(daemon, &world, &producer, &mut traffic, &mut random);
    println!("killed {KILLS} times in {:?}", begun.elapsed());
    let begun = Instant::now();
    let last = share_between_two(daemon, &world, &producer, &mut traffic);
    world.await_consumed(LIMIT);
    println!("two instances for {:?}", begun.elapsed());

    let expected = simulate(&world, None);
    let sent = expected.summary["applied"].as_u64().expect("a count");
    assert!(sent > 200_000, "{}", expected.summary);
    assert_same_notices(&world.notices(), &expected.notices);
    assert_quarantined_once(&world, &expected);
    assert_same_views(&last, &expected);
    world.assert_verified();
    assert_eq!(last.metric("meterd_conservation_violations_total", &[]), 0);
    assert_eq!(last.stop(), 0);
}

/// Sends records while the daemon is killed at random moments, and started again, half of the times without its store.
fn kill_again_and_again(
    mut daemon: Daemon,
    world: &World,
    producer: &Producer,
    traffic: &mut Traffic,
    random: &mut Random,
) -> Daemon {
    for kill in 0..KILLS {
        // Some die before they are ready, most while they fold.
        if !random.one_in(4) {
            daemon.await_ready();
        }
        send_for(Duration::from_millis(500 + random.below(2_500)), RECORDS_KILLED / KILLS, producer, traffic, world);
        daemon.kill();
        if kill % 2 == 1 {
            world.delete_store("a");
        }
        daemon = world.spawn("a");
    }
    daemon.await_ready();
    daemon
}

/// Spreads `records` evenly over a time, so that a kill at its end finds work half done.
fn send_for(time: Duration, records: u64, producer: &Producer, traffic: &mut Traffic, world: &World) {
    let begun = Instant::now();
    for sent in 0..records {
        traffic.send_usage(producer, world);
        let due = time.mul_f64(sent as f64 / records as f64);
        if due > begun.elapsed() + Duration::from_millis(5) {
            std::thread::sleep(due - begun.elapsed());
        }
    }
}

/// A second instance joins, the first is killed and comes back without its store, then the second leaves.
fn share_between_two(first: Daemon, world: &World, producer: &Producer, traffic: &mut Traffic) -> Daemon {
    let mut send = |seconds| send_for(Duration::from_secs(seconds), RECORDS_SHARED / 4, producer, traffic, world);
    let mut second = world.start("b");
    await_shared(&first, &second);
    send(3);
    first.kill();
    world.delete_store("a");
    // Longer than the session timeout: the second takes everything over.
    send(12);
    second.await_ready();
    let mut first = world.start("a");
    await_shared(&first, &second);
    send(3);
    assert_eq!(second.stop(), 0);
    send(3);
    producer.flush();
    first.await_ready();
    first
}

/// Waits until both have partitions and all of them are live.
fn await_shared(first: &Daemon, second: &Daemon) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let live = |daemon: &Daemon| daemon.metric("meterd_partition_live", &[]);
        let (first, second) = (live(first), live(second));
        if first > 0 && second > 0 && first + second == u64::from(PARTITIONS) {
            return;
        }
        assert!(Instant::now() < deadline, "the instances own {first} and {second} of {PARTITIONS} partitions");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Each refused record is in quarantine once, with the reason that `simulate` gives.
fn assert_quarantined_once(world: &World, expected: &Simulated) {
    let mut places = std::collections::BTreeSet::new();
    let mut reasons = std::collections::BTreeMap::new();
    for record in world.quarantined() {
        let header =
            |name: &str| record.header(&format!("__meterd.errors.{name}")).expect("quarantine has its headers");
        let place = (header("topic"), header("partition"), header("offset"));
        assert!(places.insert(place.clone()), "{place:?} is in quarantine twice");
        *reasons.entry(header("reason")).or_insert(0_u64) += 1;
    }
    assert_eq!(serde_json::json!(reasons), expected.summary["quarantined"]);
}

fn assert_same_views(daemon: &Daemon, expected: &Simulated) {
    for (account, view) in expected.accounts.iter().step_by(20) {
        let answer = http::get(daemon.http, &format!("/v1/accounts/{account}")).expect("the daemon answers");
        assert_eq!((answer.status, answer.json()), (200, view.clone()), "{account}");
    }
}
