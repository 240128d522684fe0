//! `meterd verify`: what daemons wrote is equal to what comes out when it is folded again, and what is tampered with is
//! found.

use std::time::Duration;

use rdkafka::producer::BaseRecord;
use serde_json::Value;

use crate::daemon;
use crate::log::{self, Isolation, Record};
use crate::random::Random;
use crate::traffic::{CATALOG, Traffic};
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

impl World {
    /// Exit code and report of `meterd verify`.
    pub fn verify(&self) -> (i32, Value) {
        let config = self.config("verify");
        let output = daemon::meterd(&["--config", config.to_str().expect("paths are text"), "verify", "-o", "json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(said));
        (output.status.code().expect("no signal ended it"), report)
    }

    /// Verifies from the first batch; everything must be equal.
    pub fn assert_verified(&self) -> Value {
        let (code, report) = self.verify();
        assert_eq!(code, 0, "{report:#}");
        let partitions = report["partitions"].as_array().expect("a report for each partition");
        let sum = |what: &str| partitions.iter().map(|one| one[what].as_u64().expect("a number")).sum::<u64>();
        assert_eq!(sum("notices"), self.notices().len() as u64, "{report:#}");
        assert_eq!(sum("quarantined"), self.quarantined().len() as u64, "{report:#}");
        report
    }
}

/// Traffic that was folded over some kills, and a daemon that still runs.
fn world_with_history(test: &str) -> (World, daemon::Daemon) {
    let world = World::new(test, CATALOG).initialised(2);
    let mut daemon = world.start("a");
    let mut traffic = Traffic::new(Random::seeded(test), 150);
    let producer = world.producer();
    traffic.send_commands(&producer, &world);
    world.await_consumed(LIMIT);
    for burst in 0..3 {
        (0..1_500).for_each(|_| traffic.send_usage(&producer, &world));
        producer.flush();
        if burst < 2 {
            std::thread::sleep(Duration::from_millis(1_300));
            daemon.kill();
            if burst == 0 {
                world.delete_store("a");
            }
            daemon = world.start("a");
        }
    }
    world.await_consumed(LIMIT);
    (world, daemon)
}

/// The difference that a run with exit code 1 tells.
fn difference(world: &World) -> Value {
    let (code, report) = world.verify();
    assert_eq!(code, 1, "{report:#}");
    let partitions = report["partitions"].as_array().expect("a report for each partition");
    let different: Vec<&Value> = partitions.iter().filter(|one| !one["difference"].is_null()).collect();
    assert_eq!(different.len(), 1, "{report:#}");
    different[0]["difference"].clone()
}

fn offset_of_last(world: &World, topic: &str, partition: i32) -> i64 {
    let records = log::read(&world.broker, topic, Isolation::Committed);
    records.iter().filter(|record| record.partition == partition).map(|record| record.offset).max().expect("a record")
}

/// Appends a record beside the daemon, as nobody should.
fn forge(world: &World, topic: &str, like: &Record, value: &[u8]) -> i64 {
    let producer = world.producer();
    let key = like.key.clone().expect("a key");
    let record = BaseRecord::to(topic).partition(like.partition).key(&key).payload(value);
    producer.send_record(record);
    producer.flush();
    offset_of_last(world, topic, like.partition)
}

#[test]
fn what_was_written_over_kills_is_equal() {
    let (world, daemon) = world_with_history("verify-equal");
    let report = world.assert_verified();
    for partition in report["partitions"].as_array().expect("partitions") {
        assert_eq!(partition["from"]["state"], "genesis", "{report:#}");
        assert!(partition["checkpoints"].as_u64() > Some(10), "{report:#}");
        assert!(partition["dispositions"]["duplicate"].as_u64() > Some(0), "{report:#}");
    }
    assert_eq!(daemon.stop(), 0);
    world.assert_verified();
}

#[test]
fn while_the_daemon_goes_on_only_what_was_there_is_compared() {
    let (world, daemon) = world_with_history("verify-live");
    let mut traffic = Traffic::new(Random::seeded("verify-live goes on"), 150);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let producer = world.producer();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                (0..20).for_each(|_| traffic.send_again(&producer, &world));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        for _ in 0..4 {
            let (code, report) = world.verify();
            assert_eq!(code, 0, "{report:#}");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_forged_notice_is_found_at_its_offset() {
    let (world, daemon) = world_with_history("verify-notice");
    assert_eq!(daemon.stop(), 0);
    let told = world.notices();
    let like = told.last().expect("notices were told");
    let offset = forge(&world, &world.events(), like, like.value.as_deref().expect("a value"));
    let difference = difference(&world);
    assert_eq!(difference["what"], "notice", "{difference:#}");
    assert_eq!(
        (&difference["topic"], &difference["offset"]),
        (&world.events().into(), &offset.into()),
        "{difference:#}"
    );
    assert_eq!(difference["account"], like.key_text(), "{difference:#}");
}

#[test]
fn a_forged_checkpoint_is_found_at_its_offset() {
    let (world, daemon) = world_with_history("verify-state");
    assert_eq!(daemon.stop(), 0);
    let records = log::read_committed(&world.broker, &world.state());
    // The last state of some account, with its amounts changed where they stand, and a checksum that fits.
    let like = records.iter().rev().find(|record| record.key.as_ref().is_some_and(|key| key[0] == 1)).expect("a state");
    let mut value = like.value.clone().expect("a value");
    let last = value.len() - 1;
    value[last] ^= 1;
    let checksum = crc32fast::hash(&value[5..]).to_le_bytes();
    value[1..5].copy_from_slice(&checksum);
    let offset = forge(&world, &world.state(), like, &value);
    let found = difference(&world);
    assert_eq!((&found["what"], &found["offset"]), (&"checkpoint".into(), &offset.into()), "{found:#}");
    assert_eq!(found["topic"], world.state(), "{found:#}");
}

/// An older state of an account is true as of its batch, but not as of the horizon.
#[test]
fn a_checkpoint_that_went_back_is_found() {
    let (world, daemon) = world_with_history("verify-back");
    assert_eq!(daemon.stop(), 0);
    let records = log::read_committed(&world.broker, &world.state());
    let again = |record: &&Record| {
        let later = records.iter().any(|other| other.offset > record.offset && other.key == record.key);
        record.key.as_ref().is_some_and(|key| key[0] == 1) && later
    };
    let like = records.iter().find(again).expect("an account was stored twice");
    let offset = forge(&world, &world.state(), like, like.value.as_deref().expect("a value"));
    let found = difference(&world);
    assert_eq!((&found["what"], &found["offset"]), (&"checkpoint".into(), &offset.into()), "{found:#}");
}

#[test]
fn a_record_added_to_quarantine_is_found() {
    let (world, daemon) = world_with_history("verify-dlq");
    assert_eq!(daemon.stop(), 0);
    let quarantined = world.quarantined();
    let like = quarantined.first().expect("something was refused");
    let headers: Vec<(&[u8], &[u8])> =
        like.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref().unwrap_or_default())).collect();
    let (topic, producer) = (world.dlq(), world.producer());
    let value = like.value.as_deref().unwrap_or_default();
    let key = like.key.clone().unwrap_or_default();
    let record = BaseRecord::to(&topic).partition(like.partition).key(&key).payload(value);
    producer.send_record(record.headers(log::raw_headers(&headers)));
    producer.flush();
    let found = difference(&world);
    assert_eq!(found["what"], "quarantined record", "{found:#}");
    assert_eq!(found["offset"], offset_of_last(&world, &world.dlq(), like.partition), "{found:#}");
}

/// Inputs from the beginning are gone: the checkpoints are taken as they are, and what came after them is compared.
#[test]
fn without_the_first_inputs_it_begins_with_the_checkpoints() {
    let (world, daemon) = world_with_history("verify-cut");
    assert_eq!(daemon.stop(), 0);
    for partition in 0..2 {
        log::Admin::new(&world.broker).delete_records(&world.usage(), partition, 100);
    }
    let daemon = world.start("a");
    let mut traffic = Traffic::new(Random::seeded("verify-cut goes on"), 150);
    let producer = world.producer();
    (0..300).for_each(|_| traffic.send_again(&producer, &world));
    producer.flush();
    world.await_consumed(LIMIT);
    daemon.kill();
    let (code, report) = world.verify();
    assert_eq!(code, 0, "{report:#}");
    for partition in report["partitions"].as_array().expect("partitions") {
        assert_eq!(partition["from"]["state"], "checkpoint", "{report:#}");
        assert!(partition["from"]["why"].as_str().is_some_and(|why| why.contains("100")), "{report:#}");
    }
    let told = world.notices();
    let like = told.last().expect("notices were told");
    let offset = forge(&world, &world.events(), like, like.value.as_deref().expect("a value"));
    let found = difference(&world);
    assert_eq!((&found["what"], &found["offset"]), (&"notice".into(), &offset.into()), "{found:#}");
}

#[test]
fn before_anything_was_folded_there_is_nothing_to_differ() {
    let world = World::new("verify-empty", CATALOG).initialised(2);
    let (code, report) = world.verify();
    assert_eq!((code, &report["equal"]), (0, &true.into()), "{report:#}");
}

#[test]
fn verify_says_why_it_cannot() {
    let world = World::new("verify-none", CATALOG);
    let (code, said) = world.verify();
    assert!(code == 78 && said.as_str().is_some_and(|said| said.contains("meterd init")), "{code}: {said}");
    let nowhere = daemon::free_address().to_string();
    let world = World::at(&nowhere, "verify-nowhere", CATALOG);
    let (code, said) = world.verify();
    assert!(code == 69 && said.as_str().is_some_and(|said| said.contains(&nowhere)), "{code}: {said}");
}
