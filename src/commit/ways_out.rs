//! The two ways out where a partition cannot be folded again as it was, which recovery names and only a person may take
//! (docs/reference.md 12.4): `run --accept-refold` and `run --rebuild PARTITION`.
//!
//! After either, an account may stand before or after what it was told. Its sequence is set to the last one in the events
//! topic, so that no notice's id is given twice and none is left out, and the claim writes every account that changed: what
//! was done here is in no journal and cannot be done again.

use hashbrown::HashMap;
use serde::Deserialize;

use super::journal::{JournalRecord, Position};
use super::kafka::Log;
use super::reader::Stretch;
use super::recovery::Recovery;
use super::replay::Tail;
use super::stop::Stop;
use crate::ingest::raw::Input;

#[derive(Clone, Debug, Default)]
pub struct WaysOut {
    /// Fold batches of another engine revision with this one, and take what comes out.
    pub accept_refold: bool,
    /// Partitions that may lose what cannot be folded again.
    pub rebuild: Vec<i32>,
    /// Of the events topic.
    pub events_partitions: i32,
}

impl WaysOut {
    pub fn rebuilds(&self, partition: i32) -> bool {
        self.rebuild.contains(&partition)
    }
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    subject: std::borrow::Cow<'a, str>,
    data: ToldData,
}

#[derive(Deserialize)]
struct ToldData {
    sequence: u64,
}

/// The last sequence that each account of an events partition was told, and whether the topic still holds its beginning, so
/// that all others were told nothing.
pub fn told<L: Log>(recovery: &Recovery<L>, partition: i32) -> Result<(HashMap<Box<str>, u64>, bool), Stop> {
    let topic = &recovery.topics.events;
    let partition = partition % recovery.ways_out.events_partitions.max(1);
    let (from, until) = recovery.reader.watermarks(topic, partition)?;
    let mut told = HashMap::new();
    recovery.reader.read(Stretch { topic, partition, from, until }, &mut |record| {
        if let Ok(notice) = serde_json::from_slice::<Told<'_>>(record.value().unwrap_or_default()) {
            let last = told.entry(Box::from(&*notice.subject)).or_default();
            *last = notice.data.sequence.max(*last);
        }
        Ok(())
    })?;
    Ok((told, from == 0))
}

/// The batches that can still be folded after those that cannot, and where they begin. What lies between the horizon and
/// them is lost, and told.
pub fn foldable<'t, L: Log>(
    recovery: &Recovery<L>,
    partition: i32,
    tail: &'t Tail,
) -> Result<(Position, &'t [(i64, JournalRecord)]), Stop> {
    let (mut position, mut batches) = tail.batches();
    let begun = position;
    let end = tail.last().end;
    let mut lows = [0; 2];
    for input in Input::BOTH {
        lows[input.index()] = recovery.reader.watermarks(recovery.topic(input), partition)?.0;
    }
    let gone = |position: &Position| {
        Input::BOTH.iter().any(|input| {
            let at = input.index();
            position.next[at] < lows[at] && position.next[at] < end.next[at]
        })
    };
    while let Some(((_, record), rest)) = batches.split_first()
        && gone(&position)
    {
        (position, batches) = (record.end, rest);
    }
    for input in Input::BOTH {
        let (from, until) = (begun.next[input.index()], position.next[input.index()]);
        if from < until {
            tracing::error!(
                partition,
                topic = recovery.topic(input),
                from,
                until,
                "rebuilt without the records of these offsets: accounts that had no checkpoint since lack what they did"
            );
        }
    }
    Ok((position, batches))
}
