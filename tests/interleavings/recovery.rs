//! What others do while a partition is recovered.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use meterd::commit::Stop;
use meterd::engine::Outcome;
use meterd::ingest::raw::Input;
use meterd::store::Store;
use meterd::store::memory::MemoryStore;

use super::late;
use super::owner::{Owner, at, event, grant, recovered, recovery};
use super::topics::{Broker, Call};

/// The coordinator has decided a predecessor's transaction: the group's offsets say so already, the topics do not yet. It
/// moved no offset, so that only the journal tells of it.
#[test]
fn a_predecessors_transaction_that_is_being_ended_is_waited_for() {
    let broker = Rc::<RefCell<Broker>>::default();
    let mut before = Owner::live(&broker, at(0));
    before.fold(Input::Accounts, &[grant("acme", 10_000)], at(0));
    before.commit(at(0));
    assert!(before.turn(at(20_000)).asks, "the grant is due");
    before.owned.ends([1, 0], at(20_000).wall);
    before.turn(at(20_000));
    let tick = before.close(at(20_000));
    assert!(!tick.notices.is_empty());
    assert_eq!((tick.record.sequence, tick.record.end.next), (3, [1, 0]));
    broker.borrow_mut().open(&tick, at(20_000).wall);

    let store: Arc<dyn Store> = Arc::<MemoryStore>::default();
    let recovery = recovery(&broker, &store);
    recovery.reader.meanwhile.borrow_mut().push((Call::StableOffsets, Box::new(Broker::end_offsets)));
    recovery.reader.meanwhile.borrow_mut().push((Call::Wait, Box::new(Broker::end_records)));
    let recovered = recovered(&recovery);
    assert_eq!(recovered.sequence, 3, "batch 3 would be written twice");
    assert!(recovery.reader.meanwhile.borrow().is_empty(), "nothing was waited for");
}

/// Two recover a partition that has no journal yet: one of them has lost it, and has not heard.
#[test]
fn a_partition_that_has_a_state_is_not_begun_again() {
    let broker = Rc::<RefCell<Broker>>::default();
    let mut other = Owner::take(&broker, "b", 1, at(0));
    let claim = other.close(at(0));

    let store: Arc<dyn Store> = Arc::<MemoryStore>::default();
    let first = recovery(&broker, &store);
    let commits = Box::new(move |broker: &mut Broker| assert_eq!(broker.commit(&claim, at(0).wall), 0));
    first.reader.meanwhile.borrow_mut().push((Call::Watermarks("state"), commits));
    let refused = first.recover(0, &|| true).err().expect("the journal was empty when it was read, the state was not");
    assert!(refused.is_broker(), "to be tried again: {refused}");
    assert_eq!(recovered(&first).sequence, 1);
}

/// An owner that folded two records in a batch each, of which no checkpoint tells.
fn folded_twice(broker: &Rc<RefCell<Broker>>) -> Owner {
    let mut owner = Owner::live(broker, at(0));
    owner.settings.checkpoint = Duration::from_secs(60);
    for id in ["first", "second"] {
        owner.fold(Input::Usage, &[event("acme", id, "call", r#"{"tokens":"5"}"#)], at(0));
        owner.commit(at(0));
    }
    owner
}

/// A claim is never cut, however slow the brokers are: what may wait does not go out with it.
#[test]
fn a_claim_carries_no_checkpoints_that_may_wait() {
    let broker = Rc::<RefCell<Broker>>::default();
    folded_twice(&broker);
    let mut next = Owner::take(&broker, "b", 2, at(0));
    next.settings.checkpoint = Duration::ZERO;
    let claim = next.close(at(0));
    assert_eq!(claim.state.len(), 0, "checkpoints are in the claim");
    next.committed(claim, at(0));
    assert!(next.wants_commit(at(0)), "they are due");
    assert_eq!(next.close(at(0)).state.len(), 1);
}

fn refused(broker: &Rc<RefCell<Broker>>) -> Stop {
    let store: Arc<dyn Store> = Arc::<MemoryStore>::default();
    recovery(broker, &store).recover(0, &|| true).err().expect("it must not go on")
}

/// An input that was truncated and written again has other records at the same offsets. They may tell nobody anything, so
/// that no digest of notices differs.
#[test]
fn other_records_at_the_same_offsets_stop_the_start() {
    let broker = Rc::<RefCell<Broker>>::default();
    folded_twice(&broker);
    broker.borrow_mut().replace("usage", 1, event("acme", "other", "call", r#"{"tokens":"6"}"#).as_bytes());
    let stop = refused(&broker);
    assert!(stop.code == 65 && stop.message.contains("others at the same offsets"), "{stop}");
}

/// The journal's last batch is gone, of usage or of commands alone: to fold its record again would tell a second time what
/// was told.
#[test]
fn a_journal_without_its_last_batch_stops_the_start_with_both_numbers() {
    for (input, name, found) in [(Input::Usage, "usage", (2, 3)), (Input::Accounts, "accounts", (0, 1))] {
        let broker = Rc::<RefCell<Broker>>::default();
        let mut owner = folded_twice(&broker);
        owner.fold(input, &[grant_or_call(input)], at(0));
        owner.commit(at(0));
        let high = broker.borrow().high("journal");
        // The record and its transaction's mark.
        broker.borrow_mut().cut("journal", high - 2);
        let stop = refused(&broker);
        let told = format!("offset {} of {name}/0, as the journal says, found {}", found.0, found.1);
        assert!(stop.code == 65 && stop.message.contains(&told) && stop.message.contains("lost its last"), "{stop}");
    }
}

/// Of what was folded before the horizon only the identities are needed, and of those only the ones that may be asked for.
#[test]
fn of_batches_before_the_horizon_the_identities_alone_are_kept() {
    let broker = Rc::<RefCell<Broker>>::default();
    let mut owner = Owner::live(&broker, at(0));
    for (id, ms) in [("long ago", 0), ("first", 5_000), ("second", 5_000), ("third", 5_500)] {
        if id == "third" {
            owner.settings.checkpoint = Duration::from_secs(60);
        }
        owner.fold(Input::Usage, &[event("acme", id, "call", r#"{"tokens":"5"}"#)], at(ms));
        owner.commit(at(ms));
    }
    let store: Arc<dyn Store> = Arc::<MemoryStore>::default();
    let recovery = recovery(&broker, &store);
    let (offset, last) = recovery.journal_end(0).ok().flatten().expect("there is a journal");
    assert_eq!((last.sequence, last.horizon), (5, 5));
    let tail = recovery.tail(0, 0, (offset, &last)).unwrap_or_else(|stop| panic!("{stop}"));
    let kept: Vec<_> = tail.records.iter().map(|(_, record)| (record.sequence, record.accepted.0.len())).collect();
    assert_eq!(kept, [(4, 0), (5, 1)]);
    assert_eq!(tail.identities.len(), 3);

    let mut fold = recovered(&recovery).fold;
    assert_eq!(fold.identities_len(), 3, "the first one's time is over");
    for (id, outcome) in [("first", Outcome::Duplicate), ("third", Outcome::Duplicate), ("fourth", Outcome::Applied)] {
        assert_eq!(late::fold(&mut fold, id, None, at(5_500).wall), outcome, "{id}");
    }
}

fn grant_or_call(input: Input) -> String {
    match input {
        Input::Usage => event("acme", "third", "call", r#"{"tokens":"5"}"#),
        Input::Accounts => grant("acme", 10_000),
    }
}
