//! The judge of a run. It reads the topics as a read_committed reader and folds the journaled order in one go, without
//! batches, checkpoints or recoveries; what the daemons wrote and hold must be what comes of that.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use meterd::commit::batch::Names;
use meterd::commit::configuration::FoldConfiguration;
use meterd::commit::journal::{JournalRecord, Run};
use meterd::commit::kafka::LogRecord;
use meterd::commit::replay;
use meterd::engine::{Account, Ms, Notice, Outcome};
use meterd::ingest::raw::{Input, RawBatch};
use meterd::shard::accounts::hash_account;
use meterd::shard::{Cursor, Gate, Partition, Sink, Slot};
use meterd::store::encoding::{self, Part, PartKey};
use meterd::store::record::{self, StateRecord};
use meterd::wire::notice::{CauseInput, Envelope, write_notice};

use super::broker::Broker;
use super::log::{Entry, Topic};
use super::naive::Naive;
use super::process::topic;

/// What should have come of a partition's inputs.
pub struct Reference {
    pub number: i32,
    exact_clocks: bool,
    pub journal: Vec<(Entry, JournalRecord)>,
    pub fold: Partition,
    /// By account, in order.
    pub notices: BTreeMap<String, Vec<String>>,
    /// Input, offset, reason.
    pub quarantined: Vec<(Input, i64, &'static str)>,
    /// Offsets of the usage records that took effect.
    pub applied: Vec<i64>,
    pub counts: Counts,
    /// As long as no other catalog was loaded: the model knows one.
    naive: Option<Naive>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub applied: u64,
    pub duplicate: u64,
    pub failed: u64,
    pub commands: u64,
    pub rejected: u64,
    pub quarantined: u64,
    pub notices: u64,
    pub batches: u64,
    pub ticks: u64,
    /// Partitions that the naive model judged too.
    pub twice_judged: u64,
}

impl Counts {
    fn inputs(&self) -> u64 {
        self.applied + self.duplicate + self.failed + self.commands + self.rejected + self.quarantined
    }

