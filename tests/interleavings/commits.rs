//! The committer before a coordinator that does as it is told.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use meterd::commit::Stop;
use meterd::commit::batch::Batch;
use meterd::commit::committer::{Committed, Committer, Journaled, Places};
use meterd::commit::kafka::{Cluster, Machine, Membership, Transactions};
use meterd::commit::ownership::Ownership;
use meterd::commit::producer::{Delivered, Fault, TRANSACTION_TIMEOUT};
use meterd::commit::share::{Pace, Share};
use meterd::ingest::native::Outgoing;
use meterd::ingest::raw::Input;
use meterd::telemetry::Metrics;

use super::owner::{Owner, at, grant};
use super::topics::{Broker, names};

struct State {
    begun: Instant,
    slept: Cell<Duration>,
    ownership: Arc<Ownership>,
    /// The consumer is a member of its group from then on.
    joined_after: Duration,
    /// Who it is.
    member: &'static str,
    /// The callback that takes the partition runs then.
    lost_after: Duration,
    /// What a transaction's time suffices for.
    records_max: usize,
    /// Of the transaction that is open.
    records: Cell<usize>,
    /// Of the commits to come; those after them succeed.
    outcomes: RefCell<VecDeque<Fault>>,
    /// Of the aborts to come.
    aborts: RefCell<VecDeque<Fault>>,
    /// How long a commit takes.
    commit_takes: Duration,
    /// Producers that were made.
    opened: Cell<usize>,
    /// Generations that offsets went out with, and with which something was committed.
    fenced_by: Cell<i32>,
    tried: RefCell<Vec<i32>>,
}

#[derive(Clone)]
struct Coordinator(Rc<State>);

/// Of all commits.
const ATTEMPT: [u8; 16] = [9; 16];

impl Machine for Coordinator {
    fn draw(&self) -> Result<[u8; 16], Stop> {
        Ok(ATTEMPT)
    }

    fn now(&self) -> Instant {
        self.0.begun + self.0.slept.get()
    }

    fn sleep(&self, time: Duration) {
        self.0.slept.set(self.0.slept.get() + time);
        if self.0.slept.get() >= self.0.lost_after {
            self.0.ownership.revoke(0);
        }
    }
}

