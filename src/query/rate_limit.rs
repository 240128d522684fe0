//! The `RateLimit-Policy` and `RateLimit` fields of `check` (draft-ietf-httpapi-ratelimit-headers-11): one item for each
//! limit that the record would count in, named like the limit. Quotas are whole numbers there; they are rounded down.

use std::fmt::Write;

use super::CheckLimit;
use crate::engine::amount::NANOS;
use crate::engine::{Amount, Ms};

/// The greatest integer of a structured field (RFC 9651).
const INTEGER_MAX: i128 = 999_999_999_999_999;

/// The values of `RateLimit-Policy` and `RateLimit`; `None` where no limit applies.
pub fn fields(limits: &[CheckLimit], now: Ms) -> Option<(String, String)> {
    if limits.is_empty() {
        return None;
    }
    let (mut policy, mut left) = (String::new(), String::new());
    for limit in limits {
        let comma = if policy.is_empty() { "" } else { ", " };
        // Names of limits are of [A-Za-z0-9_.-]: nothing in them needs an escape. Writing to a String cannot fail.
        let _ = write!(policy, "{comma}\"{}\";q={}", limit.name, whole(limit.cap));
        if let Some(window_ms) = limit.window_ms {
            let _ = write!(policy, ";w={}", seconds_up(window_ms));
        }
        let _ = write!(left, "{comma}\"{}\";r={}", limit.name, whole(limit.remaining));
        if let Some(resets_at) = limit.resets_at {
            let _ = write!(left, ";t={}", seconds_up(resets_at - now));
        }
    }
    Some((policy, left))
}

fn whole(amount: Amount) -> i128 {
    (amount.nanos() / NANOS).clamp(0, INTEGER_MAX)
}

/// Rounded up, so that nobody comes back too early.
fn seconds_up(ms: i64) -> i64 {
    (ms.max(0) + 999) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_each_limit_in_whole_numbers() {
        let limit = |name: &str, cap, remaining, window_ms, resets_at| CheckLimit {
            name: name.into(),
            cap: Amount::parse(cap).expect(cap),
            remaining: Amount::parse(remaining).expect(remaining),
            window_ms,
            resets_at,
        };
        let limits = [
            limit("5h", "50", "49.6", Some(18_000_000), Some(61_001)),
            limit("credits", "1000000000000000", "0", None, None),
        ];
        let (policy, left) = fields(&limits, 1_000).expect("two limits");
        assert_eq!(policy, "\"5h\";q=50;w=18000, \"credits\";q=999999999999999");
        assert_eq!(left, "\"5h\";r=49;t=61, \"credits\";r=0");
        assert_eq!(fields(&[], 0), None);
    }
}
