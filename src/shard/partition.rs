//! The fold of one partition: raw records and ticks in, outcomes and notices out. Free of Kafka; `simulate`, the daemon
//! and recovery all run this.

use std::collections::VecDeque;
use std::sync::Arc;

use bumpalo::Bump;
use hashbrown::HashSet;

use super::accounts::{Accounts, NEVER, Slot, hash_account};
use super::budget::{Share, Taken};
use super::cold::Found;
use super::identities::{Identities, Identity, IdentityKey};
use super::timers::{Cursor, Timers};
use crate::engine::effects::Refusal;
use crate::engine::{Account, Catalog, Catalogs, Effects, Engine, Moment, Ms, Notice, Outcome, Reason, Usage};
use crate::ingest::decode::{Decoder, Raw};
use crate::ingest::partition::{Partitioner, explain_place, place};
use crate::store::encoding::Encoder;

/// What decides outcomes besides catalog and inputs; part of the fold configuration.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub record_bytes_max: usize,
    pub partitioner: Partitioner,
    pub partition: i32,
    /// Of the input topics.
    pub partitions: i32,
    /// A usage record with the header of a replay is charged with the clock as its time, however late it is.
    pub accept_replayed: bool,
}

impl Rules {
    /// Of the only partition there is, for what runs without Kafka.
    pub fn of_one_partition(record_bytes_max: usize) -> Rules {
        let partitioner = Partitioner::Any;
        Rules { record_bytes_max, partitioner, partition: 0, partitions: 1, accept_replayed: false }
    }
}

/// Usage records that are read, and whose state is fetched, together.
pub const GROUP: usize = 64;
/// Set by `meterd dlq replay --accept-late`.
const ACCEPT_LATE: &[u8] = b"__meterd.accept-late";

/// Receives what a fold tells, while the input's texts are still borrowed.
pub trait Sink {
    /// `input` is id and source of the input being folded, `None` while a timer of another account fires.
    fn told(&mut self, account: &str, input: Option<(&str, &str)>, notices: &[Notice]);
    /// Whether a mass of timers should stop here and go on in the next batch.
    fn is_full(&self) -> bool;
}

/// Who answers whether a usage record takes effect.
pub enum Gate {
    /// The table of identities.
    Live,
    /// Nobody: every record does, also one that comes again. Only to measure what identities cost.
    Unchecked,
    /// The journal's list of what `batch` accepted, with the records' times: one that has no time of its own may come again
    /// in the same batch after it was forgotten, and take effect again. Each entry is used up by its record (a repetition
    /// does not take effect); accounts already as of that batch are skipped.
    Replay { accepted: HashSet<(Identity, Ms)>, batch: u64 },
}

/// A usage record that can be folded.
#[derive(Debug)]
pub struct Read<'a> {
    pub(super) input: &'a Usage<'a>,
    pub(super) identity: Identity,
    /// Of its account.
    pub(super) hash: u64,
    /// It comes from the quarantine, and is charged with the clock as its time where that is allowed.
    replayed: bool,
}

pub struct Partition {
    pub(super) engine: Engine,
    decoder: Decoder,
    key: IdentityKey,
    /// What a single record's decoding needs besides the record.
    arena: Bump,
    rules: Rules,
    pub(super) accounts: Accounts,
    pub(super) timers: Timers,
    pub(super) identities: Identities,
    pub(super) clock: Ms,
    pub(super) cursor: Cursor,
    /// Identities are complete for records not older than this; older ones are `too_late` whatever `late` says.
    pub(super) oldest: Ms,
    pub(super) encoder: Encoder,
    fx: Effects,
    /// The batch being folded; accounts that change are dirty since it.
    pub(super) batch: u64,
    /// In the order in which they became dirty, each with the batch since which it is.
    pub(super) dirty: VecDeque<(Slot, u64)>,
    accepted: Vec<(Identity, Ms)>,
    /// What accounts and identities take of the memory that there is for them.
    share: Option<Share>,
}

impl Partition {
    pub fn new(catalogs: Catalogs, rules: Rules, key: IdentityKey) -> Partition {
        Partition {
            engine: Engine::new(catalogs),
            decoder: Decoder::default(),
            key,
            arena: Bump::new(),
            rules,
            accounts: Accounts::default(),
            timers: Timers::default(),
            identities: Identities::default(),
            clock: Ms::MIN,
            cursor: Cursor::START,
            oldest: Ms::MIN,
            encoder: Encoder::default(),
            fx: Effects::default(),
            batch: 1,
            dirty: VecDeque::new(),
            accepted: Vec::new(),
            share: None,
        }
    }