    pub fn add(&mut self, other: &Counts) {
        self.applied += other.applied;
        self.duplicate += other.duplicate;
        self.failed += other.failed;
        self.commands += other.commands;
        self.rejected += other.rejected;
        self.quarantined += other.quarantined;
        self.notices += other.notices;
        self.batches += other.batches;
        self.ticks += other.ticks;
        self.twice_judged += other.twice_judged;
    }
}

/// Reads a partition's journal and folds what it names. `exact_clocks`: all clocks are right, and an input can be read from
/// its timestamp on, so that no tick may pass one. `naive`: the naive model judges too.
pub fn reference(
    broker: &Broker,
    number: i32,
    names: &Names,
    exact_clocks: bool,
    naive: bool,
) -> Result<Option<Reference>, String> {
    let journal = read_journal(broker, number)?;
    let Some((_, first)) = journal.first() else { return Ok(None) };
    let genesis = first.genesis.clone().ok_or(format!("the journal of {number} begins without a genesis"))?;
    let configurations = read_configurations(broker, number);
    let configuration = |hash: &[u8; 16]| {
        configurations.get(hash).ok_or(format!("partition {number}: a batch names a configuration that is not there"))
    };
    let mut current = first.configuration;
    let stop = |stop: meterd::commit::Stop| stop.message;
    let fold = replay::partition(configuration(&current)?, number, genesis.identity_key).map_err(stop)?;
    let mut reference = Reference {
        number,
        exact_clocks,
        journal: Vec::new(),
        fold,
        notices: BTreeMap::new(),
        quarantined: Vec::new(),
        applied: Vec::new(),
        counts: Counts::default(),
        naive: if naive { Some(Naive::new(configuration(&current)?)) } else { None },
    };
    let mut inputs = Input::BOTH.map(|input| broker.log(topic(input), number).committed().peekable());
    let mut checkpoints = Checkpoints::of(broker, number);
    for (entry, record) in &journal {
        if record.configuration != current {
            current = record.configuration;
            reference.naive = None;
            replay::use_configuration(&mut reference.fold, configuration(&current)?, number).map_err(stop)?;
        }
        // Of two catalogs loaded between two batches the journal names the second, but `oldest` may be due to the first.
        let (clock, cursor, oldest) = (reference.fold.clock(), reference.fold.cursor(), reference.fold.oldest());
        if record.oldest < oldest {
            return Err(format!("partition {number}, batch {}: older records are acceptable again", record.sequence));
        }
        if record.oldest != oldest {
            reference.naive = None;
        }
        reference.fold.resume(clock, cursor, record.oldest);
        reference.fold_batch(entry, record, &mut inputs, names)?;
        checkpoints.compare(record.sequence, &reference.fold)?;
    }
    let last = &journal[journal.len() - 1].1;
    for input in Input::BOTH {
        let left = inputs[input.index()].peek().map(|entry| entry.offset);
        if left.is_some_and(|offset| offset < last.end.next[input.index()]) {
            return Err(format!("partition {number}: the journal passes {input:?} offset {left:?} without a run"));
        }
        if left.is_some() {
            return Err(format!("partition {number}: {input:?} offset {left:?} was never folded"));
        }
    }
    let read: u64 = Input::BOTH.iter().map(|input| broker.log(topic(*input), number).committed().count() as u64).sum();
    if reference.counts.inputs() != read {
        return Err(format!("partition {number}: {} dispositions of {read} inputs", reference.counts.inputs()));
    }
    if reference.fold.timers().next_due().is_some_and(|due| due <= reference.fold.clock()) {
        return Err(format!("partition {number}: timers are due that have not fired"));
    }
    if reference.fold.take_violations() > 0 {
        return Err(format!("partition {number}: conservation was violated"));
    }
    if let Some(naive) = reference.naive.take() {
        naive
            .compare(&reference.fold, &reference.notices, &reference.quarantined)
            .map_err(|difference| format!("partition {number}: {difference}"))?;
        reference.counts.twice_judged += 1;
    }
    reference.journal = journal;
    Ok(Some(reference))
}

fn read_journal(broker: &Broker, number: i32) -> Result<Vec<(Entry, JournalRecord)>, String> {
    let mut journal: Vec<(Entry, JournalRecord)> = Vec::new();
    for entry in broker.log(Topic::Journal, number).committed() {
        let bytes = entry.content.value.as_deref().unwrap_or_default();
        let record = JournalRecord::decode(bytes).map_err(|error| error.to_string())?;
        let expected = journal.len() as u64 + 1;
        if record.sequence != expected {
            return Err(format!(
                "journal {number}: expected batch {expected}, found {} at offset {} by {} after {:?}",
                record.sequence,
                entry.offset,
                record.writer.instance,
                journal.last().map(|(_, before)| &before.writer.instance)
            ));
        }
        journal.push((entry.clone(), record));
    }
    Ok(journal)
}

/// The accounts' parts that were written, by the batch that they are as of.
struct Checkpoints {
    number: i32,
    written: BTreeMap<u64, Vec<(String, PartKey, Vec<u8>)>>,
    /// The last that was written of each part.
    last: HashMap<(String, PartKey), Vec<u8>>,
}

impl Checkpoints {
    fn of(broker: &Broker, number: i32) -> Checkpoints {
        let mut written: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for entry in broker.log(Topic::State, number).committed() {
            let (key, value) = (entry.content.key.as_deref(), entry.content.value.as_deref());
            if let Ok(StateRecord::Part { account, key, as_of, bytes }) =
                record::read(key.unwrap_or_default(), value.unwrap_or_default())
            {
                written.entry(as_of).or_default().push((account.to_owned(), key, bytes.to_vec()));
            }
        }
        Checkpoints { number, written, last: HashMap::new() }
    }

    /// What is as of a batch is the account at its end, with the parts that were not written again.
    fn compare(&mut self, batch: u64, fold: &Partition) -> Result<(), String> {
        let written = self.written.remove(&batch).unwrap_or_default();
        let heads: Vec<String> =
            written.iter().filter(|(_, key, _)| *key == PartKey::HEAD).map(|(account, ..)| account.clone()).collect();
        self.last.extend(written.into_iter().map(|(account, key, bytes)| ((account, key), bytes)));
        for account in heads {
            let slot = fold.accounts().find(&account, hash_account(&account));
            let slot = slot.ok_or(format!("partition {}: {account} is stored and was never there", self.number))?;
            let differs = |part: &Part| self.last.get(&(account.clone(), part.key)) != Some(&part.bytes);
            let Some(part) = parts(fold, slot).into_iter().find(differs) else { continue };
            // Windows move when they are looked at, which a record that is refused does live and not in a replay.
            let expected = seen(&account, &fold.accounts().read(slot, fold.catalogs()), fold);
            if expected.is_none() || self.seen(&account, fold) != expected {
                return Err(format!(
                    "partition {}, batch {batch}: part {:?} of {account} is stored otherwise than it was",
                    self.number, part.key
                ));
            }
        }
        Ok(())
    }

