//! A row compiled to integers.

use hashbrown::HashMap;

use super::{Ratio, Unlisted, at_scale, divide_half_up, elements, gcd, given, single, stepped};
use crate::engine::Amount;
use crate::engine::amount::{NANOS, PICOS};
use crate::engine::catalog::{Component, DimensionId, QuantityId, Rate, Unit};
use crate::engine::input::Dimension;
use crate::engine::lookup::dimension;

/// price in units of the last decimal kept = Σ quantity in 10⁻⁹ × coefficient / denominator, times the multiplier.
#[derive(Debug)]
pub struct Formula {
    scale: u8,
    /// `None`: the common denominator does not fit; always priced exactly.
    coefficients: Option<Coefficients>,
    /// The quantities of the row's price, each once, in order of first appearance.
    used: Vec<QuantityId>,
}

#[derive(Debug)]
struct Coefficients {
    denominator: u128,
    price: Vec<Coefficient>,
    each: HashMap<Box<str>, Vec<Coefficient>>,
    multiply: HashMap<Box<str>, Ratio>,
    otherwise: Option<Ratio>,
}

#[derive(Clone, Copy, Debug)]
struct Coefficient {
    quantity: QuantityId,
    step: Option<Amount>,
    factor: u128,
}

impl Formula {
    pub fn new(rate: &Rate, units: &[Unit]) -> Formula {
        let scale = units[usize::from(rate.unit)].scale;
        let mut used: Vec<QuantityId> = Vec::new();
        for component in &rate.price {
            if !used.contains(&component.quantity) {
                used.push(component.quantity);
            }
        }
        Formula { scale, coefficients: Coefficients::new(rate, scale), used }
    }

    #[inline]
    pub(super) fn used(&self) -> &[QuantityId] {
        &self.used
    }

    /// The price after rounding and minimum; `None` where it takes more than 128 bits to find it.
    pub(super) fn evaluate(
        &self,
        rate: &Rate,
        quantities: &[(QuantityId, Amount)],
        dimensions: &[(DimensionId, Dimension<'_>)],
    ) -> Result<Option<Amount>, Unlisted> {
        let Some(coefficients) = &self.coefficients else { return Ok(None) };
        let Some(exact) = coefficients.evaluate(rate, quantities, dimensions)? else { return Ok(None) };
        let Some(rounded) = at_scale(divide_half_up(exact.numerator, exact.denominator), self.scale) else {
            return Ok(None);
        };
        let least = rate.minimum.filter(|_| exact.numerator > 0).unwrap_or(Amount::ZERO);
        Ok(Some(rounded.max(least)))
    }
}

impl Coefficients {
    fn new(rate: &Rate, scale: u8) -> Option<Coefficients> {
        let each = rate.each.iter().flat_map(|each| each.prices.values().flatten());
        let mut denominator = 1u128;
        for component in rate.price.iter().chain(each) {
            let own = in_lowest_terms(component, scale)?.denominator;
            denominator = (denominator / gcd(denominator, own)).checked_mul(own)?;
        }
        let compile = |components: &[Component]| -> Option<Vec<Coefficient>> {
            components.iter().map(|component| Coefficient::new(component, scale, denominator)).collect()
        };
        let mut by_element = HashMap::new();
        for (element, components) in rate.each.iter().flat_map(|each| &each.prices) {
            by_element.insert(element.clone(), compile(components)?);
        }
        let values = rate.multiply.iter().flat_map(|multiply| &multiply.values);
        Some(Coefficients {
            denominator,
            price: compile(&rate.price)?,
            each: by_element,
            multiply: values.map(|(value, factor)| (value.clone(), Ratio::of_factor(*factor))).collect(),
            otherwise: rate.multiply.as_ref().and_then(|multiply| multiply.otherwise).map(Ratio::of_factor),
        })
    }

    /// The exact result in units of the last decimal kept; `None` where it does not fit.
    fn evaluate(
        &self,
        rate: &Rate,
        quantities: &[(QuantityId, Amount)],
        dimensions: &[(DimensionId, Dimension<'_>)],
    ) -> Result<Option<Ratio>, Unlisted> {
        let mut sum = sum(&self.price, quantities, Some(0));
        if let Some(each) = &rate.each {
            for element in elements(dimension(dimensions, each.field)) {
                match self.each.get(element) {
                    Some(coefficients) => sum = self::sum(coefficients, quantities, sum),
                    None if each.otherwise_free => {}
                    None => return Err(unlisted(rate, each.field, Some(element), "each")),
                }
            }
        }
        let Some(multiply) = &rate.multiply else {
            return Ok(sum.map(|numerator| Ratio { numerator, denominator: self.denominator }));
        };
        let value = single(dimensions, multiply.field);
        let listed = value.and_then(|value| self.multiply.get(value)).copied();
        let Some(factor) = listed.or(self.otherwise) else {
            return Err(unlisted(rate, multiply.field, value, "multiply"));
        };
        let numerator = sum.and_then(|sum| sum.checked_mul(factor.numerator));
        let denominator = self.denominator.checked_mul(factor.denominator);
        Ok(numerator.zip(denominator).map(|(numerator, denominator)| Ratio { numerator, denominator }))
    }
}

impl Coefficient {
    fn new(component: &Component, scale: u8, denominator: u128) -> Option<Coefficient> {
        let own = in_lowest_terms(component, scale)?;
        let factor = own.numerator.checked_mul(denominator / own.denominator)?;
        Some(Coefficient { quantity: component.quantity, step: component.step, factor })
    }
}

/// rate / per for a quantity in 10⁻⁹, in units of the last decimal kept.
fn in_lowest_terms(component: &Component, scale: u8) -> Option<Ratio> {
    // quantity/10⁹ × rate/10¹² ÷ (per/10⁹) × 10^scale
    let rate = Ratio::new(component.rate.0, PICOS / 10u128.pow(u32::from(scale)));
    let per = Ratio::new(rate.numerator, component.per.nanos() as u128);
    Some(Ratio { numerator: per.numerator, denominator: per.denominator.checked_mul(rate.denominator)? })
}

fn sum(coefficients: &[Coefficient], quantities: &[(QuantityId, Amount)], start: Option<u128>) -> Option<u128> {
    let mut sum = start?;
    for coefficient in coefficients {
        let quantity = stepped(given(quantities, coefficient.quantity), coefficient.step).nanos() as u128;
        sum = sum.checked_add(product(quantity, coefficient.factor)?)?;
    }
    Some(sum)
}

/// Numbers of 64 bits, the usual ones, have a product of 128 that needs no check.
fn product(a: u128, b: u128) -> Option<u128> {
    match (u64::try_from(a), u64::try_from(b)) {
        (Ok(a), Ok(b)) => Some(u128::from(a) * u128::from(b)),
        _ => a.checked_mul(b),
    }
}

fn unlisted(rate: &Rate, field: DimensionId, value: Option<&str>, table: &'static str) -> Unlisted {
    Unlisted { field, value: value.map(str::to_owned), table, line: rate.line }
}

const _: () = assert!(NANOS as u128 * 1000 == PICOS);