/// The generation, and the id once there is one.
struct Member(i32, &'static str);

/// To which partitions are assigned.
const MEMBER: &str = "member-1";

impl Membership for Member {
    fn generation(&self) -> i32 {
        self.0
    }

    fn member(&self) -> String {
        if self.0 < 0 { String::new() } else { self.1.into() }
    }
}

impl Cluster for Coordinator {
    type Membership = Member;
    type Producer = Coordinator;

    fn membership(&self) -> Option<Member> {
        Some(Member(if self.0.slept.get() >= self.0.joined_after { 3 } else { -1 }, self.0.member))
    }

    fn open(&self, _timeout: Duration) -> Result<Coordinator, Fault> {
        self.0.opened.set(self.0.opened.get() + 1);
        Ok(self.clone())
    }
}

impl Transactions for Coordinator {
    type Membership = Member;

    fn begin(&self) -> Result<(), Fault> {
        self.0.records.set(0);
        Ok(())
    }

    fn send(&self, _record: &Outgoing<'_>) -> Result<(), Fault> {
        self.0.records.set(self.0.records.get() + 1);
        Ok(())
    }

    fn drain(&self, timeout: Duration) -> Result<Vec<Delivered>, Fault> {
        if self.0.records.get() <= self.0.records_max {
            return Ok(Vec::new());
        }
        self.sleep(timeout);
        Err(Fault::Abort("records were not acknowledged in time".into()))
    }

    /// The broker does not look at a membership of before the first join.
    fn send_offsets(&self, member: Member, offsets: &[(&str, i32, i64)], _timeout: Duration) -> Result<(), Fault> {
        assert_eq!(offsets.len() % 2, 0, "of both inputs, moved or not");
        self.0.fenced_by.set(member.generation());
        Ok(())
    }

    fn commit(&self, _timeout: Duration) -> Result<(), Fault> {
        self.0.tried.borrow_mut().push(self.0.fenced_by.get());
        self.sleep(self.0.commit_takes);
        self.0.outcomes.borrow_mut().pop_front().map_or(Ok(()), Err)
    }

    fn abort(&self, _timeout: Duration) -> Result<(), Fault> {
        self.0.aborts.borrow_mut().pop_front().map_or(Ok(()), Err)
    }
}

/// Batches by their sequences.
#[derive(Default)]
struct Heard {
    journal: Option<Journaled>,
    /// Only of the first partition: its journal ends with what was sent, the others' are empty.
    halves: bool,
    committed: Vec<u64>,
    last: Option<Batch>,
    dropped: Vec<u64>,
    refolded: Vec<u64>,
}

impl Committed for Heard {
    fn committed(&mut self, batch: Batch, _places: Places) {
        self.committed.push(batch.record.sequence);
        self.last = Some(batch);
    }

    fn dropped(&mut self, batch: Batch) {
        self.dropped.push(batch.record.sequence);
    }

    fn refold(&mut self, batch: Batch) {
        self.refolded.push(batch.record.sequence);
    }

    fn last_journaled(&mut self, partition: i32) -> Result<Option<Journaled>, Stop> {
        if self.halves && partition == 0 {
            return Ok(Some(Journaled {
                sequence: 1,
                attempt: u128::from_le_bytes(ATTEMPT),
                places: Places::default(),
            }));
        }
        Ok(self.journal)
    }
}

/// A committer, and the claim of the partition that it is to commit.
fn committer(state: State, heard: Heard) -> (Committer<Coordinator, Heard>, Batch) {
    let epoch = state.ownership.assign(0, MEMBER);
    let claim = Owner::take(&Rc::<RefCell<Broker>>::default(), "a", epoch, at(0)).close(at(0));
    (committer_with(state, heard, Arc::default()), claim)
}

fn committer_with(state: State, heard: Heard, share: Arc<Share>) -> Committer<Coordinator, Heard> {
    Committer {
        ownership: Arc::clone(&state.ownership),
        cluster: Coordinator(Rc::new(state)),
        topics: names(),
        events_partitions: 1,
        dlq_partitions: 1,
        sink: heard,
        metrics: Metrics::new(),
        idle: Arc::<AtomicBool>::default(),
        pace: Pace::new(share),
        mock: false,
        producer: None,
        fenced: Vec::new(),
    }
}

fn undisturbed() -> State {
    State {
        begun: Instant::now(),
        slept: Cell::default(),
        ownership: Arc::default(),
        joined_after: Duration::ZERO,
        member: MEMBER,
        lost_after: Duration::MAX,
        records_max: usize::MAX,
        records: Cell::default(),
        outcomes: RefCell::default(),
        aborts: RefCell::default(),
        commit_takes: Duration::ZERO,
        opened: Cell::default(),
        fenced_by: Cell::new(-1),
        tried: RefCell::default(),
    }
}

/// The outcome of the claim is not known, and the journal ends with its sequence: written by the next owner, of which this
/// process has not heard.
#[test]
fn what_another_wrote_is_not_taken_for_the_own_batch() {
    let outcomes = RefCell::new(VecDeque::from([Fault::Unknown("no answer".into())]));
    let state = State { outcomes, lost_after: Duration::from_secs(5), ..undisturbed() };
    let others = Journaled { sequence: 1, attempt: 7, places: Places::default() };
    let (mut committer, claim) = committer(state, Heard { journal: Some(others), ..Heard::default() });
    committer.commit(vec![claim]).expect("it hears of its loss");
    assert_eq!((&*committer.sink.committed, &*committer.sink.dropped), (&[][..], &[1][..]));
    assert_eq!(*committer.cluster.0.tried.borrow(), [3], "it was sent once");
}

/// Idle for longer than the coordinator remembers a transactional id: the first transaction after it fails for good, and
/// with it the producer; nothing of it is in the journal.
#[test]
fn a_producer_that_the_coordinator_forgot_is_made_anew_and_sends_the_same_again() {
    let outcomes = RefCell::new(VecDeque::from([Fault::Unknown("invalid producer id mapping".into())]));
    let (mut committer, claim) = committer(State { outcomes, ..undisturbed() }, Heard::default());
    committer.commit(vec![claim]).expect("it goes on");
    assert_eq!((&*committer.sink.committed, &*committer.sink.dropped), (&[1][..], &[][..]));
    let State { tried, opened, .. } = &*committer.cluster.0;
    assert_eq!((&**tried.borrow(), opened.get()), (&[3, 3][..], 2));
}

fn outcomes(faults: impl IntoIterator<Item = Fault>) -> RefCell<VecDeque<Fault>> {
    RefCell::new(faults.into_iter().collect())
}

fn fences(count: usize) -> RefCell<VecDeque<Fault>> {
    outcomes(std::iter::repeat_with(|| Fault::Fenced("a newer epoch".into())).take(count))
}

fn refusals(count: usize) -> RefCell<VecDeque<Fault>> {
    outcomes(std::iter::repeat_with(|| Fault::Abort("refused".into())).take(count))
}

/// So many commits in a row meet a fence: in the commit itself, or in the abort after it.
fn fenced(count: usize) -> [State; 2] {
    let in_aborts = State { outcomes: refusals(count), aborts: fences(count), ..undisturbed() };
    [State { outcomes: fences(count), ..undisturbed() }, in_aborts]
}

/// A commit that the coordinator refuses and ends is sent again, by the same producer, as often as it takes.
#[test]
fn an_abort_is_tried_again() {
    let (mut committer, claim) = committer(State { outcomes: refusals(5), ..undisturbed() }, Heard::default());
    committer.commit(vec![claim]).expect("it goes on");
    assert_eq!(committer.sink.committed, [1]);
    let State { tried, opened, .. } = &*committer.cluster.0;
    assert_eq!((tried.borrow().len(), opened.get()), (6, 1));
}

/// Brokers that refuse for minutes end the daemon: it can be started again, and somebody should look.
#[test]
fn aborts_without_end_stop_after_minutes() {
    let (mut committer, claim) = committer(State { outcomes: refusals(10_000), ..undisturbed() }, Heard::default());
    let stop = committer.commit(vec![claim]).expect_err("nothing commits");
    assert_eq!(stop.code, 69, "{}", stop.message);
    let slept = committer.cluster.0.slept.get();
    assert!((Duration::from_secs(300)..Duration::from_secs(310)).contains(&slept), "{slept:?}");
}

/// Three fences within a minute are another process of this name ...
#[test]
fn three_fences_within_a_minute_stop() {
    for state in fenced(3) {
        let (mut committer, claim) = committer(state, Heard::default());
        let stop = committer.commit(vec![claim]).expect_err("another has its name");
        assert!(stop.code == 78 && stop.message.contains("kafka.instance"), "{} {}", stop.code, stop.message);
        assert_eq!(committer.cluster.0.tried.borrow().len(), 3);
    }
}

/// ... those of a minute ago do not count, ...
#[test]
fn fences_of_a_minute_ago_are_forgotten() {
    let state = State {
        outcomes: fences(5),
        // Less than a transaction may take.
        commit_takes: Duration::from_millis(7_000),
        ..undisturbed()
    };
    let (mut committer, claim) = committer(state, Heard::default());
    committer.fenced = (0..2).map(|_| committer.cluster.0.begun).collect();
    committer.cluster.0.slept.set(Duration::from_secs(60));
    let stop = committer.commit(vec![claim]).expect_err("three of the five are within a minute");
    assert_eq!((stop.code, committer.cluster.0.tried.borrow().len()), (78, 3), "{}", stop.message);
}

/// ... and what the coordinator fenced because the transaction took too long is not, however often.
#[test]
fn fences_by_the_coordinators_own_timeout_are_no_other_process() {
    for state in fenced(4) {
        let state = State { commit_takes: TRANSACTION_TIMEOUT, ..state };
        let (mut committer, claim) = committer(state, Heard::default());
        committer.commit(vec![claim]).expect("it goes on");
        assert_eq!((&*committer.sink.committed, committer.cluster.0.tried.borrow().len()), (&[1][..], 5));
    }
}

/// Of two partitions in one transaction one stands in the journal and the other does not: no transaction of Kafka's does
/// that.
#[test]
fn half_a_transaction_in_the_journals_stops() {
    let state = State { outcomes: outcomes([Fault::Unknown("no answer".into())]), ..undisturbed() };
    let broker = Rc::<RefCell<Broker>>::default();
    let batches: Vec<Batch> = (0..2)
        .map(|partition| {
            let mut batch = Owner::take(&broker, "a", state.ownership.assign(partition, MEMBER), at(0)).close(at(0));
            batch.partition = partition;
            batch
        })
        .collect();
    let mut committer = committer_with(state, Heard { halves: true, ..Heard::default() }, Arc::default());
    let stop = committer.commit(batches).expect_err("it cannot be");
    assert!(stop.code == 65 && stop.message.contains("1 of 2"), "{} {}", stop.code, stop.message);
}

/// The consumer has left the group, or not joined it yet: a membership that the broker does not look at.
#[test]
fn a_membership_without_a_generation_commits_nothing() {
    let (mut committer, claim) =
        committer(State { joined_after: Duration::from_millis(100), ..undisturbed() }, Heard::default());
    committer.commit(vec![claim]).expect("it joins");
    assert_eq!(*committer.cluster.0.tried.borrow(), [3], "the generations of the commits");
    assert_eq!(committer.sink.committed, [1]);
}

/// An instance stood still until its group gave its partitions to others. The client joins again, under another id and with a
/// valid generation, before it tells that they are lost.
#[test]
fn what_another_membership_folded_is_never_sent() {
    let state = State { member: "member-2", lost_after: Duration::from_secs(3), ..undisturbed() };
    let (mut committer, claim) = committer(state, Heard::default());
    committer.commit(vec![claim]).expect("it hears of its loss");
    assert!(committer.cluster.0.tried.borrow().is_empty(), "it was committed");
    assert_eq!((&*committer.sink.committed, &*committer.sink.dropped), (&[][..], &[1][..]));
}

/// As above, but the partition is given back before anything is told: what others did meanwhile is recovered first.
#[test]
fn a_partition_that_came_back_to_another_membership_is_recovered() {
    let (mut committer, claim) = committer(State { member: "member-2", ..undisturbed() }, Heard::default());
    let (partition, epoch) = (claim.partition, claim.epoch);
    committer.commit(vec![claim]).expect("it is given back");
    assert!(committer.cluster.0.tried.borrow().is_empty(), "it was committed");
    assert_eq!((&*committer.sink.committed, &*committer.sink.refolded), (&[][..], &[1][..]));
    assert!(committer.ownership.holds_as(partition, epoch, "member-2"));
}

/// The brokers take so long for a record that a transaction ends before all of a batch are sent: the same batch would never
/// be committed.
#[test]
fn a_batch_that_takes_too_long_is_folded_again_in_smaller_ones() {
    const GRANTS: usize = 1_500;
    let broker = Rc::<RefCell<Broker>>::default();
    let mut owner = Owner::live(&broker, at(0));
    let grants: Vec<String> = (0..GRANTS).map(|number| grant(&format!("account-{number}"), 1_000)).collect();
    owner.fold(Input::Accounts, &grants, at(0));
    let large = owner.close(at(0));
    let (sequence, notices) = (large.record.sequence, large.notices.len());
    assert!(notices >= GRANTS, "{notices} notices are in one batch");

    let state = State { records_max: 400, ..undisturbed() };
    state.ownership.assign(0, MEMBER);
    let share = Arc::<Share>::default();
    let mut committer = committer_with(state, Heard::default(), Arc::clone(&share));
    committer.commit(vec![large]).expect("it is given back");
    assert_eq!((&*committer.sink.refolded, &*committer.sink.committed), (&[sequence][..], &[][..]));

    let epoch = committer.ownership.renew(0, 1).expect("it is held");
    let mut owner = Owner::take(&broker, "a", epoch, at(0));
    owner.settings.checkpoint = Duration::from_secs(60);
    owner.owned.use_share(share.present());
    let mut told = 0;
    while told < notices {
        owner.fetch(Input::Accounts);
        while owner.turn(at(0)).folded > 0 {}
        let batch = owner.close(at(0));
        committer.commit(vec![batch]).expect("it commits");
        assert_eq!(committer.sink.refolded, [sequence], "it is small enough");
        let batch = committer.sink.last.take().expect("it was committed");
        told += owner.committed(batch, at(0));
    }
    let all = committer.sink.committed.len();
    assert!((4..20).contains(&all), "{all} batches");
    assert_eq!(told, notices);
}