    /// Reads and folds a usage record. `clock` is the partition's clock with this record.
    pub fn usage(&mut self, raw: &Raw<'_>, clock: Ms, gate: &mut Gate, sink: &mut impl Sink) -> Outcome {
        let mut arena = std::mem::take(&mut self.arena);
        arena.reset();
        let read = self.read(raw, &arena);
        let outcome = self.fold(&read, clock, gate, sink);
        drop(read);
        self.arena = arena;
        outcome
    }

    /// Reads a usage record, by the catalog in force. Looks at nothing that a fold changes.
    pub fn read<'a>(&mut self, raw: &Raw<'a>, arena: &'a Bump) -> Result<Read<'a>, Refusal> {
        let catalog = self.engine.catalogs.current();
        let input = self.decoder.usage(catalog, raw, self.rules.record_bytes_max, arena)?;
        if let Some(refusal) = misplaced(&self.rules, input.account) {
            return Err(refusal);
        }
        let replayed = self.rules.accept_replayed && raw.headers.iter().any(|header| header.key == ACCEPT_LATE);
        let identity = self.key.identity(input.account, input.source, input.id);
        let hash = hash_account(input.account);
        Ok(Read { input, identity, hash, replayed })
    }

    /// Folds a record that was read, or tells why it could not be. `clock` is the partition's clock with this record.
    pub fn fold(
        &mut self,
        read: &Result<Read<'_>, Refusal>,
        clock: Ms,
        gate: &mut Gate,
        sink: &mut impl Sink,
    ) -> Outcome {
        self.clock = self.clock.max(clock);
        match read {
            Ok(read) => self.fold_read(read, gate, sink),
            Err(refusal) => Outcome::Refused(refusal.clone()),
        }
    }

    fn fold_read(&mut self, read: &Read<'_>, gate: &mut Gate, sink: &mut impl Sink) -> Outcome {
        let Read { input, identity, hash, replayed } = read;
        let (identity, hash) = (*identity, *hash);
        let late_ms = self.engine.catalogs.current().late_ms;
        let time = if *replayed { self.clock } else { input.time };
        let found = self.accounts.find(input.account, hash);
        let admitted = match &*gate {
            Gate::Live => !self.identities.holds(identity, self.clock, late_ms, self.oldest),
            Gate::Unchecked => true,
            Gate::Replay { accepted, .. } => accepted.contains(&(identity, time)),
        };
        if found.is_some_and(|slot| skips(gate, self.accounts.as_of(slot))) {
            if let Gate::Replay { accepted, .. } = gate {
                accepted.remove(&(identity, time));
            }
            return if admitted { Outcome::Applied } else { Outcome::Duplicate };
        }
        let moment = Moment { clock: self.clock, oldest: self.oldest };
        self.fx.notices.clear();
        let mut fresh = None;
        let account = match found {
            Some(slot) => &mut self.accounts.warm(slot, &self.engine.catalogs).account,
            None => fresh.insert(Account::default()),
        };
        let outcome = if !admitted {
            // A replay cannot tell a duplicate from what was refused, which is prepared for before it is looked at.
            self.engine.prepare(account, self.clock, &mut self.fx);
            Outcome::Duplicate
        } else if *replayed {
            self.engine.usage(account, &Usage { time, ..Usage::clone(input) }, moment, &mut self.fx)
        } else {
            self.engine.usage(account, input, moment, &mut self.fx)
        };
        if !self.fx.notices.is_empty() {
            sink.told(input.account, Some((input.id, input.source)), &self.fx.notices);
        }
        let taken = matches!(outcome, Outcome::Applied | Outcome::Failed);
        match gate {
            Gate::Live if taken => {
                self.identities.remember(identity, time, self.clock, late_ms);
                self.accepted.push((identity, time));
            }
            Gate::Replay { accepted, .. } if taken => {
                accepted.remove(&(identity, time));
            }
            _ => {}
        }
        let slot = match fresh {
            Some(account) if account.is_blank() => return outcome,
            Some(account) => self.accounts.insert(input.account, hash, account),
            None => found.expect("an account is either found or fresh"),
        };
        self.settle(slot);
        outcome
    }

