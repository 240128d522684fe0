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

/// The greatest amount that can be given (under 10¹⁵, 9 decimals) and is not above a number of any size, its sign aside.
pub(super) fn floor(text: &str) -> Amount {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(part.bytes()).filter(u8::is_ascii_digit).collect();
    let leading = digits.iter().take_while(|digit| **digit == b'0').count();
    let negative = exponent.starts_with('-');
    let shift = exponent.trim_start_matches(['+', '-']).parse::<i64>().unwrap_or(i64::from(u32::MAX));
    let whole_digits = whole.trim_start_matches('-').len() as i64 + if negative { -shift } else { shift };
    let significant = &digits[leading..];
    if significant.is_empty() {
        return Amount::ZERO;
    }
    if whole_digits - leading as i64 > 15 {
        return Amount::from_nanos(Amount::VALUE_LIMIT.nanos() - 1);
    }
    // As many of the digits as stand left of the tenth decimal, and zeros where the text has no more.
    let kept = usize::try_from(whole_digits - leading as i64 + 9).unwrap_or(0);
    let digit = |place: usize| significant.get(place).map_or(0, |digit| i128::from(digit - b'0'));
    Amount::from_nanos((0..kept).fold(0, |nanos, place| nanos * 10 + digit(place)))
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

    #[test]
    fn floors() {
        for (text, expect) in [
            ("1.0000000001", "1"),
            ("0.00012345678999", "0.000123456"),
            ("-12.34567891298", "12.345678912"),
            ("15e-10", "0.000000001"),
            ("9e-10", "0"),
            ("1e-99999999999999999999", "0"),
            ("0e99999999999999999999", "0"),
            ("1e400", "999999999999999.999999999"),
            ("1000000000000000", "999999999999999.999999999"),
            ("0.00001234567890123e10", "123456.789012300"),
            ("12345678901234567890e-5", "123456789012345.6789"),
        ] {
            assert_eq!(floor(text), Amount::parse(expect).expect(expect), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_can_be_given_is_its_own_floor(text in "(0|[1-9][0-9]{0,14})(\\.[0-9]{1,9})?(e-?[0-4])?") {
            if let Ok(amount) = of_number(&text) && amount < Amount::VALUE_LIMIT {
                prop_assert_eq!(floor(&text), amount);
            }
        }

        #[test]
        fn the_short_way_agrees_with_the_long_one(text in "(0|[1-9][0-9]{0,18})(\\.[0-9]{1,12})?") {
            prop_assert_eq!(of_number(&text), Amount::parse_json_number(text.as_bytes()));
        }
    }
}
