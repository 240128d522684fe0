//! Logs that lost their last records, as after an election of a leader that did not have them.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::broker::Cluster;
use crate::log;
use crate::random::Random;
use crate::traffic::{CATALOG, Traffic};
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);
/// Of a batch of records as the broker stores it: base offset, then the length of what follows it, then attributes at 21.
const BATCH_HEAD: usize = 12;
const ATTRIBUTES: usize = 21;
const CONTROL: u8 = 0x20;

/// Removes the last batches of records from a log that no broker has open, with the marks of their transactions; how many
/// are left.
fn cut_last(folder: &Path, count: usize) -> usize {
    let segment = folder.join("00000000000000000000.log");
    let bytes = fs::read(&segment).expect("the log has one segment");
    let mut begins = Vec::new();
    let mut at = 0;
    while at + BATCH_HEAD < bytes.len() {
        if bytes[at + ATTRIBUTES + 1] & CONTROL == 0 {
            begins.push(at);
        }
        let length = u32::from_be_bytes(bytes[at + 8..at + BATCH_HEAD].try_into().expect("four bytes"));
        at += BATCH_HEAD + length as usize;
    }
    let left = begins.len().checked_sub(count).expect("there are more");
    fs::write(&segment, &bytes[..begins[left]]).expect("the log is ours");
    // Made again from what is left.
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        let extension = path.extension().and_then(OsStr::to_str);
        if matches!(extension, Some("index" | "timeindex" | "txnindex" | "snapshot")) {
            fs::remove_file(path).expect("it is ours");
        }
    }
    left
}

/// The last batches had records, of which the group's offsets tell; or checkpoints alone, of which the state topic tells.
#[test]
fn a_journal_without_its_last_records_stops_the_start_and_nothing_is_told_twice() {
    let cluster = Cluster::start(1);
    let cut = [
        ("records", "interval = \"1h\"", 2, "lost its last batches"),
        // What changed last is written a second later, by a batch without records.
        ("checkpoints", "interval = \"1s\"", 1, "the journal lost its end"),
    ];
    let worlds = cut.map(|(test, checkpoint, count, _)| {
        let world = World::at(&cluster.address, test, CATALOG).with("checkpoint", checkpoint).initialised(1);
        let daemon = world.start("a");
        let producer = world.producer();
        let mut traffic = Traffic::new(Random::seeded(test), 60);
        traffic.send_commands(&producer, &world);
        for _ in 0..4 {
            (0..300).for_each(|_| traffic.send_usage(&producer, &world));
            producer.flush();
            world.await_consumed(LIMIT);
        }
        await_checkpoints(&world, checkpoint);
        daemon.kill();
        let told = world.notices().len();
        (world, told, count)
    });

    cluster.stop_broker(1);
    let left = worlds.each_ref().map(|(world, _, count)| cut_last(&cluster.log_of(1, &world.journal(), 0), *count));
    cluster.start_stopped();

    for (((world, told, _), left), (.., why)) in worlds.iter().zip(left).zip(cut) {
        let journaled = || log::read_committed(&world.broker, &world.journal()).len();
        assert_eq!(journaled(), left);
        let (code, said) = world.refused("a", LIMIT);
        assert!(code == 65 && said.contains(why), "exit code {code}: {said}");
        assert_eq!((journaled(), world.notices().len()), (left, *told), "nothing is told twice");
    }
}

/// Where they are written soon: until the journal has grown by batches without records.
fn await_checkpoints(world: &World, checkpoint: &str) {
    if checkpoint.contains("1h") {
        return;
    }
    let ends = || log::ends(&world.broker, &world.state())[0];
    let deadline = Instant::now() + LIMIT;
    let mut before = -1;
    // What changed last is due within a second, and written within some more.
    while ends() != before {
        assert!(Instant::now() < deadline, "the checkpoints come to no end");
        before = ends();
        std::thread::sleep(Duration::from_secs(3));
    }
}