    /// Folds a command. Its identity lives in its account.
    pub fn command(&mut self, raw: &Raw<'_>, clock: Ms, gate: &Gate, sink: &mut impl Sink) -> Outcome {
        self.clock = self.clock.max(clock);
        self.arena.reset();
        let input = match self.decoder.command(raw, self.rules.record_bytes_max, &self.arena) {
            Ok(input) => input,
            Err(refusal) => return Outcome::Refused(refusal),
        };
        if let Some(refusal) = misplaced(&self.rules, &input.account) {
            return Outcome::Refused(refusal);
        }
        let hash = hash_account(&input.account);
        let found = self.accounts.find(&input.account, hash);
        if found.is_some_and(|slot| skips(gate, self.accounts.as_of(slot))) {
            return Outcome::Applied;
        }
        let moment = Moment { clock: self.clock, oldest: self.oldest };
        self.fx.notices.clear();
        let mut fresh = None;
        let account = match found {
            Some(slot) => &mut self.accounts.warm(slot, &self.engine.catalogs).account,
            None => fresh.insert(Account::default()),
        };
        let outcome = self.engine.command(account, &input, moment, &mut self.fx);
        if !self.fx.notices.is_empty() {
            sink.told(&input.account, Some((&input.id, &input.source)), &self.fx.notices);
        }
        let slot = match fresh {
            Some(account) if account.is_blank() => return outcome,
            Some(account) => self.accounts.insert(&input.account, hash, account),
            None => found.expect("an account is either found or fresh"),
        };
        self.settle(slot);
        outcome
    }

    /// Moves the clock without an input: a tick, or a clock line of `simulate`.
    pub fn pass_time(&mut self, clock: Ms) {
        self.clock = self.clock.max(clock);
    }

    /// Fires the timers of all accounts at or before `limit`, in order: at most `count` of them, and none once the sink
    /// is full. Returns whether all have fired.
    pub fn fire_through(&mut self, limit: Cursor, count: usize, gate: &Gate, sink: &mut impl Sink) -> bool {
        for _ in 0..count {
            let Some((due, slot)) = self.timers.first_through(limit) else {
                self.cursor = self.cursor.max(limit);
                return true;
            };
            if sink.is_full() {
                return false;
            }
            self.fire(due, slot, gate, sink);
        }
        false
    }

    /// Fires what is due at the clock, at most `count` timers. Returns whether all have fired.
    pub fn fire_due(&mut self, gate: &Gate, count: usize, sink: &mut impl Sink) -> bool {
        if self.timers.next_due().is_none_or(|due| due > self.clock) {
            return true;
        }
        self.fire_through(Cursor::through(self.clock), count, gate, sink)
    }

    /// The wall clock reached `until` and nothing is left to fold: the clock moves from due time to due time, until no
    /// timer is due or the sink is full.
    pub fn tick_through(&mut self, until: Ms, gate: &Gate, sink: &mut impl Sink) {
        while let Some(due) = self.timers.next_due().filter(|due| *due <= until) {
            self.clock = self.clock.max(due);
            if !self.fire_through(Cursor::through(self.clock), usize::MAX, gate, sink) {
                return;
            }
        }
    }

    fn fire(&mut self, due: Ms, slot: Slot, gate: &Gate, sink: &mut impl Sink) {
        let (hash, as_of) = (self.accounts.get(slot).hash, self.accounts.as_of(slot));
        self.cursor = self.cursor.max(Cursor { due, hash });
        let warm = self.accounts.warm(slot, &self.engine.catalogs);
        assert!(!skips(gate, as_of), "a timer of account {} is due before the state it was loaded with", warm.id);
        self.fx.notices.clear();
        self.engine.advance(&mut warm.account, due, &mut self.fx);
        if !self.fx.notices.is_empty() {
            sink.told(&warm.id, None, &self.fx.notices);
        }
        let again = warm.account.next_due();
        assert!(again.is_none_or(|again| again > due), "a timer of account {} due at {due} fired again", warm.id);
        self.settle(slot);
    }

    /// Another catalog is in force from the next batch on; each account takes it up before its next input or timer.
    /// Records from before what was acceptable stay refused where `late` rose.
    pub fn use_catalog(&mut self, catalog: Arc<Catalog>) {
        let before = self.engine.catalogs.current();
        if before.hash == catalog.hash {
            return;
        }
        if catalog.late_ms > before.late_ms && self.clock != Ms::MIN {
            self.oldest = self.oldest.max(self.clock.saturating_sub(before.late_ms));
        }
        self.engine.catalogs.push(catalog);
    }

    /// What accounts of this partition use that another catalog lacks.
    pub fn lacks(&self, catalog: &Catalog) -> Option<String> {
        self.accounts.slots().find_map(|slot| {
            if self.accounts.packed(slot).is_some_and(|packed| packed.is_of(catalog)) {
                return None;
            }
            let account = self.accounts.read(slot, &self.engine.catalogs);
            let lacks = crate::engine::lacks(&account, &self.engine.catalogs, catalog)?;
            Some(format!("account {:?} uses {lacks}", self.accounts.id(slot)))
        })
    }

