//! What others do while a partition is recovered.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use meterd::ingest::raw::Input;
use meterd::store::Store;
use meterd::store::memory::MemoryStore;

use super::owner::{Owner, at, grant, recovered, recovery};
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
