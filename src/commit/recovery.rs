//! Recovery of a partition: one path for cold, warm and returning.
//!
//! ```text
//! epoch up (the caller) → producer initialised (the caller) → stable committed offsets → high watermarks of journal and
//! state → the journal's tail → checks → the local store, then the state topic from where it ends → fold by the
//! journaled runs and cursors from the horizon, taking duplicates from the accepted lists, dropping all effects →
//! identities → (the caller) a claim → live at the journal's offsets
//! ```
//! Nothing read before the stable offsets is used: they are the barrier behind which a predecessor's transaction has
//! ended. The journal is the truth; the group's offsets are a cross-check.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::committer::{Journaled, Places};
use super::configuration::{FoldConfiguration, first_16};
use super::journal::{Genesis, JournalRecord, Position, Writer};
use super::kafka::Log;
use super::marks::Marks;
use super::reader::Stretch;
use super::replay::{self, Folded, Tail};
use super::state_copy::{self, StateCopy};
use super::stop::Stop;
use super::ways_out::{self, WaysOut};
use crate::config::daemon::Topics;
use crate::engine;
use crate::ingest::partition::{Partitioner, place};
use crate::ingest::raw::Input;
use crate::shard::{Budget, IdentityKey, Loading, Partition};
use crate::store::{Complete, Store};
use crate::telemetry::Metrics;

/// What recovery works with; the same for all partitions of an instance.
pub struct Recovery<L> {
    pub reader: L,
    pub topics: Topics,
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    /// Memory for the accounts of all partitions.
    pub budget: Arc<Budget>,
    /// What the journal must belong to; `start` and `identity_key` are of each partition.
    pub place: Place,
    /// The one in force; a reload replaces it.
    pub configuration: Arc<ArcSwap<FoldConfiguration>>,
    /// Hash of the one that the process began with.
    pub started_with: [u8; 16],
    /// The embedded broker keeps no journal worth checking.
    pub mock: bool,
    /// What a person allows where a partition cannot be folded again as it was.
    pub ways_out: WaysOut,
}

/// Cluster, topics and group, as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub cluster: String,
    pub topics: Vec<(String, String)>,
    pub partitions: i32,
    pub group: String,
}

/// A partition ready to go on.
pub struct Recovered {
    pub fold: Partition,
    /// The last batch in the journal; 0 where there is none.
    pub sequence: u64,
    pub position: Position,
    pub marks: Marks,
    /// To be written with the first batch where the partition begins.
    pub genesis: Option<Genesis>,
    /// Digest of cluster, topics, partitions and group, for each journal record.
    pub place: [u8; 16],
    /// Whether the state topic holds the fold configuration of now.
    pub configured: bool,
    /// In force from here on.
    pub configuration: Arc<FoldConfiguration>,
    /// The local store is complete up to this offset of the state topic; `None`: what it holds is of no use.
    pub stored: Option<i64>,
    /// Next offset of the state topic.
    pub state_end: i64,
    /// What was folded cannot be folded again: the claim must write every account that changed.
    pub unrepeatable: bool,
}

impl<L: Log> Recovery<L> {
    /// Recovers a partition. `owned` says whether it still is; a revoked one is given up early.
    pub fn recover(&self, partition: i32, owned: &dyn Fn() -> bool) -> Result<Option<Recovered>, Stop> {
        self.undisturbed(partition, || self.recover_at_once(partition, owned))
    }

    /// A new owner, of whom this process has not heard yet, may write and trim while topics are read one after the other:
    /// what was read then belongs to different times, and is no damage. To be tried again.
    fn undisturbed<T>(&self, partition: i32, read: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
        let before = self.reader.watermarks(&self.topics.journal, partition)?;
        match read() {
            Err(stop) if stop.is_data() && self.reader.watermarks(&self.topics.journal, partition)? != before => {
                Err(Stop::broker(format!("another wrote to partition {partition} while it was read: {stop}")))
            }
            result => result,
        }
    }

