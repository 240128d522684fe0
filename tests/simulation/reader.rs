//! Recovery's side of the seam.

use std::time::{Duration, Instant};

use meterd::commit::Stop;
use meterd::commit::kafka::{Log, LogRecord, Machine, Take};
use meterd::commit::reader::Stretch;
use meterd::ingest::raw::RawBatch;

use super::log::{Entry, Topic};
use super::sim::{Thread, Unreachable, steady};

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const STALL_MAX_MS: i64 = 30_000;
/// Records read at once.
const FETCH: usize = 64;

pub struct SimReader<'y>(pub Thread<'y>);

impl Machine for SimReader<'_> {
    fn now(&self) -> Instant {
        steady(self.0.now())
    }

    fn sleep(&self, time: Duration) {
        self.0.sleep(time);
    }

    fn draw(&self) -> Result<[u8; 16], Stop> {
        Ok(self.0.draw())
    }
}

impl SimReader<'_> {
    fn reach(&self, what: &str) -> Result<(), Stop> {
        self.0.reach(CALL_TIMEOUT).map_err(|Unreachable| Stop::broker(format!("{what}: no answer")))
    }
}

impl Log for SimReader<'_> {
    fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), Stop> {
        self.reach(topic)?;
        let sim = self.0.sim.borrow();
        let log = sim.broker.log(Topic::of(topic), partition);
        Ok((log.start(), log.high()))
    }

    fn stable_end(&self, topic: &str, partition: i32) -> Result<i64, Stop> {
        self.reach(topic)?;
        Ok(self.0.sim.borrow().broker.log(Topic::of(topic), partition).stable_end())
    }

    fn stable_offsets(&self, topics: [&str; 2], partition: i32) -> Result<[Option<i64>; 2], Stop> {
        let deadline = self.0.now() + STALL_MAX_MS;
        loop {
            self.reach("offsets")?;
            let found = {
                let sim = self.0.sim.borrow();
                topics.map(|topic| sim.broker.stable_offset((Topic::of(topic), partition)))
            };
            if let [Some(first), Some(second)] = found {
                let name = &self.0.outside.name;
                self.0.sim.borrow().tell(format_args!("{name} sees offsets {found:?} of {partition}"));
                return Ok([first, second]);
            }
            if self.0.now() > deadline {
                return Err(Stop::broker("the group's offsets are not stable"));
            }
            self.0.sleep(Duration::from_millis(100));
        }
    }

    fn read(&self, stretch: Stretch<'_>, take: Take<'_>) -> Result<(), Stop> {
        let Stretch { topic, partition, from, until } = stretch;
        let (mut at, mut progress) = (from, self.0.now());
        while at < until {
            self.reach(topic)?;
            let (found, next) = {
                let sim = self.0.sim.borrow();
                let log = sim.broker.log(Topic::of(topic), partition);
                if at < log.start() {
                    return Err(Stop::data(format!("{topic}/{partition}: offset {at} is before {}", log.start())));
                }
                log.fetch(at, FETCH)
            };
            for entry in found.iter().filter(|entry| entry.offset < until) {
                take(entry)?;
            }
            if next > at {
                (at, progress) = (next, self.0.now());
            } else if self.0.now() - progress > STALL_MAX_MS {
                return Err(Stop::broker(format!("{topic}/{partition} stands still at {at}, before {until}")));
            } else {
                self.0.sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

impl LogRecord for Entry {
    fn offset(&self) -> i64 {
        self.offset
    }

    fn key(&self) -> Option<&[u8]> {
        self.content.key.as_deref()
    }

    fn value(&self) -> Option<&[u8]> {
        self.content.value.as_deref()
    }

    fn copy_to(&self, batch: &mut RawBatch) {
        batch.push(self.offset, self.time, self.key(), self.value());
        for (key, value) in &self.content.headers {
            batch.push_header(key, value.as_deref());
        }
    }
}
