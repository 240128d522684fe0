//! `run --rebuild` and `run --accept-refold`: what stops a start names them, and after them no notice is told twice.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use meterd::commit::accepted::Accepted;
use meterd::commit::batch;
use meterd::commit::journal::{JournalRecord, Run};
use meterd::ingest::raw::{Input, RawBatch};
use meterd::shard::accounts::hash_account;
use rdkafka::producer::BaseRecord;
use serde_json::json;

use crate::daemon::Daemon;
use crate::follower::follow;
use crate::http;
use crate::log::{self, Isolation};
use crate::random::Random;
use crate::traffic::{CATALOG, Traffic, call};
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

fn start_with(world: &World, arguments: &[&str]) -> Daemon {
    let mut daemon = world.spawn_with(arguments);
    daemon.await_ready();
    daemon
}

/// Each notice once, in order, without gaps.
fn assert_told_once(world: &World) {
    let judged = follow(&world.broker, &world.events(), &AtomicBool::new(true));
    assert_eq!((judged.doubled, judged.lost), (0, 0), "{:?}", judged.first);
    assert!(judged.notices > 0);
}

fn send(world: &World, traffic: &mut Traffic, records: u64) {
    let producer = world.producer();
    (0..records).for_each(|_| traffic.send_usage(&producer, world));
    producer.flush();
    world.await_consumed(LIMIT);
}

fn send_one(world: &World, usage: &serde_json::Value) {
    let producer = world.producer();
    producer.send_json(&world.usage(), "acme", usage);
    producer.flush();
    world.await_consumed(LIMIT);
}

/// Nothing was checkpointed, and the beginning of the input is gone: the partition cannot be folded again.
#[test]
fn a_partition_whose_inputs_are_gone_can_be_rebuilt() {
    let world = World::new("rebuild", CATALOG).with("checkpoint", "interval = \"1h\"").initialised(2);
    let daemon = world.start("a");
    let mut traffic = Traffic::new(Random::seeded("rebuild"), 60);
    traffic.send_commands(&world.producer(), &world);
    world.await_consumed(LIMIT);
    for _ in 0..5 {
        send(&world, &mut traffic, 400);
    }
    daemon.kill();
    let end = log::ends(&world.broker, &world.usage())[0];
    log::Admin::new(&world.broker).delete_records(&world.usage(), 0, end / 2);
    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 65 && said.contains("--rebuild 0"), "exit code {code}: {said}");

    let daemon = start_with(&world, &["--rebuild", "0"]);
    let said = daemon.said();
    assert!(said.contains("rebuilt without the records") && said.contains(&world.usage()), "{said}");
    send(&world, &mut traffic, 400);
    assert_told_once(&world);
    // What was done is in the checkpoints: the next start needs no way out, with or without its store.
    daemon.kill();
    world.delete_store("a");
    let daemon = world.start("a");
    send(&world, &mut traffic, 400);
    assert_told_once(&world);
    assert_eq!(daemon.stop(), 0);
    let (code, report) = world.verify();
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["partitions"][0]["from"]["state"], "checkpoint", "{report:#}");
}

/// The journal's beginning is gone, and with it identities that are still needed.
#[test]
fn a_partition_whose_journal_was_cut_can_be_rebuilt_and_charges_nothing_twice() {
    let world = World::new("cut-journal", CATALOG).with("checkpoint", "interval = \"1h\"").initialised(1);
    let daemon = world.start("a");
    let mut traffic = Traffic::new(Random::seeded("cut-journal"), 60);
    for _ in 0..4 {
        send(&world, &mut traffic, 300);
    }
    let mut repeated = call("repeated", "acme", "haiku-4.5", 1_000);
    repeated["time"] = crate::simulated::rfc3339(chrono::Utc::now().timestamp_millis()).into();
    send_one(&world, &repeated);
    send(&world, &mut traffic, 300);
    daemon.kill();
    let end = log::ends(&world.broker, &world.journal())[0];
    log::Admin::new(&world.broker).delete_records(&world.journal(), 0, end - 2);
    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 65 && said.contains("--rebuild 0") && said.contains(&world.journal()), "exit code {code}: {said}");

    let daemon = start_with(&world, &["--rebuild", "0"]);
    send_one(&world, &repeated);
    let refused = daemon.metric("meterd_dispositions_total", &["reason=\"too_late\""]);
    assert_eq!(refused, 1, "the identity of the repetition is gone: it must not be charged again");
    send(&world, &mut traffic, 300);
    assert_told_once(&world);
    assert_eq!(daemon.stop(), 0);
}

