//! Folding journaled batches again: same inputs, in the same order, under the same clock and configuration.
//!
//! In batch k a usage record takes effect iff its identity is in k's accepted list; an account that is as of k or later
//! is skipped; timers of other accounts fire up to k's cursor; effects are dropped, after their digests were compared.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use hashbrown::HashMap;

use super::batch::checksum;
use super::configuration::FoldConfiguration;
use super::journal::{Genesis, JournalRecord, Position, Run};
use super::kafka::Log;
use super::reader::Stretch;
use super::recovery::Recovery;
use super::stop::Stop;
use super::tail::JournalTail;
use super::ways_out;
use crate::config;
use crate::engine::{Catalog, Catalogs, Ms, Notice};
use crate::ingest::partition::Partitioner;
use crate::ingest::raw::{Input, RawBatch};
use crate::shard::accounts::hash_account;
use crate::shard::{GROUP, Gate, Identities, IdentityKey, Loading, Partition, Rules, Sink};
use crate::wire::notice::{CauseInput, Envelope, write_notice};

/// Inputs read at once while batches are folded again.
const INPUTS_MAX: i64 = 200_000;

/// An empty partition under a fold configuration.
pub fn partition(configuration: &FoldConfiguration, partition: i32, key: IdentityKey) -> Result<Partition, Stop> {
    let catalogs = Catalogs::new(catalog(configuration)?);
    Ok(Partition::new(catalogs, rules(configuration, partition)?, key))
}

/// The catalog of a fold configuration.
pub fn catalog(configuration: &FoldConfiguration) -> Result<Arc<Catalog>, Stop> {
    match config::catalog::parse(&configuration.catalog, &configuration.catalog_name) {
        Ok((catalog, _)) => Ok(Arc::new(catalog)),
        Err(diagnostics) => Err(Stop::config(format!("the catalog that the journal names is refused:\n{diagnostics}"))),
    }
}

/// What besides the catalog decides outcomes.
pub fn rules(configuration: &FoldConfiguration, partition: i32) -> Result<Rules, Stop> {
    let partitioner = Partitioner::from_name(&configuration.partitioner).ok_or_else(|| {
        Stop::data(format!("the journal names the partitioner {:?}, which is unknown", configuration.partitioner))
    })?;
    Ok(Rules {
        record_bytes_max: configuration.record_bytes_max as usize,
        partitioner,
        partition,
        partitions: configuration.partitions,
        accept_replayed: configuration.accept_replayed,
    })
}

/// Puts another fold configuration in force, from the next batch on.
pub fn use_configuration(fold: &mut Partition, configuration: &FoldConfiguration, number: i32) -> Result<(), Stop> {
    fold.use_rules(rules(configuration, number)?);
    fold.use_catalog(catalog(configuration)?);
    Ok(())
}

/// A journal's tail and what it needs to be folded.
pub struct Tail {
    pub journal: JournalTail,
    pub configurations: HashMap<[u8; 16], FoldConfiguration>,
    pub genesis: Genesis,
}

/// How a fold came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// With the notices that were written.
    AsWritten,
    /// In another way, or not all of it, and a person allowed it.
    Otherwise,
}

impl Tail {
    pub fn last(&self) -> &JournalRecord {
        &self.journal.records.last().expect("a tail ends with the journal's last record").1
    }

    /// The batches from the horizon on, and where the fold stands before them.
    pub fn batches(&self) -> (Position, &[(i64, JournalRecord)]) {
        let first = self.journal.records.partition_point(|(_, record)| record.sequence < self.last().horizon);
        match first.checked_sub(1) {
            Some(before) => (self.journal.records[before].1.end, &self.journal.records[first..]),
            // Where the first batch that is left begins, only the one before it knew.
            None if self.journal.cut => (self.journal.records[0].1.end, &self.journal.records[1..]),
            None => (Position::at(self.genesis.start), &self.journal.records[first..]),
        }
    }

    pub fn configuration(&self, record: &JournalRecord) -> Result<&FoldConfiguration, Stop> {
        self.configurations.get(&record.configuration).ok_or_else(|| {
            Stop::data(format!(
                "expected the state topic to hold the fold configuration that batch {} names, found none: the state \
                 topic was emptied",
                record.sequence
            ))
        })
    }
}

