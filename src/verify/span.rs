//! Which batches are folded again: from the oldest state that can be proved, as far as this engine goes.

use hashbrown::HashMap;

use super::report::{Begin, Halt};
use super::state::State;
use crate::commit::Stop;
use crate::commit::journal::{Genesis, JournalRecord};
use crate::commit::kafka::Log;
use crate::commit::reader::Stretch;
use crate::commit::replay::Tail;
use crate::daemon::inspect::KafkaRecovery as Recovery;
use crate::engine;
use crate::ingest::raw::Input;

pub struct Span {
    pub begin: Begin,
    /// What is left out, and why.
    pub note: Option<String>,
    /// The journal's last record, with its offset.
    pub end: (i64, JournalRecord),
    /// The horizon to which the state topic was complete when it was read.
    pub horizon: u64,
    /// From the genesis: where the journal begins. Else the batches themselves.
    pub journal: Journal,
}

pub enum Journal {
    /// Read piece by piece from this offset.
    From {
        offset: i64,
        genesis: Genesis,
    },
    Tail(Tail),
}

impl Span {
    /// `before` was the journal's last record before the state was read.
    pub fn choose(
        recovery: &Recovery,
        partition: i32,
        state: &State,
        before: &(i64, JournalRecord),
    ) -> Result<Span, Halt> {
        let end = recovery.journal_end(partition)?.unwrap_or_else(|| before.clone());
        let horizon = before.1.horizon;
        match from_genesis(recovery, partition)? {
            Ok((offset, genesis)) => {
                Ok(Span { begin: Begin::Genesis, note: None, end, horizon, journal: Journal::From { offset, genesis } })
            }
            Err(why) => {
                let tail = tail(recovery, partition, state, before, &end)?;
                let begin = Begin::Checkpoint { batch: horizon, why };
                Ok(Span { begin, note: None, end, horizon, journal: Journal::Tail(tail) })
            }
        }
    }

    pub fn is_whole(&self) -> bool {
        matches!(self.begin, Begin::Genesis)
    }

    pub fn last(&self) -> &JournalRecord {
        &self.end.1
    }
}

/// Where the journal begins, if everything can be folded from there; else why not.
fn from_genesis(recovery: &Recovery, partition: i32) -> Result<Result<(i64, Genesis), String>, Halt> {
    let journal = &recovery.topics.journal;
    let Some((offset, first)) = first_record(recovery, partition)? else {
        return Ok(Err(format!("{journal}/{partition} was trimmed meanwhile")));
    };
    let Some(genesis) = first.genesis.filter(|_| first.sequence == 1) else {
        return Ok(Err(format!("{journal}/{partition} was trimmed: it begins with batch {}", first.sequence)));
    };
    if first.engine_revision != engine::REVISION {
        return Ok(Err(format!(
            "the first batches were folded by engine revision {}, this meterd has {}",
            first.engine_revision,
            engine::REVISION
        )));
    }
    for input in Input::BOTH {
        let topic = recovery.topic(input);
        let (low, _) = recovery.reader.watermarks(topic, partition)?;
        let start = genesis.start[input.index()];
        if low > start {
            return Ok(Err(format!("{topic}/{partition} begins at offset {low}, and was folded from {start} on")));
        }
    }
    Ok(Ok((offset, genesis)))
}

fn first_record(recovery: &Recovery, partition: i32) -> Result<Option<(i64, JournalRecord)>, Halt> {
    let topic = &recovery.topics.journal;
    let (low, high) = recovery.reader.watermarks(topic, partition)?;
    let mut from = low;
    while from < high {
        let until = (from + 64).min(high);
        let mut first = None;
        recovery.reader.read(Stretch { topic, partition, from, until }, &mut |record| {
            if first.is_none() {
                let decoded = recovery.decode(partition, record.offset(), record.value().unwrap_or_default())?;
                first = Some((record.offset(), decoded));
            }
            Ok(())
        })?;
        if first.is_some() {
            return Ok(first);
        }
        from = until;
    }
    Ok(None)
}

/// The journal's tail as a recovery takes it, from the horizon to which the state is complete.
fn tail(
    recovery: &Recovery,
    partition: i32,
    state: &State,
    before: &(i64, JournalRecord),
    end: &(i64, JournalRecord),
) -> Result<Tail, Halt> {
    let mut bounds = end.1.clone();
    bounds.horizon = before.1.horizon;
    bounds.needed_from = before.1.needed_from.min(bounds.needed_from);
    let (low, _) = recovery.reader.watermarks(&recovery.topics.journal, partition)?;
    let mut journal = recovery.tail(partition, low, (end.0, &bounds))?;
    if let Some((_, last)) = journal.records.last_mut() {
        last.horizon = bounds.horizon;
    }
    let revision = |record: &JournalRecord| record.engine_revision != engine::REVISION && record.has_outcome();
    let other = journal.records.iter().find(|(_, record)| record.sequence >= bounds.horizon && revision(record));
    if let Some((_, record)) = other {
        return Err(Halt::Stop(Stop::data(format!(
            "expected batches of engine revision {} from the checkpoints' horizon on, found batch {} of revision {}: \
             verify with the meterd {} that wrote it",
            engine::REVISION,
            record.sequence,
            record.engine_revision,
            record.writer.version
        ))));
    }
    let configurations: HashMap<_, _> = state.configurations.clone();
    let genesis = state.genesis.clone().ok_or_else(|| {
        Stop::data(format!(
            "expected the state topic {}/{partition} to hold the partition's genesis, found none: it was emptied",
            recovery.topics.state
        ))
    })?;
    Ok(Tail { journal, configurations, genesis })
}
