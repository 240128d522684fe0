//! The only unsafe code: what librdkafka and the allocator offer and their Rust wrappers do not.
//!
//! - Polling the consumer's event queue, so that an end-of-partition event keeps its offset and header keys may be any
//!   bytes (the wrapper drops the one and panics on the other).
//! - Group metadata whose generation can be looked at before offsets are sent with it.
//! - Producing records whose header keys are any bytes.
//! - Topic ids and the cluster id, which tie a journal to its topics.
//! - Sending a transaction's records all at once.
//! - How soon the allocator gives memory back.
//!
//! Why it is sound: every pointer comes from librdkafka and is used while the wrapper's client, which is borrowed or
//! held, keeps its `rd_kafka_t` alive; librdkafka's functions used here are safe to call from any thread; what it says
//! the caller owns is freed by the `Drop` of a struct of this module; what it lends with an event is read only while
//! the event is held.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::time::Duration;
use std::{ptr, slice};

use rdkafka::TopicPartitionList;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use sys::types::RDKafkaRespErr;

use super::raw::RawBatch;

/// What a poll found.
pub enum Event<'a> {
    Record(Record<'a>),
    /// The end of a partition as a read_committed reader sees it: the next record will have this offset or a later one.
    End {
        topic: &'a str,
        partition: i32,
        offset: i64,
    },
    /// Partitions were given to this member of the group. The wrapper's `incremental_assign` must be called.
    Assign(TopicPartitionList),
    /// Partitions are taken; `lost`: they may have another owner already. `incremental_unassign` must be called.
    Revoke {
        partitions: TopicPartitionList,
        lost: bool,
    },
    Error {
        code: RDKafkaErrorCode,
        fatal: bool,
        text: String,
    },
}

/// A record in the client's buffer.
pub struct Record<'a> {
    message: &'a sys::rd_kafka_message_t,
}

/// The event queue of a consumer. While it is used the wrapper's own `poll` must not be.
pub struct Events<'c, C: ConsumerContext> {
    consumer: &'c BaseConsumer<C>,
    queue: *mut sys::rd_kafka_queue_t,
    held: *mut sys::rd_kafka_event_t,
    topic: String,
}

impl<'c, C: ConsumerContext> Events<'c, C> {
    pub fn of(consumer: &'c BaseConsumer<C>) -> Events<'c, C> {
        // SAFETY: the client lives as long as the borrow; the queue reference is given back in `drop`.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        assert!(!queue.is_null(), "a consumer with a group id has a consumer queue");
        Events { consumer, queue, held: ptr::null_mut(), topic: String::new() }
    }

    /// The next event, waiting at most `timeout`. What it lends is valid until the next call.
    pub fn poll(&mut self, timeout: Duration) -> Option<Event<'_>> {
        self.release();
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is ours; the event is held until `release`.
        unsafe {
            self.held = sys::rd_kafka_queue_poll(self.queue, timeout_ms);
            if self.held.is_null() {
                return None;
            }
            match sys::rd_kafka_event_type(self.held) {
                sys::RD_KAFKA_EVENT_FETCH => {
                    let message = sys::rd_kafka_event_message_next(self.held);
                    message.as_ref().map(|message| Event::Record(Record { message }))
                }
                sys::RD_KAFKA_EVENT_ERROR => self.error(),
                sys::RD_KAFKA_EVENT_REBALANCE => self.rebalance(),
                _ => None,
            }
        }
    }

