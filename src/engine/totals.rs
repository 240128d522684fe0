//! An account's monthly totals (docs/reference.md 6.9): records, charges and quantities, and breakdowns by fields.
//!
//! Units, quantities and fields are kept by their index in the catalog; types and values by name, shared through
//! [`Names`], so that a name that many accounts use is held once and is found by its address. A user is kept by its index
//! in the account, which must never change. The work of a record does not grow with what is kept.

mod amounts;
mod bucket;
mod names;
mod rows;
mod table;

pub use self::amounts::{Charges, Route};
pub use self::bucket::Bucket;
pub use self::names::{Name, Names};
pub use self::rows::{Row, RowRef};
use self::table::{Table, UserTable};
use super::calendar::MonthId;
use super::catalog::{DimensionId, QuantityId, UnitId};
use super::{Amount, slim};

/// Types, and values of a field, that are kept by name for a month; further ones count under `*`.
pub const NAMES_MAX: usize = 1_000;

/// Counts under the name of what is beyond [`NAMES_MAX`].
pub const OTHERS: &str = "*";

/// The months in which something was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Ascending.
    months: Vec<Month>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Month {
    pub month: MonthId,
    pub whole: Bucket,
    users: UserTable,
    /// The first of the fields stands here, as most catalogs have no other.
    field: Option<Field>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    dimension: DimensionId,
    values: Table<Tally, 0>,
}

/// What is counted for a value of a breakdown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub records: u64,
    pub charges: Charges,
}

/// An applied record, as the totals see it.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    pub month: MonthId,
    /// The CloudEvents `type`.
    pub kind: &'a Name,
    /// The user's index in the account, where totals are broken down by it.
    pub user: Option<u32>,
    /// The distinct values of the fields by which totals are broken down.
    pub values: &'a [(DimensionId, Name)],
    pub route: Route,
    pub unit: UnitId,
    pub charged: Amount,
    /// Those used in pricing, over 0, each once.
    pub quantities: &'a [(QuantityId, Amount)],
}

impl Totals {
    /// Counts an applied record.
    pub fn applied(&mut self, record: &Applied<'_>) {
        let month = self.month_mut(record.month);
        month.whole.applied(record);
        if let Some(user) = record.user {
            month.users.row(user).count(record);
        }
        for (id, value) in record.values {
            month.field(*id).values.row(value).count(record);
        }
    }

    /// Counts a failed record.
    pub fn failed(&mut self, month: MonthId) {
        self.month_mut(month).whole.failed += 1;
    }

    /// Whether counting the record would bring a total to 10²⁰. A breakdown never holds more than its total.
    pub fn would_overflow(&self, record: &Applied<'_>) -> bool {
        match self.month(record.month) {
            Some(month) => month.whole.would_overflow(record),
            None => record.charged >= Amount::TOTAL_LIMIT,
        }
    }

    /// Drops the months before `month`.
    pub fn forget_before(&mut self, month: MonthId) {
        self.months.retain(|kept| kept.month >= month);
    }

    pub fn is_empty(&self) -> bool {
        self.months.is_empty()
    }

    /// Reads words of the last month ahead, see `engine/ahead.rs`.
    pub(super) fn fetch(&self) -> u64 {
        let Some(month) = self.months.last() else { return 0 };
        let field = month.field.as_ref().map_or(0, |field| u64::from(field.dimension));
        month.whole.records ^ month.users.len() as u64 ^ field
    }

    pub(super) fn fetch_tables(&self, user: Option<u32>) -> u64 {
        let Some(month) = self.months.last() else { return 0 };
        let values = month.field.as_ref().map_or(0, |field| field.values.fetch(|tally| tally.records));
        let users = user.map_or(0, |user| month.users.fetch(user));
        month.whole.fetch_kinds() ^ users ^ values
    }

    /// Of the last month's first rows by user.
    pub(super) fn fetch_users(&self, most: usize) -> u64 {
        self.months
            .last()
            .map_or(0, |month| month.users.rows().take(most).fold(0, |sum, (_, tally)| sum ^ tally.records))
    }

    pub(super) fn fetch_cells(&self) -> u64 {
        self.months.last().map_or(0, |month| month.whole.fetch_cells())
    }

    pub fn month(&self, month: MonthId) -> Option<&Month> {
        self.months.iter().rev().find(|kept| kept.month == month)
    }

    /// Ascending.
    pub fn months(&self) -> &[Month] {
        &self.months
    }

    /// The month, empty where nothing was counted yet. The last one is the usual case.
    pub fn month_mut(&mut self, month: MonthId) -> &mut Month {
        let after = self.months.iter().rposition(|kept| kept.month <= month).map_or(0, |place| place + 1);
        let found = after > 0 && self.months[after - 1].month == month;
        if !found {
            slim::make_room(&mut self.months);
            self.months.insert(after, Month { month, ..Month::default() });
        }
        &mut self.months[after - usize::from(found)]
    }
}

impl Month {
    /// Values of a field with what was counted for them, in order of first appearance.
    pub fn values(&self, id: DimensionId) -> impl Iterator<Item = (&str, &Tally)> {
        self.all_fields().filter(move |field| field.dimension == id).flat_map(|field| field.values.rows())
    }

    /// Users, by their index in the account, with what was counted for them, in order of first appearance.
    pub fn users(&self) -> impl Iterator<Item = (u32, &Tally)> {
        self.users.rows()
    }

    fn all_fields(&self) -> impl Iterator<Item = &Field> {
        self.field.iter().chain(&self.fields)
    }

    fn field(&mut self, id: DimensionId) -> &mut Field {
        let new = || Field { dimension: id, values: Table::default() };
        let first = self.field.get_or_insert_with(new);
        if first.dimension == id {
            return first;
        }
        let place = self.fields.iter().position(|field| field.dimension == id).unwrap_or_else(|| {
            slim::push(&mut self.fields, new());
            self.fields.len() - 1
        });
        &mut self.fields[place]
    }
}

impl Tally {
    fn count(&mut self, record: &Applied<'_>) {
        self.records += 1;
        self.charges.add(record.route, record.unit, record.charged);
    }
}

#[cfg(test)]
mod tests;
