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
