//! Exact decimals: amounts and quantities with 9 decimals, rates with 12.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Units of the ninth decimal in one whole.
pub const NANOS: i128 = 1_000_000_000;
/// Units of the twelfth decimal in one whole.
pub const PICOS: u128 = 1_000_000_000_000;

/// An exact decimal with nine decimals: an amount of a unit, a currency, or a quantity.
///
/// Held as a count of 10⁻⁹. Balances and totals stay under 10²⁰ (docs/reference.md 16), so sums of two amounts never
/// overflow. Packed to an alignment of 8, so that it does not pad the structures that hold many of them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(Rust, packed(8))]
pub struct Amount(i128);

/// A non-negative exact decimal with twelve decimals: a rate, a multiplier or an exchange value. Held as a count of 10⁻¹².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Factor(pub u128);

/// Why a decimal text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// Not of the form `-?[0-9]+(\.[0-9]+)?` (exponents only where allowed), or longer than allowed.
    Form,
    /// More decimals (without trailing zeros) than can be held.
    Decimals,
    /// Beyond what can be held.
    Range,
}

impl Amount {
    pub const ZERO: Amount = Amount(0);
    /// Counters, balances and totals stay under this in absolute value.
    pub const TOTAL_LIMIT: Amount = Amount(100_000_000_000_000_000_000 * NANOS);
    /// Prices, quantities and amounts of commands stay under this.
    pub const VALUE_LIMIT: Amount = Amount(1_000_000_000_000_000 * NANOS);

    pub const fn from_nanos(nanos: i128) -> Amount {
        Amount(nanos)
    }

    pub const fn whole(value: i64) -> Amount {
        Amount(value as i128 * NANOS)
    }

    pub const fn nanos(self) -> i128 {
        self.0
    }

    pub fn is_zero(self) -> bool {
        self.nanos() == 0
    }

    pub fn is_positive(self) -> bool {
        self.nanos() > 0
    }

    /// Reads `[0-9]+(\.[0-9]+)?` with an optional leading `-`, any length; decimals are counted without trailing zeros.
    pub fn parse(text: &str) -> Result<Amount, DecimalError> {
        parse_scaled(text.as_bytes(), 9).map(Amount)
    }

    /// Reads a JSON number, exponents included.
    pub fn parse_json_number(text: &[u8]) -> Result<Amount, DecimalError> {
        let Some(mark) = text.iter().position(|byte| matches!(byte, b'e' | b'E')) else {
            return parse_scaled(text, 9).map(Amount);
        };
        parse_exponent(&text[..mark], &text[mark + 1..]).map(Amount)
    }
}

impl Factor {
    pub const ONE: Factor = Factor(PICOS);

    /// Reads `[0-9]+(\.[0-9]+)?`.
    pub fn parse(text: &str) -> Result<Factor, DecimalError> {
        let value = parse_scaled(text.as_bytes(), 12)?;
        u128::try_from(value).map(Factor).map_err(|_| DecimalError::Form)
    }
}

impl std::ops::Add for Amount {
    type Output = Amount;
    fn add(self, other: Amount) -> Amount {
        Amount(self.nanos() + other.nanos())
    }
}

impl std::ops::Sub for Amount {
    type Output = Amount;
    fn sub(self, other: Amount) -> Amount {
        Amount(self.nanos() - other.nanos())
    }
}

impl std::ops::Neg for Amount {
    type Output = Amount;
    fn neg(self) -> Amount {
        Amount(-self.nanos())
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(items: I) -> Amount {
        items.fold(Amount::ZERO, |sum, item| sum + item)
    }
}

/// Without exponent and trailing zeros: `12.5`, `0`, `-3.25`.
impl fmt::Display for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(out, self.nanos() < 0, self.nanos().unsigned_abs(), 9)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(out, false, self.0, 12)
    }
}

fn write_scaled(out: &mut fmt::Formatter<'_>, negative: bool, value: u128, scale: usize) -> fmt::Result {
    let unit = 10u128.pow(scale as u32);
    let (whole, mut part) = (value / unit, value % unit);
    let sign = if negative { "-" } else { "" };
    if part == 0 {
        return write!(out, "{sign}{whole}");
    }
    let mut width = scale;
    while part % 10 == 0 {
        part /= 10;
        width -= 1;
    }
    write!(out, "{sign}{whole}.{part:0width$}")
}

