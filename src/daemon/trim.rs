//! Trims the journal: it is kept by what horizon and identities need, never by time.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use super::sink::Needed;

const TRIM_EVERY: Duration = Duration::from_secs(60);
/// Offsets that must have become free before a partition is trimmed again.
const WORTH: i64 = 256;

pub struct Trim {
    pub admin: AdminClient<DefaultClientContext>,
    pub journal: String,
    pub needed: Needed,
}

impl Trim {
    /// Until the channel ends.
    pub fn run(self, stop: &Receiver<()>) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            tracing::warn!("the journal is not trimmed: the system gives no runtime");
            return;
        };
        let mut done: BTreeMap<i32, i64> = BTreeMap::new();
        let mut warned: Option<Instant> = None;
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(TRIM_EVERY) {
            let needed = self.needed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut list = TopicPartitionList::new();
            for (partition, offset) in &needed {
                if offset - done.get(partition).copied().unwrap_or(0) >= WORTH {
                    // The only error is an offset that is none.
                    let _never = list.add_partition_offset(&self.journal, *partition, Offset::Offset(*offset));
                }
            }
            if list.count() == 0 {
                continue;
            }
            let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
            match runtime.block_on(self.admin.delete_records(&list, &options)) {
                Ok(result) => {
                    for element in result.elements() {
                        match element.error() {
                            Ok(()) => {
                                done.insert(element.partition(), needed[&element.partition()]);
                            }
                            Err(error) => warn(&mut warned, &self.journal, &error.to_string()),
                        }
                    }
                }
                Err(error) => warn(&mut warned, &self.journal, &error.to_string()),
            }
        }
    }
}

/// Once an hour.
fn warn(warned: &mut Option<Instant>, journal: &str, error: &str) {
    if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(3_600)) {
        *warned = Some(Instant::now());
        tracing::warn!(journal, error, "the journal cannot be trimmed and grows: meterd needs DELETE on it");
    }
}
