//! Values of one line: amounts, factors, percents, durations, sizes, times, patterns.

use toml::de::DeValue;

use super::reading::Value;
use crate::engine::amount::DecimalError;
use crate::engine::catalog::Pattern;
use crate::engine::{Amount, Factor, Ms, calendar};

const SECOND: i64 = 1_000;
const DAY: i64 = 86_400 * SECOND;
/// Longer durations than this are taken for a mistake.
const DURATION_MAX_MS: i64 = 36_500 * DAY;

/// Which amounts are allowed in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Positive,
    NotNegative,
    Any,
}

impl Value<'_> {
    /// An integer in `range`.
    pub fn integer(&self, least: i64, most: i64) -> Option<i64> {
        let what = format!("an integer from {least} to {most}");
        let DeValue::Integer(number) = self.item else {
            self.expected(&what);
            return None;
        };
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| (least..=most).contains(n));
        if value.is_none() {
            self.error(format!("{number} is out of range"), format!("write {what}"));
        }
        value
    }

    /// An amount of a unit, under 10^15, with at most `decimals` decimals.
    pub fn amount(&self, sign: Sign, decimals: u8) -> Option<Amount> {
        let text = self.decimal_text("an amount, like \"12.5\"")?;
        let amount = self.decimal(&text, Amount::parse(&text), decimals)?;
        let in_range = amount < Amount::VALUE_LIMIT && -amount < Amount::VALUE_LIMIT;
        let right_sign = match sign {
            Sign::Positive => amount.is_positive(),
            Sign::NotNegative => amount >= Amount::ZERO,
            Sign::Any => true,
        };
        if !in_range {
            self.error(format!("{text} is too much"), "amounts are under 10^15");
        } else if !right_sign {
            let help = if sign == Sign::Positive { "it must be more than 0" } else { "it must not be negative" };
            self.error(format!("{text} is not possible here"), help);
        } else if amount.nanos() % 10i128.pow(9 - u32::from(decimals)) != 0 {
            self.error(format!("{text} has too many decimals"), format!("only {decimals} are kept here"));
        } else {
            return Some(amount);
        }
        None
    }

    /// `per` and `step`: more than 0, at most 10^12, at most 9 decimals.
    pub fn divisor(&self) -> Option<Amount> {
        let text = self.decimal_text("a number, like 1_000_000 or \"0.5\"")?;
        let value = self.decimal(&text, Amount::parse(&text), 9)?;
        if value.is_positive() && value <= Amount::whole(1_000_000_000_000) {
            return Some(value);
        }
        self.error(format!("{text} is out of range"), "it must be more than 0 and at most 10^12");
        None
    }

    /// A rate, a multiplier or an exchange value: not negative, below 10^9, at most 12 decimals.
    pub fn factor(&self) -> Option<Factor> {
        let text = self.decimal_text("a number, like \"0.25\"")?;
        let factor = self.decimal(&text, Factor::parse(&text), 12)?;
        if factor.0 < 1_000_000_000 * 1_000_000_000_000 {
            return Some(factor);
        }
        self.error(format!("{text} is too much"), "it must be below 10^9");
        None
    }

    /// `"20%"`: more than 0, at most `most`.
    pub fn percent(&self, most: i64) -> Option<Amount> {
        let text = self.text()?;
        let Some(number) = text.strip_suffix('%') else {
            self.error(format!("{text:?} is not a percentage"), "write it with a percent sign, like \"20%\"");
            return None;
        };
        let percent = self.decimal(number, Amount::parse(number), 9)?;
        if percent.is_positive() && percent <= Amount::whole(most) {
            return Some(percent);
        }
        self.error(format!("{text} is out of range"), format!("more than 0%, at most {most}%"));
        None
    }

    /// `"90s"`, `"5m"`, `"5h"`, `"7d"`, also `"250ms"`: milliseconds, at least `least`.
    pub fn duration(&self, least: i64) -> Option<i64> {
        self.duration_between(least, DURATION_MAX_MS)
    }

    pub fn duration_between(&self, least: i64, most: i64) -> Option<i64> {
        let what = "a duration, like \"90s\", \"5m\", \"5h\" or \"7d\"";
        let DeValue::String(text) = self.item else {
            self.expected(what);
            return None;
        };
        let Some(ms) = parse_duration(text) else {
            self.error(format!("{text:?} is not a duration"), format!("write {what}"));
            return None;
        };
        if (least..=most).contains(&ms) {
            return Some(ms);
        }
        let bounds = format!("from {} to {}", show_duration(least), show_duration(most));
        self.error(format!("{text:?} is out of range"), bounds);
        None
    }

    /// `"2GiB"`, `"512MiB"`, `"64KiB"` or a number of bytes; at least `least`.
    pub fn size(&self, least: u64) -> Option<u64> {
        let bytes = match self.item {
            DeValue::String(text) => parse_size(text),
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match bytes {
            None => self.expected("a size, like \"512MiB\" or \"2GiB\""),
            Some(bytes) if bytes < least => {
                self.error(format!("{bytes} bytes are too few"), format!("at least {}MiB", least >> 20));
            }
            Some(_) => {}
        }
        bytes.filter(|bytes| *bytes >= least)
    }

    /// An RFC 3339 string with a zone, or a TOML offset date-time.
    pub fn instant(&self) -> Option<Ms> {
        let text = match self.item {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            _ => {
                self.expected("a time with a zone, like \"2026-01-01T00:00:00Z\"");
                return None;
            }
        };
        let time = calendar::parse_time(&text);
        if time.is_none() {
            let help = "write it like \"2026-01-01T00:00:00Z\", with a zone, in the years 1970 to 9999";
            self.error(format!("{text:?} is not a time"), help);
        }
        time
    }

    /// An exact text, or a prefix that ends with `*`.
    pub fn pattern(&self) -> Option<Pattern> {
        let text = self.text()?;
        let (body, prefix) = match text.strip_suffix('*') {
            Some(body) => (body, true),
            None => (text, false),
        };
        if body.contains('*') {
            self.error(
                format!("{text:?} has a `*` that is not at its end"),
                "only one `*` is allowed, as the last character",
            );
            return None;
        }
        if text.is_empty() {
            self.error("an empty text fits no record", "write a text, or \"*\" for any");
            return None;
        }
        Some(Pattern { text: body.into(), prefix })
    }

    /// The text of a decimal, which TOML may hold as a string or an integer. Floats are not exact.
    fn decimal_text(&self, what: &str) -> Option<String> {
        match self.item {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) => Some(value.to_string()),
                Err(_) => Some(number.as_str().to_owned()),
            },
            DeValue::Float(number) => {
                let text = number.as_str().trim_start_matches('+');
                let plain = Amount::parse(text).is_ok();
                let help = if plain { format!("write it as a string: \"{text}\"") } else { format!("write {what}") };
                self.error(format!("{number} is a float, which is not exact"), help);
                None
            }
            _ => {
                self.expected(what);
                None
            }
        }
    }

    fn decimal<T>(&self, text: &str, parsed: Result<T, DecimalError>, decimals: u8) -> Option<T> {
        let parsed = if text.len() > 64 { Err(DecimalError::Form) } else { parsed };
        match parsed {
            Ok(value) => return Some(value),
            Err(DecimalError::Form) => {
                self.error(
                    format!("{text:?} is not a decimal number"),
                    "write digits with at most one point, like \"12.5\"",
                );
            }
            Err(DecimalError::Decimals) => {
                self.error(format!("{text} has too many decimals"), format!("at most {decimals} are kept here"));
            }
            Err(DecimalError::Range) => self.error(format!("{text} is too much"), "amounts are under 10^15"),
        }
        None
    }
}

/// Milliseconds of `"90s"`; `None` where it is no duration or beyond what i64 holds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 1,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        "d" => DAY,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

fn show_duration(ms: i64) -> String {
    for (unit, name) in [(DAY, "d"), (3_600 * SECOND, "h"), (60 * SECOND, "m"), (SECOND, "s")] {
        if ms != 0 && ms % unit == 0 {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Names of plans, units, groups and the like: `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`.
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let rest = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.len() <= 64 && bytes.iter().all(rest)
}