    fn recover_at_once(&self, partition: i32, owned: &dyn Fn() -> bool) -> Result<Option<Recovered>, Stop> {
        let begun = self.reader.now();
        let topics = [self.topics.accounts.as_str(), self.topics.usage.as_str()];
        let offsets = self.reader.stable_offsets(topics, partition)?;
        let (journal_low, journal_high) = self.reader.watermarks(&self.topics.journal, partition)?;
        let (state_low, state_high) = self.reader.watermarks(&self.topics.state, partition)?;
        let Some((last_offset, last)) = self.last_record(partition, journal_low, journal_high)? else {
            return self.begin(partition, offsets, (state_low, state_high)).map(Some);
        };
        self.check_place(partition, &last)?;
        self.check_offsets(partition, offsets, &last)?;
        if !owned() {
            return Ok(None);
        }
        let journal = self.tail(partition, journal_low, (last_offset, &last))?;
        let state: StateCopy = state_copy::read(self, partition, state_high)?;
        let genesis = state.genesis.clone().ok_or_else(|| {
            Stop::data(format!(
                "expected the state topic {}/{partition} to hold the partition's genesis, found none although its \
                 journal has {} batches: the state topic was emptied; restore it, or begin with new internal topics",
                self.topics.state, last.sequence
            ))
        })?;
        if !owned() {
            return Ok(None);
        }
        let tail = Tail { journal, configurations: state.configurations, genesis };
        let recovered = self.fold(partition, tail, state.accounts, (state.stored, state_high))?;
        let took = self.reader.now() - begun;
        tracing::info!(
            partition,
            accounts = recovered.fold.accounts_len(),
            batch = recovered.sequence,
            took_ms = took.as_millis() as u64,
            "recovered"
        );
        Ok(Some(recovered))
    }

    /// Without a journal there must be no state either: both are written together.
    fn check_new(&self, partition: i32, (low, high): (i64, i64)) -> Result<(), Stop> {
        if self.mock || low == high || !state_copy::has_genesis(self, partition, (low, high))? {
            return Ok(());
        }
        // Data, since a new owner's first commit may come in between: then it is tried again.
        Err(Stop::data(format!(
            "expected the journal {}/{partition} of the state in {}/{partition}, found it empty: the journal was removed or \
             emptied. Restore it, or begin anew with another kafka.group and new internal topics",
            self.topics.journal, self.topics.state
        )))
    }

    /// Where there is no journal: the partition begins, unless something says that there was one.
    fn begin(&self, partition: i32, offsets: [Option<i64>; 2], state: (i64, i64)) -> Result<Recovered, Stop> {
        if let Some(offset) = offsets[Input::Usage.index()].or(offsets[Input::Accounts.index()])
            && !self.mock
        {
            return Err(Stop::config(format!(
                "expected a journal in {}/{partition}, found none although group {} has committed offset {offset} of \
                 it: the journal is gone. Restore it, or begin anew with another kafka.group and new internal topics",
                self.topics.journal, self.place.group
            )));
        }
        self.check_new(partition, state)?;
        let mut start = [0; 2];
        for input in Input::BOTH {
            start[input.index()] = self.reader.watermarks(self.topic(input), partition)?.0;
        }
        let identity_key = identity_key(self.reader.draw()?);
        let genesis = self.genesis(start, identity_key);
        let configuration = self.configuration.load_full();
        let mut fold = replay::partition(&configuration, partition, identity_key)?;
        fold.use_budget(self.budget.share());
        fold.begin_batch(1);
        Ok(Recovered {
            fold,
            sequence: 0,
            position: Position::at(start),
            marks: Marks::default(),
            place: self.place_digest(),
            genesis: Some(genesis),
            configured: false,
            configuration,
            // What it may hold is of another deployment.
            // Whoever began it meanwhile has written state already.
            stored: state_copy::cleared(self, partition, state.0),
            state_end: state.1,
            unrepeatable: false,
        })
    }

    /// The last committed record of the journal with its offset, searching backwards in growing steps.
    fn last_record(&self, partition: i32, low: i64, high: i64) -> Result<Option<(i64, JournalRecord)>, Stop> {
        let mut step = 64;
        loop {
            let from = (high - step).max(low);
            let mut last = None;
            let stretch = Stretch { topic: &self.topics.journal, partition, from, until: high };
            self.reader.read(stretch, &mut |record| {
                last = Some((record.offset(), record.value().unwrap_or_default().to_vec()));
                Ok(())
            })?;
            match last {
                Some((offset, bytes)) => return Ok(Some((offset, self.decode(partition, offset, &bytes)?))),
                None if from <= low => return Ok(None),
                None => step *= 8,
            }
        }
    }

    /// The journal's last record, once no transaction is pending.
    pub fn last_journaled(&self, partition: i32) -> Result<Option<Journaled>, Stop> {
        self.undisturbed(partition, || self.last_journaled_at_once(partition))
    }

    fn last_journaled_at_once(&self, partition: i32) -> Result<Option<Journaled>, Stop> {
        let topics = [self.topics.accounts.as_str(), self.topics.usage.as_str()];
        self.reader.stable_offsets(topics, partition)?;
        let (low, high) = self.reader.watermarks(&self.topics.journal, partition)?;
        // Only the owner writes state, and its transaction has ended: everything of it is before this.
        let (_, state_end) = self.reader.watermarks(&self.topics.state, partition)?;
        let last = self.last_record(partition, low, high)?;
        Ok(last.map(|(offset, record)| Journaled {
            sequence: record.sequence,
            attempt: record.attempt,
            places: Places { journal_offset: offset, broker_time: None, state_end: Some(state_end), settled: true },
        }))
    }

