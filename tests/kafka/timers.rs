//! What happens by itself as time passes: windows end, periods turn and close, also while the daemon is down.

use std::time::Duration;

use serde_json::Value;

use crate::log::Record;
use crate::random::Random;
use crate::simulated::{assert_same_notices, inputs, rfc3339, simulate};
use crate::traffic::{CATALOG, Traffic};
use crate::world::World;

const ACCOUNTS: u64 = 50;

/// Periods of 4 s that close a second later, windows of 3 s.
fn hasty_catalog() -> String {
    CATALOG
        .replacen("late = \"1h\"", "late = \"1s\"", 1)
        .replacen("{ first_use = \"7d\" }", "{ first_use = \"3s\" }", 1)
        .replacen("{ sliding = \"5h\" }", "{ sliding = \"3s\" }", 1)
        .replacen("[plan.free]", "[plan.free]\nperiod = \"4s\"", 1)
        .replacen("price = { currency = \"usd\", month = \"20\" }", "period = \"4s\"", 1)
}

/// Usage comes in bursts and time passes between them: where an input and a timer of one partition fall into the same
/// millisecond, which comes first is a matter of luck.
#[test]
fn timers_fire_as_time_passes() {
    let world = World::new("timers", &hasty_catalog()).initialised(2);
    let mut daemon = world.start("a");
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("timers"), ACCOUNTS);
    traffic.send_commands(&producer, &world);
    world.await_consumed(Duration::from_secs(30));
    for burst in 0..3 {
        (0..900).for_each(|_| traffic.send_usage(&producer, &world));
        producer.flush();
        if burst == 1 {
            // Down while windows end and periods turn.
            world.await_consumed(Duration::from_secs(30));
            daemon.kill();
            std::thread::sleep(Duration::from_secs(5));
            daemon = world.start("a");
        } else {
            std::thread::sleep(Duration::from_secs(6));
        }
    }
    // Between what the last burst and what the first one set in motion.
    let last = inputs(&world).last().expect("there were inputs").1.timestamp_ms;
    let until_ms = last + 3_750;
    while chrono::Utc::now().timestamp_millis() < until_ms + 1_500 {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(daemon.stop(), 0);
    world.assert_verified();

    // Periods go on turning: what comes later is left out on both sides.
    let until = rfc3339(until_ms);
    let in_time = |notice: &Value| notice["time"].as_str().is_some_and(|time| time <= until.as_str());
    let found: Vec<Record> = world.notices().into_iter().filter(|record| in_time(&record.json())).collect();
    let mut expected = simulate(&world, Some(until_ms)).notices;
    expected.values_mut().for_each(|notices| notices.retain(in_time));
    for timer in ["period", "window", "close"] {
        let fired = found.iter().any(|notice| notice.json()["data"]["cause"]["timer"] == timer);
        assert!(fired, "no timer `{timer}` fired");
    }
    assert_same_notices(&found, &expected);
}
