//! Topics as an independent client sees them: producing, reading, offsets, administration.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::bindings as native;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const NO_ERROR: native::rd_kafka_resp_err_t = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// A record as it stands in a topic.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Record {
    pub fn key_text(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().expect("the record has a key")).expect("the key is text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().expect("the record has a value")).expect("the value is JSON")
    }

    /// The last header of this name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(key, _)| key == name.as_bytes())?;
        Some(String::from_utf8(value.clone().unwrap_or_default()).expect("the header is text"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    Committed,
    Uncommitted,
}

impl Isolation {
    fn property(self) -> &'static str {
        match self {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        }
    }
}

fn client(broker: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).set("allow.auto.create.topics", "false");
    config
}

pub fn consumer(broker: &str, isolation: Isolation) -> BaseConsumer {
    client(broker)
        .set("group.id", "test-reader")
        .set("isolation.level", isolation.property())
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("a consumer can be made")
}

pub fn partitions(broker: &str, topic: &str) -> i32 {
    let reader = consumer(broker, Isolation::Committed);
    let metadata = reader.fetch_metadata(Some(topic), REQUEST_LIMIT).expect("the broker answers");
    metadata.topics().first().map_or(0, |topic| topic.partitions().len() as i32)
}

/// For each partition the first offset and the one after the last: of all records, or of those that a read_committed
/// reader may see (the last stable offset).
pub fn watermarks(broker: &str, topic: &str, isolation: Isolation) -> Vec<(i64, i64)> {
    let reader = consumer(broker, isolation);
    (0..partitions(broker, topic))
        .map(|partition| reader.fetch_watermarks(topic, partition, REQUEST_LIMIT).expect("the broker answers"))
        .collect()
}

/// How many records (and transaction markers) each partition ever got.
pub fn ends(broker: &str, topic: &str) -> Vec<i64> {
    watermarks(broker, topic, Isolation::Uncommitted).into_iter().map(|(_, high)| high).collect()
}

/// Everything that a read_committed reader finds, by partition and offset, once no transaction is open any more.
pub fn read_committed(broker: &str, topic: &str) -> Vec<Record> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while watermarks(broker, topic, Isolation::Committed) != watermarks(broker, topic, Isolation::Uncommitted) {
        assert!(Instant::now() < deadline, "a transaction on {topic} stayed open for 60 s");
        std::thread::sleep(Duration::from_millis(100));
    }
    read(broker, topic, Isolation::Committed)
}

/// What a reader of this isolation finds now, by partition and offset.
pub fn read(broker: &str, topic: &str, isolation: Isolation) -> Vec<Record> {
    let reader = consumer(broker, isolation);
    let mut assignment = TopicPartitionList::new();
    let count = partitions(broker, topic);
    for partition in 0..count {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("the partition is new to the list");
    }
    reader.assign(&assignment).expect("partitions can be assigned");
    let mut at_end = vec![false; count as usize];
    let mut records = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    while at_end.contains(&false) {
        assert!(Instant::now() < deadline, "could not read {topic} to its end within 120 s");
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(record_of(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => at_end[partition as usize] = true,
            Some(Err(error)) => panic!("cannot read {topic}: {error}"),
            None => {}
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

fn record_of(message: &BorrowedMessage<'_>) -> Record {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers_of(message),
    }
}

/// Through the C interface: the wrapper panics where a header's key is not UTF-8.
#[expect(unsafe_code, reason = "headers as bytes are in the C interface alone")]
fn headers_of(message: &BorrowedMessage<'_>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    let mut headers = std::ptr::null_mut();
    // SAFETY: the message lives for the whole function, and with it the headers, their keys (which end in a zero byte)
    // and their values.
    unsafe {
        if native::rd_kafka_message_headers(message.ptr(), &mut headers) != NO_ERROR {
            return all;
        }
        let (mut key, mut value, mut length) = (std::ptr::null(), std::ptr::null(), 0);
        while native::rd_kafka_header_get_all(headers, all.len(), &mut key, &mut value, &mut length) == NO_ERROR {
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), length).to_vec());
            all.push((CStr::from_ptr(key).to_bytes().to_vec(), value));
        }
    }
    all
}

/// Headers from raw bytes.
#[expect(unsafe_code, reason = "headers as bytes are in the C interface alone")]
pub fn raw_headers(pairs: &[(&[u8], &[u8])]) -> OwnedHeaders {
    let headers = OwnedHeaders::new();
    for (key, value) in pairs {
        // SAFETY: `BorrowedHeaders` stands for the C object that `headers` owns alone; librdkafka copies both texts.
        let answer = unsafe {
            native::rd_kafka_header_add(
                std::ptr::from_ref(headers.as_borrowed()).cast_mut().cast(),
                key.as_ptr().cast(),
                key.len() as isize,
                value.as_ptr().cast(),
                value.len() as isize,
            )
        };
        assert_eq!(answer, NO_ERROR, "a header can be added");
    }
    headers
}

/// Counts what the broker took and what it refused.
#[derive(Default)]
struct Deliveries {
    refused: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            eprintln!("{}: not delivered: {error}", message.topic());
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A producer that places keys as the Java client does (murmur2), or as librdkafka names it.
pub struct Producer {
    inner: Arc<ThreadedProducer<Deliveries>>,
}

impl Producer {
    pub fn new(broker: &str) -> Producer {
        Producer::with_partitioner(broker, "murmur2_random")
    }

    pub fn with_partitioner(broker: &str, partitioner: &str) -> Producer {
        let inner = client(broker)
            .set("partitioner", partitioner)
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.max.bytes", "8000000")
            .create_with_context(Deliveries::default())
            .expect("a producer can be made");
        Producer { inner: Arc::new(inner) }
    }

