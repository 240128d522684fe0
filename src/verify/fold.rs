//! Folding the batches again, and comparing after each.

use std::time::Instant;

use hashbrown::HashMap;

use super::Progress;
use super::notices::Notices;
use super::quarantine::Quarantine;
use super::report::{Difference, Dispositions, Halt, Report};
use super::span::{Journal, Span};
use super::state::{AsOf, State};
use crate::commit::batch::OpenBatch;
use crate::commit::configuration::FoldConfiguration;
use crate::commit::journal::{JournalRecord, Position, Run};
use crate::commit::kafka::Log;
use crate::commit::reader::Stretch;
use crate::commit::replay::{self, Inputs, clock_of};
use crate::daemon::inspect::Inspection;
use crate::engine::{self, Notice};
use crate::ingest::raw::Input;
use crate::shard::{Gate, Partition, Sink};
use crate::telemetry::Tally;

/// Offsets of the journal read at once.
const JOURNAL_CHUNK: i64 = 512;

/// The fold of a partition, and everything that it is compared with.
pub struct Pass<'r> {
    inspection: &'r Inspection,
    number: i32,
    /// From the first batch when the journal began, else when the span does.
    fold: Option<Partition>,
    position: Position,
    /// The sum of the offsets at which it begins.
    first: i64,
    configuration: Option<[u8; 16]>,
    configurations: HashMap<[u8; 16], FoldConfiguration>,
    whole: bool,
    /// Up to which the checkpoints are complete.
    horizon: u64,
    state: State,
    as_of: AsOf,
    notices: Option<Notices<'r>>,
    quarantine: Option<Quarantine<'r>>,
    /// The last batch that was compared.
    sequence: u64,
    batches: u64,
    records: u64,
    checkpoints: u64,
    tally: Tally,
    /// Where the fold stood in usage after each batch, for the group's offset: the last places, in order.
    stood: Vec<i64>,
    note: Option<String>,
}