    /// How an account would be seen if it were decoded now.
    fn seen(&self, id: &str, fold: &Partition) -> Option<(String, Option<Ms>)> {
        let parts = self.last.iter().filter(|((account, _), _)| account == id);
        let parts: Vec<(PartKey, &[u8])> = parts.map(|((_, key), bytes)| (*key, bytes.as_slice())).collect();
        seen(id, &encoding::decode(&parts, fold.catalogs()).ok()?, fold)
    }
}

/// An account's view, and its next timer; none of a stub.
fn seen(id: &str, account: &Account, fold: &Partition) -> Option<(String, Option<Ms>)> {
    let view = meterd::query::view::view(fold.catalogs(), id, account, fold.clock())?;
    Some((serde_json::to_string(&view).ok()?, account.next_due()))
}

fn read_configurations(broker: &Broker, number: i32) -> HashMap<[u8; 16], FoldConfiguration> {
    let mut found = HashMap::new();
    for entry in broker.log(Topic::State, number).committed() {
        let (key, value) = (entry.content.key.as_deref(), entry.content.value.as_deref());
        if let Ok(StateRecord::Configuration { hash, bytes }) =
            record::read(key.unwrap_or_default(), value.unwrap_or_default())
            && let Some(configuration) = FoldConfiguration::decode(bytes)
        {
            found.insert(hash, configuration);
        }
    }
    found
}

impl Reference {
    fn fold_batch<'l>(
        &mut self,
        entry: &Entry,
        record: &JournalRecord,
        inputs: &mut [std::iter::Peekable<impl Iterator<Item = &'l Entry>>; 2],
        names: &Names,
    ) -> Result<(), String> {
        let batch = format!("partition {}, batch {}", self.number, record.sequence);
        let future = self.fold.catalogs().current().future_ms;
        self.counts.batches += 1;
        for run in &record.runs {
            let (input, until, wall) = match *run {
                Run::Tick { clock } => {
                    if clock > entry.time + future {
                        return Err(format!("{batch}: a tick is {} ms ahead of the broker", clock - entry.time));
                    }
                    let waits = |input: Input| inputs[input.index()].peek().is_some_and(|next| next.time < clock);
                    if self.exact_clocks && Input::BOTH.into_iter().any(waits) {
                        return Err(format!("{batch}: a tick to {clock} passed an input that could be read"));
                    }
                    self.counts.ticks += 1;
                    self.fold.pass_time(clock);
                    if let Some(naive) = &mut self.naive {
                        naive.pass_time(clock);
                    }
                    continue;
                }
                Run::Records { input, until, wall } => (input, until, wall),
            };
            while let Some(found) = inputs[input.index()].next_if(|found| found.offset < until) {
                let clock = replay::clock_of(found.time, wall);
                if found.time - clock > future + 2_000 {
                    return Err(format!("{batch}: a wall clock of {} held {} back", wall, found.time));
                }
                self.fold_one(input, found, clock, names);
            }
        }
        // Timers of other accounts fire between inputs; how far they did matters where the catalog changes.
        self.fire_through(record.end.cursor, names);
        let accepted = self.fold.take_accepted();
        if accepted != record.accepted.0 {
            return Err(format!(
                "{batch}: {} identities accepted, {} journaled",
                accepted.len(),
                record.accepted.0.len()
            ));
        }
        if self.fold.clock() != record.end.clock {
            return Err(format!("{batch}: the clock is {}, the journal says {}", self.fold.clock(), record.end.clock));
        }
        Ok(())
    }

    fn fire_through(&mut self, cursor: Cursor, names: &Names) {
        let mut told = Told { reference: &mut self.notices, count: 0, cause: None, number: self.number, names };
        self.fold.fire_through(cursor, usize::MAX, &Gate::Live, &mut told);
        self.counts.notices += told.count;
    }

