//! The transactional producer of the instance.

use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Message, Timestamp};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::kafka::{Cluster, Machine, Membership, Transactions};
use crate::ingest::consumer;
use crate::ingest::native::{self, GroupMetadata, Outgoing, TransactionFault};

/// How long a transaction may stay open before the coordinator aborts it. Short, because a dead instance's open
/// transaction holds back every read_committed reader of what it wrote.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the last record for a partition of the journal or the state topic came to stand.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Of LogAppendTime topics: the broker's time.
    pub timestamp: Option<i64>,
}

/// Collects delivery reports of the present transaction.
pub struct Deliveries {
    /// Topics whose offsets matter: the journal and the state.
    watched: [String; 2],
    state: Mutex<Reported>,
}

#[derive(Default)]
struct Reported {
    /// The last record of each partition of the watched topics.
    delivered: Vec<Delivered>,
    failed: Option<(RDKafkaErrorCode, String)>,
}

impl Reported {
    fn note(&mut self, topic: &str, partition: i32, offset: i64, timestamp: Option<i64>) {
        let of_partition = |known: &&mut Delivered| known.partition == partition && known.topic == topic;
        match self.delivered.iter_mut().rev().find(of_partition) {
            Some(known) if known.offset < offset => (known.offset, known.timestamp) = (offset, timestamp),
            Some(_) => {}
            None => self.delivered.push(Delivered { topic: topic.to_owned(), partition, offset, timestamp }),
        }
    }
}

impl Deliveries {
    fn take(&self) -> Reported {
        std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone)]
pub struct Context(Arc<Deliveries>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::ingest::consumer::log_client(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the producer met an error");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                if !self.0.watched.iter().any(|topic| topic == message.topic()) {
                    return;
                }
                // A time that this process made up would be no witness of its clock.
                let timestamp = match message.timestamp() {
                    Timestamp::LogAppendTime(at) => Some(at),
                    Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
                };
                let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.note(message.topic(), message.partition(), message.offset(), timestamp);
            }
            Err((error, message)) => {
                let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                state.failed.get_or_insert((code, format!("a record for {}: {error}", message.topic())));
            }
        }
    }
}

/// What became of a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The transaction must be aborted; nothing of it is visible, and it may be sent again.
    Abort(String),
    /// What the coordinator did is not known, or the producer is of no more use.
    Unknown(String),
    /// Another producer of the same transactional id took over.
    Fenced(String),
    /// It can never succeed: a record larger than its topic takes, no authorisation.
    Hopeless(RDKafkaErrorCode, String),
}

/// How long a call into librdkafka may go on after its time is over.
const GRACE: Duration = Duration::from_secs(5);
/// Between two polls for what was delivered.
const POLL_MIN: Duration = Duration::from_micros(50);
const POLL_MAX: Duration = Duration::from_millis(5);

/// Calls that wait for brokers are made by a thread of the producer's own. librdkafka may hold one of them for ever (offsets
/// in a transaction, when the group's coordinator goes away and is forgotten): such a producer is left to its thread, and
/// its successor's initialisation ends its transaction.
pub struct TransactionalProducer {
    producer: Arc<BaseProducer<Context>>,
    deliveries: Arc<Deliveries>,
    calls: Sender<Call>,
}

type Call = Box<dyn FnOnce(&BaseProducer<Context>) + Send>;