impl<'r> Pass<'r> {
    pub fn new(
        inspection: &'r Inspection,
        number: i32,
        span: &Span,
        state: State,
        mut notices: Option<Notices<'r>>,
        quarantine: Option<Quarantine<'r>>,
    ) -> Result<Pass<'r>, Halt> {
        let mut configurations = state.configurations.clone();
        let mut as_of = state.as_of();
        let (fold, position) = match &span.journal {
            Journal::From { genesis, .. } => (None, Position::at(genesis.start)),
            Journal::Tail(tail) => {
                let fold = replay::load(number, state.stored(), tail)?;
                let accounts = fold.accounts();
                for slot in accounts.slots() {
                    if let Some(notices) = &mut notices {
                        notices.loaded(accounts.id(slot), accounts.read(slot, fold.catalogs()).sequence());
                    }
                }
                configurations.extend(tail.configurations.clone());
                // They are what the fold began with.
                as_of.clear();
                (Some(fold), tail.batches().0)
            }
        };
        Ok(Pass {
            inspection,
            number,
            fold,
            position,
            first: position.next.iter().sum(),
            configuration: None,
            configurations,
            whole: span.is_whole(),
            horizon: span.horizon,
            state,
            as_of,
            notices,
            quarantine,
            sequence: 0,
            batches: 0,
            records: 0,
            checkpoints: 0,
            tally: Tally::default(),
            stood: vec![position.next[Input::Usage.index()]],
            note: None,
        })
    }

    pub fn run(&mut self, span: &Span, progress: Progress<'_>) -> Result<(), Halt> {
        let total = span.last().end.next.iter().sum::<i64>() - self.first;
        match &span.journal {
            Journal::Tail(tail) => self.fold_all(tail.batches().1, total, progress),
            Journal::From { offset, genesis } => {
                let recovery = &self.inspection.recovery;
                let mut from = *offset;
                while from <= span.end.0 && self.note.is_none() {
                    let until = (from + JOURNAL_CHUNK).min(span.end.0 + 1);
                    let stretch = Stretch { topic: &recovery.topics.journal, partition: self.number, from, until };
                    let mut records = Vec::new();
                    recovery.reader.read(stretch, &mut |record| {
                        let value = record.value().unwrap_or_default();
                        records.push((record.offset(), recovery.decode(self.number, record.offset(), value)?));
                        Ok(())
                    })?;
                    if self.fold.is_none()
                        && let Some((_, record)) = records.first()
                    {
                        let configuration = self.configuration_of(record)?;
                        self.fold = Some(replay::partition(configuration, self.number, genesis.identity_key)?);
                    }
                    self.fold_all(&records, total, progress)?;
                    from = until;
                }
                Ok(())
            }
        }
    }

    fn fold_all(
        &mut self,
        mut batches: &[(i64, JournalRecord)],
        total: i64,
        progress: Progress<'_>,
    ) -> Result<(), Halt> {
        while !batches.is_empty() {
            let recovery = &self.inspection.recovery;
            let (piece, rest, mut inputs) = replay::read_piece(recovery, self.number, self.position, batches)?;
            for (offset, record) in piece {
                if self.whole && record.engine_revision != engine::REVISION && record.has_outcome() {
                    self.note = Some(format!(
                        "batches from {} on were folded by engine revision {}, this meterd has {}: compared up to there",
                        record.sequence,
                        record.engine_revision,
                        engine::REVISION
                    ));
                    return Ok(());
                }
                self.batch(*offset, record, &mut inputs)?;
                let done = self.position.next.iter().sum::<i64>() - self.first;
                progress(done as u64, total as u64);
            }
            batches = rest;
        }
        Ok(())
    }

    fn configuration_of(&self, record: &JournalRecord) -> Result<&FoldConfiguration, Halt> {
        self.configurations.get(&record.configuration).ok_or_else(|| {
            Halt::differs(Difference {
                what: "fold configuration",
                topic: self.inspection.recovery.topics.state.clone(),
                partition: self.number,
                batch: Some(record.sequence),
                expected: "the fold configuration that the batch names".into(),
                found: "none of its hash".into(),
                ..Difference::default()
            })
        })
    }

    /// Folds one batch and compares all that came of it.
    fn batch(&mut self, offset: i64, record: &JournalRecord, inputs: &mut [Inputs; 2]) -> Result<(), Halt> {
        if self.sequence != 0 && record.sequence != self.sequence + 1 {
            let found = format!("batch {}, written by {:?}", record.sequence, record.writer);
            return Err(self.differs(offset, record, format!("batch {}", self.sequence + 1), found));
        }
        let mut fold = self.fold.take().expect("made before the first batch");
        if self.configuration != Some(record.configuration) {
            replay::use_configuration(&mut fold, self.configuration_of(record)?, self.number)?;
            self.configuration = Some(record.configuration);
        }
        fold.begin_batch(record.sequence);
        let mut gate = if self.whole {
            // Which records are old enough to refuse depends on reloads that the journal only tells the outcome of.
            fold.resume(fold.clock(), fold.cursor(), record.oldest);
            Gate::Live
        } else {
            Gate::Replay { accepted: record.accepted.0.iter().copied().collect(), batch: record.sequence }
        };
        let mut open = OpenBatch::new(self.inspection.names.clone(), self.number, Instant::now());
        refold(&mut fold, record, inputs, &mut gate, &mut open);
        self.sequence = record.sequence;
        self.batches += 1;
        self.records += open.read[0].0 + open.read[1].0;
        let result = self.compare(offset, record, &mut fold, &mut open);
        self.position = record.end;
        self.stood.push(record.end.next[Input::Usage.index()]);
        self.fold = Some(fold);
        result
    }

    fn compare(
        &mut self,
        offset: i64,
        record: &JournalRecord,
        fold: &mut Partition,
        open: &mut OpenBatch,
    ) -> Result<(), Halt> {
        let batch = record.sequence;
        if open.checksum() != record.input_checksum {
            let expected = "the inputs that were folded (checksum in the journal)".into();
            return Err(self.differs(offset, record, expected, "others at the same offsets".into()));
        }
        let accepted = fold.take_accepted();
        if self.whole && accepted != record.accepted.0 {
            let expected = format!("{} identities accepted, as the fold says", accepted.len());
            let found = match accepted.iter().zip(&record.accepted.0).position(|(one, other)| one != other) {
                Some(place) => {
                    format!("{} in the journal, of which number {} differs", record.accepted.0.len(), place + 1)
                }
                None => format!("{} in the journal", record.accepted.0.len()),
            };
            return Err(self.differs(offset, record, expected, found));
        }
        if let Some(notices) = &mut self.notices {
            notices.compare(batch, &open.notices)?;
        }
        self.digests(offset, record, open)?;
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.compare(batch, &open.quarantined)?;
        }
        if fold.clock() != record.end.clock {
            let expected = format!("the clock {}", fold.clock());
            return Err(self.differs(offset, record, expected, format!("the clock {}", record.end.clock)));
        }
        open.tally.conservation_violations += fold.take_violations();
        if open.tally.conservation_violations > 0 {
            let found = format!("{} inputs that broke it", open.tally.conservation_violations);
            return Err(self.differs(offset, record, "conservation of amounts".into(), found));
        }
        if self.whole && open.tally.records() != open.read[0].0 + open.read[1].0 {
            let expected = format!("{} records disposed of", open.read[0].0 + open.read[1].0);
            return Err(self.differs(offset, record, expected, open.tally.records().to_string()));
        }
        for account in self.as_of.remove(&batch).unwrap_or_default() {
            self.state.compare(batch, &account, fold)?;
            self.checkpoints += 1;
        }
        if self.whole && batch + 1 == self.horizon {
            self.state.compare_all(self.horizon, fold)?;
        }
        add(&mut self.tally, &open.tally);
        Ok(())
    }

    /// Digests of notices in the journal: all of them where nothing is skipped.
    fn digests(&self, offset: i64, record: &JournalRecord, open: &OpenBatch) -> Result<(), Halt> {
        let again = open.digests();
        let same = if self.whole {
            again == record.digests
        } else {
            again.iter().all(|digest| record.digests.binary_search(digest).is_ok())
        };
        if same {
            return Ok(());
        }
        let expected = format!("the digests of {} accounts' notices, as the fold gives them", again.len());
        Err(self.differs(offset, record, expected, format!("{} others in the journal", record.digests.len())))
    }

    /// After the last batch.
    pub fn finish(&mut self, span: &Span, committed: Option<i64>) -> Result<(), Halt> {
        if self.note.is_some() {
            return Ok(());
        }
        let last = self.sequence;
        if let Some(notices) = &mut self.notices {
            notices.finish(last)?;
        }
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.finish(last)?;
        }
        if let Some((batch, accounts)) = self.as_of.first_key_value()
            && let Some(fold) = &self.fold
        {
            // As of a batch that was not folded: from before the genesis.
            self.state.compare(*batch, &accounts[0], fold)?;
        }
        let usage = &self.inspection.recovery.topics.usage;
        match committed {
            Some(offset) if offset >= self.stood[0] && !self.stood.contains(&offset) => {
                Err(Halt::differs(Difference {
                    what: "offset of the group",
                    topic: usage.clone(),
                    partition: self.number,
                    offset: Some(offset),
                    batch: Some(last),
                    expected: format!("{}, as the journal says", span.last().end.next[Input::Usage.index()]),
                    found: offset.to_string(),
                    ..Difference::default()
                }))
            }
            _ => Ok(()),
        }
    }

    /// Fills the report, whatever the outcome.
    pub fn tell(self, report: &mut Report) {
        report.through = self.sequence;
        report.batches = self.batches;
        report.records = self.records;
        report.dispositions = self.whole.then(|| Dispositions::of(&self.tally));
        report.notices = self.notices.map_or(0, |notices| notices.compared);
        report.quarantined = self.quarantine.map_or(0, |quarantine| quarantine.compared);
        report.accounts = self.fold.map_or(0, |fold| fold.accounts_len() as u64);
        report.checkpoints = self.checkpoints;
        report.conservation_violations = self.tally.conservation_violations;
        report.notes.extend(self.note);
    }

    fn differs(&self, offset: i64, record: &JournalRecord, expected: String, found: String) -> Halt {
        Halt::differs(Difference {
            what: "batch",
            topic: self.inspection.recovery.topics.journal.clone(),
            partition: self.number,
            offset: Some(offset),
            batch: Some(record.sequence),
            expected,
            found,
            ..Difference::default()
        })
    }
}

