//! What `verify` found out about a partition.

use serde::Serialize;

use super::span::Span;
use crate::commit::Stop;
use crate::telemetry::Tally;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub partition: i32,
    /// `None`: nothing was ever folded.
    pub from: Option<Begin>,
    /// The last batch that was folded again.
    pub through: u64,
    pub batches: u64,
    pub records: u64,
    /// From genesis only: what became of the records.
    pub dispositions: Option<Dispositions>,
    pub notices: u64,
    pub quarantined: u64,
    pub accounts: u64,
    /// Accounts whose checkpoint was compared.
    pub checkpoints: u64,
    pub conservation_violations: u64,
    /// What was not compared, and why.
    pub notes: Vec<String>,
    pub difference: Option<Difference>,
}

/// Where the fold begins.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Begin {
    Genesis,
    /// The checkpoints in the state topic, which are taken as they are; the batches from their horizon on are compared.
    Checkpoint {
        batch: u64,
        why: String,
    },
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Dispositions {
    pub applied: u64,
    pub duplicate: u64,
    pub failed: u64,
    pub rejected: u64,
    pub quarantined: u64,
}

/// The first thing that is not as the fold says.
#[derive(Debug, Default, Serialize)]
pub struct Difference {
    pub what: &'static str,
    pub topic: String,
    pub partition: i32,
    pub offset: Option<i64>,
    pub batch: Option<u64>,
    pub account: Option<String>,
    pub expected: String,
    pub found: String,
}

/// Why comparing ends early.
pub enum Halt {
    Differs(Box<Difference>),
    Stop(Stop),
}

impl Halt {
    pub fn differs(difference: Difference) -> Halt {
        Halt::Differs(Box::new(difference))
    }
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Halt {
        Halt::Stop(stop)
    }
}

impl Report {
    pub fn new(partition: i32) -> Report {
        Report { partition, ..Report::default() }
    }

    pub fn begin(&mut self, span: &Span) {
        self.from = Some(span.begin.clone());
        self.notes.extend(span.note.clone());
    }
}

impl Dispositions {
    pub fn of(tally: &Tally) -> Dispositions {
        let [applied, duplicate, failed] = tally.plain;
        let (rejected, quarantined) = (tally.rejected.iter().sum(), tally.quarantined.iter().sum());
        Dispositions { applied, duplicate, failed, rejected, quarantined }
    }
}

/// Bytes for a message: as text, and not more than a screen of it.
pub fn shown(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 1_500;
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(BYTES_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], bytes.len()),
        None => text.into_owned(),
    }
}
