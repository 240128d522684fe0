//! Asks the leaders where the inputs end: before a timer fires, and now and then for the lag.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::clock;
use super::group::Shards;
use super::message::ToShard;
use super::shard::EndsQuestion;
use crate::commit::Stop;
use crate::commit::kafka::Log;
use crate::commit::ownership::Ownership;
use crate::commit::reader::Reader;
use crate::config::daemon::Topics;

const REFRESH_EVERY: Duration = Duration::from_secs(2);

pub struct Ends {
    pub reader: Reader,
    pub topics: Topics,
    pub shards: Shards,
    pub ownership: Arc<Ownership>,
    pub known: Arc<Mutex<BTreeMap<i32, [i64; 2]>>>,
}

impl Ends {
    pub fn run(self, questions: &Receiver<EndsQuestion>) {
        let mut refreshed = Instant::now();
        loop {
            match questions.recv_timeout(REFRESH_EVERY) {
                Ok(question) => {
                    // A timer may fire as far as the instant at which the question was sent, no farther.
                    let asked = clock::wall();
                    match self.ask(question.partition) {
                        Ok(ends) => {
                            let EndsQuestion { partition, epoch } = question;
                            self.shards.send(partition, ToShard::Ends { partition, epoch, ends, asked });
                        }
                        Err(stop) => tracing::warn!(partition = question.partition, "timers wait: {stop}"),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if refreshed.elapsed() >= REFRESH_EVERY && questions.is_empty() {
                refreshed = Instant::now();
                let mut known = BTreeMap::new();
                for partition in self.ownership.partitions() {
                    if let Ok(ends) = self.ask(partition) {
                        known.insert(partition, ends);
                    }
                }
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
            }
        }
    }

    /// By `Input::index`.
    fn ask(&self, partition: i32) -> Result<[i64; 2], Stop> {
        Ok([
            self.reader.stable_end(&self.topics.accounts, partition)?,
            self.reader.stable_end(&self.topics.usage, partition)?,
        ])
    }
}
