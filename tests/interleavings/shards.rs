//! A shard, before those who give it partitions and take its batches.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Receiver, Sender, unbounded};
use meterd::commit::batch::Batch;
use meterd::commit::committer::Places;
use meterd::daemon::group::Assignment;
use meterd::daemon::message::{Outcome, ToShard};
use meterd::daemon::shard::{self, Shard};
use meterd::ingest::consumer::Order;
use meterd::store::Store;
use meterd::store::memory::MemoryStore;
use meterd::telemetry::Metrics;
use meterd::telemetry::families::Exposition;

use super::owner::{at, batch_names, recovered, recovery, settings};
use super::topics::Broker;

/// Whoever speaks to the shard.
struct Outside {
    to_shard: Sender<ToShard>,
    batches: Receiver<Vec<Batch>>,
    orders: Receiver<Order>,
    metrics: Arc<Metrics>,
}

fn shard() -> (Shard, Outside) {
    let (to_shard, inbox) = unbounded();
    let (committer, batches) = unbounded();
    let (to_consumers, orders) = unbounded();
    let metrics = Metrics::new();
    let shard = Shard {
        inbox,
        committer,
        committer_idle: Arc::new(AtomicBool::new(true)),
        share: Arc::default(),
        orders: [to_consumers.clone(), to_consumers],
        backlog: Default::default(),
        ends: unbounded().0,
        names: Arc::new(batch_names()),
        settings: settings("a"),
        metrics: Arc::clone(&metrics),
        board: shard::Board::default(),
        known_ends: Arc::default(),
    };
    (shard, Outside { to_shard, batches, orders, metrics })
}

/// It waited for 20 s in the queue of those that are recovered, was recovered in 10, and its claim took 5 to commit.
#[test]
fn a_recovery_lasts_from_the_assignment_to_the_commit_of_the_claim() {
    let (mut shard, outside) = shard();
    let mut state = shard::State::default();
    let store: Arc<dyn Store> = Arc::<MemoryStore>::default();
    let recovered = Box::new(recovered(&recovery(&Rc::<RefCell<Broker>>::default(), &store)));
    let assignment = Assignment { partition: 0, epoch: 1, at: at(0).steady };
    let told = |message| outside.to_shard.send(message).expect("the shard is there");
    told(ToShard::Recovered { assignment, recovered });
    shard.turn(&mut state, None, at(30_000)).expect("it claims");
    let claim = outside.batches.try_recv().expect("the claim").remove(0);
    assert!(outside.orders.is_empty(), "it is not live yet");
    let recoveries = || {
        let text = Exposition::new(Arc::clone(&outside.metrics)).render();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        (value("meterd_recovery_seconds_count"), value("meterd_recovery_seconds_sum"))
    };
    assert_eq!(recoveries().0, Some(0.0));
    let places = Places { broker_time: Some(at(35_000).wall), ..Places::default() };
    told(ToShard::Committed(Box::new(Outcome { batch: claim, places })));
    shard.turn(&mut state, None, at(35_000)).expect("it is live");
    assert_eq!(outside.orders.len(), 2, "both inputs are read");
    assert_eq!(recoveries(), (Some(1.0), Some(35.0)));
}
