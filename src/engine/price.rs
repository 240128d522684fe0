//! What a record costs: exact sums of quantity × rate / per, add-ons and multiplier, rounded once (docs/reference.md 6.4).
//!
//! Each row is compiled to a [`Formula`]: integer coefficients over one common denominator, so that a price is a few
//! multiplications and one division in 128 bits. What does not fit there goes through [`exact`], whose numbers have no
//! bounds; both give the same.

mod exact;
mod exchange;
mod formula;

pub use self::exact::{Exact, Explanation, Term, explain};
pub use self::exchange::{Exchanges, NoExchange, exchange, exchange_row};
pub use self::formula::Formula;
use super::catalog::{Catalog, DimensionId, QuantityId, RateId};
use super::input::Dimension;
use super::lookup::dimension;
use super::{Amount, Factor};

/// Why a row cannot price a record. The messages say what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceError {
    /// A value that the row's table does not list: `no_rate`.
    NoRate(String),
    /// The price would be 10¹⁵ or more: `bad_quantity`.
    BadQuantity(String),
}

/// The price of a record in the unit of its row. `quantities` are those present; absent ones are 0.
pub fn price(
    catalog: &Catalog,
    rate: RateId,
    quantities: &[(QuantityId, Amount)],
    dimensions: &[(DimensionId, Dimension<'_>)],
) -> Result<Amount, PriceError> {
    let row = &catalog.rates[rate as usize];
    let formula = &catalog.index.formulas[rate as usize];
    match formula.evaluate(row, quantities, dimensions) {
        Ok(Some(price)) if price < Amount::VALUE_LIMIT => Ok(price),
        Ok(_) => explain(catalog, rate, quantities, dimensions).map(|explained| explained.price),
        Err(unlisted) => Err(unlisted.told(catalog)),
    }
}

/// Appends the quantities (over 0, as given) that the row's price and the applying add-ons use, each once.
pub fn quantities_used(
    catalog: &Catalog,
    rate: RateId,
    quantities: &[(QuantityId, Amount)],
    dimensions: &[(DimensionId, Dimension<'_>)],
    out: &mut Vec<(QuantityId, Amount)>,
) {
    let row = &catalog.rates[rate as usize];
    if row.each.is_none() {
        for id in catalog.index.formulas[rate as usize].used() {
            let given = given(quantities, *id);
            if given.is_positive() {
                out.push((*id, given));
            }
        }
        return;
    }
    let first = out.len();
    let mut push = |id: QuantityId| {
        let given = given(quantities, id);
        if given.is_positive() && out[first..].iter().all(|(known, _)| *known != id) {
            out.push((id, given));
        }
    };
    row.price.iter().for_each(|component| push(component.quantity));
    if let Some(each) = &row.each {
        for element in elements(dimension(dimensions, each.field)) {
            if let Some(components) = each.prices.get(element) {
                components.iter().for_each(|component| push(component.quantity));
            }
        }
    }
}

/// A record's quantity, 0 where it is absent.
pub(super) fn given(quantities: &[(QuantityId, Amount)], id: QuantityId) -> Amount {
    quantities.iter().find(|(quantity, _)| *quantity == id).map_or(Amount::ZERO, |(_, amount)| *amount)
}

/// The distinct elements of a field, in order of first appearance. A string is one element.
pub(super) fn elements<'a>(value: Option<Dimension<'a>>) -> impl Iterator<Item = &'a str> {
    let (text, list): (Option<&str>, &[&str]) = match value {
        None => (None, &[]),
        Some(Dimension::Text(text)) => (Some(text), &[]),
        Some(Dimension::List(list)) => (None, list),
    };
    let distinct = (0..list.len()).filter(|place| !list[..*place].contains(&list[*place])).map(|place| list[place]);
    text.into_iter().chain(distinct)
}

/// A text of a field that `multiply` sees: arrays are as if absent.
fn single<'a>(dimensions: &[(DimensionId, Dimension<'a>)], id: DimensionId) -> Option<&'a str> {
    match dimension(dimensions, id) {
        Some(Dimension::Text(text)) => Some(text),
        _ => None,
    }
}

/// A value that neither a row's table nor its `otherwise` covers.
#[derive(Debug, PartialEq, Eq)]
struct Unlisted {
    field: DimensionId,
    value: Option<String>,
    table: &'static str,
    line: u32,
}

impl Unlisted {
    fn told(self, catalog: &Catalog) -> PriceError {
        let field = &catalog.dimensions[usize::from(self.field)];
        let found = self.value.map_or_else(|| "no such text".to_owned(), |value| format!("{value:?}"));
        PriceError::NoRate(format!(
            "field {field:?}: expected a value listed in `{}` of the rate at line {} of the catalog, found {found}; add it \
             there or set `otherwise`",
            self.table, self.line
        ))
    }
}

fn too_large(line: u32) -> PriceError {
    PriceError::BadQuantity(format!(
        "the price by the rate at line {line} of the catalog is 10^15 or more; expected less: check the quantities"
    ))
}

/// `quantity` rounded up to a multiple of `step`.
fn stepped(quantity: Amount, step: Option<Amount>) -> Amount {
    match step {
        None => quantity,
        Some(step) => Amount::from_nanos((quantity.nanos() + step.nanos() - 1) / step.nanos() * step.nanos()),
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    num_integer::gcd(a, b)
}

/// A multiplier or an inverse exchange value in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ratio {
    numerator: u128,
    denominator: u128,
}

impl Ratio {
    fn new(numerator: u128, denominator: u128) -> Ratio {
        let common = gcd(numerator, denominator).max(1);
        Ratio { numerator: numerator / common, denominator: denominator / common }
    }

    fn of_factor(factor: Factor) -> Ratio {
        Ratio::new(factor.0, super::amount::PICOS)
    }
}

/// numerator / denominator, halves up.
fn divide_half_up(numerator: u128, denominator: u128) -> u128 {
    let (whole, rest) = match (u64::try_from(numerator), u64::try_from(denominator)) {
        (Ok(numerator), Ok(denominator)) => (u128::from(numerator / denominator), u128::from(numerator % denominator)),
        _ => (numerator / denominator, numerator % denominator),
    };
    whole + u128::from(rest >= denominator - rest)
}

/// The amount of `count` units of the last decimal kept at `scale`; `None` where it is beyond what an amount can hold.
fn at_scale(count: u128, scale: u8) -> Option<Amount> {
    let nanos = count.checked_mul(10u128.pow(9 - u32::from(scale)))?;
    i128::try_from(nanos).ok().map(Amount::from_nanos)
}

#[cfg(test)]
mod tests;
