//! Records that come late, and a `late` that is raised.

use bumpalo::Bump;
use meterd::commit::configuration::FoldConfiguration;
use meterd::commit::replay;
use meterd::engine::calendar::format_time;
use meterd::engine::{Ms, Notice, Outcome, Reason};
use meterd::ingest::decode::Raw;
use meterd::shard::{Gate, IdentityKey, Partition, Sink};

use super::owner::{START, configuration, event};

struct Nobody;

impl Sink for Nobody {
    fn told(&mut self, _account: &str, _input: Option<(&str, &str)>, _notices: &[Notice]) {}

    fn is_full(&self) -> bool {
        false
    }
}

fn partition(configuration: &FoldConfiguration) -> Partition {
    replay::partition(configuration, 0, IdentityKey(1, 2)).expect("the catalog is valid")
}

/// A usage record of now; `time` is its own, where it has one.
pub fn fold(partition: &mut Partition, id: &str, time: Option<Ms>, now: Ms) -> Outcome {
    let mut value = event("acme", id, "call", r#"{"tokens":"5"}"#);
    if let Some(time) = time {
        value.insert_str(1, &format!(r#""time":"{}","#, format_time(time)));
    }
    let raw = Raw { key: None, value: Some(value.as_bytes()), headers: &[], timestamp: now };
    let arena = Bump::new();
    let read = partition.read(&raw, &arena);
    partition.fold(&read, now, &mut Gate::Live, &mut Nobody)
}

/// As a recovery leaves it: identities that `late` made needless are in no journal any more.
fn restarted(before: &Partition, configuration: &FoldConfiguration) -> Partition {
    let mut partition = partition(configuration);
    partition.resume(before.clock(), before.cursor(), before.oldest());
    partition
}

#[test]
fn a_raised_late_does_not_bring_back_what_was_too_late() {
    let (second, hour) = (configuration("1s"), configuration("1h"));
    let mut partition = partition(&second);
    assert_eq!(fold(&mut partition, "r1", Some(START), START), Outcome::Applied);
    assert_eq!(fold(&mut partition, "r2", Some(START + 5_000), START + 5_000), Outcome::Applied);
    // The identity of r1 is forgotten from here on.
    let mut partition = restarted(&partition, &second);
    replay::use_configuration(&mut partition, &hour, 0).expect("the catalog is valid");
    let again = fold(&mut partition, "r1", Some(START), START + 5_000);
    assert!(matches!(&again, Outcome::Refused(refusal) if refusal.reason == Reason::TooLate), "{again:?}");
    // What is as late and was not too late at the change is accepted.
    assert_eq!(fold(&mut partition, "r3", Some(START + 4_500), START + 60_000), Outcome::Applied);
}

/// A record without a time of its own is never too late, and it comes again after its identity became needless.
#[test]
fn what_a_restart_would_have_forgotten_is_forgotten() {
    let (second, hour) = (configuration("1s"), configuration("1h"));
    let mut kept = partition(&second);
    assert_eq!(fold(&mut kept, "r1", None, START), Outcome::Applied);
    assert_eq!(fold(&mut kept, "r2", None, START + 5_000), Outcome::Applied);
    let mut restarted = restarted(&kept, &second);
    for partition in [&mut kept, &mut restarted] {
        replay::use_configuration(partition, &hour, 0).expect("the catalog is valid");
    }
    let [kept, restarted] = [&mut kept, &mut restarted].map(|partition| fold(partition, "r1", None, START + 6_000));
    assert_eq!(kept, restarted, "a restart shows");
}