    /// # Safety
    /// An error event is held.
    unsafe fn error(&mut self) -> Option<Event<'_>> {
        // SAFETY: the event is held; the topic-partition is ours to free; its topic is read before.
        unsafe {
            let code = sys::rd_kafka_event_error(self.held);
            if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF {
                let place = sys::rd_kafka_event_topic_partition(self.held);
                let (partition, offset) = ((*place).partition, (*place).offset);
                self.topic = CStr::from_ptr((*place).topic).to_string_lossy().into_owned();
                sys::rd_kafka_topic_partition_destroy(place);
                return Some(Event::End { topic: &self.topic, partition, offset });
            }
            let fatal = sys::rd_kafka_event_error_is_fatal(self.held) != 0;
            let text = text_of(sys::rd_kafka_event_error_string(self.held));
            Some(Event::Error { code: code.into(), fatal, text })
        }
    }

    /// # Safety
    /// A rebalance event is held.
    unsafe fn rebalance(&mut self) -> Option<Event<'_>> {
        // SAFETY: the list belongs to the event, which is held; it is copied.
        unsafe {
            let partitions = copy_list(sys::rd_kafka_event_topic_partition_list(self.held));
            match sys::rd_kafka_event_error(self.held) {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Some(Event::Assign(partitions)),
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                    let lost = sys::rd_kafka_assignment_lost(self.consumer.client().native_ptr()) != 0;
                    Some(Event::Revoke { partitions, lost })
                }
                code => {
                    let text = "a rebalance failed".to_string();
                    Some(Event::Error { code: code.into(), fatal: false, text })
                }
            }
        }
    }

    fn release(&mut self) {
        if !self.held.is_null() {
            // SAFETY: polled by us and not yet destroyed; nothing borrowed from it outlives `&mut self`.
            unsafe { sys::rd_kafka_event_destroy(self.held) };
            self.held = ptr::null_mut();
        }
    }
}

/// The high watermark that came with the last fetch of the partition; -1 or less where none did.
pub fn fetched_high<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &CStr, partition: i32) -> i64 {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives as long as the borrow; the name and both numbers live during the call.
    unsafe {
        let client = consumer.client().native_ptr();
        sys::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high);
    }
    high
}

impl<C: ConsumerContext> Drop for Events<'_, C> {
    fn drop(&mut self) {
        self.release();
        // SAFETY: the reference taken in `of`.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}

impl Record<'_> {
    pub fn topic(&self) -> &str {
        // SAFETY: a fetched message has a topic, whose name lives as long as the message.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.message.rkt)) };
        name.to_str().unwrap_or_default()
    }

    pub fn partition(&self) -> i32 {
        self.message.partition
    }

    pub fn offset(&self) -> i64 {
        self.message.offset
    }

    /// Milliseconds; 0 where the record has none.
    pub fn timestamp(&self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is held by the event.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.message, &mut kind) };
        timestamp.max(0)
    }

    pub fn key(&self) -> Option<&[u8]> {
        bytes_of(self.message.key, self.message.key_len)
    }

    pub fn value(&self) -> Option<&[u8]> {
        bytes_of(self.message.payload, self.message.len)
    }

    /// What kept the record from being read, as a failed checksum.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        (self.message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| self.message.err.into())
    }

    /// Copies the record with its headers to the end of `batch`.
    pub fn copy_to(&self, batch: &mut RawBatch) {
        batch.push(self.offset(), self.timestamp(), self.key(), self.value());
        let mut headers = ptr::null_mut();
        // SAFETY: the headers and what they lend belong to the message; `rd_kafka_header_get_all` fails past the last.
        unsafe {
            if sys::rd_kafka_message_headers(self.message, &mut headers) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            for index in 0..sys::rd_kafka_header_cnt(headers) {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                let found = sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size);
                if found == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    batch.push_header(CStr::from_ptr(name).to_bytes(), bytes_of(value.cast_mut(), size));
                }
            }
        }
    }
}

fn bytes_of<'a>(start: *mut c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: librdkafka gives a null pointer, or one to `length` bytes that live as long as their message.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast_const().cast(), length) })
}

/// # Safety
/// `text` is null or a C string.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// # Safety
/// `list` is null or a list that lives during the call.
unsafe fn copy_list(list: *mut sys::rd_kafka_topic_partition_list_t) -> TopicPartitionList {
    let mut copy = TopicPartitionList::new();
    // SAFETY: as the caller says; `cnt` elements stand at `elems`.
    unsafe {
        if let Some(list) = list.as_ref().filter(|list| list.cnt > 0) {
            for element in slice::from_raw_parts(list.elems, list.cnt as usize) {
                copy.add_partition(&text_of(element.topic), element.partition);
            }
        }
    }
    copy
}

