//! Prices without bounds on the numbers, step by step: the slow path, and what `explain` tells.

use num_bigint::BigUint;
use num_integer::Integer;
use num_traits::{ToPrimitive, Zero};

use super::{PriceError, Unlisted, at_scale, elements, given, single, stepped, too_large};
use crate::engine::amount::PICOS;
use crate::engine::catalog::{Catalog, Component, DimensionId, QuantityId, RateId};
use crate::engine::input::Dimension;
use crate::engine::lookup::dimension;
use crate::engine::{Amount, Factor};

/// A non-negative fraction in lowest terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact {
    numerator: BigUint,
    denominator: BigUint,
}

/// How a record is priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub terms: Vec<Term>,
    /// The value of `multiply`'s field, where it is listed, and what it multiplies by.
    pub multiplier: Option<(Option<Box<str>>, Factor)>,
    /// Before rounding.
    pub exact: Exact,
    pub rounded: Amount,
    /// The row's minimum, where it raised the price.
    pub minimum: Option<Amount>,
    pub price: Amount,
}

/// One component of the row's `price`, or of an add-on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The element of `each` that it belongs to.
    pub element: Option<Box<str>>,
    pub quantity: QuantityId,
    pub given: Amount,
    /// Rounded up to the component's step.
    pub counted: Amount,
    pub rate: Factor,
    pub per: Amount,
    pub exact: Exact,
}

/// The price of a record with every step to it.
pub fn explain(
    catalog: &Catalog,
    rate: RateId,
    quantities: &[(QuantityId, Amount)],
    dimensions: &[(DimensionId, Dimension<'_>)],
) -> Result<Explanation, PriceError> {
    let row = &catalog.rates[rate as usize];
    let unlisted = |field, value: Option<&str>, table| {
        Unlisted { field, value: value.map(str::to_owned), table, line: row.line }.told(catalog)
    };
    let mut terms: Vec<Term> = row.price.iter().map(|component| Term::new(component, quantities, None)).collect();
    if let Some(each) = &row.each {
        for element in elements(dimension(dimensions, each.field)) {
            match each.prices.get(element) {
                Some(addons) => terms.extend(addons.iter().map(|addon| Term::new(addon, quantities, Some(element)))),
                None if each.otherwise_free => {}
                None => return Err(unlisted(each.field, Some(element), "each")),
            }
        }
    }
    let mut exact = terms.iter().fold(Exact::zero(), |sum, term| sum.plus(&term.exact));
    let mut multiplier = None;
    if let Some(multiply) = &row.multiply {
        let value = single(dimensions, multiply.field);
        let listed = value.and_then(|value| multiply.values.get_key_value(value));
        let factor = listed.map(|(_, factor)| *factor).or(multiply.otherwise);
        let Some(factor) = factor else { return Err(unlisted(multiply.field, value, "multiply")) };
        multiplier = Some((listed.map(|(value, _)| value.clone()), factor));
        exact = Exact::new(exact.numerator * factor.0, exact.denominator * PICOS);
    }
    let scale = catalog.units[usize::from(row.unit)].scale;
    let rounded = exact.rounded(scale).ok_or_else(|| too_large(row.line))?;
    let least = row.minimum.filter(|least| !exact.is_zero() && *least > rounded);
    let price = least.unwrap_or(rounded);
    if price >= Amount::VALUE_LIMIT {
        return Err(too_large(row.line));
    }
    Ok(Explanation { terms, multiplier, exact, rounded, minimum: least, price })
}

impl Term {
    fn new(component: &Component, quantities: &[(QuantityId, Amount)], element: Option<&str>) -> Term {
        let given = given(quantities, component.quantity);
        let counted = stepped(given, component.step);
        // counted/10⁹ × rate/10¹² ÷ (per/10⁹)
        let exact = Exact::new(
            BigUint::from(counted.nanos() as u128) * component.rate.0,
            BigUint::from(component.per.nanos() as u128) * PICOS,
        );
        let (quantity, rate, per) = (component.quantity, component.rate, component.per);
        Term { element: element.map(Box::from), quantity, given, counted, rate, per, exact }
    }
}

impl Exact {
    fn zero() -> Exact {
        Exact { numerator: BigUint::ZERO, denominator: BigUint::from(1u8) }
    }

    fn new(numerator: BigUint, denominator: BigUint) -> Exact {
        let common = numerator.gcd(&denominator);
        Exact { numerator: numerator / &common, denominator: denominator / common }
    }

    fn is_zero(&self) -> bool {
        self.numerator.is_zero()
    }

    fn plus(self, other: &Exact) -> Exact {
        let numerator = &self.numerator * &other.denominator + &other.numerator * &self.denominator;
        Exact::new(numerator, self.denominator * &other.denominator)
    }

    /// Half up, to `scale` decimals; `None` where it is beyond what an amount can hold.
    fn rounded(&self, scale: u8) -> Option<Amount> {
        let doubled = &self.numerator * 10u128.pow(u32::from(scale)) * 2u8 + &self.denominator;
        at_scale((doubled / (&self.denominator * 2u8)).to_u128()?, scale)
    }
}

/// As a decimal; cut after 15 decimals with `…` where it goes on.
impl std::fmt::Display for Exact {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const DECIMALS: usize = 15;
        let (whole, mut rest) = self.numerator.div_rem(&self.denominator);
        let mut decimals = String::new();
        while !rest.is_zero() && decimals.len() < DECIMALS {
            let (digit, next) = (rest * 10u8).div_rem(&self.denominator);
            decimals.push_str(&digit.to_string());
            rest = next;
        }
        match (decimals.is_empty(), rest.is_zero()) {
            (true, _) => write!(out, "{whole}"),
            (_, true) => write!(out, "{whole}.{decimals}"),
            (_, false) => write!(out, "{whole}.{decimals}…"),
        }
    }
}