/// Retention was shorter than an outage: what was removed was never folded.
#[test]
fn records_that_were_removed_unread_stop_the_start_and_can_be_given_up() {
    let world = World::new("unread", CATALOG).initialised(1);
    let daemon = world.start("a");
    let mut traffic = Traffic::new(Random::seeded("unread"), 60);
    send(&world, &mut traffic, 500);
    assert_eq!(daemon.stop(), 0);
    let folded = log::ends(&world.broker, &world.usage())[0];
    let producer = world.producer();
    (0..500).for_each(|_| traffic.send_usage(&producer, &world));
    producer.flush();
    let removed = folded + 200;
    log::Admin::new(&world.broker).delete_records(&world.usage(), 0, removed);
    let (code, said) = world.refused("a", LIMIT);
    let told = [folded.to_string(), removed.to_string(), "--rebuild 0".to_owned()];
    assert!(code == 65 && told.iter().all(|text| said.contains(text)), "exit code {code}: {said}");
    let daemon = start_with(&world, &["--rebuild", "0"]);
    world.await_consumed(LIMIT);
    assert_eq!(
        daemon.metric("meterd_dispositions_total", &[]),
        log::ends(&world.broker, &world.usage())[0] as u64 - removed as u64
    );
    assert_told_once(&world);
    daemon.kill();
    let daemon = world.start("a");
    send(&world, &mut traffic, 100);
    assert_told_once(&world);
    assert_eq!(daemon.stop(), 0);
}

/// A journal whose end is missing is no journal to go on from.
#[test]
fn a_journal_that_lost_its_end_stops_the_start() {
    let world = World::new("lost-end", CATALOG).initialised(1);
    let daemon = world.start("a");
    let mut traffic = Traffic::new(Random::seeded("lost-end"), 60);
    send(&world, &mut traffic, 300);
    send(&world, &mut traffic, 300);
    daemon.kill();
    let end = log::ends(&world.broker, &world.journal())[0];
    log::Admin::new(&world.broker).delete_records(&world.journal(), 0, end);
    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 78 && said.contains("the journal is gone"), "exit code {code}: {said}");
}

