//! A shard, before those who give it partitions and take its batches.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use meterd::commit::batch::Batch;
use meterd::commit::committer::Places;
use meterd::daemon::clock::Now;
use meterd::daemon::group::Assignment;
use meterd::daemon::message::{Outcome, ToShard};
use meterd::daemon::shard::{self, Shard};
use meterd::ingest::consumer::{Fetched, Order};
use meterd::ingest::raw::{Input, RawBatch};
use meterd::store::Store;
use meterd::store::memory::MemoryStore;
use meterd::telemetry::Metrics;
use meterd::telemetry::families::Exposition;

use super::owner::{Owner, at, batch_names, event, recovered, recovery, settings};
use super::topics::Broker;

/// A shard, and whoever speaks to it.
struct Scene {
    shard: Shard,
    state: shard::State,
    to_shard: Sender<ToShard>,
    batches: Receiver<Vec<Batch>>,
    orders: Receiver<Order>,
}

impl Scene {
    fn new() -> Scene {
        let (to_shard, inbox) = unbounded();
        let (committer, batches) = unbounded();
        let (to_consumers, orders) = unbounded();
        let shard = Shard {
            inbox,
            committer,
            committer_idle: Arc::default(),
            share: Arc::default(),
            orders: [to_consumers.clone(), to_consumers],
            backlog: Default::default(),
            ends: unbounded().0,
            names: Arc::new(batch_names()),
            settings: settings("a"),
            metrics: Metrics::new(),
            board: shard::Board::default(),
            known_ends: Arc::default(),
        };
        Scene { shard, state: shard::State::default(), to_shard, batches, orders }
    }

    fn tell(&self, message: ToShard) {
        self.to_shard.send(message).expect("the shard is there");
    }

    /// A turn while the committer waits; what it was handed.
    fn turn(&mut self, now: Now) -> Vec<Batch> {
        self.shard.committer_idle.store(true, Ordering::Release);
        self.shard.turn(&mut self.state, None, now).expect("it goes on");
        self.batches.try_recv().unwrap_or_default()
    }

    fn assign(&self, partition: i32, now: Now) {
        let store: Arc<dyn Store> = Arc::<MemoryStore>::default();
        let recovered = Box::new(recovered(&recovery(&Rc::<RefCell<Broker>>::default(), &store)));
        let assignment = Assignment { partition, epoch: 1, at: now.steady };
        self.tell(ToShard::Recovered { assignment, recovered });
    }

    fn committed(&self, batch: Batch, now: Now) {
        let places = Places { broker_time: Some(now.wall), ..Places::default() };
        self.tell(ToShard::Committed(Box::new(Outcome { batch, places })));
    }

    /// With partitions 0 and 1, both live.
    fn of_two() -> Scene {
        let mut scene = Scene::new();
        [0, 1].into_iter().for_each(|partition| scene.assign(partition, at(0)));
        let claims = scene.turn(at(0));
        assert_eq!(claims.len(), 2);
        claims.into_iter().for_each(|claim| scene.committed(claim, at(0)));
        assert_eq!(scene.turn(at(0)).len(), 0);
        scene
    }

    fn fetched(&self, partition: i32, input: Input, fetched: Fetched) {
        if let Fetched::Records(batch) = &fetched {
            self.shard.backlog[input.index()].bytes.fetch_add(batch.bytes_len(), Ordering::Relaxed);
        }
        self.tell(ToShard::Fetched { input, partition, epoch: 1, fetched });
    }