    /// From here on accounts that are not used grow cold once memory is short.
    pub fn use_budget(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// The bytes of all identities and the memory that there is, once, where they alone exceed it.
    pub fn overrun(&self) -> Option<(usize, usize)> {
        self.share.as_ref().and_then(Share::overrun)
    }

    /// Memory is short.
    pub(super) fn is_short(&self) -> bool {
        self.share.as_ref().is_some_and(Share::is_short)
    }

    pub fn use_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Sets the sequence of an account, known or not, to that of the last notice that it was told. Whether it was another.
    pub fn set_sequence(&mut self, id: &str, sequence: u64) -> bool {
        let hash = hash_account(id);
        let slot = match self.accounts.find(id, hash) {
            Some(slot) => slot,
            None => self.accounts.insert(id, hash, Account::default()),
        };
        let account = &mut self.accounts.warm(slot, &self.engine.catalogs).account;
        let differs = account.sequence != sequence;
        account.sequence = sequence;
        if differs {
            self.settle(slot);
        }
        differs
    }

    /// Whether no two accounts have this hash in the journal's 32 bits.
    pub fn is_alone(&self, hash: u32) -> bool {
        self.accounts.slots().filter(|slot| self.accounts.get(*slot).hash as u32 == hash).count() < 2
    }

    /// Takes up identities that the journal holds, in the place of those that are here.
    pub fn take_up(&mut self, identities: Identities) {
        self.identities = identities;
        self.identities.forget(self.clock, self.engine.catalogs.current().late_ms);
        self.tell_memory();
    }

    /// Takes up an identity that the journal holds.
    pub fn remember(&mut self, identity: Identity, time: Ms) {
        let late_ms = self.engine.catalogs.current().late_ms;
        if self.clock <= time.saturating_add(late_ms) {
            self.identities.remember(identity, time, self.clock, late_ms);
        }
    }

    /// Identities accepted since this was called last, with their records' times.
    pub fn take_accepted(&mut self) -> Vec<(Identity, Ms)> {
        std::mem::take(&mut self.accepted)
    }

    /// Forgets what was accepted, where nobody asks for it.
    pub fn release_accepted(&mut self) {
        self.accepted.clear();
    }

    pub fn accepted_len(&self) -> usize {
        self.accepted.len()
    }

    pub fn take_violations(&mut self) -> u64 {
        std::mem::take(&mut self.fx.conservation_violations)
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn catalogs(&self) -> &Catalogs {
        &self.engine.catalogs
    }

    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// An account to be read; a cold one is decoded for it.
    pub fn find(&self, id: &str) -> Option<Found<'_>> {
        let slot = self.accounts.find(id, hash_account(id))?;
        Some(self.accounts.read(slot, &self.engine.catalogs))
    }

    pub fn holds(&self, id: &str) -> bool {
        self.accounts.find(id, hash_account(id)).is_some()
    }

    pub fn accounts_len(&self) -> usize {
        self.accounts.len()
    }

    pub fn identities_len(&self) -> usize {
        self.identities.len()
    }

    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    pub fn clock(&self) -> Ms {
        self.clock
    }

    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    pub fn oldest(&self) -> Ms {
        self.oldest
    }

    /// After an account may have changed: its timer and its place among the dirty.
    fn settle(&mut self, slot: Slot) {
        let (held, warm) = self.accounts.warmed(slot);
        let due = warm.account.next_due().unwrap_or(NEVER);
        if due != warm.armed {
            if warm.armed != NEVER {
                self.timers.disarm(warm.armed, held.hash, slot);
            }
            if due != NEVER {
                self.timers.arm(due, held.hash, slot);
            }
            warm.armed = due;
        }
        held.exists = warm.account.exists();
        if !held.dirty {
            held.dirty = true;
            self.dirty.push_back((slot, self.batch));
        }
        self.tell_memory();
        if self.is_short() {
            self.accounts.cool(&self.engine.catalogs);
        }
    }

    fn tell_memory(&mut self) {
        if let Some(share) = &mut self.share {
            share.set(Taken { accounts: self.accounts.bytes(), identities: self.identities.bytes() });
        }
    }
}

/// Already as of the batch that is being folded again.
fn skips(gate: &Gate, as_of: u64) -> bool {
    matches!(gate, Gate::Replay { batch, .. } if as_of >= *batch)
}

fn misplaced(rules: &Rules, account: &str) -> Option<Refusal> {
    let right = place(rules.partitioner, account.as_bytes(), rules.partitions)?;
    if right == rules.partition {
        return None;
    }
    let message = explain_place(rules.partitioner, account.as_bytes(), rules.partitions, rules.partition);
    Some(Refusal::new(Reason::WrongPartition, message))
}
