//! The journal: for each commit and partition with work, what was folded and how. The truth about positions.
//!
//! Format: a version byte, then postcard. A record is written in the same Kafka transaction as the notices of its batch,
//! so it exists exactly if they do. The first record of a partition is its genesis; the first of each owner is an empty
//! claim. Sequences count 1, 2, 3, ... without gaps over all owners.

use serde::{Deserialize, Serialize};

use super::accepted::Accepted;
use crate::engine::Ms;
use crate::ingest::raw::Input;
use crate::shard::{Cursor, IdentityKey};

const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalRecord {
    pub sequence: u64,
    /// Random for each attempt to commit: after an unknown outcome it tells one's own record from another's.
    pub attempt: u128,
    pub writer: Writer,
    /// A digest of the cluster, topics, partition count and group it belongs to.
    pub place: [u8; 16],
    /// In the first record only; the state topic keeps it.
    pub genesis: Option<Genesis>,
    /// What was folded, in order.
    pub runs: Vec<Run>,
    /// After this batch.
    pub end: Position,
    /// Identities of the usage records that took effect, with their times.
    pub accepted: Accepted,
    /// For each account with notices in this batch: 32 bits of its id's hash, a digest of the notices.
    pub digests: Vec<(u32, u32)>,
    /// A checksum over offset, time, key and value of the inputs that were folded.
    pub input_checksum: u32,
    /// The fold configuration under which the batch was folded; stored in the state topic by this hash.
    pub configuration: [u8; 16],
    pub engine_revision: u32,
    /// No account is dirty since before this batch: a replay begins with it.
    pub horizon: u64,
    /// A journal offset at or before the record `horizon - 1` and the first record whose identities are still needed.
    pub needed_from: i64,
    /// Identities are complete for records not older than this.
    pub oldest: Ms,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    pub group: String,
    pub instance: String,
    pub generation: i32,
    pub version: String,
    /// Base URL of the instance's HTTP server, for readers that come to another one.
    pub advertise: Option<String>,
}

/// What a partition's journal belongs to. Compared at each start and recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    pub cluster: String,
    /// Topic names with their ids, in the order usage, accounts, events, dlq, journal, state.
    pub topics: Vec<(String, String)>,
    pub partitions: i32,
    pub group: String,
    pub start: [i64; 2],
    pub identity_key: IdentityKey,
}

/// Where the fold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next offset of each input, by `Input::index`.
    pub next: [i64; 2],
    pub clock: Ms,
    /// All timers at or before it have fired.
    pub cursor: Cursor,
}

/// One step of the interleaving as it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Run {
    /// Records of one input, up to and without the offset `until`, folded under one sample of the wall clock.
    Records { input: Input, until: i64, wall: Ms },
    /// The clock was moved to this by timers that came due.
    Tick { clock: Ms },
}

#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("an empty value; a journal record begins with a version byte")]
    Empty,
    #[error("version {found}; this meterd reads version {VERSION}: start the version of meterd that wrote it")]
    Version { found: u8 },
    #[error("not decodable as version {VERSION}: {0}")]
    Content(postcard::Error),
}

impl JournalRecord {
    pub fn encode(&self) -> Vec<u8> {
        let size = 256 + self.accepted.0.len() * 20 + self.digests.len() * 10 + self.runs.len() * 20;
        let mut bytes = Vec::with_capacity(size);
        bytes.push(VERSION);
        postcard::to_extend(self, bytes).expect("encoding into memory has no way to fail")
    }

    /// Whether anything was folded that may come out otherwise in another version; a claim has nothing.
    pub fn has_outcome(&self) -> bool {
        !self.runs.is_empty() || !self.digests.is_empty()
    }

    pub fn decode(bytes: &[u8]) -> Result<JournalRecord, FormatError> {
        match bytes.split_first() {
            None => Err(FormatError::Empty),
            Some((&VERSION, content)) => postcard::from_bytes(content).map_err(FormatError::Content),
            Some((&found, _)) => Err(FormatError::Version { found }),
        }
    }
}

impl Position {
    pub fn at(start: [i64; 2]) -> Position {
        Position { next: start, clock: Ms::MIN, cursor: Cursor::START }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Identity;

    #[test]
    fn a_record_survives_encoding() {
        let record = JournalRecord {
            sequence: 7,
            attempt: 1 << 100,
            writer: Writer {
                group: "g".into(),
                instance: "a".into(),
                generation: 3,
                version: "0.1.0".into(),
                advertise: None,
            },
            place: [8; 16],
            genesis: None,
            runs: vec![Run::Records { input: Input::Usage, until: 12, wall: 99 }, Run::Tick { clock: 100 }],
            end: Position { next: [4, 12], clock: 100, cursor: Cursor::through(100) },
            accepted: Accepted(vec![(Identity { high: 1, low: u64::MAX }, -5)]),
            digests: vec![(1, 2)],
            input_checksum: 9,
            configuration: [3; 16],
            engine_revision: 1,
            horizon: 6,
            needed_from: 40,
            oldest: Ms::MIN,
        };
        assert_eq!(JournalRecord::decode(&record.encode()).expect("decodes"), record);
    }

    #[test]
    fn an_unknown_version_is_told() {
        assert!(matches!(JournalRecord::decode(&[9, 0]), Err(FormatError::Version { found: 9 })));
        assert!(matches!(JournalRecord::decode(&[]), Err(FormatError::Empty)));
        assert!(matches!(JournalRecord::decode(&[VERSION, 1]), Err(FormatError::Content(_))));
    }
}