/// The partition as its accounts were stored, standing before the horizon.
pub fn load(number: i32, accounts: Loading, tail: &Tail) -> Result<Partition, Stop> {
    let (position, batches) = tail.batches();
    let last = tail.last();
    let first = batches.first().map_or(last, |(_, record)| record);
    let current = tail.configuration(first)?;
    let mut catalogs = Catalogs::new(catalog(current)?);
    for configuration in tail.configurations.values() {
        catalogs.add(catalog(configuration)?);
    }
    let mut fold = Partition::new(catalogs, rules(current, number)?, tail.genesis.identity_key);
    if let Some((as_of, id)) = accounts.newest().filter(|(as_of, _)| *as_of > last.sequence) {
        return Err(Stop::data(format!(
            "expected the state of account {id:?} in partition {number} to be as of batch {} or before, found {as_of}: \
             the journal lost its end, or another process writes to the state topic",
            last.sequence
        )));
    }
    fold.load(accounts).map_err(|error| Stop::data(format!("partition {number}: {error}")))?;
    // Which records were old enough to refuse, the accepted lists say.
    fold.resume(position.clock, position.cursor, Ms::MIN);
    Ok(fold)
}

/// Folds the batches from the horizon to the end of the tail, reading their inputs piece by piece.
pub fn fold<L: Log>(recovery: &Recovery<L>, number: i32, fold: &mut Partition, tail: &Tail) -> Result<Folded, Stop> {
    let (mut position, mut batches) = tail.batches();
    let mut folded = Folded::AsWritten;
    if recovery.ways_out.rebuilds(number) {
        let all = batches.len();
        (position, batches) = ways_out::foldable(recovery, number, tail)?;
        if tail.journal.cut || batches.len() < all {
            folded = Folded::Otherwise;
        }
        fold.resume(position.clock, position.cursor, Ms::MIN);
    }
    let mut bound = folded == Folded::AsWritten;
    let mut configuration = batches.first().map(|(_, record)| record.configuration);
    let metrics = recovery.metrics.partition(number);
    let inputs_of = |record: &JournalRecord| record.end.next.iter().sum::<i64>();
    let last = batches.last().map_or(0, |(_, record)| inputs_of(record));
    while !batches.is_empty() {
        let (piece, rest, mut inputs) = read_piece(recovery, number, position, batches)?;
        for (_, record) in piece {
            if configuration != Some(record.configuration) {
                use_configuration(fold, tail.configuration(record)?, number)?;
                configuration = Some(record.configuration);
            }
            match fold_batch(recovery, number, fold, record, &mut inputs, bound) {
                Ok(()) => {}
                Err(Unlike::Told(stop)) if !recovery.ways_out.accept_refold => return Err(stop),
                Err(Unlike::Told(stop)) => {
                    tracing::warn!("folded otherwise than it was told, which was allowed: {stop}");
                    (folded, bound) = (Folded::Otherwise, false);
                }
                Err(Unlike::Stop(stop)) => return Err(stop),
            }
            if !bound {
                fold.resume(record.end.clock, record.end.cursor, Ms::MIN);
            }
            metrics.replay_left_records.set(last - inputs_of(record));
            position = record.end;
        }
        batches = rest;
    }
    Ok(folded)
}

/// The first of the batches, which begin at `position`: so many that their inputs are read at once; the rest; the inputs.
#[expect(clippy::type_complexity, reason = "a slice cut in two, and what belongs to its first part")]
pub fn read_piece<'t, L: Log>(
    recovery: &Recovery<L>,
    number: i32,
    position: Position,
    batches: &'t [(i64, JournalRecord)],
) -> Result<(&'t [(i64, JournalRecord)], &'t [(i64, JournalRecord)], [Inputs; 2]), Stop> {
    let full = |record: &JournalRecord| {
        let records: i64 = record.end.next.iter().zip(position.next).map(|(end, start)| end - start).sum();
        records > INPUTS_MAX
    };
    let count = batches.iter().position(|(_, record)| full(record)).map_or(batches.len(), |place| place + 1);
    let (piece, rest) = batches.split_at(count);
    let end = piece.last().map_or(position, |(_, record)| record.end);
    let mut inputs = [Inputs::new(), Inputs::new()];
    for input in Input::BOTH {
        let place = input.index();
        inputs[place] = read_inputs(recovery, number, input, position.next[place], end.next[place])?;
    }
    Ok((piece, rest, inputs))
}