    fn fold_one(&mut self, input: Input, entry: &Entry, clock: Ms, names: &Names) {
        let mut batch = RawBatch::default();
        LogRecord::copy_to(entry, &mut batch);
        let mut headers = Vec::new();
        let raw = batch.raw(0, &mut headers);
        let cause = Some((input, entry.offset));
        let mut told = Told { reference: &mut self.notices, count: 0, cause, number: self.number, names };
        let outcome = match input {
            Input::Usage => self.fold.usage(&raw, clock, &mut Gate::Live, &mut told),
            Input::Accounts => self.fold.command(&raw, clock, &Gate::Live, &mut told),
        };
        self.counts.notices += told.count;
        if let Some(naive) = &mut self.naive {
            naive.record(input, entry, clock, &outcome);
        }
        if input == Input::Usage && matches!(outcome, Outcome::Applied | Outcome::Failed) {
            self.applied.push(entry.offset);
        }
        match outcome {
            Outcome::Applied if input == Input::Accounts => self.counts.commands += 1,
            Outcome::Applied => self.counts.applied += 1,
            Outcome::Failed => self.counts.failed += 1,
            Outcome::Duplicate => self.counts.duplicate += 1,
            Outcome::Rejected(_) => self.counts.rejected += 1,
            Outcome::Refused(refusal) => {
                self.counts.quarantined += 1;
                self.quarantined.push((input, entry.offset, refusal.reason.name()));
            }
        }
    }

    /// The accounts as they are stored.
    pub fn accounts(&self) -> BTreeMap<String, Vec<Part>> {
        accounts(&self.fold)
    }
}

/// Each account's stored form.
pub fn accounts(fold: &Partition) -> BTreeMap<String, Vec<Part>> {
    let accounts = fold.accounts();
    accounts.slots().map(|slot| (accounts.id(slot).to_owned(), parts(fold, slot))).collect()
}

fn parts(fold: &Partition, slot: Slot) -> Vec<Part> {
    let mut parts = Vec::new();
    encoding::encode(&fold.accounts().read(slot, fold.catalogs()), fold.catalogs(), &mut parts);
    parts
}

struct Told<'a> {
    reference: &'a mut BTreeMap<String, Vec<String>>,
    count: u64,
    cause: Option<(Input, i64)>,
    number: i32,
    names: &'a Names,
}

impl Sink for Told<'_> {
    fn told(&mut self, account: &str, input: Option<(&str, &str)>, notices: &[Notice]) {
        let cause = self.cause.zip(input).map(|((topic, offset), (id, source))| CauseInput {
            topic: &self.names.topics[topic.index()],
            partition: self.number,
            offset,
            id,
            source,
        });
        let envelope = Envelope { account, source: &self.names.source, cause };
        for notice in notices {
            let mut json = Vec::new();
            write_notice(&mut json, &envelope, notice);
            self.count += 1;
            let text = String::from_utf8(json).expect("notices are text");
            self.reference.entry(account.to_owned()).or_default().push(text);
        }
    }

    fn is_full(&self) -> bool {
        false
    }
}

/// Compares what stands in the output topics with what should have come of all partitions.
pub fn outputs(broker: &Broker, references: &[Reference], events_partitions: i32) -> Result<(), String> {
    let mut expected: BTreeMap<&str, &Vec<String>> = BTreeMap::new();
    for reference in references {
        for (account, notices) in &reference.notices {
            if expected.insert(account, notices).is_some() {
                return Err(format!("account {account} lives in two partitions"));
            }
        }
    }
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..events_partitions {
        for entry in broker.log(Topic::Events, number).committed() {
            let text = |bytes: &Option<Vec<u8>>| String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into();
            found.entry(text(&entry.content.key)).or_default().push(text(&entry.content.value));
        }
    }
    for (account, notices) in &expected {
        let found = found.remove(*account).unwrap_or_default();
        if found != **notices {
            return Err(difference(account, &found, notices));
        }
        for (place, notice) in found.iter().enumerate() {
            let sequence = format!("\"id\":\"{account}/{}\"", place + 1);
            if !notice.contains(&sequence) {
                return Err(format!("expected {sequence} in notice {place} of {account}, found {notice}"));
            }
        }
    }
    if let Some((account, notices)) = found.iter().next() {
        return Err(format!("nothing should be told of {account}, found {}", notices[0]));
    }
    quarantine(broker, references)
}

