//! Asks the leaders where topics end: before a timer fires, and now and then for the lag and for transactions that hang.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::clock;
use super::group::Shards;
use super::held_back::HeldBack;
use super::message::ToShard;
use super::shard::EndsQuestion;
use crate::commit::Stop;
use crate::commit::kafka::Log;
use crate::commit::ownership::Ownership;
use crate::commit::reader::Reader;
use crate::config::daemon::Topics;
use crate::telemetry::Metrics;

const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// A transaction hangs for a minute before anybody is told, so that these questions need not be asked often.
const HELD_BACK_EVERY: Duration = Duration::from_secs(5);

pub struct Ends {
    pub reader: Reader,
    pub topics: Topics,
    pub shards: Shards,
    pub ownership: Arc<Ownership>,
    pub known: Arc<Mutex<BTreeMap<i32, [i64; 2]>>>,
    pub metrics: Arc<Metrics>,
}

impl Ends {
    pub fn run(self, questions: &Receiver<EndsQuestion>) {
        let (mut refreshed, mut looked) = (Instant::now(), Instant::now());
        let mut held_back = HeldBack::default();
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
            if looked.elapsed() >= HELD_BACK_EVERY && questions.is_empty() {
                looked = Instant::now();
                if let Err(stop) = self.look_for_open(&mut held_back, questions) {
                    tracing::debug!("open transactions are not looked for: {stop}");
                }
            }
        }
    }

    /// How long transactions have held back the ends of the topics that are read. A question of a timer goes first: the
    /// partitions behind the one that it interrupts come the next time.
    fn look_for_open(&self, held_back: &mut HeldBack, questions: &Receiver<EndsQuestion>) -> Result<(), Stop> {
        let topics = [&self.topics.usage, &self.topics.accounts, &self.topics.journal, &self.topics.state];
        let mut partitions = self.metrics.partitions();
        let first = partitions.iter().position(|(partition, _)| *partition >= held_back.next).unwrap_or(0);
        partitions.rotate_left(first);
        for (partition, metrics) in partitions {
            held_back.next = partition;
            if !questions.is_empty() {
                return Ok(());
            }
            for (index, (topic, gauge)) in topics.into_iter().zip(&metrics.held_back_seconds).enumerate() {
                let (_, high) = self.reader.watermarks(topic, partition)?;
                let stable = self.reader.stable_end(topic, partition)?;
                let held = held_back.seen(index, partition, high, stable, Instant::now());
                gauge.set(held.as_secs() as i64);
            }
        }
        Ok(())
    }

    /// By `Input::index`.
    fn ask(&self, partition: i32) -> Result<[i64; 2], Stop> {
        Ok([
            self.reader.stable_end(&self.topics.accounts, partition)?,
            self.reader.stable_end(&self.topics.usage, partition)?,
        ])
    }
}
