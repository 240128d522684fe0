//! Several instances in one group: partitions that go and come back, instances without any, two with one name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::http;
use crate::log;
use crate::random::Random;
use crate::simulated::{assert_same_notices, simulate};
use crate::traffic::{CATALOG, Traffic};
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

/// A store that was complete up to some point misses what the other instance did meanwhile.
#[test]
fn a_store_that_lags_behind_is_brought_up_to_date() {
    let world = World::new("back", CATALOG).initialised(3);
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("back"), 300);
    let mut send = || {
        (0..1_500).for_each(|_| traffic.send_usage(&producer, &world));
        producer.flush();
        world.await_consumed(LIMIT);
    };
    let first = world.start("a");
    send();
    // Long enough for checkpoints to reach the store; the last burst is in the journal only.
    std::thread::sleep(Duration::from_secs(3));
    send();
    first.kill();
    let second = world.start("b");
    send();
    std::thread::sleep(Duration::from_secs(3));
    send();
    second.kill();
    let first = world.start("a");
    send();
    let expected = simulate(&world, None);
    assert_same_notices(&world.notices(), &expected.notices);
    for (account, view) in &expected.accounts {
        let answer = http::get(first.http, &format!("/v1/accounts/{account}")).expect("the daemon answers");
        assert_eq!((answer.status, answer.json()), (200, view.clone()), "{account}");
    }
    assert_eq!(first.stop(), 0);
}

#[test]
fn an_instance_without_partitions_is_ready_and_takes_over() {
    let world = World::new("spare", CATALOG).initialised(1);
    let first = world.start("a");
    let spare = world.start("b");
    let owned = |daemon: &crate::daemon::Daemon| daemon.metric("meterd_partition_live", &[]);
    assert_eq!(owned(&first) + owned(&spare), 1);
    let (owner, mut other) = if owned(&first) == 1 { (first, spare) } else { (spare, first) };
    assert_eq!(owner.stop(), 0);
    // Nobody says that a static member left: its session of 10 s must end.
    let left = Instant::now();
    while owned(&other) != 1 {
        assert!(left.elapsed() < Duration::from_secs(20), "nobody has taken over");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("taken over after {:.1} s", left.elapsed().as_secs_f64());
    let mut traffic = Traffic::new(Random::seeded("spare"), 50);
    let producer = world.producer();
    (0..500).for_each(|_| traffic.send_usage(&producer, &world));
    producer.flush();
    world.await_consumed(LIMIT);
    other.await_ready();
    assert_eq!(owned(&other), 1);
    assert_same_notices(&world.notices(), &simulate(&world, None).notices);
    assert_eq!(other.stop(), 0);
}

/// A process that stands still for longer than its session is a zombie when it goes on: what it was about to write is
/// refused, as another instance has written it since.
#[test]
fn an_instance_that_stood_still_writes_nothing_twice() {
    let world = World::new("stalled", CATALOG).initialised(4);
    let first = world.start("a");
    let second = world.start("b");
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("stalled"), 500);
    for stalled in [&first, &second, &first] {
        let begun = Instant::now();
        let mut stopped = false;
        while begun.elapsed() < Duration::from_secs(16) {
            (0..40).for_each(|_| traffic.send_usage(&producer, &world));
            std::thread::sleep(Duration::from_millis(20));
            if !stopped && begun.elapsed() > Duration::from_secs(1) {
                stalled.signal("STOP");
                stopped = true;
            }
        }
        stalled.signal("CONT");
    }
    producer.flush();
    world.await_consumed(LIMIT);
    assert_same_notices(&world.notices(), &simulate(&world, None).notices);
    world.assert_verified();
    assert_eq!((first.stop(), second.stop()), (0, 0));
}

/// The coordinator gives up a transaction whose producer stands still (10 s); nobody else is there to take over.
#[test]
fn a_transaction_that_timed_out_is_sent_again() {
    let world = World::new("timed-out", CATALOG).initialised(3);
    let daemon = world.start("a");
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("timed-out"), 300);
    for _ in 0..3 {
        // All the while something is on its way: the signal finds a transaction open.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..200 {
                    (0..20).for_each(|_| traffic.send_usage(&producer, &world));
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            std::thread::sleep(Duration::from_millis(500));
            daemon.signal("STOP");
            std::thread::sleep(Duration::from_secs(15));
            daemon.signal("CONT");
        });
        producer.flush();
        world.await_consumed(LIMIT);
        if daemon.metric("meterd_transactions_aborted_total", &[]) > 0 {
            break;
        }
    }
    assert_same_notices(&world.notices(), &simulate(&world, None).notices);
    assert!(daemon.metric("meterd_transactions_aborted_total", &[]) > 0, "no transaction was open: {}", daemon.said());
    world.assert_verified();
    assert_eq!(daemon.stop(), 0);
}

/// An account of a partition that another instance owns is not answered from here.
#[test]
fn accounts_of_others_are_not_answered() {
    let world = World::new("others", CATALOG).initialised(4);
    let first = world.start("a");
    let second = world.start("b");
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("others"), 40);
    traffic.send_commands(&producer, &world);
    world.await_consumed(LIMIT);
    for account in simulate(&world, None).accounts.keys() {
        let path = format!("/v1/accounts/{account}");
        let mut statuses = [&first, &second].map(|daemon| http::get(daemon.http, &path).expect("it answers").status);
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 421], "{account}");
    }
    assert_eq!((first.stop(), second.stop()), (0, 0));
}

/// How long partitions stand still while a second instance joins and takes its share: the longest time without a commit,
/// by the broker's clock, under a steady stream of usage.
#[test]
fn joining_stops_partitions_for_a_moment() {
    let world = World::new("joining", CATALOG).initialised(8);
    let first = world.start("a");
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("joining"), 2_000);
    let over = AtomicBool::new(false);
    let second = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                (0..10).for_each(|_| traffic.send_usage(&producer, &world));
                std::thread::sleep(Duration::from_millis(20));
            }
            producer.flush();
        });
        std::thread::sleep(Duration::from_secs(5));
        let second = world.start("b");
        std::thread::sleep(Duration::from_secs(8));
        over.store(true, Ordering::Relaxed);
        second
    });
    world.await_consumed(LIMIT);
    let mut gaps = vec![0; 8];
    let mut last = [None; 8];
    for record in log::read_committed(&world.broker, &world.journal()) {
        let partition = record.partition as usize;
        let gap = last[partition].map_or(0, |before| record.timestamp_ms - before);
        gaps[partition] = gap.max(gaps[partition]);
        last[partition] = Some(record.timestamp_ms);
    }
    println!("longest time without a commit, by partition: {gaps:?} ms");
    assert!(gaps.iter().all(|gap| *gap < 10_000), "{gaps:?}");
    assert_same_notices(&world.notices(), &simulate(&world, None).notices);
    assert_eq!((first.stop(), second.stop()), (0, 0));
}

#[test]
fn of_two_with_one_name_one_ends_and_says_why() {
    let world = World::new("namesakes", CATALOG).initialised(2);
    let mut first = world.start("a");
    let second = world.spawn_with_store("a", "store-of-the-other");
    let code = first.exit_code(LIMIT);
    let said = first.said();
    assert!(code == 78 && said.contains("instance"), "exit code {code}: {said}");
    drop(second);
}