fn difference(account: &str, found: &[String], expected: &[String]) -> String {
    let same = std::iter::zip(found, expected).take_while(|(found, expected)| found == expected).count();
    let at = |list: &[String]| list.get(same).map_or("nothing".to_owned(), Clone::clone);
    format!(
        "{account}: {} notices found, {} expected, the first {same} the same; then\n  found    {}\n  expected {}",
        found.len(),
        expected.len(),
        at(found),
        at(expected)
    )
}

fn quarantine(broker: &Broker, references: &[Reference]) -> Result<(), String> {
    let mut expected = Vec::new();
    for reference in references {
        for (input, offset, reason) in &reference.quarantined {
            let topic = topic(*input);
            let entry = broker.log(topic, reference.number).committed().find(|entry| entry.offset == *offset);
            let content = entry.map(|entry| entry.content.clone()).unwrap_or_default();
            let place = format!("{}/{}@{offset}", topic.name(), reference.number);
            expected.push((place, (*reason).to_owned(), content.key, content.value));
        }
    }
    let mut found = Vec::new();
    for entry in broker.log(Topic::Dlq, 0).committed() {
        let header = |name: &str| {
            let name = format!("__meterd.errors.{name}");
            let value = entry.content.headers.iter().find(|(key, _)| key == name.as_bytes());
            let bytes = value.and_then(|(_, value)| value.clone()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let place = format!("{}/{}@{}", header("topic"), header("partition"), header("offset"));
        found.push((place, header("reason"), entry.content.key.clone(), entry.content.value.clone()));
    }
    expected.sort();
    found.sort();
    if found == expected {
        return Ok(());
    }
    let odd = found.iter().find(|one| !expected.contains(one)).or(expected.iter().find(|one| !found.contains(one)));
    Err(format!("{} records in quarantine, {} expected; first: {odd:?}", found.len(), expected.len()))
}

/// Compares a partition that a daemon holds, or recovered, with what it should be.
pub fn state(what: &str, fold: &Partition, reference: &Reference) -> Result<(), String> {
    let what = format!("partition {} {what}", reference.number);
    if fold.clock() != reference.fold.clock() {
        return Err(format!("{what}: the clock is {}, expected {}", fold.clock(), reference.fold.clock()));
    }
    if fold.timers().next_due() != reference.fold.timers().next_due() {
        let (found, expected) = (fold.timers().next_due(), reference.fold.timers().next_due());
        return Err(format!("{what}: the next timer is {found:?}, expected {expected:?}"));
    }
    let (found, expected) = (accounts(fold), reference.accounts());
    for id in found.keys().chain(expected.keys()) {
        if found.get(id) != expected.get(id) {
            let view = |fold: &Partition| {
                let account = fold.find(id)?;
                let view = meterd::query::view::view(fold.catalogs(), id, &account, fold.clock())?;
                serde_json::to_string(&view).ok()
            };
            return Err(format!(
                "{what}: account {id} differs\n  found    {:?}\n  expected {:?}",
                view(fold),
                view(&reference.fold)
            ));
        }
    }
    Ok(())
}

/// Whether a recovered partition remembers what took effect: none of these records may take effect again.
pub fn identities(broker: &Broker, fold: &mut Partition, reference: &Reference) -> Result<(), String> {
    let clock = fold.clock();
    let log = broker.log(Topic::Usage, reference.number);
    for entry in log.committed().filter(|entry| reference.applied.contains(&entry.offset)) {
        let mut batch = RawBatch::default();
        LogRecord::copy_to(entry, &mut batch);
        let mut headers = Vec::new();
        let again = fold.usage(&batch.raw(0, &mut headers), clock, &mut Gate::Live, &mut Ignored);
        if !matches!(&again, Outcome::Duplicate | Outcome::Refused(_)) {
            let number = reference.number;
            return Err(format!("partition {number}: usage record {} again is {again:?}", entry.offset));
        }
    }
    Ok(())
}

struct Ignored;

impl Sink for Ignored {
    fn told(&mut self, _account: &str, _input: Option<(&str, &str)>, _notices: &[Notice]) {}

    fn is_full(&self) -> bool {
        false
    }
}
