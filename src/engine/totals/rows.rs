//! Totals as rows: what is stored of them. A row belongs to one table of its month, and its place in it never changes, so
//! that pages of a fixed number of rows change only where something was counted.

use std::sync::Arc;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use super::{Amount, Charges, Month, Route, Tally, Totals};
use crate::engine::calendar::MonthId;
use crate::engine::catalog::{DimensionId, QuantityId, UnitId};

/// A row of a month, as it is read back.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub enum Row {
    Head { records: u64, failed: u64, charges: Vec<(Route, UnitId, Amount)> },
    Kind { name: Arc<str>, quantities: Vec<(QuantityId, Amount)> },
    User { user: u32, records: u64, charges: Vec<(Route, UnitId, Amount)> },
    Value { dimension: DimensionId, name: Arc<str>, records: u64, charges: Vec<(Route, UnitId, Amount)> },
}

/// A row of a month, as it is written: of the same form as [`Row`].
#[derive(Clone, Copy, Serialize)]
pub enum RowRef<'a> {
    Head {
        records: u64,
        failed: u64,
        #[serde(serialize_with = "list")]
        charges: &'a Charges,
    },
    Kind {
        name: &'a str,
        quantities: &'a [(QuantityId, Amount)],
    },
    User {
        user: u32,
        records: u64,
        #[serde(serialize_with = "list")]
        charges: &'a Charges,
    },
    Value {
        dimension: DimensionId,
        name: &'a str,
        records: u64,
        #[serde(serialize_with = "list")]
        charges: &'a Charges,
    },
}

fn list<S: Serializer>(charges: &&Charges, serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(charges.iter().count()))?;
    for charge in charges.iter() {
        list.serialize_element(&charge)?;
    }
    list.end()
}

impl RowRef<'_> {
    pub fn to_row(self) -> Row {
        match self {
            RowRef::Head { records, failed, charges } => {
                Row::Head { records, failed, charges: charges.iter().collect() }
            }
            RowRef::Kind { name, quantities } => Row::Kind { name: name.into(), quantities: quantities.to_vec() },
            RowRef::User { user, records, charges } => Row::User { user, records, charges: charges.iter().collect() },
            RowRef::Value { dimension, name, records, charges } => {
                Row::Value { dimension, name: name.into(), records, charges: charges.iter().collect() }
            }
        }
    }

    /// A number that tells the row's table in its month apart from the others.
    pub fn table(&self) -> u32 {
        match self {
            RowRef::Head { .. } => 0,
            RowRef::Kind { .. } => 1,
            RowRef::User { .. } => 2,
            RowRef::Value { dimension, .. } => 3 + u32::from(*dimension),
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
    pub fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        let users = self.users.rows();
        let users = users.map(|(user, tally)| RowRef::User { user, records: tally.records, charges: &tally.charges });
        let values = self.all_fields().flat_map(|field| {
            let dimension = field.dimension;
            field.values.rows().map(move |(name, tally)| RowRef::Value {
                dimension,
                name,
                records: tally.records,
                charges: &tally.charges,
            })
        });
        self.whole.rows().chain(users).chain(values)
    }

    fn restore(&mut self, row: Row) {
        match row {
            Row::User { user, records, charges } => {
                *self.users.row(user) = Tally { records, charges: Charges::from_iter(charges) };
            }
            Row::Value { dimension, name, records, charges } => {
                let tally = Tally { records, charges: Charges::from_iter(charges) };
                self.field(dimension).values.restore(name, tally);
            }
            whole => {
                self.whole.restore(whole);
            }
        }
    }
}

/// A month as its rows.
#[derive(Serialize, Deserialize)]
struct Stored<R> {
    month: MonthId,
    rows: Vec<R>,
}

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.months.iter().map(|month| Stored { month: month.month, rows: month.rows().collect() }))
    }
}

impl<'de> Deserialize<'de> for Totals {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Totals, D::Error> {
        let mut totals = Totals::default();
        for stored in Vec::<Stored<Row>>::deserialize(deserializer)? {
            stored.rows.into_iter().for_each(|row| totals.restore(stored.month, row));
        }
        Ok(totals)
    }
}