/// Why a transactional call failed (KIP-98: retry it, abort the transaction, or give the producer up).
#[derive(Clone, Debug)]
pub struct TransactionFault {
    pub code: RDKafkaErrorCode,
    pub retriable: bool,
    pub requires_abort: bool,
    pub fatal: bool,
    pub text: String,
}

/// A consumer's membership at one moment, to fence offsets with (KIP-447).
pub struct GroupMetadata {
    metadata: *mut sys::rd_kafka_consumer_group_metadata_t,
}

// SAFETY: the struct owns a plain record of librdkafka's that nothing else refers to.
unsafe impl Send for GroupMetadata {}

impl GroupMetadata {
    pub fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<GroupMetadata> {
        // SAFETY: the client lives as long as the borrow; the copy that is returned is ours.
        let metadata = unsafe { sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
        (!metadata.is_null()).then_some(GroupMetadata { metadata })
    }

    /// -1 before the first join: such metadata fences nothing.
    pub fn generation(&self) -> i32 {
        // SAFETY: owned and not freed before `drop`.
        unsafe { sys::rd_kafka_consumer_group_metadata_generation_id(self.metadata) }
    }

    pub fn member(&self) -> String {
        // SAFETY: as above; the text is copied.
        unsafe { text_of(sys::rd_kafka_consumer_group_metadata_member_id(self.metadata)) }
    }

    /// Adds `offsets` to the producer's transaction. The coordinator refuses a dead generation.
    pub fn send_offsets<C: ClientContext>(
        &self,
        producer: &Client<C>,
        offsets: &TopicPartitionList,
        timeout: Duration,
    ) -> Result<(), TransactionFault> {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: client, list and metadata live during the call; the error that is returned is ours to free.
        unsafe {
            let error = sys::rd_kafka_send_offsets_to_transaction(
                producer.native_ptr(),
                offsets.ptr(),
                self.metadata,
                timeout_ms,
            );
            if error.is_null() {
                return Ok(());
            }
            let fault = TransactionFault {
                code: sys::rd_kafka_error_code(error).into(),
                retriable: sys::rd_kafka_error_is_retriable(error) != 0,
                requires_abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
                fatal: sys::rd_kafka_error_is_fatal(error) != 0,
                text: text_of(sys::rd_kafka_error_string(error)),
            };
            sys::rd_kafka_error_destroy(error);
            Err(fault)
        }
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.metadata) };
    }
}

/// A record to produce; header keys may be any bytes without NUL.
pub struct Outgoing<'a> {
    pub topic: &'a CStr,
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Gives a record to the producer, which copies it. `QueueFull` is normal flow: poll and call again.
pub fn produce<C: ClientContext>(producer: &Client<C>, record: &Outgoing<'_>) -> Result<(), RDKafkaErrorCode> {
    let mut arguments = [
        argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC),
        argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION),
        argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS),
        argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY),
        argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE),
        argument(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS),
    ];
    arguments[0].u.cstr = record.topic.as_ptr();
    arguments[1].u.i32_ = record.partition;
    arguments[2].u.i = sys::RD_KAFKA_MSG_F_COPY;
    arguments[3].u.mem = memory(record.key);
    arguments[4].u.mem = memory(record.value);
    let count = if record.headers.is_empty() { 5 } else { 6 };
    // SAFETY: the arguments' memory lives during the call, which copies it; the headers are librdkafka's if it
    // succeeds and freed here if not; the error that is returned is ours to free.
    unsafe {
        let headers = native_headers(record.headers);
        arguments[5].u.headers = headers;
        let error = sys::rd_kafka_produceva(producer.native_ptr(), arguments.as_ptr(), count);
        if error.is_null() {
            return Ok(());
        }
        if !headers.is_null() {
            sys::rd_kafka_headers_destroy(headers);
        }
        let code = sys::rd_kafka_error_code(error);
        sys::rd_kafka_error_destroy(error);
        Err(code.into())
    }
}