/// Why a batch did not come out as it was written.
enum Unlike {
    /// Its notices are others than those that were told.
    Told(Stop),
    Stop(Stop),
}

/// Folds one batch again. Notices and clock are compared while the fold is `bound` to what was written.
fn fold_batch<L: Log>(
    recovery: &Recovery<L>,
    number: i32,
    fold: &mut Partition,
    record: &JournalRecord,
    inputs: &mut [Inputs; 2],
    bound: bool,
) -> Result<(), Unlike> {
    fold.begin_batch(record.sequence);
    let accepted = record.accepted.0.iter().copied().collect();
    let mut gate = Gate::Replay { accepted, batch: record.sequence };
    let mut sink = Digests::new(recovery, number);
    let mut sum = crc32fast::Hasher::new();
    let (mut count, mut arena) = (0, Bump::new());
    for run in &record.runs {
        let (input, until, wall) = match *run {
            Run::Tick { clock } => {
                fold.pass_time(clock);
                continue;
            }
            Run::Records { input, until, wall } => (input, until, wall),
        };
        while let Some((batch, group)) = front_group(&mut inputs[input.index()], until, GROUP) {
            count += group.len() as u64;
            arena.reset();
            let mut reads = BumpVec::with_capacity_in(group.len(), &arena);
            for index in group {
                let head = batch.head(index).expect("the index is within the batch");
                let raw = batch.raw_in(index, &arena);
                checksum(&mut sum, head, &raw);
                let clock = clock_of(head.timestamp, wall);
                if input == Input::Usage {
                    reads.push((head.offset, clock, fold.read(&raw, &arena)));
                } else {
                    sink.current = Some((input, head.offset));
                    fold.command(&raw, clock, &gate, &mut sink);
                }
            }
            fold.fetch(reads.iter().filter_map(|(.., read)| read.as_ref().ok()));
            for (offset, clock, read) in &reads {
                sink.current = Some((input, *offset));
                fold.fold(read, *clock, &mut gate, &mut sink);
            }
        }
    }
    fold.fire_through(record.end.cursor, usize::MAX, &gate, &mut sink);
    recovery.metrics.replayed(count);
    let left = if let Gate::Replay { accepted, .. } = gate { accepted.len() } else { 0 };
    compare(number, record, &sink, sum.finalize(), fold, bound)?;
    if bound && left > 0 {
        return Err(Unlike::Told(otherwise(number, record, &format!("{left} records that took no effect this time"))));
    }
    Ok(())
}

/// What a record's timestamp moves the clock to, under a sample of the wall clock (docs/reference.md 6.1).
pub fn clock_of(timestamp: Ms, wall: Ms) -> Ms {
    timestamp.min(wall.saturating_add(1_000))
}

/// Takes up the identities of the batches before the horizon, and of those that were folded again.
pub fn identities(fold: &mut Partition, before: Identities, tail: &Tail) {
    fold.take_up(before);
    for (_, record) in &tail.journal.records {
        for (identity, time) in &record.accepted.0 {
            fold.remember(*identity, *time);
        }
    }
}

/// Inputs that wait to be folded again.
pub type Inputs = VecDeque<(Arc<RawBatch>, usize)>;

/// The next record before offset `until`, if there is one.
pub fn front(inputs: &mut Inputs, until: i64) -> Option<(Arc<RawBatch>, usize)> {
    front_group(inputs, until, 1).map(|(batch, group)| (batch, group.start))
}

/// The next records before offset `until`, at most `count`, if there are some.
fn front_group(inputs: &mut Inputs, until: i64, count: usize) -> Option<(Arc<RawBatch>, Range<usize>)> {
    let (batch, first) = inputs.front_mut()?;
    let end = (*first..batch.len().min(*first + count))
        .take_while(|index| batch.head(*index).is_some_and(|head| head.offset < until));
    let group = *first..*first + end.count();
    if group.is_empty() {
        return None;
    }
    let taken = (Arc::clone(batch), group.clone());
    *first = group.end;
    if *first == batch.len() {
        inputs.pop_front();
    }
    Some(taken)
}

