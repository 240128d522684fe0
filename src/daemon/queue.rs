//! What was fetched of one input of a partition, and waits to be folded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ingest::consumer::Backlog;
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
    pub fn skip_folded(&mut self, backlog: &Backlog) {
        while self.head().is_some_and(|head| head.offset < self.next) {
            self.advance(1, backlog);
        }
    }

    pub fn release(&self, bytes: usize, backlog: &Backlog) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
        backlog.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