    fn usage(&self, partition: i32) {
        let mut batch = RawBatch::default();
        batch.push(0, at(0).wall, None, Some(event("acme", "call", "call", r#"{"tokens":"5"}"#).as_bytes()));
        self.fetched(partition, Input::Usage, Fetched::Records(batch));
    }

    fn commands_end(&self, partition: i32) {
        self.fetched(partition, Input::Accounts, Fetched::End { offset: 0 });
    }

    fn starving(&self) -> usize {
        self.shard.backlog[Input::Accounts.index()].starving.load(Ordering::Relaxed)
    }
}

/// It waited for 20 s in the queue of those that are recovered, was recovered in 10, and its claim took 5 to commit.
#[test]
fn a_recovery_lasts_from_the_assignment_to_the_commit_of_the_claim() {
    let mut scene = Scene::new();
    scene.assign(0, at(0));
    let claim = scene.turn(at(30_000)).remove(0);
    assert!(scene.orders.is_empty(), "it is not live yet");
    let metrics = Arc::clone(&scene.shard.metrics);
    let recoveries = || {
        let text = Exposition::new(Arc::clone(&metrics)).render();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        (value("meterd_recovery_seconds_count"), value("meterd_recovery_seconds_sum"))
    };
    assert_eq!(recoveries().0, Some(0.0));
    scene.committed(claim, at(35_000));
    scene.turn(at(35_000));
    assert_eq!(scene.orders.len(), 2, "both inputs are read");
    assert_eq!(recoveries(), (Some(1.0), Some(35.0)));
}

/// Its usage may not be folded before its commands are known; those of the other partition are.
#[test]
fn a_partition_that_waits_for_its_commands_holds_up_no_other() {
    let mut scene = Scene::of_two();
    scene.usage(0);
    scene.usage(1);
    scene.commands_end(1);
    let batches = scene.turn(at(1));
    assert_eq!(batches.iter().map(|batch| (batch.partition, batch.read[1].0)).collect::<Vec<_>>(), [(1, 1)]);
    assert_eq!(scene.starving(), 1, "the consumer of commands must not wait");
    scene.commands_end(0);
    let batches = scene.turn(at(2));
    assert_eq!(batches.iter().map(|batch| (batch.partition, batch.read[1].0)).collect::<Vec<_>>(), [(0, 1)]);
    assert_eq!(scene.starving(), 0);
}

/// An instance has one producer: a transaction for each of many partitions would take as many times as long.
#[test]
fn what_partitions_have_ready_goes_into_one_transaction() {
    let mut scene = Scene::of_two();
    for partition in [0, 1] {
        scene.usage(partition);
        scene.commands_end(partition);
    }
    let batches = scene.turn(at(1));
    assert_eq!(batches.iter().map(|batch| (batch.partition, batch.read[1].0)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
}

/// Memory is ahead of what is committed: by the batch on its way and by the one that is being folded.
#[test]
fn a_reader_sees_nothing_before_it_is_committed() {
    let mut owner = Owner::live(&Rc::<RefCell<Broker>>::default(), at(0));
    owner.settings.checkpoint = Duration::from_secs(60);
    let (sender, answered) = unbounded();
    let ask = |owner: &mut Owner, name: &'static str| {
        let sender = sender.clone();
        owner.owned.answer(Box::new(move || sender.send(name).expect("it is heard")));
    };
    let heard = || answered.try_iter().collect::<Vec<_>>();
    ask(&mut owner, "nothing is open");
    assert_eq!(heard(), ["nothing is open"]);
    owner.fold(Input::Usage, &[event("acme", "first", "call", r#"{"tokens":"5"}"#)], at(0));
    ask(&mut owner, "first folded");
    let first = owner.close(at(0));
    ask(&mut owner, "first closed");
    owner.fold(Input::Usage, &[event("acme", "second", "call", r#"{"tokens":"5"}"#)], at(0));
    ask(&mut owner, "second folded");
    assert_eq!(heard(), [""; 0], "nothing of it is committed");
    owner.committed(first, at(0));
    assert_eq!(heard(), ["first folded", "first closed"]);
    owner.commit(at(0));
    assert_eq!(heard(), ["second folded"]);
}

/// More changes than a slice of checkpoints of the usual size holds, all the time: slices grow, so that what a crash would
/// have folded again does not.
#[test]
fn checkpoints_keep_up_with_what_changes() {
    const ACCOUNTS: usize = 20_000;
    let mut owner = Owner::live(&Rc::<RefCell<Broker>>::default(), at(0));
    owner.settings.checkpoint = Duration::from_secs(1);
    let mut oldest = Duration::ZERO;
    for turn in 1..=40i64 {
        let now = at(turn * 100);
        let ids = (0..ACCOUNTS / 10).map(|number| (number * 10) as i64 + turn % 10);
        let usage: Vec<String> =
            ids.map(|id| event(&format!("account-{id}"), &turn.to_string(), "call", r#"{"tokens":"5"}"#)).collect();
        owner.fold(Input::Usage, &usage, now);
        owner.commit(now);
        oldest = oldest.max(owner.owned.checkpoint_age(now));
    }
    assert!(oldest < Duration::from_millis(2_500), "a change waited {oldest:?} for its checkpoint");
}

/// Checkpoints cannot be written, or not as fast as accounts change: the inputs wait rather than a restart that takes for
/// ever.
#[test]
fn inputs_wait_for_checkpoints_that_are_far_behind() {
    let mut owner = Owner::live(&Rc::<RefCell<Broker>>::default(), at(0));
    owner.settings.checkpoint = Duration::from_secs(10);
    let usage = |id: &str| [event("acme", id, "call", r#"{"tokens":"5"}"#)];
    owner.fold(Input::Usage, &usage("first"), at(0));
    let first = owner.close(at(0));
    owner.fold(Input::Usage, &usage("second"), at(59_000));
    assert_eq!(owner.owned.next_offsets()[Input::Usage.index()], 2);
    owner.fold(Input::Usage, &usage("third"), at(61_000));
    assert_eq!(owner.owned.next_offsets()[Input::Usage.index()], 2, "it waits");
    owner.committed(first, at(61_000));
    owner.commit(at(61_000));
    assert_eq!(owner.owned.checkpoint_age(at(61_000)), Duration::ZERO);
    assert_eq!(owner.turn(at(61_000)).folded, 1, "it goes on");
}
