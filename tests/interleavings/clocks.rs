//! What the wall clock decides.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use meterd::commit::committer::Places;
use meterd::daemon::clock::Now;
use meterd::daemon::owned::Phase;
use meterd::ingest::raw::Input;

use super::owner::{Owner, START, at, grant};
use super::topics::Broker;

const YEAR_MS: i64 = 365 * 86_400_000;

/// The clock was good before the leaders were asked and is good after; while they were, it was a year ahead.
#[test]
fn a_clock_that_leaps_while_the_ends_are_asked_fires_nothing_ahead_of_time() {
    let broker = Rc::<RefCell<Broker>>::default();
    let mut owner = Owner::live(&broker, at(0));
    owner.fold(Input::Accounts, &[grant("acme", 10_000), grant("acme", 86_400_000)], at(0));
    owner.commit(at(0));
    assert!(owner.turn(at(12_000)).asks, "the first grant is due");
    owner.owned.ends([2, 0], START + 12_000 + YEAR_MS);
    owner.turn(at(12_050));
    assert_eq!(owner.commit(at(12_050)), 1, "of one grant it is told that it expired");
    let clock = owner.owned.fold.clock();
    assert!(
        (START + 10_000..=START + 12_050).contains(&clock),
        "the clock stands {} ms after the start",
        clock - START
    );
    assert!(owner.owned.next_due().is_some_and(|due| due > START + 80_000_000), "the second is still to come");
}

/// The claim's outcome was not known, and the journal told that it was committed, but not when the broker appended it.
#[test]
fn a_claim_that_the_journal_told_of_decides_nothing_before_another_brought_the_brokers_time() {
    let broker = Rc::<RefCell<Broker>>::default();
    let mut before = Owner::live(&broker, at(0));
    before.fold(Input::Accounts, &[grant("acme", 10_000)], at(0));
    before.commit(at(0));

    // A machine whose clock is a year ahead.
    let ahead = |ms: i64| Now { wall: at(ms).wall + YEAR_MS, steady: at(ms).steady };
    let mut owner = Owner::take(&broker, "b", 2, ahead(1_000));
    let claim = owner.close(ahead(1_000));
    let journal_offset = broker.borrow_mut().commit(&claim, START + 1_000);
    let told = Places { journal_offset, settled: true, ..Places::default() };
    assert!(!owner.owned.committed(claim, told, ahead(1_100)), "it is not live yet");
    for input in Input::BOTH {
        owner.ended(input);
    }
    let fires = |owner: &mut Owner, ms: i64| {
        let asks = owner.turn(ahead(ms)).asks;
        owner.owned.ends([1, 0], ahead(ms).wall);
        owner.turn(ahead(ms));
        asks || owner.owned.fold.clock() > START
    };
    assert!(!fires(&mut owner, 1_200), "a timer of the year to come is fired");
    let claim = owner.close(ahead(1_300));
    assert_eq!(claim.record.runs, []);
    let journal_offset = broker.borrow_mut().commit(&claim, START + 1_300);
    let places = Places { journal_offset, broker_time: Some(START + 1_300), ..Places::default() };
    assert!(owner.owned.committed(claim, places, ahead(1_400)), "now it is");
    assert!(!fires(&mut owner, 1_500), "the broker's time is another");
    assert_eq!(owner.owned.phase, Phase::Held);
}

/// More accounts are told something at one instant than fit into a batch, and no input comes any more.
#[test]
fn timers_that_a_full_batch_left_are_committed_without_an_input() {
    const ACCOUNTS: usize = 6_000;
    let broker = Rc::<RefCell<Broker>>::default();
    let mut owner = Owner::live(&broker, at(0));
    let grants: Vec<String> = (0..ACCOUNTS).map(|number| grant(&format!("account-{number}"), 10_000)).collect();
    owner.fold(Input::Accounts, &grants, at(0));
    while owner.wants_commit(at(0)) {
        owner.commit(at(0));
    }
    // Nothing else is to be committed meanwhile.
    owner.settings.checkpoint = Duration::from_secs(3_600);
    assert!(owner.turn(at(10_500)).asks, "the grants are due");
    owner.owned.ends([ACCOUNTS as i64, 0], START + 10_500);
    let mut told = Vec::new();
    for ms in 10_500..10_520 {
        owner.turn(at(ms));
        if owner.wants_commit(at(ms)) {
            told.push(owner.commit(at(ms)));
        }
    }
    assert_eq!(told.iter().sum::<usize>(), ACCOUNTS, "{told:?}");
    assert!(told.len() > 1, "all of them fitted into one batch: {told:?}");
    assert!(owner.owned.is_settled());
}
