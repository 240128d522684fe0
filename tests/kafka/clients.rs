//! The tests' own clients: what they would not see, the tests would not find.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::broker;
use crate::log::{self, Admin, Isolation, Producer};

fn topic(name: &str, partitions: i32) -> String {
    let topic = format!("{name}-{}", std::process::id());
    Admin::new(broker::shared()).create(&topic, partitions, &[("message.timestamp.type", "LogAppendTime")]);
    topic
}

/// What the Java client's partitioner gives for these keys (`Utils.toPositive(Utils.murmur2(key)) % 8`).
#[test]
fn keys_are_placed_as_by_the_java_client() {
    let topic = topic("placed", 8);
    let producer = Producer::new(broker::shared());
    let keys = ["acme", "globex", "initech", "umbrella", "a", ""];
    keys.iter().for_each(|key| producer.send(&topic, key, b"x"));
    producer.flush();
    let records = log::read_committed(broker::shared(), &topic);
    let murmur2 = |key: &str| (murmur2(key.as_bytes()) & 0x7fff_ffff) % 8;
    for record in records.iter().filter(|record| !record.key_text().is_empty()) {
        assert_eq!(record.partition as u32, murmur2(record.key_text()), "{}", record.key_text());
    }
    assert_eq!(records.len(), keys.len());
}

/// Written from the definition of MurmurHash2 with Kafka's seed, to check the producer's.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, byte| last << 8 | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[test]
fn headers_may_be_any_bytes() {
    let topic = topic("headers", 1);
    let producer = Producer::new(broker::shared());
    let headers = log::raw_headers(&[(b"\xff\xfe", b"\x00\x80"), (b"plain", b"text")]);
    producer.send_record(BaseRecord::to(&topic).key("k").payload(b"v".as_slice()).headers(headers));
    producer.flush();
    let records = log::read_committed(broker::shared(), &topic);
    assert_eq!(records[0].headers[0], (b"\xff\xfe".to_vec(), Some(b"\x00\x80".to_vec())));
    assert_eq!(records[0].header("plain").as_deref(), Some("text"));
}

#[test]
fn a_reader_of_committed_records_sees_no_aborted_ones() {
    let topic = topic("aborted", 2);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker::shared())
        .set("transactional.id", &topic)
        .create()
        .expect("a producer can be made");
    let limit = Duration::from_secs(30);
    producer.init_transactions(limit).expect("the coordinator answers");
    for (text, commits) in [("first", true), ("second", false), ("third", true)] {
        producer.begin_transaction().expect("none is open");
        producer.send(BaseRecord::to(&topic).partition(0).key("k").payload(text)).expect("the queue has room");
        if commits {
            producer.commit_transaction(limit).expect("it commits");
        } else {
            producer.flush(limit).expect("the broker takes it");
            producer.abort_transaction(limit).expect("it aborts");
        }
    }
    let values = |records: Vec<log::Record>| -> Vec<_> {
        records.into_iter().map(|record| String::from_utf8(record.value.expect("a value")).expect("text")).collect()
    };
    assert_eq!(values(log::read_committed(broker::shared(), &topic)), ["first", "third"]);
    assert_eq!(values(log::read(broker::shared(), &topic, Isolation::Uncommitted)), ["first", "second", "third"]);
    // Three records and three markers.
    assert_eq!(log::ends(broker::shared(), &topic), [6, 0]);
}

#[test]
fn offsets_of_a_group_can_be_set_and_read() {
    let topic = topic("offsets", 2);
    let group = format!("{topic}-group");
    assert_eq!(log::committed(broker::shared(), &group, &topic), [None, None]);
    log::set_committed(broker::shared(), &group, &topic, 1, 7);
    assert_eq!(log::committed(broker::shared(), &group, &topic), [None, Some(7)]);
    Admin::new(broker::shared()).delete_group(&group);
    assert_eq!(log::committed(broker::shared(), &group, &topic), [None, None]);
}

#[test]
fn topics_can_be_described_and_deleted() {
    let topic = topic("described", 3);
    let admin = Admin::new(broker::shared());
    assert_eq!(admin.settings(&topic)["message.timestamp.type"], "LogAppendTime");
    assert_eq!(log::partitions(broker::shared(), &topic), 3);
    admin.delete(&topic);
    assert_eq!(log::partitions(broker::shared(), &topic), 0);
}
