//! `meterd verify`: what stands in Kafka, compared with what comes out when the inputs are folded again.
//!
//! The fold begins at the oldest state that can be proved: the genesis of the partition where journal and inputs still
//! reach back to it, else the checkpoints in the state topic. It follows the journal's runs and cursors with the engine
//! that the daemon runs. For each batch these must be equal: its inputs' checksum, the identities that it accepted, the
//! notices in the events topic, the records in quarantine, the clock, and the checkpoints that are as of it.
//!
//! Nothing is written. A daemon may run meanwhile: what it commits after the journal was looked at is left out. Hence
//! the order of reading:
//!
//! ```text
//! the group's offsets, ends of events and quarantine → the journal's end → the state topic → the journal's end again
//! ```
//! What events and quarantine hold before those ends belongs to batches before the journal's end, and the state is
//! complete to the horizon of the record that was the journal's last before it was read.

mod fold;
mod notices;
mod quarantine;
mod report;
mod span;
mod state;
mod written;

pub use report::{Begin, Difference, Report};

use fold::Pass;
use notices::Notices;
use quarantine::Quarantine;
use report::Halt;
use span::Span;
use state::State;
use written::Written;

use crate::commit::Stop;
use crate::commit::kafka::Log;
use crate::daemon::inspect::Inspection;
use crate::ingest::partition::Partitioner;
use crate::ingest::raw::Input;

/// How far the work is: records folded, of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Verifies one partition. `Err`: it cannot be done, for the reason that would stop a daemon, too.
pub fn verify(inspection: &Inspection, partition: i32, progress: Progress<'_>) -> Result<Report, Stop> {
    let mut report = Report::new(partition);
    match compare(inspection, partition, &mut report, progress) {
        Ok(()) => {}
        Err(Halt::Differs(difference)) => report.difference = Some(*difference),
        Err(Halt::Stop(stop)) => return Err(stop),
    }
    Ok(report)
}

fn compare(inspection: &Inspection, partition: i32, report: &mut Report, progress: Progress<'_>) -> Result<(), Halt> {
    let recovery = &inspection.recovery;
    let topics = &recovery.topics;
    let offsets = recovery.reader.stable_offsets([&topics.accounts, &topics.usage], partition)?;
    let (of_events, of_dlq) = (partition % inspection.events_partitions, partition % inspection.dlq_partitions);
    let settled_events = recovery.reader.stable_end(&topics.events, of_events)?;
    let settled_dlq = recovery.reader.stable_end(&topics.dlq, of_dlq)?;
    let Some(before) = recovery.journal_end(partition)? else {
        return match offsets[Input::Usage.index()] {
            None => Ok(()),
            Some(offset) => Err(Halt::differs(Difference {
                what: "journal",
                topic: topics.journal.clone(),
                partition,
                expected: format!("batches, as the group has committed offset {offset} of {}", topics.usage),
                found: "an empty journal".into(),
                ..Difference::default()
            })),
        };
    };
    recovery.check_place(partition, &before.1)?;
    let state = State::read(recovery, partition)?;
    let span = Span::choose(recovery, partition, &state, &before)?;
    state.check_future(span.last())?;
    report.begin(&span);

    let events = Written::open(recovery, &topics.events, of_events, settled_events)?;
    let dlq = Written::open(recovery, &topics.dlq, of_dlq, settled_dlq)?;
    let notices = match (inspection.events_partitions == inspection.partitions, partitioner(inspection)) {
        (true, _) => Some(Notices::new(events, None)),
        (false, Partitioner::Any) => {
            report.notes.push("notices are not compared: nothing says which partition an account is of".into());
            None
        }
        (false, known) => Some(Notices::new(events, Some((known, inspection.partitions, partition)))),
    };
    let quarantine = span.is_whole().then(|| Quarantine::new(dlq, topics, partition));
    let mut pass = Pass::new(inspection, partition, &span, state, notices, quarantine)?;
    let result = pass.run(&span, progress).and_then(|()| pass.finish(&span, offsets[Input::Usage.index()]));
    pass.tell(report);
    result
}

fn partitioner(inspection: &Inspection) -> Partitioner {
    let configuration = inspection.recovery.configuration.load();
    Partitioner::from_name(&configuration.partitioner).unwrap_or(Partitioner::Any)
}