/// Folds the inputs of a batch as the journal says that they were folded.
fn refold(
    fold: &mut Partition,
    record: &JournalRecord,
    inputs: &mut [Inputs; 2],
    gate: &mut Gate,
    open: &mut OpenBatch,
) {
    for run in &record.runs {
        let (input, until, wall) = match *run {
            Run::Tick { clock } => {
                fold.pass_time(clock);
                continue;
            }
            Run::Records { input, until, wall } => (input, until, wall),
        };
        while let Some((batch, index)) = replay::front(&mut inputs[input.index()], until) {
            let head = batch.head(index).expect("the index is within the batch");
            let mut headers = Vec::new();
            let raw = batch.raw(index, &mut headers);
            open.begin_record(input, head, &raw, wall, false);
            let clock = clock_of(head.timestamp, wall);
            let outcome = match input {
                Input::Usage => fold.usage(&raw, clock, gate, open),
                Input::Accounts => fold.command(&raw, clock, gate, open),
            };
            open.end_record(&raw, &outcome);
        }
    }
    fold.fire_through(record.end.cursor, usize::MAX, gate, &mut Whole(open));
}

/// Takes all timers of a batch, which fired in parts.
struct Whole<'b>(&'b mut OpenBatch);

impl Sink for Whole<'_> {
    fn told(&mut self, account: &str, input: Option<(&str, &str)>, notices: &[Notice]) {
        self.0.told(account, input, notices);
    }

    fn is_full(&self) -> bool {
        false
    }
}

fn add(sum: &mut Tally, tally: &Tally) {
    let into = |sum: &mut [u64], counts: &[u64]| sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    into(&mut sum.plain, &tally.plain);
    into(&mut sum.rejected, &tally.rejected);
    into(&mut sum.quarantined, &tally.quarantined);
    into(&mut sum.notices, &tally.notices);
    sum.conservation_violations += tally.conservation_violations;
}
