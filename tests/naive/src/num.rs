//! Exact decimals. Amounts are `i128` nano-units (9 decimals); prices are big rationals.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

/// An amount or quantity in nano-units.
pub type Amt = i128;
pub const ONE: Amt = 1_000_000_000;
pub const E15: Amt = 1_000_000_000_000_000 * ONE;

/// A decimal text taken apart: `(-1)^negative * digits * 10^exponent`, digits without zeros at either end.
pub struct Decimal {
    pub negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads the text of a JSON number, exponents included.
    pub fn of_number(text: &str) -> Decimal {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], exponent_of(&rest[at + 1..])),
            None => (rest, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{part}");
        let all = all.trim_start_matches('0');
        let digits = all.trim_end_matches('0');
        let zeros = (all.len() - digits.len()) as i64;
        if digits.is_empty() {
            return Decimal { negative: false, digits: String::new(), exponent: 0 };
        }
        Decimal { negative, digits: digits.to_owned(), exponent: exponent - part.len() as i64 + zeros }
    }

    /// `[0-9]+(\.[0-9]+)?`, at most 64 characters, with a leading `-` where `signed`.
    pub fn of_string(text: &str, signed: bool) -> Option<Decimal> {
        if text.len() > 64 {
            return None;
        }
        let rest = if signed { text.strip_prefix('-').unwrap_or(text) } else { text };
        let (whole, part) = match rest.split_once('.') {
            Some((whole, part)) => (whole, Some(part)),
            None => (rest, None),
        };
        let fine = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        (fine(whole) && part.is_none_or(fine)).then(|| Decimal::of_number(text))
    }

    /// The value, of any number of decimals; only for what is below 10^15.
    pub fn exact(&self) -> BigRational {
        if self.is_zero() {
            return BigRational::zero();
        }
        let digits: BigInt = self.digits.parse().expect("digits");
        let size = BigInt::from(10).pow(self.exponent.unsigned_abs().min(1000) as u32);
        if self.exponent < 0 { BigRational::new(digits, size) } else { BigRational::from_integer(digits * size) }
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    pub fn decimals(&self) -> i64 {
        (-self.exponent).max(0)
    }

    pub fn below_e15(&self) -> bool {
        self.is_zero() || self.digits.len() as i64 + self.exponent <= 15
    }

    /// The amount, where it is below 10^15 and has at most 9 decimals.
    pub fn amount(&self) -> Option<Amt> {
        if self.is_zero() {
            return Some(0);
        }
        if !self.below_e15() || self.decimals() > 9 {
            return None;
        }
        let digits: Amt = self.digits.parse().ok()?;
        let value = digits * 10i128.pow((9 + self.exponent) as u32);
        Some(if self.negative { -value } else { value })
    }
}

fn exponent_of(text: &str) -> i64 {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    let digits = digits.trim_start_matches('0');
    if digits.len() > 12 { sign * 1_000_000_000_000 } else { sign * digits.parse::<i64>().unwrap_or(0) }
}

/// Writes an amount without exponent or trailing zeros.
pub fn text(amount: Amt) -> String {
    let size = amount.unsigned_abs();
    let (whole, part) = (size / ONE as u128, size % ONE as u128);
    let sign = if amount < 0 { "-" } else { "" };
    if part == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{}", format!("{part:09}").trim_end_matches('0'))
    }
}

/// A decimal of the catalog, any number of decimals.
pub fn rational(text: &str) -> BigRational {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = rest.split_once('.').unwrap_or((rest, ""));
    let digits: BigInt = format!("{whole}{part}").parse().expect("a decimal of a valid catalog");
    let value = BigRational::new(digits, BigInt::from(10).pow(part.len() as u32));
    if negative { -value } else { value }
}

/// An amount of the catalog.
pub fn amount(text: &str) -> Amt {
    down(&rational(text), 9)
}

pub fn exact(amount: Amt) -> BigRational {
    BigRational::new(amount.into(), ONE.into())
}

fn scaled(value: &BigRational, scale: u32) -> BigRational {
    value * BigRational::from_integer(BigInt::from(10).pow(scale))
}

fn nano(units: BigInt, scale: u32) -> Amt {
    (units * BigInt::from(10).pow(9 - scale)).to_i128().unwrap_or(Amt::MAX)
}

/// Rounds half up (away from zero never happens: what is rounded here is not negative).
pub fn half_up(value: &BigRational, scale: u32) -> Amt {
    let half = BigRational::new(1.into(), 2.into());
    nano((scaled(value, scale) + half).floor().to_integer(), scale)
}

pub fn down(value: &BigRational, scale: u32) -> Amt {
    let units = scaled(value, scale);
    let floor = if units.is_negative() { units.ceil() } else { units.floor() };
    nano(floor.to_integer(), scale)
}

pub fn percent(text: &str) -> BigRational {
    rational(text.trim_end_matches('%')) / BigRational::from_integer(100.into())
}

pub fn is_positive(value: &BigRational) -> bool {
    !value.is_zero() && value.is_positive()
}
