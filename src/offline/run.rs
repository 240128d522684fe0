//! One partition, its inputs given one by one.

use std::sync::Arc;

use bumpalo::Bump;
use serde::Serialize;

use super::line::Topic;
use crate::engine::effects::{Reason, Refusal};
use crate::engine::{Catalog, Catalogs, Ms, Notice, Outcome};
use crate::ingest::decode::Raw;
use crate::query::view::{View, view};
use crate::shard::{Gate, IdentityKey, Partition, Read, Rules, Sink};
use crate::wire::notice::{CauseInput, Envelope, write_notice};

/// Of a record's value, as in the daemon's default config.
const RECORD_BYTES_MAX: usize = 65_536;
/// The source of notices.
const SOURCE: &str = "meterd/simulate";
/// How often what only the daemon needs is let go.
const INPUTS_BETWEEN_RELEASES: u64 = 4_096;

/// Receives what a run gives, in order.
pub trait Listener {
    /// A notice as the JSON of a record in `meter.events`.
    fn notice(&mut self, json: &[u8]);
    fn quarantined(&mut self, quarantined: &Quarantined<'_>);
}

#[derive(Debug, Serialize)]
pub struct Quarantined<'a> {
    pub topic: &'static str,
    pub offset: i64,
    pub reason: &'static str,
    pub message: &'a str,
}

pub struct Run {
    partition: Partition,
    gate: Gate,
    inputs: u64,
    /// Of usage, of accounts.
    next_offset: [i64; 2],
    quiet: bool,
    json: Vec<u8>,
    counts: Counts,
}

/// What became of the inputs.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub applied: u64,
    pub duplicate: u64,
    pub failed: u64,
    pub commands: u64,
    pub rejected: u64,
    /// By place in [`Reason::ALL`].
    pub quarantined: [u64; Reason::ALL.len()],
    pub notices: u64,
}

impl Run {
    /// `quiet`: notices are counted only.
    pub fn new(catalog: Arc<Catalog>, quiet: bool) -> Run {
        Run {
            partition: Partition::new(
                Catalogs::new(catalog),
                Rules::of_one_partition(RECORD_BYTES_MAX),
                IdentityKey::default(),
            ),
            gate: Gate::Live,
            inputs: 0,
            next_offset: [0, 0],
            quiet,
            json: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Moves the clock, if it is before `at`, and fires what is due.
    pub fn pass_time(&mut self, at: Ms, listener: &mut impl Listener) {
        self.partition.pass_time(at);
        let mut told = Told { cause: None, quiet: self.quiet, json: &mut self.json, count: 0, listener };
        self.partition.fire_due(&self.gate, usize::MAX, &mut told);
        self.counts.notices += told.count;
    }

    /// Reads a usage record.
    pub fn read<'a>(&mut self, raw: &Raw<'a>, arena: &'a Bump) -> Result<Read<'a>, Refusal> {
        self.partition.read(raw, arena)
    }

    /// See `Partition::fetch`.
    pub fn fetch<'r, 'a: 'r>(&self, reads: impl Iterator<Item = &'r Read<'a>> + Clone) {
        self.partition.fetch(reads);
    }

    /// Folds an input at its Kafka timestamp. Gives why it was quarantined, if it was.
    pub fn fold(&mut self, topic: Topic, raw: &Raw<'_>, listener: &mut impl Listener) -> Option<Refusal> {
        self.take(topic, raw.timestamp, listener, |partition, gate, told| match topic {
            Topic::Usage => partition.usage(raw, raw.timestamp, gate, told),
            Topic::Accounts => partition.command(raw, raw.timestamp, gate, told),
        })
    }

    /// Folds a usage record that was read.
    pub fn fold_read(
        &mut self,
        timestamp: Ms,
        read: &Result<Read<'_>, Refusal>,
        listener: &mut impl Listener,
    ) -> Option<Refusal> {
        self.take(Topic::Usage, timestamp, listener, |partition, gate, told| {
            partition.fold(read, timestamp, gate, told)
        })
    }

    #[inline]
    fn take<L: Listener>(
        &mut self,
        topic: Topic,
        timestamp: Ms,
        listener: &mut L,
        fold: impl FnOnce(&mut Partition, &mut Gate, &mut Told<'_, L>) -> Outcome,
    ) -> Option<Refusal> {
        self.pass_time(timestamp, listener);
        let next = &mut self.next_offset[topic as usize];
        let offset = *next;
        *next += 1;
        let cause = Some((topic, offset));
        let mut told = Told { cause, quiet: self.quiet, json: &mut self.json, count: 0, listener };
        let outcome = fold(&mut self.partition, &mut self.gate, &mut told);
        self.counts.notices += told.count;
        self.inputs += 1;
        if self.inputs.is_multiple_of(INPUTS_BETWEEN_RELEASES) {
            self.partition.release_accepted();
        }
        match (outcome, topic) {
            (Outcome::Applied, Topic::Usage) => self.counts.applied += 1,
            (Outcome::Applied, Topic::Accounts) => self.counts.commands += 1,
            (Outcome::Failed, _) => self.counts.failed += 1,
            (Outcome::Duplicate, _) => self.counts.duplicate += 1,
            (Outcome::Rejected(_), _) => self.counts.rejected += 1,
            (Outcome::Refused(refusal), _) => {
                self.counts.quarantined[refusal.reason as usize] += 1;
                listener.quarantined(&Quarantined {
                    topic: topic.short_name(),
                    offset,
                    reason: refusal.reason.name(),
                    message: &refusal.message,
                });
                return Some(refusal);
            }
        }
        None
    }

    /// Inputs taken.
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// An account as it is at the clock, if it exists.
    pub fn account(&self, id: &str) -> Option<View> {
        view(self.partition.catalogs(), id, &*self.partition.find(id)?, self.partition.clock())
    }

    /// The ids of the accounts that exist, by bytes.
    pub fn account_ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.partition.accounts().ids().collect();
        ids.sort_unstable();
        ids
    }

    /// Inputs whose changes broke conservation since this was last asked: a bug if there are any.
    pub fn take_violations(&mut self) -> u64 {
        self.partition.take_violations()
    }
}

/// Turns what the fold tells into the text of notices.
struct Told<'a, L> {
    cause: Option<(Topic, i64)>,
    quiet: bool,
    json: &'a mut Vec<u8>,
    count: u64,
    listener: &'a mut L,
}

impl<L: Listener> Sink for Told<'_, L> {
    fn told(&mut self, account: &str, input: Option<(&str, &str)>, notices: &[Notice]) {
        self.count += notices.len() as u64;
        if self.quiet {
            return;
        }
        let cause = self.cause.zip(input).map(|((topic, offset), (id, source))| CauseInput {
            topic: topic.name(),
            partition: 0,
            offset,
            id,
            source,
        });
        let envelope = Envelope { account, source: SOURCE, cause };
        for notice in notices {
            self.json.clear();
            write_notice(self.json, &envelope, notice);
            self.listener.notice(self.json);
        }
    }

    fn is_full(&self) -> bool {
        false
    }
}