/// Has the producer send what waits, and waits until all of it is acknowledged or `timeout` is over. Another thread must
/// poll the producer meanwhile.
pub fn flush<C: ClientContext>(producer: &Client<C>, timeout: Duration) {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives during the call. That time ran out is seen by whoever polls.
    unsafe { sys::rd_kafka_flush(producer.native_ptr(), timeout_ms) };
}

fn argument(vtype: sys::rd_kafka_vtype_t) -> sys::rd_kafka_vu_t {
    sys::rd_kafka_vu_s { vtype, u: sys::rd_kafka_vu_s__bindgen_ty_1 { _pad: [0; 64] } }
}

fn memory(bytes: Option<&[u8]>) -> sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    let (ptr, size) = bytes.map_or((ptr::null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut().cast(), bytes.len()));
    sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size }
}

/// # Safety
/// The caller frees the headers or gives them to librdkafka.
unsafe fn native_headers(headers: &[(&[u8], Option<&[u8]>)]) -> *mut sys::rd_kafka_headers_t {
    if headers.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: names and values live during the calls, which copy them; an absent value is a null pointer.
    unsafe {
        let native = sys::rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            let (start, size) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            sys::rd_kafka_header_add(native, name.as_ptr().cast(), name.len() as isize, start.cast(), size as isize);
        }
        native
    }
}

/// Memory that was freed goes back to the system after a minute, not at once: buffers come and go with every batch, and to be
/// given a page anew takes longer than to fill it, on virtual machines many times. `MIMALLOC_PURGE_DELAY` comes first.
pub fn keep_freed_memory() {
    /// `mi_option_purge_delay` of mimalloc.h, in milliseconds; memory in arenas, which is all, waits ten times as long.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number in the allocator's table of options, which any thread may do at any time.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, 6_000) };
}

/// The id of the cluster, from cached metadata or asked for.
pub fn cluster_id<C: ClientContext>(client: &Client<C>, timeout: Duration) -> Option<String> {
    // SAFETY: the text is librdkafka's memory given to us; freed after copying.
    unsafe {
        let id = sys::rd_kafka_clusterid(client.native_ptr(), timeout.as_millis() as i32);
        if id.is_null() {
            return None;
        }
        let text = text_of(id);
        sys::rd_kafka_mem_free(client.native_ptr(), id.cast());
        Some(text)
    }
}

/// The ids of topics (KIP-516), in the order given. A topic that was deleted and created again has another id.
pub fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<String>, String> {
    let names: Vec<CString> = topics
        .iter()
        .map(|topic| CString::new(*topic).map_err(|_| format!("topic name {topic:?} has a NUL byte")))
        .collect::<Result<_, _>>()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the names live during the call; queue, collection and event are freed here; what the result lends is read
    // while its event is held.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client.native_ptr());
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(client.native_ptr(), collection, ptr::null(), queue);
        let event = sys::rd_kafka_queue_poll(queue, timeout.as_millis() as i32);
        let ids = if event.is_null() {
            Err("the broker did not describe the topics in time".to_string())
        } else {
            read_topic_ids(event, topics)
        };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_TopicCollection_destroy(collection);
        sys::rd_kafka_queue_destroy(queue);
        ids
    }
}

/// # Safety
/// `event` is held.
unsafe fn read_topic_ids(event: *mut sys::rd_kafka_event_t, topics: &[&str]) -> Result<Vec<String>, String> {
    // SAFETY: the result and what it lends belong to the event.
    unsafe {
        if sys::rd_kafka_event_error(event) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text_of(sys::rd_kafka_event_error_string(event)));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let mut ids = vec![String::new(); topics.len()];
        for topic in slice::from_raw_parts(described, count) {
            let name = text_of(sys::rd_kafka_TopicDescription_name(*topic));
            let error = sys::rd_kafka_TopicDescription_error(*topic);
            if !error.is_null() && sys::rd_kafka_error_code(error) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(format!("topic {name}: {}", text_of(sys::rd_kafka_error_string(error))));
            }
            let id = sys::rd_kafka_TopicDescription_topic_id(*topic);
            if let Some(place) = topics.iter().position(|topic| *topic == name) {
                ids[place] = text_of(sys::rd_kafka_Uuid_base64str(id));
            }
        }
        Ok(ids)
    }
}
