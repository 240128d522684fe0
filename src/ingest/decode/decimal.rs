//! Decimals as records write them: JSON numbers, exponents included, and decimal strings.

use crate::engine::Amount;
use crate::engine::amount::DecimalError;

/// Characters of a decimal string, its sign aside.
const STRING_MAX: usize = 64;
const POWERS: [i64; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// A JSON number, whose form the reader has checked.
pub(super) fn of_number(text: &str) -> Result<Amount, DecimalError> {
    match short(text.as_bytes()) {
        Some(amount) => Ok(amount),
        None => Amount::parse_json_number(text.as_bytes()),
    }
}

/// `[0-9]+(\.[0-9]+)?`, after a `-` where that is allowed.
pub(super) fn of_string(text: &str, negative: bool) -> Result<Amount, DecimalError> {
    let digits = if negative { text.strip_prefix('-').unwrap_or(text) } else { text };
    if digits.len() > STRING_MAX || digits.starts_with('-') {
        return Err(DecimalError::Form);
    }
    Amount::parse(text)
}

/// Digits and at most one point, few enough for a machine word; `None`: read it the long way.
fn short(text: &[u8]) -> Option<Amount> {
    if text.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    let mut point = text.len();
    for (place, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
            b'.' => point = place + 1,
            _ => return None,
        }
    }
    let power = POWERS.get(9usize.checked_sub(text.len() - point)?)?;
    Some(Amount::from_nanos(i128::from(value) * i128::from(*power)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_short_way_agrees_with_the_long_one(text in "(0|[1-9][0-9]{0,18})(\\.[0-9]{1,12})?") {
            prop_assert_eq!(of_number(&text), Amount::parse_json_number(text.as_bytes()));
        }
    }
}
