//! Amounts of one unit in another.

use hashbrown::HashMap;
use num_bigint::BigUint;
use num_traits::ToPrimitive;

use super::{Ratio, at_scale, divide_half_up};
use crate::engine::amount::PICOS;
use crate::engine::catalog::{Catalog, Exchange, Unit, UnitId};
use crate::engine::{Amount, Ms};

/// There is no row in force from one unit to the other: `no_exchange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoExchange {
    pub from: UnitId,
    pub to: UnitId,
}

/// The exchange rows by pair of units and class, last row first.
#[derive(Debug, Default)]
pub struct Exchanges {
    /// In order of the units.
    pairs: Vec<((UnitId, UnitId), Pair)>,
}

#[derive(Debug, Default)]
struct Pair {
    any: Vec<Row>,
    classes: HashMap<Box<str>, Vec<Row>>,
}

#[derive(Debug)]
struct Row {
    from: Ms,
    /// By which an amount in 10⁻⁹ of the one unit gives units of the last decimal kept of the other.
    ratio: Ratio,
    /// Place in the catalog.
    row: usize,
}

/// `amount` (not negative) of `from` in `to`, rounded half up, by the last row in force at `at` for `class`, else for all.
/// The same unit and nothing need no row.
pub fn exchange(
    catalog: &Catalog,
    amount: Amount,
    from: UnitId,
    to: UnitId,
    class: &str,
    at: Ms,
) -> Result<Amount, NoExchange> {
    if from == to || amount.is_zero() {
        return Ok(amount);
    }
    let row = catalog.index.exchanges.find(from, to, class, at).ok_or(NoExchange { from, to })?;
    let scale = catalog.units[usize::from(to)].scale;
    let nanos = amount.nanos() as u128;
    let fast = nanos.checked_mul(row.ratio.numerator);
    let count = fast.map_or_else(|| wide(nanos, row.ratio), |product| divide_half_up(product, row.ratio.denominator));
    // Less than 10¹⁵ divided by at least 10⁻¹² is under 10²⁷, which fits.
    Ok(at_scale(count, scale).unwrap_or(Amount::from_nanos(i128::MAX / 4)))
}

impl NoExchange {
    pub fn message(self, catalog: &Catalog) -> String {
        let name = |unit: UnitId| &catalog.units[usize::from(unit)].name;
        let (from, to) = (name(self.from), name(self.to));
        format!(
            "expected an exchange from {from} to {to} in force at the record's time, found none; add an [[exchange]] row \
             to the catalog"
        )
    }
}

impl Exchanges {
    pub fn new(rows: &[Exchange], units: &[Unit]) -> Exchanges {
        let mut exchanges = Exchanges::default();
        for (place, row) in rows.iter().enumerate().rev() {
            let scale = u32::from(units[usize::from(row.to_unit)].scale);
            let ratio = Ratio::new(PICOS, row.value.0);
            let ratio = Ratio::new(ratio.numerator, ratio.denominator * 10u128.pow(9 - scale));
            let pair = exchanges.pair_mut((row.from_unit, row.to_unit));
            let rows = match &row.class {
                None => &mut pair.any,
                Some(class) => pair.classes.entry(class.clone()).or_default(),
            };
            rows.push(Row { from: row.from, ratio, row: place });
        }
        exchanges
    }

    fn place(&self, units: (UnitId, UnitId)) -> Result<usize, usize> {
        self.pairs.binary_search_by_key(&units, |(units, _)| *units)
    }

    fn pair_mut(&mut self, units: (UnitId, UnitId)) -> &mut Pair {
        let place = self.place(units).unwrap_or_else(|place| {
            self.pairs.insert(place, (units, Pair::default()));
            place
        });
        &mut self.pairs[place].1
    }

    fn find(&self, from: UnitId, to: UnitId, class: &str, at: Ms) -> Option<&Row> {
        let pair = &self.pairs[self.place((from, to)).ok()?].1;
        let in_force = |rows: &'_ [Row]| rows.iter().position(|row| row.from <= at);
        if !pair.classes.is_empty()
            && let Some(rows) = pair.classes.get(class)
            && let Some(place) = in_force(rows)
        {
            return Some(&rows[place]);
        }
        in_force(&pair.any).map(|place| &pair.any[place])
    }
}

/// The row by which [`exchange`] works, as its place in the catalog.
pub fn exchange_row(catalog: &Catalog, from: UnitId, to: UnitId, class: &str, at: Ms) -> Option<usize> {
    catalog.index.exchanges.find(from, to, class, at).map(|row| row.row)
}

fn wide(nanos: u128, ratio: Ratio) -> u128 {
    let doubled = BigUint::from(nanos) * ratio.numerator * 2u8 + ratio.denominator;
    (doubled / (BigUint::from(ratio.denominator) * 2u8)).to_u128().unwrap_or(u128::MAX)
}