impl TransactionalProducer {
    /// Creates the producer and initialises it, which ends what a predecessor of the same id left open.
    pub fn open(
        config: &ClientConfig,
        watched: [String; 2],
        timeout: Duration,
    ) -> Result<TransactionalProducer, Fault> {
        let deliveries = Arc::new(Deliveries { watched, state: Mutex::default() });
        let producer: BaseProducer<Context> = config
            .create_with_context(Context(Arc::clone(&deliveries)))
            .map_err(|error| Fault::Hopeless(RDKafkaErrorCode::InvalidArgument, error.to_string()))?;
        let deadline = Instant::now() + timeout;
        loop {
            match producer.init_transactions(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => return TransactionalProducer::initialised(producer, deliveries),
                Err(error) if is_retriable(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(classify(&error)),
            }
        }
    }

    fn initialised(
        producer: BaseProducer<Context>,
        deliveries: Arc<Deliveries>,
    ) -> Result<TransactionalProducer, Fault> {
        let producer = Arc::new(producer);
        let (calls, inbox) = bounded::<Call>(1);
        let held = Arc::clone(&producer);
        std::thread::Builder::new()
            .name("transactions".into())
            .spawn(move || inbox.iter().for_each(|call| call(&held)))
            .map_err(|error| Fault::Unknown(format!("expected a new thread, found {error}")))?;
        Ok(TransactionalProducer { producer, deliveries, calls })
    }

    /// Has the producer's thread make a call that takes until `deadline`. One that goes on much longer is given up, and the
    /// producer is of no more use.
    fn call(
        &self,
        name: &str,
        deadline: Instant,
        work: impl FnOnce(&BaseProducer<Context>) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let (answer, answered) = bounded(1);
        let call: Call = Box::new(move |producer| {
            // Nobody waits any more for a call that was given up.
            let _given_up = answer.send(work(producer));
        });
        let until = deadline + GRACE;
        if self.calls.send_deadline(call, until).is_err() {
            return Err(Fault::Unknown(format!("{name}: the call before it has not returned")));
        }
        match answered.recv_deadline(until) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(Fault::Unknown(format!("{name} did not return in its time"))),
            Err(RecvTimeoutError::Disconnected) => Err(Fault::Unknown(format!("{name} met a panic"))),
        }
    }
}

impl Membership for GroupMetadata {
    fn generation(&self) -> i32 {
        GroupMetadata::generation(self)
    }

    fn member(&self) -> String {
        GroupMetadata::member(self)
    }
}

impl Transactions for TransactionalProducer {
    type Membership = GroupMetadata;

    fn begin(&self) -> Result<(), Fault> {
        self.deliveries.take();
        self.producer.begin_transaction().map_err(|error| classify(&error))
    }

    /// A full queue is waited out.
    fn send(&self, record: &Outgoing<'_>) -> Result<(), Fault> {
        loop {
            match native::produce(self.producer.client(), record) {
                Ok(()) => return Ok(()),
                Err(RDKafkaErrorCode::QueueFull) => {
                    self.producer.poll(Duration::from_millis(1));
                }
                Err(code) => {
                    let text = format!("a record for {}: {code}", record.topic.to_string_lossy());
                    return Err(classify_code(code, text));
                }
            }
        }
    }

    fn drain(&self, timeout: Duration) -> Result<Vec<Delivered>, Fault> {
        let begun = Instant::now();
        let flush: Call = Box::new(move |producer| native::flush(producer.client(), timeout));
        if self.calls.try_send(flush).is_err() {
            return Err(Fault::Unknown("sending: the call before it has not returned".into()));
        }
        // Waiting inside librdkafka is in slices of 100 ms while a record is in flight, hence the polls; the longer it has
        // taken, the fewer.
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::ZERO);
            let waited = begun.elapsed();
            if self.producer.in_flight_count() > 0 {
                std::thread::sleep((waited / 16).clamp(POLL_MIN, POLL_MAX));
            }
            if waited > timeout {
                return Err(Fault::Abort(format!("records were not acknowledged within {timeout:?}")));
            }
        }
        self.producer.poll(Duration::ZERO);
        let reported = self.deliveries.take();
        match reported.failed {
            None => Ok(reported.delivered),
            Some((code, text)) => Err(classify_code(code, text)),
        }
    }

    fn send_offsets(
        &self,
        membership: GroupMetadata,
        offsets: &[(&str, i32, i64)],
        timeout: Duration,
    ) -> Result<(), Fault> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (topic, partition, next) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*next))
                .map_err(|error| Fault::Abort(error.to_string()))?;
        }
        self.call("sending offsets", Instant::now() + timeout, move |producer| {
            membership.send_offsets(producer.client(), &list, timeout).map_err(|fault| classify_fault(&fault))
        })
    }

    fn commit(&self, timeout: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + timeout;
        self.call("the commit", deadline, move |producer| {
            until(deadline, |left| producer.commit_transaction(left)).map_err(|error| classify(&error))
        })
    }

    fn abort(&self, timeout: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + timeout;
        self.call("the abort", deadline, move |producer| {
            until(deadline, |left| producer.abort_transaction(left)).map_err(|error| unless_fenced(&error))
        })
    }
}

