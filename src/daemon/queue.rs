//! What was fetched of one input of a partition, and waits to be folded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ingest::consumer::{Backlog, Fetched};
use crate::ingest::merge::Side;
use crate::ingest::raw::{Head, RawBatch};

/// One input of the partition.
pub struct Queue {
    pub batches: VecDeque<(RawBatch, usize)>,
    /// The next offset to be folded.
    pub next: i64,
    /// The next offset that may be fetched: what is before it was seen.
    pub position: i64,
    pub at_end: bool,
    pub queued: Arc<AtomicUsize>,
}

impl Queue {
    pub fn head(&self) -> Option<Head> {
        self.batches.front().and_then(|(batch, index)| batch.head(*index))
    }

    pub fn fetched(&mut self, fetched: Fetched, backlog: &Backlog) {
        match fetched {
            Fetched::Records(batch) => {
                self.at_end = false;
                let last = batch.len().checked_sub(1).and_then(|last| batch.head(last));
                match last {
                    Some(last) if last.offset >= self.next => {
                        self.position = self.position.max(last.offset + 1);
                        self.batches.push_back((batch, 0));
                        self.skip_folded(backlog);
                    }
                    // Fetched again after a seek: all of it was folded.
                    _ => self.release(batch.bytes_len(), backlog),
                }
            }
            Fetched::End { offset } => {
                self.at_end = offset >= self.position;
                self.position = self.position.max(offset);
            }
            Fetched::EndUnknown => self.at_end = false,
        }
    }

    pub fn side(&self) -> Side {
        match self.head() {
            Some(head) => Side::Head(head.timestamp),
            None if self.at_end => Side::AtEnd,
            None => Side::Unknown,
        }
    }

    /// Past the first records; a batch that is folded is given back.
    pub fn advance(&mut self, count: usize, backlog: &Backlog) {
        if let Some((batch, index)) = self.batches.front_mut() {
            *index += count;
            if *index == batch.len() {
                let bytes = batch.bytes_len();
                self.batches.pop_front();
                self.release(bytes, backlog);
            }
        }
    }

    /// Records that were folded before are skipped.
    fn skip_folded(&mut self, backlog: &Backlog) {
        while self.head().is_some_and(|head| head.offset < self.next) {
            self.advance(1, backlog);
        }
    }

    pub fn release(&self, bytes: usize, backlog: &Backlog) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
        backlog.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::merge::{self, Next};
    use crate::ingest::raw::Input;

    #[test]
    fn usage_waits_until_the_end_of_the_commands_is_known_again() {
        let backlog = Backlog::default();
        let mut commands =
            Queue { batches: VecDeque::new(), next: 5, position: 5, at_end: false, queued: Arc::default() };
        let next = |commands: &Queue| merge::next(commands.side(), Side::Head(1_000));
        assert_eq!(next(&commands), Next::WaitFor(Input::Accounts));
        commands.fetched(Fetched::End { offset: 5 }, &backlog);
        assert_eq!(next(&commands), Next::Take(Input::Usage));
        commands.fetched(Fetched::EndUnknown, &backlog);
        assert_eq!(next(&commands), Next::WaitFor(Input::Accounts));
        // An end before what was seen already says nothing.
        commands.fetched(Fetched::End { offset: 4 }, &backlog);
        assert_eq!(next(&commands), Next::WaitFor(Input::Accounts));
        commands.fetched(Fetched::End { offset: 5 }, &backlog);
        assert_eq!(next(&commands), Next::Take(Input::Usage));
    }
}
