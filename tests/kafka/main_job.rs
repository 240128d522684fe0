//! Usage and commands in, notices out; views and metrics.

use std::time::Duration;

use serde_json::json;

use crate::http;
use crate::log;
use crate::random::Random;
use crate::simulated::{assert_same_notices, simulate};
use crate::traffic::{CATALOG, Traffic, account, command};
use crate::world::World;

const ACCOUNTS: u64 = 60;

#[test]
fn notices_and_views_are_those_that_simulate_gives() {
    let world = World::new("main-job", CATALOG).initialised(4);
    let daemon = world.start("a");
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("main job"), ACCOUNTS);
    let limit = Duration::from_secs(60);

    // Each part waits for the one before: a command and usage that are on their way at the same time have no order.
    traffic.send_commands(&producer, &world);
    world.await_consumed(limit);
    (0..4_000).for_each(|_| traffic.send_usage(&producer, &world));
    producer.flush();
    world.await_consumed(limit);
    for number in (0..ACCOUNTS).step_by(5) {
        let account = account(number);
        let topup = json!({"unit": "credit", "amount": "100", "price": "10", "currency": "usd"});
        producer.send_json(
            &world.accounts(),
            &account,
            &command(&format!("topup-{number}"), "topup", &account, &topup),
        );
        let cap = json!({"limit": "5h", "cap": "100000"});
        producer.send_json(
            &world.accounts(),
            &account,
            &command(&format!("cap-{number}"), "limit.set", &account, &cap),
        );
    }
    producer.flush();
    world.await_consumed(limit);
    (0..1_500).for_each(|_| traffic.send_usage(&producer, &world));
    producer.flush();
    world.await_consumed(limit);

    let expected = simulate(&world, None);
    let notices = world.notices();
    for kind in ["cap.warning", "cap.exceeded", "cap.restored", "balance.low", "balance.exhausted", "command.rejected"]
    {
        let told = notices.iter().any(|notice| notice.json()["type"] == format!("meterd.{kind}"));
        assert!(told, "the traffic gave rise to no {kind}");
    }
    assert_same_notices(&notices, &expected.notices);
    // A dead instance's open transaction holds back the readers of its own accounts alone.
    for notice in &notices {
        if let Some(input) = notice.json()["data"]["cause"]["partition"].as_i64() {
            assert_eq!(i64::from(notice.partition), input, "{}", notice.json());
        }
    }
    for (account, view) in &expected.accounts {
        let answer = http::get(daemon.http, &format!("/v1/accounts/{account}")).expect("the daemon answers");
        assert_eq!((answer.status, answer.json()), (200, view.clone()), "{account}");
    }

    let summary = &expected.summary;
    for outcome in ["applied", "duplicate", "failed", "rejected"] {
        let mut count = summary[outcome].as_u64().expect("the summary counts it");
        if outcome == "applied" {
            count += summary["commands"].as_u64().expect("the summary counts it");
        }
        let told = daemon.metric("meterd_dispositions_total", &[&format!("outcome=\"{outcome}\"")]);
        assert_eq!(told, count, "{outcome}");
    }
    assert_eq!(daemon.metric("meterd_notices_total", &[]), notices.len() as u64);
    assert_eq!(daemon.metric("meterd_conservation_violations_total", &[]), 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn the_pages_of_a_daemon_answer() {
    let world = World::new("pages", CATALOG).initialised(2);
    let daemon = world.start("a");
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/readyz?verbose", 200), ("/version", 200), ("/", 200)] {
        let answer = http::get(daemon.http, path).expect("the daemon answers");
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let unknown = http::get(daemon.http, "/v1/accounts/nobody").expect("the daemon answers");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.headers["content-type"], "application/problem+json");
    let metrics = http::get(daemon.http, "/metrics").expect("the daemon answers");
    assert!(metrics.body.lines().all(|line| line.starts_with('#') || line.rsplit(' ').next().is_some()), "{metrics:?}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_idle_daemon_makes_no_transactions() {
    let world = World::new("idle", CATALOG).initialised(2);
    let daemon = world.start("a");
    let producer = world.producer();
    Traffic::new(Random::seeded("idle"), 20).send_commands(&producer, &world);
    world.await_consumed(Duration::from_secs(30));
    // The last dirty accounts are written when their interval (1 s) is over.
    std::thread::sleep(Duration::from_secs(3));
    let all = || world.topics().map(|topic| log::ends(&world.broker, &topic));
    let before = all();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(all(), before);
    assert_eq!(daemon.stop(), 0);
}
