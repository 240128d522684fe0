//! What commits and recovery need of Kafka, and of the machine they run on. Two implement it: librdkafka's clients
//! ([`super::producer`], [`super::reader`]), and the simulated log of `tests/simulation`.

use std::time::{Duration, Instant};

use super::producer::{Delivered, Fault};
use super::reader::Stretch;
use super::stop::Stop;
use crate::ingest::native::Outgoing;
use crate::ingest::raw::RawBatch;

/// Time and chance: the real ones, unless an implementor has its own.
pub trait Machine {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Random bytes that no other process draws.
    fn draw(&self) -> Result<[u8; 16], Stop> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| Stop::bug(format!("expected random numbers from the system, found {error}")))?;
        Ok(bytes)
    }
}

/// What the committer uses: its membership of the consumer group, and producers.
pub trait Cluster: Machine {
    type Membership: Membership;
    type Producer: Transactions<Membership = Self::Membership>;

    /// Generation and member as they are now.
    fn membership(&self) -> Option<Self::Membership>;

    /// Creates the producer of the instance's transactional id and initialises it, which ends what a predecessor of the
    /// same id left open.
    fn open(&self, timeout: Duration) -> Result<Self::Producer, Fault>;
}

/// A membership of the consumer group at one moment, to fence offsets with (KIP-447).
pub trait Membership {
    /// -1 before the first join: such a membership fences nothing.
    fn generation(&self) -> i32;
    /// Empty before the first join.
    fn member(&self) -> String;
}

/// One transaction after the other.
pub trait Transactions {
    type Membership;

    fn begin(&self) -> Result<(), Fault>;

    /// Adds a record to the transaction.
    fn send(&self, record: &Outgoing<'_>) -> Result<(), Fault>;

    /// Waits until every record of the transaction is acknowledged; gives the place of the last one in each partition of
    /// journal and state.
    fn drain(&self, timeout: Duration) -> Result<Vec<Delivered>, Fault>;

    /// Adds the next offsets of topics and partitions. The coordinator refuses a dead generation.
    fn send_offsets(
        &self,
        membership: Self::Membership,
        offsets: &[(&str, i32, i64)],
        timeout: Duration,
    ) -> Result<(), Fault>;

    fn commit(&self, timeout: Duration) -> Result<(), Fault>;

    /// Only an abort that is acknowledged makes sending the same records again safe.
    fn abort(&self, timeout: Duration) -> Result<(), Fault>;
}

/// What recovery uses: committed records, and questions for offsets.
pub trait Log: Machine {
    /// Low and high watermark, uncommitted records included.
    fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), Stop>;

    /// The offset after the last record that a read_committed reader may have, open transactions excluded.
    fn stable_end(&self, topic: &str, partition: i32) -> Result<i64, Stop>;

    /// The group's offset of each topic in a partition, once no transaction is pending on it; `None`: never committed.
    fn stable_offsets(&self, topics: [&str; 2], partition: i32) -> Result<[Option<i64>; 2], Stop>;

    /// Gives each committed record of the stretch to `take`, in order, until the end of the stretch was seen.
    fn read(&self, stretch: Stretch<'_>, take: Take<'_>) -> Result<(), Stop>;
}

/// Takes the records of a stretch.
pub type Take<'a> = &'a mut dyn FnMut(&dyn LogRecord) -> Result<(), Stop>;

/// A record as it stands in a partition.
pub trait LogRecord {
    fn offset(&self) -> i64;
    fn key(&self) -> Option<&[u8]>;
    fn value(&self) -> Option<&[u8]>;
    /// Copies the record with its time and headers to the end of `batch`.
    fn copy_to(&self, batch: &mut RawBatch);
}