    /// The journal's last record with its offset, as it stands now.
    pub fn journal_end(&self, partition: i32) -> Result<Option<(i64, JournalRecord)>, Stop> {
        let (low, high) = self.reader.watermarks(&self.topics.journal, partition)?;
        self.last_record(partition, low, high)
    }

    /// Who wrote the journal's last record: the owner, or who was it last.
    pub fn writer(&self, partition: i32) -> Result<Option<Writer>, Stop> {
        Ok(self.journal_end(partition)?.map(|(_, record)| record.writer))
    }

    pub fn decode(&self, partition: i32, offset: i64, bytes: &[u8]) -> Result<JournalRecord, Stop> {
        JournalRecord::decode(bytes).map_err(|error| {
            Stop::data(format!("{}/{partition} at offset {offset} is no journal record: {error}", self.topics.journal))
        })
    }

    /// The journal must belong to this cluster, group and topics.
    pub fn check_place(&self, partition: i32, last: &JournalRecord) -> Result<(), Stop> {
        if self.mock || last.place == self.place_digest() {
            return Ok(());
        }
        let was = match state_copy::read(self, partition, self.reader.watermarks(&self.topics.state, partition)?.1)?
            .genesis
        {
            Some(genesis) => format!("{genesis:?}"),
            None => "another cluster, group or topics".into(),
        };
        Err(Stop::config(format!(
            "expected the journal of partition {partition} to belong to {:?}, found that it belongs to {was}: a topic \
             was created again, its partitions were changed, or another group's journal is configured. Give this group \
             its own internal topics, or restore the ones it had",
            self.place
        )))
    }

