//! The journal's tail: what of it a recovery needs. Batches from the horizon on are folded again and kept as they are; of
//! those before it only the identities are needed, which go straight into the table in which the partition will look for
//! them: there may be hundreds of millions.

use super::journal::JournalRecord;
use super::kafka::Log;
use super::marks::Marks;
use super::reader::Stretch;
use super::recovery::Recovery;
use super::stop::Stop;
use crate::engine::Ms;
use crate::shard::Identities;

pub struct JournalTail {
    /// With their offsets: the last batch before the horizon, if there is one, then all from the horizon on.
    pub records: Vec<(i64, JournalRecord)>,
    /// What stood before them is gone although it is needed: the partition is rebuilt.
    pub cut: bool,
    /// Accepted by batches before the horizon.
    pub identities: Identities,
    pub marks: Marks,
}

impl JournalTail {
    fn take(&mut self, offset: i64, mut record: JournalRecord, horizon: u64) {
        self.marks.push(record.sequence, offset, latest(&record));
        if record.sequence < horizon {
            // The clock that says which of them are needed is known at the end.
            for (identity, time) in std::mem::take(&mut record.accepted.0) {
                self.identities.remember(identity, time, Ms::MIN, 0);
            }
            self.records.clear();
        }
        self.records.push((offset, record));
    }
}

impl<L: Log> Recovery<L> {
    /// The journal from where it is needed to its last record, checked for gaps.
    pub fn tail(&self, partition: i32, low: i64, last: (i64, &JournalRecord)) -> Result<JournalTail, Stop> {
        let (last_offset, last) = last;
        let from = last.needed_from.min(last_offset);
        let rebuilds = self.ways_out.rebuilds(partition);
        let cut = from < low;
        if cut && !rebuilds {
            return Err(Stop::data(format!(
                "expected {}/{partition} to hold offset {from}, from which batches must be folded again and identities \
                 are needed, found that it begins at {low}: its retention removed it. Set its retention.ms to -1. \
                 `meterd run --rebuild {partition}` goes on from the checkpoints: accounts lack what they did since \
                 theirs, and records older than the clock are refused",
                self.topics.journal
            )));
        }
        let (records, identities, marks) = Default::default();
        let mut tail = JournalTail { records, cut, identities, marks };
        let mut first = None;
        let stretch = Stretch { topic: &self.topics.journal, partition, from: from.max(low), until: last_offset + 1 };
        self.reader.read(stretch, &mut |record| {
            let decoded = self.decode(partition, record.offset(), record.value().unwrap_or_default())?;
            if let Some((_, before)) = tail.records.last()
                && decoded.sequence != before.sequence + 1
            {
                return Err(Stop::data(format!(
                    "expected batch {} after batch {} in {}/{partition}, found {} at offset {} (written by {:?}, before \
                     it {:?}): two processes wrote to one journal",
                    before.sequence + 1,
                    before.sequence,
                    self.topics.journal,
                    decoded.sequence,
                    record.offset(),
                    decoded.writer,
                    before.writer
                )));
            }
            first.get_or_insert(decoded.sequence);
            tail.take(record.offset(), decoded, last.horizon);
            Ok(())
        })?;
        let first_needed = last.horizon.saturating_sub(1).max(1);
        match first {
            Some(first) if first <= first_needed => Ok(tail),
            Some(_) if rebuilds => Ok(JournalTail { cut: true, ..tail }),
            first => Err(Stop::data(format!(
                "expected the journal of partition {partition} to hold batch {first_needed}, found it to begin with \
                 {first:?}: it was trimmed too far"
            ))),
        }
    }
}

/// The time until which a record's identities are needed, but for `late`.
fn latest(record: &JournalRecord) -> Ms {
    record.accepted.0.iter().map(|(_, time)| *time).max().unwrap_or(Ms::MIN)
}
