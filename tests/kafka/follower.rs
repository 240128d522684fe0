//! A reader of the notices that judges them as they come: a read_committed consumer that shares nothing with meterd.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::log;

/// What it found wrong, and how much it read.
#[derive(Debug, Default)]
pub struct Judged {
    pub notices: u64,
    /// Notices that came again, and gaps in the sequence of an account.
    pub doubled: u64,
    pub lost: u64,
    /// The first of them.
    pub first: Option<String>,
    sequences: HashMap<String, u64>,
}

/// Follows the topic until it is told to stop, and then to its end.
pub fn follow(broker: &str, topic: &str, stop: &AtomicBool) -> Judged {
    let reader = log::consumer(broker, log::Isolation::Committed);
    let mut assignment = TopicPartitionList::new();
    for partition in 0..log::partitions(broker, topic) {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("the partition is new to the list");
    }
    reader.assign(&assignment).expect("partitions can be assigned");
    let mut judged = Judged::default();
    let mut quiet = 0;
    // Leaders that go away are no fault of the notices: the client finds the next ones by itself.
    while !stop.load(Ordering::Relaxed) || quiet < 20 {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                quiet = 0;
                judged.take(message.payload().expect("a notice has a value"), message.partition(), message.offset());
            }
            _ => quiet += 1,
        }
    }
    judged
}

impl Judged {
    fn take(&mut self, value: &[u8], partition: i32, offset: i64) {
        let notice: Value = serde_json::from_slice(value).expect("a notice is JSON");
        let account = notice["subject"].as_str().expect("a notice has a subject");
        let sequence = notice["data"]["sequence"].as_u64().expect("a notice has a sequence");
        assert_eq!(notice["id"], format!("{account}/{sequence}"), "at {partition}/{offset}");
        let last = self.sequences.entry(account.to_owned()).or_insert(0);
        if sequence != *last + 1 {
            let wrong = if sequence <= *last { &mut self.doubled } else { &mut self.lost };
            *wrong += 1;
            let text = format!("after {account}/{last} came {} at {partition}/{offset}", notice["id"]);
            self.first.get_or_insert(text);
        }
        *last = sequence.max(*last);
        self.notices += 1;
    }
}
