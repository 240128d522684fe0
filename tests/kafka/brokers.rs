//! Three brokers, of which one after the other goes away, one of them without a word, and comes back.

use std::time::Duration;

use crate::broker::Cluster;
use crate::random::Random;
use crate::simulated::{assert_same_notices, simulate};
use crate::traffic::{CATALOG, Traffic};
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_rolling_restart_of_the_brokers_does_not_show() {
    let cluster = Cluster::start(3);
    let world = World::at(&cluster.address, "rolling", CATALOG).initialised(6);
    let daemon = world.start("a");
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("rolling"), 500);
    traffic.send_commands(&producer, &world);
    world.await_consumed(LIMIT);
    for broker in 1..=3 {
        (0..1_000).for_each(|_| traffic.send_usage(&producer, &world));
        if broker == 2 {
            cluster.kill_broker(broker);
        } else {
            cluster.stop_broker(broker);
        }
        (0..1_000).for_each(|_| traffic.send_usage(&producer, &world));
        producer.flush();
        cluster.start_stopped();
        world.await_consumed(LIMIT);
    }
    assert_same_notices(&world.notices(), &simulate(&world, None).notices);
    assert_eq!(daemon.metric("meterd_conservation_violations_total", &[]), 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_broker_that_is_away_for_a_while_is_waited_for() {
    let cluster = Cluster::start(1);
    let world = World::at(&cluster.address, "away", CATALOG).initialised(3);
    let mut daemon = world.start("a");
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("away"), 100);
    for _ in 0..2 {
        (0..1_000).for_each(|_| traffic.send_usage(&producer, &world));
        producer.flush();
        cluster.stop_broker(1);
        std::thread::sleep(Duration::from_secs(15));
        cluster.start_stopped();
        (0..1_000).for_each(|_| traffic.send_usage(&producer, &world));
        producer.flush();
        world.await_consumed(LIMIT);
    }
    assert_same_notices(&world.notices(), &simulate(&world, None).notices);
    daemon.await_ready();
    assert_eq!(daemon.stop(), 0);
}