fn read_inputs<L: Log>(
    recovery: &Recovery<L>,
    number: i32,
    input: Input,
    from: i64,
    until: i64,
) -> Result<Inputs, Stop> {
    let topic = recovery.topic(input);
    if from < until {
        let (low, high) = recovery.reader.watermarks(topic, number)?;
        if from < low || until > high {
            return Err(Stop::data(format!(
                "expected {topic}/{number} to hold offsets {from} to {until}, which must be folded again, found {low} to \
                 {high}: its retention removed them or it was truncated. Restore it; `meterd run --rebuild {number}` goes \
                 on from the checkpoints without what is gone"
            )));
        }
    }
    let mut batches = VecDeque::new();
    let mut batch = RawBatch::default();
    recovery.reader.read(Stretch { topic, partition: number, from, until }, &mut |record| {
        record.copy_to(&mut batch);
        if batch.bytes_len() > 1 << 20 {
            batches.push_back((Arc::new(std::mem::take(&mut batch)), 0));
        }
        Ok(())
    })?;
    if !batch.is_empty() {
        batches.push_back((Arc::new(batch), 0));
    }
    Ok(batches)
}

fn compare(
    number: i32,
    record: &JournalRecord,
    sink: &Digests,
    checksum: u32,
    fold: &Partition,
    bound: bool,
) -> Result<(), Unlike> {
    let batch = record.sequence;
    if checksum != record.input_checksum {
        return Err(Unlike::Stop(Stop::data(format!(
            "expected the inputs of batch {batch} of partition {number} to be those that were folded, found others at \
             the same offsets: an input topic was truncated or created again"
        ))));
    }
    if !bound {
        return Ok(());
    }
    for (hash, digest) in &record.digests {
        let again = sink.digests.get(hash);
        // Of two accounts with one hash, one may be skipped here.
        if again.is_some_and(|again| again != digest) && fold.is_alone(*hash) {
            let what = format!("other notices of the account of hash {hash:08x}");
            return Err(Unlike::Told(otherwise(number, record, &what)));
        }
    }
    let untold = |hash: &u32| record.digests.binary_search_by_key(hash, |(hash, _)| *hash).is_err();
    if let Some(hash) = sink.digests.keys().filter(|hash| untold(hash)).min() {
        let what = format!("notices of the account of hash {hash:08x}, of which none was told");
        return Err(Unlike::Told(otherwise(number, record, &what)));
    }
    if fold.clock() != record.end.clock {
        return Err(Unlike::Stop(Stop::bug(format!(
            "expected the clock {} after batch {batch} of partition {number}, found {}",
            record.end.clock,
            fold.clock()
        ))));
    }
    Ok(())
}

fn otherwise(number: i32, record: &JournalRecord, what: &str) -> Stop {
    Stop::data(format!(
        "expected batch {} of partition {number} to come out as it was written, found {what}: state or inputs are damaged, \
         or this version of meterd folds differently. Start the version that wrote the batch ({}) and report this; \
         `meterd run --accept-refold` takes what this version folds",
        record.sequence, record.writer.version
    ))
}

/// Digests of the notices that a replay gives, as [`super::batch::OpenBatch`] makes them.
struct Digests {
    source: String,
    topics: [String; 2],
    partition: i32,
    current: Option<(Input, i64)>,
    digests: HashMap<u32, u32>,
    buffer: Vec<u8>,
}

impl Digests {
    fn new<L: Log>(recovery: &Recovery<L>, partition: i32) -> Digests {
        Digests {
            source: format!("meterd/{}", recovery.place.group),
            topics: [recovery.topics.accounts.clone(), recovery.topics.usage.clone()],
            partition,
            current: None,
            digests: HashMap::new(),
            buffer: Vec::new(),
        }
    }
}

impl Sink for Digests {
    fn told(&mut self, account: &str, input: Option<(&str, &str)>, notices: &[Notice]) {
        let cause = self.current.zip(input).map(|((topic, offset), (id, source))| CauseInput {
            topic: &self.topics[topic.index()],
            partition: self.partition,
            offset,
            id,
            source,
        });
        let envelope = Envelope { account, source: &self.source, cause };
        self.buffer.clear();
        for notice in notices {
            self.buffer.extend_from_slice(account.as_bytes());
            write_notice(&mut self.buffer, &envelope, notice);
        }
        let digest = self.digests.entry(hash_account(account) as u32).or_default();
        let mut hasher = crc32fast::Hasher::new_with_initial(*digest);
        hasher.update(&self.buffer);
        *digest = hasher.finalize();
    }

    fn is_full(&self) -> bool {
        false
    }
}
