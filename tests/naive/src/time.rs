//! Times as milliseconds since 1970 UTC, RFC 3339, durations, months and local dates.

use chrono::{DateTime, Datelike, Days, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

pub type Ms = i64;
pub const DAY: Ms = 86_400_000;

fn utc(ms: Ms) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).expect("a time between the years 1970 and 9999 and what periods add")
}

pub fn text(ms: Ms) -> String {
    utc(ms).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// RFC 3339 with a zone, cut to milliseconds; no second 60, no hour 24, years 1970 to 9999.
pub fn parse(text: &str) -> Option<Ms> {
    let b = text.as_bytes();
    if !text.is_ascii() || b.len() < 20 {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = text.get(from..to)?;
        if digits.bytes().all(|c| c.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    if b[4] != b'-' || b[7] != b'-' || !matches!(b[10], b'T' | b't') || b[13] != b':' || b[16] != b':' {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let date = NaiveDate::from_ymd_opt(year as i32, month, day)?;
    let mut rest = &text[19..];
    let mut ms = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return None;
        }
        let padded = format!("{}000", &fraction[..count]);
        ms = padded[..3].parse::<u32>().ok()?;
        rest = &fraction[count..];
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ => {
            let at = text.len() - rest.len();
            if rest.len() != 6 || &rest[3..4] != ":" {
                return None;
            }
            let (h, m) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if h > 23 || m > 59 {
                return None;
            }
            let size = i64::from(h * 60 + m) * 60_000;
            match &rest[..1] {
                "+" => size,
                "-" => -size,
                _ => return None,
            }
        }
    };
    if !(1970..=9999).contains(&year) || second > 59 {
        return None;
    }
    let time = NaiveTime::from_hms_milli_opt(hour, minute, second, ms)?;
    Some(NaiveDateTime::new(date, time).and_utc().timestamp_millis() - offset)
}

/// `"90s"`, `"5m"`, `"5h"`, `"7d"`.
pub fn duration(text: &str) -> Ms {
    let (count, unit) = text.split_at(text.len() - 1);
    let count: Ms = count.parse().expect("a duration of a valid catalog");
    count
        * match unit {
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => DAY,
        }
}

/// The days are clamped to the end of the month.
pub fn add_months(ms: Ms, months: i64) -> Ms {
    utc(ms).checked_add_months(Months::new(months as u32)).expect("within chrono's years").timestamp_millis()
}

pub fn month_key(ms: Ms) -> String {
    utc(ms).format("%Y-%m").to_string()
}

pub fn month_start(ms: Ms) -> Ms {
    let t = utc(ms);
    let first = NaiveDate::from_ymd_opt(t.year(), t.month(), 1).expect("every month has a first");
    first.and_time(NaiveTime::MIN).and_utc().timestamp_millis()
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Calendar {
    Day,
    Week,
    Month,
}

/// The calendar window that contains `ms`, in the zone's local dates.
pub fn calendar(ms: Ms, kind: Calendar, zone: Tz) -> (Ms, Ms) {
    let date = utc(ms).with_timezone(&zone).date_naive();
    let (from, to) = match kind {
        Calendar::Day => (date, date + Days::new(1)),
        Calendar::Week => {
            let monday = date - Days::new(date.weekday().num_days_from_monday().into());
            (monday, monday + Days::new(7))
        }
        Calendar::Month => {
            let first = date.with_day(1).expect("every month has a first");
            (first, first + Months::new(1))
        }
    };
    (first_instant(from, zone), first_instant(to, zone))
}

/// Midnight may not exist: then the day begins a little later, at the first minute that does.
fn first_instant(date: NaiveDate, zone: Tz) -> Ms {
    let mut local = date.and_time(NaiveTime::MIN);
    loop {
        match zone.from_local_datetime(&local) {
            LocalResult::Single(t) => return t.timestamp_millis(),
            LocalResult::Ambiguous(t, _) => return t.timestamp_millis(),
            LocalResult::None => local += chrono::TimeDelta::minutes(1),
        }
    }
}
