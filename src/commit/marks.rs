//! Which journal records are still needed: from the batch before the horizon on, to fold again; and as long as one of
//! their identities may be asked for. The owner may trim the journal before that.

use std::collections::VecDeque;

use crate::engine::Ms;

/// Batches whose records share a mark; a mark names the offset of the first.
const BATCHES: u64 = 64;

#[derive(Debug, Default)]
pub struct Marks {
    marks: VecDeque<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    offset: i64,
    first: u64,
    last: u64,
    /// The latest record time among the identities.
    latest: Ms,
}

impl Marks {
    /// Notes a committed journal record: its batch, its offset, the latest time among its identities.
    pub fn push(&mut self, sequence: u64, offset: i64, latest: Ms) {
        match self.marks.back_mut() {
            Some(mark) if sequence < mark.first + BATCHES => {
                mark.last = sequence;
                mark.latest = mark.latest.max(latest);
            }
            _ => self.marks.push_back(Mark { offset, first: sequence, last: sequence, latest }),
        }
    }

    /// A journal offset at or before every record that is still needed; 0 before the first commit.
    pub fn needed_from(&mut self, horizon: u64, clock: Ms, late_ms: i64) -> i64 {
        while self.marks.len() > 1 {
            let front = self.marks[0];
            if front.last + 1 >= horizon || clock <= front.latest.saturating_add(late_ms) {
                break;
            }
            self.marks.pop_front();
        }
        self.marks.front().map_or(0, |mark| mark.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_the_horizon_and_the_identities_need() {
        let mut marks = Marks::default();
        assert_eq!(marks.needed_from(1, 0, 10), 0);
        for sequence in 1..=1_000 {
            marks.push(sequence, sequence as i64 * 2, sequence as i64);
        }
        assert_eq!(marks.needed_from(2, 5_000, 10), 2, "batch 1 is before the horizon and needed to begin there");
        assert_eq!(marks.needed_from(1_001, 500, 10), 449 * 2, "identities of 490 and later are needed");
        let offset = marks.needed_from(700, 5_000, 10);
        assert!((640 * 2..=699 * 2).contains(&offset), "{offset}");
        assert_eq!(
            marks.needed_from(705, 5_000, 10),
            641 * 2,
            "batch 704 is the last of the mark that begins with 641"
        );
        assert_eq!(marks.needed_from(1_001, 714, 10), 641 * 2, "an identity of 704 is remembered up to 714");
        assert_eq!(marks.needed_from(1_001, 715, 10), 705 * 2);
        assert!(marks.needed_from(1_001, Ms::MAX, 10) <= 1_000 * 2);
    }
}