/// Makes a call again while its fault allows it and there is time.
fn until(deadline: Instant, call: impl Fn(Duration) -> KafkaResult<()>) -> KafkaResult<()> {
    loop {
        match call(deadline.saturating_duration_since(Instant::now())) {
            Err(error) if is_retriable(&error) && Instant::now() < deadline => {}
            result => return result,
        }
    }
}

/// The instance's side of the cluster: its consumer, and how its producers are made.
pub struct Instance {
    pub config: ClientConfig,
    /// The group's consumer.
    pub consumer: Arc<BaseConsumer<consumer::Context>>,
    /// Topics whose records' places matter: the journal and the state.
    pub watched: [String; 2],
}

impl Machine for Instance {}

impl Cluster for Instance {
    type Membership = GroupMetadata;
    type Producer = TransactionalProducer;

    fn membership(&self) -> Option<GroupMetadata> {
        GroupMetadata::of(&self.consumer)
    }

    fn open(&self, timeout: Duration) -> Result<TransactionalProducer, Fault> {
        TransactionalProducer::open(&self.config, self.watched.clone(), timeout)
    }
}

/// A topic's name as librdkafka takes it.
pub fn topic_name(topic: &str) -> CString {
    CString::new(topic).expect("configuration refuses topic names with NUL")
}

fn classify_fault(fault: &TransactionFault) -> Fault {
    if fault.fatal {
        return match fault.code {
            RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced => Fault::Fenced(fault.text.clone()),
            _ => Fault::Unknown(fault.text.clone()),
        };
    }
    // A refused generation, a timeout: nothing was committed, and an abort makes that certain.
    Fault::Abort(fault.text.clone())
}

fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_retriable())
}

fn classify(error: &KafkaError) -> Fault {
    match error {
        KafkaError::Transaction(inner) if !inner.is_fatal() && inner.txn_requires_abort() => {
            Fault::Abort(error.to_string())
        }
        _ => unless_fenced(error),
    }
}

fn unless_fenced(error: &KafkaError) -> Fault {
    let code = match error {
        KafkaError::Transaction(inner) => inner.code(),
        other => other.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
    };
    match code {
        RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced => Fault::Fenced(error.to_string()),
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            Fault::Hopeless(code, error.to_string())
        }
        _ => Fault::Unknown(error.to_string()),
    }
}

fn classify_code(code: RDKafkaErrorCode, text: String) -> Fault {
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::TopicAuthorizationFailed => {
            Fault::Hopeless(code, text)
        }
        RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced => Fault::Fenced(text),
        RDKafkaErrorCode::Fatal | RDKafkaErrorCode::State => Fault::Unknown(text),
        _ => Fault::Abort(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After days without a transaction the coordinator has forgotten the id, which is fatal to the client and to nobody
    /// else: an unknown outcome has the producer made anew.
    #[test]
    fn only_a_fence_is_a_fence() {
        let fault = |code, fatal: bool| {
            let text = String::new();
            classify_fault(&TransactionFault { code, retriable: false, requires_abort: !fatal, fatal, text })
        };
        for code in [RDKafkaErrorCode::InvalidProducerIdMapping, RDKafkaErrorCode::UnknownProducerId] {
            assert!(matches!(fault(code, true), Fault::Unknown(_)), "{code}");
            assert!(matches!(fault(code, false), Fault::Abort(_)), "{code}");
            assert!(matches!(classify_code(code, String::new()), Fault::Abort(_)), "{code}");
        }
        assert!(matches!(fault(RDKafkaErrorCode::ProducerFenced, true), Fault::Fenced(_)));
        assert!(matches!(classify_code(RDKafkaErrorCode::Fatal, String::new()), Fault::Unknown(_)));
    }
}