    /// Each batch was committed with its offsets: the group stands where the journal ends, unless its offsets expired.
    fn check_offsets(&self, partition: i32, offsets: [Option<i64>; 2], last: &JournalRecord) -> Result<(), Stop> {
        if self.mock {
            return Ok(());
        }
        for input in [Input::Usage, Input::Accounts] {
            let journaled = last.end.next[input.index()];
            match offsets[input.index()] {
                Some(offset) if offset > journaled => return Err(self.lost_end(input, partition, journaled, offset)),
                Some(offset) if offset < journaled && input == Input::Usage => {
                    return Err(Stop::data(format!(
                        "{}: {}",
                        self.elsewhere(input, partition, journaled, offset),
                        self.set_back(input, partition, journaled)
                    )));
                }
                None if input == Input::Usage => {
                    tracing::warn!(partition, journaled, "the group's offset has expired; going on from the journal");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn elsewhere(&self, input: Input, partition: i32, journaled: i64, offset: i64) -> String {
        format!(
            "expected group {} to stand at offset {journaled} of {}/{partition}, as the journal says, found {offset}",
            self.place.group,
            self.topic(input)
        )
    }

    fn set_back(&self, input: Input, partition: i32, journaled: i64) -> String {
        format!(
            "set it back with kafka-consumer-groups.sh --bootstrap-server BROKERS --group {} --topic {}:{partition} \
             --reset-offsets --to-offset {journaled} --execute",
            self.place.group,
            self.topic(input)
        )
    }

    /// What stands in events already would be folded and told once more.
    fn lost_end(&self, input: Input, partition: i32, journaled: i64, offset: i64) -> Stop {
        Stop::data(format!(
            "{}: the journal {}/{partition} lost its last batches, whose notices stand in {}: restore it, or begin anew with \
             another kafka.group and new internal topics. Only if somebody moved the group, {}",
            self.elsewhere(input, partition, journaled, offset),
            self.topics.journal,
            self.topics.events,
            self.set_back(input, partition, journaled)
        ))
    }

    /// Folds the journaled batches from the horizon on, then takes up the identities.
    fn fold(
        &self,
        partition: i32,
        mut tail: Tail,
        accounts: Loading,
        stored: (Option<i64>, i64),
    ) -> Result<Recovered, Stop> {
        let identities = std::mem::take(&mut tail.journal.identities);
        let marks = std::mem::take(&mut tail.journal.marks);
        let last = tail.last();
        let stale = |record: &JournalRecord| {
            record.sequence >= last.horizon && record.has_outcome() && record.engine_revision != engine::REVISION
        };
        let stale = tail.journal.records.iter().find(|(_, record)| stale(record));
        if let Some((_, record)) = stale
            && !self.ways_out.accept_refold
        {
            return Err(Stop::data(format!(
                "expected batches of engine revision {}, found batch {} of revision {} still to be folded again: start \
                 the meterd {} that wrote it once and stop it cleanly with SIGTERM, then start this one; where that is \
                 not possible, `meterd run --accept-refold` folds them as this version does, which may differ from what \
                 was told",
                engine::REVISION,
                record.sequence,
                record.engine_revision,
                record.writer.version
            )));
        }
        let mut fold = replay::load(partition, accounts, &tail)?;
        fold.use_budget(self.budget.share());
        let folded = replay::fold(self, partition, &mut fold, &tail)?;
        // Identities that the journal lost are refused by their age.
        let oldest = if tail.journal.cut { last.oldest.max(last.end.clock) } else { last.oldest };
        fold.resume(last.end.clock, last.end.cursor, oldest);
        replay::identities(&mut fold, identities, &tail);
        fold.end_replay();
        let position = self.skip_lost(partition, last.end)?;
        let unrepeatable =
            tail.journal.cut || stale.is_some() || folded != Folded::AsWritten || position.next != last.end.next;
        if unrepeatable {
            fold.begin_batch(last.sequence);
            self.set_sequences(partition, &mut fold)?;
        }
        fold.begin_batch(last.sequence + 1);
        let mut configuration = self.configuration.load_full();
        if let Some(lacks) = fold.lacks(&*replay::catalog(&configuration)?) {
            // One that was loaded while running is refused here as it was where partitions were live.
            if configuration.hash() == self.started_with {
                return Err(Stop::config(format!(
                    "expected a catalog with everything that accounts use, found that {lacks}, which {} lacks: put it \
                     back, or move those accounts to another plan first",
                    configuration.catalog_name
                )));
            }
            tracing::error!(partition, "the new catalog is refused and the old one stays: {lacks}, which it lacks");
            configuration = Arc::new(tail.configuration(last)?.clone());
        }
        let configured = tail.configurations.contains_key(&configuration.hash());
        replay::use_configuration(&mut fold, &configuration, partition)?;
        let place = self.place_digest();
        Ok(Recovered {
            fold,
            sequence: last.sequence,
            position,
            marks,
            genesis: None,
            place,
            configured,
            configuration,
            stored: stored.0,
            state_end: stored.1,
            unrepeatable,
        })
    }

    /// Where a partition that is rebuilt goes on: after the records that were removed before they were folded.
    fn skip_lost(&self, partition: i32, mut position: Position) -> Result<Position, Stop> {
        if !self.ways_out.rebuilds(partition) {
            return Ok(position);
        }
        for input in Input::BOTH {
            let (low, _) = self.reader.watermarks(self.topic(input), partition)?;
            let next = &mut position.next[input.index()];
            if *next < low {
                let topic = self.topic(input);
                tracing::error!(
                    partition,
                    topic,
                    from = *next,
                    until = low,
                    "records were removed before they were folded"
                );
                *next = low;
            }
        }
        Ok(position)
    }

    /// Sets the sequences of accounts to what they were told.
    fn set_sequences(&self, partition: i32, fold: &mut Partition) -> Result<(), Stop> {
        let ours = |account: &str| {
            let known = Partitioner::from_name(&self.configuration.load().partitioner);
            let place = known.and_then(|known| place(known, account.as_bytes(), self.place.partitions));
            place.is_none_or(|place| place == partition)
        };
        let (told, all) = ways_out::told(self, partition)?;
        let untold: Vec<Box<str>> =
            fold.accounts().ids().filter(|id| all && !told.contains_key(*id)).map(Box::from).collect();
        let mut moved = untold.iter().filter(|account| fold.set_sequence(account, 0)).count();
        for (account, sequence) in told.into_iter().filter(|(account, _)| ours(account)) {
            moved += usize::from(fold.set_sequence(&account, sequence));
        }
        tracing::warn!(partition, moved, "accounts stood elsewhere than at their last notice; they go on after it");
        Ok(())
    }

    pub fn topic(&self, input: Input) -> &str {
        match input {
            Input::Accounts => &self.topics.accounts,
            Input::Usage => &self.topics.usage,
        }
    }

    pub fn complete(&self, state_offset: i64) -> Complete {
        let state_topic = self.place.topics.last().map(|(_, id)| id.clone()).unwrap_or_default();
        Complete { state_offset, state_topic, boot: self.store.boot(), closed: false }
    }

    fn genesis(&self, start: [i64; 2], identity_key: IdentityKey) -> Genesis {
        let Place { cluster, topics, partitions, group } = self.place.clone();
        Genesis { cluster, topics, partitions, group, start, identity_key }
    }

    fn place_digest(&self) -> [u8; 16] {
        let Place { cluster, topics, partitions, group } = &self.place;
        first_16(&postcard::to_stdvec(&(cluster, topics, partitions, group)).expect("encoding into memory succeeds"))
    }
}

fn identity_key(bytes: [u8; 16]) -> IdentityKey {
    let (high, low) = bytes.split_at(8);
    let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    IdentityKey(half(high), half(low))
}
