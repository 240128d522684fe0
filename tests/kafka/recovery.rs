//! Starting again: from the store, from the topics alone, after an orderly end, with what operators and networks do.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::http;
use crate::log;
use crate::random::Random;
use crate::simulated::{assert_same_notices, simulate};
use crate::traffic::{CATALOG, Traffic, account, call, command};
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);
const ACCOUNTS: u64 = 200;

/// A world in which some traffic has been folded.
fn world_with_history(test: &str, partitions: u32) -> (World, Daemon, Traffic) {
    let world = World::new(test, CATALOG).initialised(partitions);
    let daemon = world.start("a");
    let mut traffic = Traffic::new(Random::seeded(test), ACCOUNTS);
    traffic.send_commands(&world.producer(), &world);
    world.await_consumed(LIMIT);
    send(&world, &mut traffic, 2_000);
    (world, daemon, traffic)
}

/// Sends usage and waits until it is folded.
fn send(world: &World, traffic: &mut Traffic, records: u64) {
    let producer = world.producer();
    (0..records).for_each(|_| traffic.send_usage(&producer, world));
    producer.flush();
    world.await_consumed(LIMIT);
}

fn assert_as_simulated(world: &World, daemon: &Daemon) {
    let expected = simulate(world, None);
    assert_same_notices(&world.notices(), &expected.notices);
    for (account, view) in &expected.accounts {
        assert_eq!(view_of(daemon, account), *view, "{account}");
    }
}