/// What recovery folded again is checkpointed also where no input comes.
#[test]
fn what_was_folded_again_is_checkpointed_without_input() {
    let world = World::new("idle-dirty", CATALOG).with("checkpoint", "interval = \"8s\"").initialised(1);
    let daemon = world.start("a");
    send(&world, &mut Traffic::new(Random::seeded("idle-dirty"), 60), 300);
    daemon.kill();
    let daemon = world.start("a");
    assert!(daemon.metric("meterd_replayed_records_total", &[]) > 0, "the kill came too late");
    let deadline = Instant::now() + LIMIT;
    while !is_all_checkpointed(&world) {
        assert!(Instant::now() < deadline, "the checkpoints were not written");
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.kill();
    let daemon = world.start("a");
    assert_eq!(daemon.metric("meterd_replayed_records_total", &[]), 0);
    assert_eq!(daemon.stop(), 0);
}

/// By the last batch that is committed.
fn is_all_checkpointed(world: &World) -> bool {
    let last = log::read_committed(&world.broker, &world.journal()).pop().expect("batches were journaled");
    let last = JournalRecord::decode(last.value.as_deref().expect("a value")).expect("it can be read");
    last.horizon > last.sequence
}

/// The last batch was folded by an engine of another revision, which told an account more than this one does.
#[test]
fn batches_of_another_engine_are_refused_and_can_be_accepted() {
    let world = World::new("refold", CATALOG).initialised(1);
    let daemon = world.start("a");
    send(&world, &mut Traffic::new(Random::seeded("refold"), 60), 600);
    assert_eq!(daemon.stop(), 0);
    await_empty(&world);
    forge_batch(&world);

    let (code, said) = world.refused("a", LIMIT);
    assert!(code == 65 && said.contains("--accept-refold") && said.contains("99"), "exit code {code}: {said}");
    let daemon = start_with(&world, &["--accept-refold"]);
    assert_eq!(http::get(daemon.http, "/v1/accounts/acme").expect("the daemon answers").status, 200);
    // No notice of a batch that follows may have an id that was told.
    send_one(&world, &call("after", "acme", "opus-4.7", 100_000));
    assert_told_once(&world);
    let told = world.notices().into_iter().filter(|notice| notice.key_text() == "acme").count();
    assert!(told > 5, "{told}");
    daemon.kill();
    world.delete_store("a");
    let daemon = world.start("a");
    send_one(&world, &call("again", "acme", "opus-4.7", 100_000));
    assert_told_once(&world);
    assert_eq!(daemon.stop(), 0);
}

fn await_empty(world: &World) {
    let deadline = Instant::now() + LIMIT;
    while log::members(&world.broker, &world.group) > 0 {
        assert!(Instant::now() < deadline, "the group has members");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Writes a batch as a meterd of engine revision 99 would: one record of `acme`, of which it told five notices.
fn forge_batch(world: &World) {
    let producer = world.producer();
    let usage = call("forged", "acme", "haiku-4.5", 10);
    producer.send_json(&world.usage(), "acme", &usage);
    producer.flush();
    let input = log::read_committed(&world.broker, &world.usage()).pop().expect("it was sent");
    let journal = log::read(&world.broker, &world.journal(), Isolation::Committed);
    let decode = |record: &log::Record| JournalRecord::decode(record.value.as_deref().expect("a value"));
    let (first, last) = (decode(&journal[0]).expect("reads"), decode(journal.last().expect("one")).expect("reads"));
    let genesis = first.genesis.expect("the first record has it");

    let identity = genesis.identity_key.identity("acme", "gateway", "forged");
    let mut raw_batch = RawBatch::default();
    raw_batch.push(input.offset, input.timestamp_ms, input.key.as_deref(), input.value.as_deref());
    let mut sum = crc32fast::Hasher::new();
    let mut headers = Vec::new();
    batch::checksum(&mut sum, raw_batch.head(0).expect("one"), &raw_batch.raw(0, &mut headers));
    let mut end = last.end;
    end.next[Input::Usage.index()] = input.offset + 1;
    end.clock = end.clock.max(input.timestamp_ms);
    let record = JournalRecord {
        sequence: last.sequence + 1,
        runs: vec![Run::Records { input: Input::Usage, until: input.offset + 1, wall: input.timestamp_ms }],
        end,
        accepted: Accepted(vec![(identity, input.timestamp_ms)]),
        digests: vec![(hash_account("acme") as u32, 1)],
        input_checksum: sum.finalize(),
        engine_revision: 99,
        horizon: last.sequence + 1,
        needed_from: journal[0].offset,
        ..last
    };
    let (topic, bytes) = (world.journal(), record.encode());
    producer.send_record::<str>(BaseRecord::to(&topic).partition(0).payload(&bytes));
    for sequence in 1..=5 {
        let notice = json!({"id": format!("acme/{sequence}"), "subject": "acme", "data": {"sequence": sequence}});
        let (topic, notice) = (world.events(), notice.to_string());
        producer.send_record(BaseRecord::to(&topic).partition(0).key("acme").payload(notice.as_bytes()));
    }
    producer.flush();
    log::set_committed(&world.broker, &world.group, &world.usage(), 0, input.offset + 1);
}
