//! Totals as rows: what is stored of them. A row belongs to one table of its month, and its place in it never changes, so
//! that pages of a fixed number of rows change only where something was counted.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::amounts::Cells;
use super::{Amount, Charges, Month, Route, Tally, Totals};
use crate::engine::calendar::MonthId;
use crate::engine::catalog::{DimensionId, QuantityId, UnitId};

/// A row of a month.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Row {
    Head { records: u64, failed: u64, charges: Vec<(Route, UnitId, Amount)> },
    Kind { name: Arc<str>, quantities: Vec<(QuantityId, Amount)> },
    User { user: u32, records: u64, charges: Vec<(Route, UnitId, Amount)> },
    Value { dimension: DimensionId, name: Arc<str>, records: u64, charges: Vec<(Route, UnitId, Amount)> },
}

impl Row {
    /// A number that tells the row's table in its month apart from the others.
    pub fn table(&self) -> u32 {
        match self {
            Row::Head { .. } => 0,
            Row::Kind { .. } => 1,
            Row::User { .. } => 2,
            Row::Value { dimension, .. } => 3 + u32::from(*dimension),
        }
    }
}

impl Totals {
    /// Puts back a row given by [`Month::rows`]; rows of a table in their order.
    pub fn restore(&mut self, month: MonthId, row: Row) {
        self.month_mut(month).restore(row);
    }
}

impl Month {
    /// All rows, table by table, each in its place.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let head = Row::Head { records: self.records, failed: self.failed, charges: self.charges.iter().collect() };
        let kinds = self
            .kinds
            .rows()
            .map(|(name, cells)| Row::Kind { name: name.into(), quantities: cells.as_slice().to_vec() });
        let users = self.users.rows().map(|(user, tally)| Row::User {
            user,
            records: tally.records,
            charges: tally.charges.iter().collect(),
        });
        let values = self.all_fields().flat_map(|field| {
            field.values.rows().map(|(name, tally)| Row::Value {
                dimension: field.dimension,
                name: name.into(),
                records: tally.records,
                charges: tally.charges.iter().collect(),
            })
        });
        std::iter::once(head).chain(kinds).chain(users).chain(values)
    }

    fn restore(&mut self, row: Row) {
        match row {
            Row::Head { records, failed, charges } => {
                (self.records, self.failed, self.charges) = (records, failed, Charges::from_iter(charges));
            }
            Row::Kind { name, quantities } => self.kinds.restore(name, Cells::from_vec(quantities)),
            Row::User { user, records, charges } => {
                *self.users.row(user) = Tally { records, charges: Charges::from_iter(charges) };
            }
            Row::Value { dimension, name, records, charges } => {
                let tally = Tally { records, charges: Charges::from_iter(charges) };
                self.field(dimension).values.restore(name, tally);
            }
        }
    }
}

/// A month as its rows.
#[derive(Serialize, Deserialize)]
struct Stored {
    month: MonthId,
    rows: Vec<Row>,
}

impl Serialize for Totals {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.months.iter().map(|month| Stored { month: month.month, rows: month.rows().collect() }))
    }
}

impl<'de> Deserialize<'de> for Totals {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Totals, D::Error> {
        let mut totals = Totals::default();
        for stored in Vec::<Stored>::deserialize(deserializer)? {
            stored.rows.into_iter().for_each(|row| totals.restore(stored.month, row));
        }
        Ok(totals)
    }
}
