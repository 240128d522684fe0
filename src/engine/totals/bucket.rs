//! What was counted as a whole, without breakdowns by users and fields.

use super::amounts::Cells;
use super::rows::{Row, RowRef};
use super::table::Table;
use super::{Amount, Applied, Charges};
use crate::engine::catalog::QuantityId;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Applied, not failed.
    pub records: u64,
    pub failed: u64,
    pub charges: Charges,
    kinds: Table<Cells, 1>,
}

impl Bucket {
    /// Counts an applied record.
    pub fn applied(&mut self, record: &Applied<'_>) {
        self.records += 1;
        self.charges.add(record.route, record.unit, record.charged);
        if !record.quantities.is_empty() {
            let kind = self.kinds.row(record.kind);
            for (quantity, amount) in record.quantities {
                kind.add(*quantity, *amount);
            }
        }
    }

    /// Whether counting the record would bring a sum to 10²⁰.
    pub fn would_overflow(&self, record: &Applied<'_>) -> bool {
        if self.charges.of(record.route, record.unit) + record.charged >= Amount::TOTAL_LIMIT {
            return true;
        }
        // A quantity is under 10¹⁵, so that the sums of 99,999 records stay under 10²⁰.
        const SAFE_RECORDS: u64 = 99_999;
        if self.records < SAFE_RECORDS {
            return false;
        }
        let kind = self.kinds.find(&record.kind.text);
        let counted = |quantity| kind.map_or(Amount::ZERO, |cells| cells.of(quantity));
        record.quantities.iter().any(|(quantity, amount)| counted(*quantity) + *amount >= Amount::TOTAL_LIMIT)
    }

    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.failed == 0
    }

    /// Types with their quantities, in order of first appearance.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &[(QuantityId, Amount)])> {
        self.kinds.rows().map(|(name, cells)| (name, cells.as_slice()))
    }

    /// Reads a word ahead, see `engine/ahead.rs`.
    pub(in crate::engine) fn fetch_kinds(&self) -> u64 {
        self.kinds.fetch(|cells| cells.as_slice().len() as u64)
    }

    pub(in crate::engine) fn fetch_cells(&self) -> u64 {
        self.kinds.fetch(|cells| cells.as_slice().first().map_or(0, |cell| u64::from(cell.0)))
    }

    /// As rows of a month's first two tables.
    pub fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        let head = RowRef::Head { records: self.records, failed: self.failed, charges: &self.charges };
        std::iter::once(head).chain(self.kinds().map(|(name, quantities)| RowRef::Kind { name, quantities }))
    }

    /// Puts back a row given by [`Bucket::rows`]. False: it is of no bucket.
    pub fn restore(&mut self, row: Row) -> bool {
        match row {
            Row::Head { records, failed, charges } => {
                (self.records, self.failed, self.charges) = (records, failed, charges.into_iter().collect());
            }
            Row::Kind { name, quantities } => self.kinds.restore(name, Cells::from_vec(quantities)),
            Row::User { .. } | Row::Value { .. } => return false,
        }
        true
    }
}
