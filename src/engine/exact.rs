//! Shares and proportions of amounts, exact and without bounds on the products.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::ToPrimitive;

use super::Amount;

/// 100 % as an amount.
const HUNDRED: i128 = Amount::whole(100).nanos();

/// `amount` × `numerator` / `denominator`, rounded down to `scale` decimals.
pub(crate) fn scaled_down(amount: Amount, numerator: i128, denominator: i128, scale: u8) -> Amount {
    let step = step_of(scale);
    match amount.nanos().checked_mul(numerator) {
        Some(product) => Amount::from_nanos(product.div_euclid(denominator * step) * step),
        None => narrow((BigInt::from(amount.nanos()) * numerator).div_floor(&BigInt::from(denominator * step)) * step),
    }
}

/// `amount` × `numerator` / `denominator`, rounded half up to `scale` decimals. For amounts of 0 or more.
pub(crate) fn scaled_half_up(amount: Amount, numerator: i128, denominator: i128, scale: u8) -> Amount {
    let step = BigInt::from(step_of(scale));
    let divisor = BigInt::from(denominator) * &step;
    let product = BigInt::from(amount.nanos()) * numerator;
    narrow(half_up(product, divisor) * step)
}

/// (`more` − `less`) / `denominator`, each an amount and its weight, rounded half up to `scale` decimals.
pub(crate) fn proportion_half_up(more: (Amount, i128), less: (Amount, i128), denominator: i128, scale: u8) -> Amount {
    let step = step_of(scale);
    let product = BigInt::from(more.0.nanos()) * more.1 - BigInt::from(less.0.nanos()) * less.1;
    let divisor = BigInt::from(denominator) * step;
    narrow(half_up(product, divisor) * step)
}

/// `percent` of `whole`, rounded down to `scale` decimals.
pub(crate) fn percent_of(whole: Amount, percent: Amount, scale: u8) -> Amount {
    scaled_down(whole, percent.nanos(), HUNDRED, scale)
}

/// The least amount that is not under `percent` of `whole`, both of them 0 or more.
pub(crate) fn percent_up(whole: Amount, percent: Amount) -> Amount {
    -scaled_down(-whole, percent.nanos(), HUNDRED, 9)
}

/// How `amount` compares with `percent` of `whole`, exactly.
pub(crate) fn cmp_percent(amount: Amount, percent: Amount, whole: Amount) -> std::cmp::Ordering {
    // Two factors of 64 bits cannot overflow, and are what nearly all are.
    if let (Ok(left), Ok(right), Ok(percent)) =
        (i64::try_from(amount.nanos()), i64::try_from(whole.nanos()), i64::try_from(percent.nanos()))
    {
        return (i128::from(left) * HUNDRED).cmp(&(i128::from(right) * i128::from(percent)));
    }
    match (amount.nanos().checked_mul(HUNDRED), whole.nanos().checked_mul(percent.nanos())) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => (BigInt::from(amount.nanos()) * HUNDRED).cmp(&(BigInt::from(whole.nanos()) * percent.nanos())),
    }
}

/// Whether `amount` has no more than `scale` decimals.
pub(crate) fn fits_scale(amount: Amount, scale: u8) -> bool {
    amount.nanos() % step_of(scale) == 0
}

fn half_up(product: BigInt, divisor: BigInt) -> BigInt {
    let doubled: BigInt = product * 2 + &divisor;
    doubled.div_floor(&(divisor * 2))
}

fn step_of(scale: u8) -> i128 {
    10i128.pow(9 - u32::from(scale))
}

fn narrow(value: BigInt) -> Amount {
    Amount::from_nanos(value.to_i128().expect("a share of what an account may hold is under 10^35"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).expect(text)
    }

    #[test]
    fn shares_round_down() {
        for (whole, numerator, denominator, scale, expect) in [
            ("100", 1, 3, 9, "33.333333333"),
            ("100", 1, 3, 0, "33"),
            ("-100", 1, 3, 0, "-34"),
            ("99999999999999999999", 7, 8, 2, "87499999999999999999.12"),
        ] {
            assert_eq!(scaled_down(amount(whole), numerator, denominator, scale).to_string(), expect, "{whole}");
        }
        assert_eq!(percent_of(amount("1"), amount("12.5"), 2).to_string(), "0.12");
        assert_eq!(
            percent_of(amount("99999999999999999999"), amount("99.999999999"), 0),
            amount("99999999998999999999")
        );
    }

    #[test]
    fn proportions_round_half_up() {
        for (more, less, denominator, scale, expect) in [
            (("20", 1), ("5", 1), 2, 0, "8"),
            (("20", 1), ("5", 1), 2, 2, "7.5"),
            (("5", 1), ("20", 1), 2, 0, "-7"),
            (("99999999999999999999", 31_536_000_000), ("0", 1), 31_536_000_000, 2, "99999999999999999999"),
        ] {
            let (more, less) = ((amount(more.0), more.1), (amount(less.0), less.1));
            assert_eq!(proportion_half_up(more, less, denominator, scale).to_string(), expect);
        }
        assert_eq!(scaled_half_up(amount("1"), 1, 8, 2).to_string(), "0.13");
    }

    #[test]
    fn the_least_amount_of_a_percent() {
        for (whole, percent, expect) in [
            ("50", "80", "40"),
            ("0.000000001", "80", "0.000000001"),
            ("0.333333333", "33.3333333", "0.111111111"),
            ("999999999999999.999999999", "1000", "9999999999999999.99999999"),
        ] {
            let edge = percent_up(amount(whole), amount(percent));
            assert_eq!(edge, amount(expect), "{percent}% of {whole}");
            let just_under = edge - Amount::from_nanos(1);
            assert_ne!(cmp_percent(edge, amount(percent), amount(whole)), std::cmp::Ordering::Less);
            assert_eq!(cmp_percent(just_under, amount(percent), amount(whole)), std::cmp::Ordering::Less);
        }
    }

    #[test]
    fn percents_compare_exactly() {
        use std::cmp::Ordering::{Equal, Greater, Less};
        for (left, percent, whole, expect) in [
            ("0.333333333", "33.3333333", "1", Equal),
            ("0.333333332", "33.3333333", "1", Less),
            ("-1", "50", "10", Less),
            ("50000000000000000000", "50", "99999999999999999999", Greater),
            ("0.000000001", "0.000000001", "100", Equal),
        ] {
            assert_eq!(cmp_percent(amount(left), amount(percent), amount(whole)), expect, "{left} {percent} {whole}");
        }
    }
}
