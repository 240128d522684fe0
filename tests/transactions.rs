//! The transactional producer on librdkafka's mock cluster, whose brokers can be taken away one by one.

use std::time::{Duration, Instant};

use meterd::commit::kafka::Transactions as _;
use meterd::commit::producer::{Fault, TransactionalProducer};
use meterd::ingest::native::{GroupMetadata, Outgoing};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::{MockCluster, MockCoordinator};

const TRANSACTIONS: i32 = 1;
const GROUP: i32 = 2;
const TIMEOUT: Duration = Duration::from_secs(2);

fn open(brokers: &str) -> Result<TransactionalProducer, Fault> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("transactional.id", "t");
    TransactionalProducer::open(&config, ["out".into(), "state".into()], Duration::from_secs(20))
}

fn member(brokers: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "g")
        .create()
        .expect("the settings are good");
    consumer.subscribe(&["in"]).expect("the topic is there");
    let deadline = Instant::now() + Duration::from_secs(30);
    while GroupMetadata::of(&consumer).is_none_or(|metadata| metadata.generation() < 0) {
        assert!(Instant::now() < deadline, "no membership within 30 s");
        consumer.poll(Duration::from_millis(50));
    }
    consumer
}

fn send_one(producer: &TransactionalProducer) {
    producer.begin().expect("nothing is open");
    producer
        .send(&Outgoing { topic: c"out", partition: 0, key: None, value: Some(b"x"), headers: &[] })
        .expect("the queue has room");
    assert_eq!(producer.drain(Duration::from_secs(10)).expect("the leader is up").len(), 1);
}

/// librdkafka waits for the group's coordinator beyond any timeout. The producer is given up, and another takes over.
#[test]
fn a_group_coordinator_that_is_gone_holds_nobody_for_ever() {
    let cluster = MockCluster::new(2).expect("loopback is there");
    for topic in ["in", "out"] {
        cluster.create_topic(topic, 1, 1).expect("the topic is new");
        cluster.partition_leader(topic, 0, Some(TRANSACTIONS)).expect("the topic is there");
    }
    cluster.coordinator(MockCoordinator::Transaction("t".into()), TRANSACTIONS).expect("the broker is there");
    cluster.coordinator(MockCoordinator::Group("g".into()), GROUP).expect("the broker is there");
    let brokers = cluster.bootstrap_servers();
    let consumer = member(&brokers);
    let membership = || GroupMetadata::of(&consumer).expect("a member");

    let producer = open(&brokers).expect("the coordinator is up");
    send_one(&producer);
    cluster.broker_down(GROUP).expect("the broker is there");
    let begun = Instant::now();
    let fault = producer.send_offsets(membership(), &[("in", 0, 7)], TIMEOUT);
    assert!(matches!(fault, Err(Fault::Unknown(_))), "{fault:?}");
    assert!(begun.elapsed() < TIMEOUT + Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(producer);

    cluster.coordinator(MockCoordinator::Group("g".into()), TRANSACTIONS).expect("the broker is there");
    let producer = open(&brokers).expect("the coordinator is up");
    send_one(&producer);
    producer.send_offsets(membership(), &[("in", 0, 7)], TIMEOUT).expect("the group's coordinator is up");
    producer.commit(TIMEOUT).expect("the coordinator is up");
}