fn parse_scaled(text: &[u8], scale: usize) -> Result<i128, DecimalError> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, mut part) = match digits.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &digits[..0]),
    };
    let dotted = whole.len() != digits.len();
    if whole.is_empty() || (dotted && part.is_empty()) || !all_digits(whole) || !all_digits(part) {
        return Err(DecimalError::Form);
    }
    while let Some((b'0', rest)) = part.split_last() {
        part = rest;
    }
    if part.len() > scale {
        return Err(DecimalError::Decimals);
    }
    let mut value: i128 = 0;
    for digit in whole.iter().chain(part) {
        value = push_digit(value, *digit)?;
    }
    for _ in part.len()..scale {
        value = push_digit(value, b'0')?;
    }
    Ok(if negative { -value } else { value })
}

fn push_digit(value: i128, digit: u8) -> Result<i128, DecimalError> {
    let shifted = value.checked_mul(10).ok_or(DecimalError::Range)?;
    shifted.checked_add(i128::from(digit - b'0')).ok_or(DecimalError::Range)
}

fn all_digits(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit)
}

/// `mantissa` × 10^`exponent`: the digits are moved, never multiplied, so that `1e400` costs nothing and `0e400` is 0.
fn parse_exponent(mantissa: &[u8], exponent: &[u8]) -> Result<i128, DecimalError> {
    let (negative, digits) = match mantissa.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let dot = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let all: Vec<u8> = digits.iter().copied().filter(|byte| *byte != b'.').collect();
    if all.is_empty() || !all_digits(&all) {
        return Err(DecimalError::Form);
    }
    let first = all.iter().position(|digit| *digit != b'0');
    let Some(first) = first else { return Ok(0) };
    let last = all.iter().rposition(|digit| *digit != b'0').unwrap_or(first);
    let shift = parse_shift(exponent)?;
    // The decimal point stands `point` digits right of the first significant digit.
    let point = (dot as i64 - first as i64).saturating_add(shift);
    let significant = &all[first..=last];
    let decimals = (significant.len() as i64).saturating_sub(point);
    if decimals > 9 {
        return Err(DecimalError::Decimals);
    }
    if point > 29 {
        return Err(DecimalError::Range);
    }
    let mut value: i128 = 0;
    for digit in significant {
        value = push_digit(value, *digit)?;
    }
    for _ in 0..9 - decimals {
        value = push_digit(value, b'0')?;
    }
    Ok(if negative { -value } else { value })
}

fn parse_shift(exponent: &[u8]) -> Result<i64, DecimalError> {
    let (negative, digits) = match exponent.first() {
        Some(b'-') => (true, &exponent[1..]),
        Some(b'+') => (false, &exponent[1..]),
        _ => (false, exponent),
    };
    if digits.is_empty() || !all_digits(digits) {
        return Err(DecimalError::Form);
    }
    let value =
        digits.iter().fold(0i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_without_trailing_zeros() {
        for text in ["12.5", "0", "-3.25", "0.000000001", "1000000000000000000.123456789"] {
            assert_eq!(Amount::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Amount::parse("-0.0").expect("zero").to_string(), "0");
    }

    #[test]
    fn refuses_what_it_cannot_hold() {
        for (text, error) in [
            ("", DecimalError::Form),
            ("1.", DecimalError::Form),
            (".5", DecimalError::Form),
            ("+1", DecimalError::Form),
            ("1e3", DecimalError::Form),
            ("0.0000000001", DecimalError::Decimals),
            ("1000000000000000000000000000000000", DecimalError::Range),
        ] {
            assert_eq!(Amount::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn reads_exponents_exactly() {
        for (text, expect) in [
            ("1e3", "1000"),
            ("1.25E-2", "0.0125"),
            ("-12.5e1", "-125"),
            ("0e999", "0"),
            ("0.001e3", "1"),
            ("100e-9", "0.0000001"),
        ] {
            assert_eq!(Amount::parse_json_number(text.as_bytes()).expect(text).to_string(), expect, "{text}");
        }
        assert_eq!(Amount::parse_json_number(b"1e-10"), Err(DecimalError::Decimals));
        assert_eq!(Amount::parse_json_number(b"1e400"), Err(DecimalError::Range));
    }
}