    pub fn send(&self, topic: &str, key: &str, value: &[u8]) {
        self.send_record(BaseRecord::to(topic).key(key).payload(value));
    }

    pub fn send_json(&self, topic: &str, key: &str, value: &serde_json::Value) {
        self.send(topic, key, value.to_string().as_bytes());
    }

    pub fn send_record<K: rdkafka::message::ToBytes + ?Sized>(&self, mut record: BaseRecord<'_, K, [u8]>) {
        loop {
            match self.inner.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("cannot produce: {error}"),
            }
        }
    }

    /// Waits until the broker has everything.
    pub fn flush(&self) {
        self.flush_within(Duration::from_secs(60));
    }

    pub fn flush_within(&self, limit: Duration) {
        self.inner.flush(limit).expect("the broker takes the records in time");
        assert_eq!(self.inner.context().refused.load(Ordering::Relaxed), 0, "the broker refused records (see above)");
    }
}

/// The group's committed offset of every partition; none where there is none.
pub fn committed(broker: &str, group: &str, topic: &str) -> Vec<Option<i64>> {
    let count = partitions(broker, topic);
    let member: BaseConsumer = client(broker).set("group.id", group).create().expect("a consumer can be made");
    let mut asked = TopicPartitionList::new();
    for partition in 0..count {
        asked.add_partition(topic, partition);
    }
    let answer = member.committed_offsets(asked, REQUEST_LIMIT).expect("the group's coordinator answers");
    (0..count)
        .map(|partition| match answer.find_partition(topic, partition).map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        })
        .collect()
}

/// Sets a group's offset, as an operator could; the group must have no members.
pub fn set_committed(broker: &str, group: &str, topic: &str, partition: i32, offset: i64) {
    let member: BaseConsumer = client(broker).set("group.id", group).create().expect("a consumer can be made");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("the partition is new to the list");
    member.commit(&list, CommitMode::Sync).expect("the coordinator takes the offset");
}

/// Waits until so many brokers are there and all replicas of all topics are in sync.
pub fn await_in_sync(broker: &str, brokers: usize) {
    let reader = consumer(broker, Isolation::Committed);
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let known = reader.fetch_metadata(None, REQUEST_LIMIT);
        let in_sync = known.is_ok_and(|known| {
            let mut partitions = known.topics().iter().flat_map(|topic| topic.partitions());
            known.brokers().len() == brokers && partitions.all(|one| one.isr().len() == one.replicas().len())
        });
        if in_sync {
            return;
        }
        assert!(Instant::now() < deadline, "not all replicas are in sync 600 s after the broker's start");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How many members a group has.
pub fn members(broker: &str, group: &str) -> usize {
    let reader = consumer(broker, Isolation::Committed);
    let answer = reader.fetch_group_list(Some(group), REQUEST_LIMIT).expect("the coordinator answers");
    answer.groups().first().map_or(0, |group| group.members().len())
}

/// Creating, deleting and describing topics and groups.
pub struct Admin {
    broker: String,
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Admin {
    pub fn new(broker: &str) -> Admin {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
        Admin {
            broker: broker.to_owned(),
            client: client(broker).create().expect("an admin client can be made"),
            runtime,
        }
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(REQUEST_LIMIT)).operation_timeout(Some(REQUEST_LIMIT))
    }

    pub fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let wanted = settings
            .iter()
            .fold(NewTopic::new(topic, partitions, TopicReplication::Fixed(1)), |wanted, (key, value)| {
                wanted.set(key, value)
            });
        let answer = self.runtime.block_on(self.client.create_topics([&wanted], &Self::options()));
        answer.expect("the broker answers")[0].as_ref().unwrap_or_else(|error| panic!("cannot create {error:?}"));
        self.await_partitions(topic, partitions);
    }

    /// Brokers learn of changes a moment after the controller.
    fn await_partitions(&self, topic: &str, count: i32) {
        let deadline = Instant::now() + REQUEST_LIMIT;
        while partitions(&self.broker, topic) != count {
            assert!(Instant::now() < deadline, "{topic} does not have {count} partitions");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns when the topic is gone from the metadata too.
    pub fn delete(&self, topic: &str) {
        let answer = self.runtime.block_on(self.client.delete_topics(&[topic], &Self::options()));
        answer.expect("the broker answers")[0].as_ref().unwrap_or_else(|error| panic!("cannot delete {error:?}"));
        self.await_partitions(topic, 0);
    }

    pub fn raise_partitions(&self, topic: &str, count: usize) {
        let wanted = [NewPartitions::new(topic, count)];
        let answer = self.runtime.block_on(self.client.create_partitions(&wanted, &Self::options()));
        answer.expect("the broker answers")[0].as_ref().unwrap_or_else(|error| panic!("cannot alter {error:?}"));
        self.await_partitions(topic, count as i32);
    }

    /// Removes the records before an offset, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("the partition is new to the list");
        let answer = self.runtime.block_on(self.client.delete_records(&list, &Self::options()));
        let answer = answer.expect("the broker answers");
        answer.elements().iter().for_each(|element| element.error().expect("the records can be removed"));
    }

    pub fn delete_group(&self, group: &str) {
        let answer = self.runtime.block_on(self.client.delete_groups(&[group], &Self::options()));
        answer.expect("the broker answers")[0].as_ref().unwrap_or_else(|error| panic!("cannot delete {error:?}"));
    }

    /// All settings of a topic, also those that are the broker's defaults.
    pub fn settings(&self, topic: &str) -> HashMap<String, String> {
        let asked = [ResourceSpecifier::Topic(topic)];
        let answer = self.runtime.block_on(self.client.describe_configs(&asked, &Self::options()));
        let resource =
            answer.expect("the broker answers").remove(0).unwrap_or_else(|error| panic!("cannot describe: {error}"));
        resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
    }
}