fn view_of(daemon: &Daemon, account: &str) -> Value {
    let answer = http::get(daemon.http, &format!("/v1/accounts/{account}")).expect("the daemon answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn the_topics_alone_are_enough() {
    let (world, daemon, mut traffic) = world_with_history("no-store", 3);
    let before: Vec<_> = (0..ACCOUNTS).step_by(7).map(|number| view_of(&daemon, &account(number))).collect();
    daemon.kill();
    world.delete_store("a");
    let daemon = world.start("a");
    let after: Vec<_> = (0..ACCOUNTS).step_by(7).map(|number| view_of(&daemon, &account(number))).collect();
    assert_eq!(before, after);
    send(&world, &mut traffic, 1_000);
    assert_as_simulated(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_orderly_end_leaves_nothing_to_fold_again() {
    let (world, daemon, mut traffic) = world_with_history("drained", 3);
    assert_eq!(daemon.stop(), 0);
    let daemon = world.start("a");
    assert_eq!(daemon.metric("meterd_replayed_records_total", &[]), 0);
    assert_eq!(daemon.stop(), 0);
    world.delete_store("a");
    let daemon = world.start("a");
    assert_eq!(daemon.metric("meterd_replayed_records_total", &[]), 0);
    send(&world, &mut traffic, 1_000);
    assert_as_simulated(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
}

/// Asked to stop in the middle of a backlog: what was folded is committed and checkpointed, the rest waits.
#[test]
fn an_orderly_end_in_the_middle_of_work_leaves_nothing_to_fold_again() {
    let (world, daemon, mut traffic) = world_with_history("amid", 3);
    let producer = world.producer();
    (0..30_000).for_each(|_| traffic.send_usage(&producer, &world));
    assert_eq!(daemon.stop(), 0);
    producer.flush();
    let daemon = world.start("a");
    assert_eq!(daemon.metric("meterd_replayed_records_total", &[]), 0);
    world.await_consumed(LIMIT);
    assert_as_simulated(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
}

/// Bytes of the store turned over, as a bad disk would: it is a copy, and is made again.
#[test]
fn a_damaged_store_is_made_again() {
    let (world, daemon, mut traffic) = world_with_history("damaged", 2);
    assert_eq!(daemon.stop(), 0);
    let damaged = world.damage_store("a");
    assert!(damaged > 10_000, "the store holds {damaged} bytes");
    let daemon = world.start("a");
    assert!(daemon.metric("meterd_store_failures_total", &[]) > 0, "the damage was not counted: {}", daemon.said());
    send(&world, &mut traffic, 500);
    assert_as_simulated(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
}

/// The journal is cut at what is still needed, every minute; what is left is enough to start from, without a store.
#[test]
fn what_is_cut_off_the_journal_is_not_missed() {
    let catalog = CATALOG.replacen("late = \"1h\"", "late = \"5s\"", 1);
    let world = World::new("trimmed", &catalog).initialised(1);
    let daemon = world.start("a");
    let producer = world.producer();
    let mut traffic = Traffic::new(Random::seeded("trimmed"), 100);
    let begun = Instant::now();
    let journal_begins = || log::watermarks(&world.broker, &world.journal(), log::Isolation::Committed)[0].0;
    while journal_begins() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(150), "the journal is not cut");
        (0..50).for_each(|_| traffic.send_usage(&producer, &world));
        producer.flush();
        std::thread::sleep(Duration::from_millis(50));
    }
    world.await_consumed(LIMIT);
    daemon.kill();
    world.delete_store("a");
    let daemon = world.start("a");
    send(&world, &mut traffic, 500);
    assert_as_simulated(&world, &daemon);
    let (code, report) = world.verify();
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["partitions"][0]["from"]["state"], "checkpoint", "{report:#}");
    assert_eq!(daemon.stop(), 0);
}

/// Producers set the timestamps of this topic; one of them is half an hour ahead, which is as far as the
/// broker lets it.
#[test]
fn timestamps_ahead_of_the_clock_do_not_move_it() {
    let world = World::new("ahead", CATALOG);
    log::Admin::new(&world.broker).create(&world.usage(), 1, &[("message.timestamp.type", "CreateTime")]);
    let world = world.initialised(1);
    let daemon = world.start("a");
    let producer = world.producer();
    let (topic, now) = (world.usage(), chrono::Utc::now().timestamp_millis());
    for (id, ahead_ms) in [("before", 0), ("ahead", 30 * 60_000), ("after", 0)] {
        let usage = call(id, "acme", "haiku-4.5", 10).to_string();
        let record = BaseRecord::to(&topic).key("acme").payload(usage.as_bytes()).timestamp(now + ahead_ms);
        producer.send_record(record);
    }
    producer.flush();
    world.await_consumed(LIMIT);
    let quarantined = world.quarantined();
    assert_eq!(quarantined.len(), 1, "{quarantined:?}");
    assert_eq!(quarantined[0].header("__meterd.errors.reason").as_deref(), Some("too_early"));
    let before = view_of(&daemon, "acme");
    let month = before["totals"].as_object().expect("totals").values().next().expect("a month");
    assert_eq!(month["records"], 2, "{before}");
    daemon.kill();
    world.delete_store("a");
    let daemon = world.start("a");
    assert_eq!(view_of(&daemon, "acme"), before);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_repetition_is_a_duplicate_also_after_a_crash() {
    let (world, mut daemon, _) = world_with_history("duplicate", 2);
    let producer = world.producer();
    let told = || world.notices().len();
    let repeated = call("repeated", "acme", "opus-4.7", 100_000);
    producer.send_json(&world.usage(), "acme", &repeated);
    let grant = json!({"unit": "credit", "amount": "25"});
    let repeated_command = command("repeated", "grant.issue", "globex", &grant);
    producer.send_json(&world.accounts(), "globex", &repeated_command);
    producer.flush();
    world.await_consumed(LIMIT);
    let before = (told(), view_of(&daemon, "acme"), view_of(&daemon, "globex"));
    for delete_store in [false, true] {
        daemon.kill();
        if delete_store {
            world.delete_store("a");
        }
        daemon = world.start("a");
        producer.send_json(&world.usage(), "acme", &repeated);
        producer.send_json(&world.accounts(), "globex", &repeated_command);
        producer.flush();
        world.await_consumed(LIMIT);
        assert_eq!(daemon.metric("meterd_dispositions_total", &["outcome=\"duplicate\""]), 2);
        assert_eq!((told(), view_of(&daemon, "acme"), view_of(&daemon, "globex")), before);
    }
    assert_as_simulated(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
}

/// Both stand in one batch, and the whole batch is folded again.
#[test]
fn a_repetition_in_the_same_batch_is_a_duplicate_also_in_replay() {
    let world = World::new("same-batch", CATALOG).with("checkpoint", "interval = \"1h\"").initialised(1);
    let producer = world.producer();
    for number in 0..50 {
        let usage = call(&format!("call-{number}"), "acme", "opus-4.7", 1_000);
        (0..2).for_each(|_| producer.send_json(&world.usage(), "acme", &usage));
    }
    producer.flush();
    let daemon = world.start("a");
    world.await_consumed(LIMIT);
    daemon.kill();
    let daemon = world.start("a");
    assert_eq!(daemon.metric("meterd_replayed_records_total", &[]), 100);
    producer.send_json(&world.usage(), "acme", &call("last", "acme", "opus-4.7", 1_000));
    producer.flush();
    world.await_consumed(LIMIT);
    assert_as_simulated(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
}

/// Retention has removed what was folded long ago: a start does not touch it.
#[test]
fn inputs_whose_beginning_is_gone_stop_no_start() {
    let (world, mut daemon, mut traffic) = world_with_history("beginning-gone", 8);
    for _ in 0..4 {
        assert_eq!(daemon.stop(), 0);
        for topic in [world.usage(), world.accounts()] {
            for (partition, end) in log::ends(&world.broker, &topic).into_iter().enumerate() {
                log::Admin::new(&world.broker).delete_records(&topic, partition as i32, end);
            }
        }
        daemon = world.start("a");
        send(&world, &mut traffic, 300);
    }
    let (code, report) = world.verify();
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn offsets_that_are_gone_are_no_loss() {
    let (world, daemon, mut traffic) = world_with_history("offsets-gone", 2);
    assert_eq!(daemon.stop(), 0);
    await_empty_group(&world);
    log::Admin::new(&world.broker).delete_group(&world.group);
    let daemon = world.start("a");
    send(&world, &mut traffic, 500);
    assert_as_simulated(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn offsets_that_disagree_with_the_journal_stop_the_start_with_both_numbers() {
    let (world, daemon, _) = world_with_history("offsets-moved", 1);
    assert_eq!(daemon.stop(), 0);
    await_empty_group(&world);
    let [Some(committed)] = log::committed(&world.broker, &world.group, &world.usage())[..] else {
        panic!("one offset")
    };
    log::set_committed(&world.broker, &world.group, &world.usage(), 0, committed - 13);
    let (code, said) = world.refused("a", LIMIT);
    let names_both = said.contains(&committed.to_string()) && said.contains(&(committed - 13).to_string());
    assert!(code == 65 && names_both, "exit code {code}: {said}");
}

/// A static member stays in the group until its session is over.
fn await_empty_group(world: &World) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while log::members(&world.broker, &world.group) > 0 {
        assert!(Instant::now() < deadline, "the group has members 30 s after the daemon's end");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_journal_that_is_gone_stops_the_start() {
    let (world, daemon, _) = world_with_history("journal-gone", 2);
    assert_eq!(daemon.stop(), 0);
    log::Admin::new(&world.broker).delete(&world.journal());
    let (code, said) = world.init(2);
    assert_eq!(code, 0, "{said}");
    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 78 && said.contains(&world.journal()), "exit code {code}: {said}");
    // Nor do expired offsets make it a new beginning: the state is there.
    await_empty_group(&world);
    log::Admin::new(&world.broker).delete_group(&world.group);
    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 65 && said.contains(&world.journal()), "exit code {code}: {said}");
}

#[test]
fn two_writers_of_one_batch_stop_the_start_and_are_named() {
    let (world, daemon, _) = world_with_history("two-writers", 1);
    assert_eq!(daemon.stop(), 0);
    let last = log::read_committed(&world.broker, &world.journal()).pop().expect("batches were journaled");
    let journal = world.journal();
    let again = BaseRecord::<(), [u8]>::to(&journal).partition(0).payload(last.value.as_deref().expect("a value"));
    let producer = world.producer();
    producer.send_record(again);
    producer.flush();
    let (code, said) = world.refused("a", LIMIT);
    assert!(
        code == 65 && said.contains("two processes") && said.contains(&world.journal()),
        "exit code {code}: {said}"
    );
}

#[test]
fn an_input_topic_that_was_made_again_stops_the_start() {
    let (world, daemon, mut traffic) = world_with_history("recreated", 2);
    assert_eq!(daemon.stop(), 0);
    log::Admin::new(&world.broker).delete(&world.usage());
    let (code, said) = world.init(2);
    assert_eq!(code, 0, "{said}");
    // As many records as before: by its offsets alone it could be the same topic.
    let producer = world.producer();
    (0..4_000).for_each(|_| traffic.send_usage(&producer, &world));
    producer.flush();
    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 78 && said.contains(&world.usage()), "exit code {code}: {said}");
}

/// Without it the daemon would go on without partitions, as if nothing were to be done.
#[test]
fn an_input_topic_that_is_deleted_while_running_ends_it() {
    let (world, mut daemon, _) = world_with_history("deleted", 1);
    log::Admin::new(&world.broker).delete(&world.usage());
    let code = daemon.exit_code(Duration::from_secs(240));
    let said = daemon.said();
    assert!(code == 78 && said.contains(&format!("expected the topic {}", world.usage())), "exit code {code}: {said}");
}

#[test]
fn another_group_on_the_same_journal_is_refused() {
    let (mut world, daemon, _) = world_with_history("foreign", 2);
    assert_eq!(daemon.stop(), 0);
    world.group = format!("{}-other", world.prefix);
    let (code, said) = world.refused("b", LIMIT);
    assert!(code == 78 && said.contains(&world.group) && said.contains(&world.prefix), "exit code {code}: {said}");
}

#[test]
fn more_partitions_than_before_stop_the_start_with_both_numbers() {
    let (world, daemon, _) = world_with_history("repartitioned", 3);
    assert_eq!(daemon.stop(), 0);
    let admin = log::Admin::new(&world.broker);
    world.topics().iter().for_each(|topic| admin.raise_partitions(topic, 5));
    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 78 && said.contains('3') && said.contains('5'), "exit code {code}: {said}");
}

#[test]
fn a_second_process_with_the_same_store_is_refused() {
    let world = World::new("same-store", CATALOG).initialised(2);
    let daemon = world.start("a");
    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 78 && said.contains("store-a"), "exit code {code}: {said}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn without_a_broker_the_start_ends_in_bounded_time() {
    let nowhere = crate::daemon::free_address().to_string();
    let world = World::at(&nowhere, "no-broker", CATALOG);
    let (code, said) = world.refused("a", Duration::from_secs(90));
    assert!(code == 69 && said.contains(&nowhere), "exit code {code}: {said}");
    let (code, said) = world.init(1);
    assert!(code == 69 && said.contains(&nowhere), "exit code {code}: {said}");
}

#[test]
fn a_mistake_in_the_catalog_is_told_with_its_place() {
    let catalog = CATALOG.replacen("minimum =", "minimun =", 1);
    let line = 1 + catalog.lines().position(|line| line.starts_with("minimun")).expect("it is there");
    let world = World::new("mistake", &catalog);
    let (code, said) = world.refused("a", LIMIT);
    let told = [format!("catalog.toml:{line}"), "minimun".to_owned(), "minimum".to_owned()];
    assert!(code == 78 && told.iter().all(|text| said.contains(text)), "exit code {code}: {said}");
}

#[test]
fn a_property_that_meterd_decides_itself_is_refused() {
    let world = World::new("property", CATALOG).with("kafka.properties", "\"isolation.level\" = \"read_uncommitted\"");
    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 78 && said.contains("isolation.level"), "exit code {code}: {said}");
}

/// A usage producer that died in a transaction: its records are never seen, those behind them are waited for.
#[test]
fn an_open_transaction_on_the_input_is_waited_out() {
    let (world, daemon, mut traffic) = world_with_history("hanging", 1);
    let dead: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.broker)
        .set("transactional.id", format!("{}-dead", world.prefix))
        .set("transaction.timeout.ms", "20000")
        .create()
        .expect("a producer can be made");
    dead.init_transactions(LIMIT).expect("the coordinator answers");
    dead.begin_transaction().expect("none is open");
    let never = call("never", "acme", "opus-4.7", 1_000).to_string();
    dead.send(BaseRecord::to(&world.usage()).key("acme").payload(&never)).expect("the queue has room");
    dead.flush(LIMIT).expect("the broker takes it");
    drop(dead);
    let begun = Instant::now();
    let held_back = || daemon.metric("meterd_open_transaction_seconds", &["topic=\"usage\""]);
    while held_back() == 0 {
        assert!(begun.elapsed() < LIMIT, "nobody is told of the open transaction");
        std::thread::sleep(Duration::from_millis(100));
    }
    send(&world, &mut traffic, 500);
    assert!(begun.elapsed() > Duration::from_secs(2), "the transaction held nothing up");
    while held_back() > 0 {
        assert!(begun.elapsed() < 2 * LIMIT, "the transaction has ended");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(http::get(daemon.http, "/v1/accounts/acme").expect("the daemon answers").status, 404);
    assert_as_simulated(&world, &daemon);
    daemon.kill();
    world.delete_store("a");
    let daemon = world.start("a");
    assert_as_simulated(&world, &daemon);
    assert_eq!(daemon.stop(), 0);
}

/// What was accepted under the settings of its time stays accepted, also when it is folded again.
#[test]
fn settings_that_change_between_runs_do_not_change_the_past() {
    let mut world = World::new("settings", CATALOG).initialised(1);
    let daemon = world.start("a");
    let producer = world.producer();
    let mut long = call("long", "acme", "haiku-4.5", 10);
    long["data"]["features"] = (0..60).map(|number| format!("a-feature-with-a-long-name-{number}")).collect();
    producer.send_json(&world.usage(), "acme", &long);
    producer.flush();
    world.await_consumed(LIMIT);
    let before = view_of(&daemon, "acme");
    daemon.kill();
    world.delete_store("a");
    world.settings.push(("input", "record_bytes_max = 1000".to_owned()));
    let daemon = world.start("a");
    assert_eq!(view_of(&daemon, "acme"), before);
    long["id"] = "long-again".into();
    producer.send_json(&world.usage(), "acme", &long);
    producer.flush();
    world.await_consumed(LIMIT);
    assert_eq!(view_of(&daemon, "acme"), before);
    assert_eq!(daemon.metric("meterd_dispositions_total", &["reason=\"too_large\""]), 1);
    world.assert_verified();
    assert_eq!(daemon.stop(), 0);
}
