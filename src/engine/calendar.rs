//! Civil time: months and periods counted from an anchor, calendar windows of a time zone, and times as text.
//!
//! Instants are milliseconds since 1970 in UTC; a [`Span`] includes its start and not its end (docs/reference.md 7.1, 8.3,
//! 16). Windows of a time zone begin at the first instant of their local date, so that they tile time also where clocks
//! are put forward or back at midnight, or a date is skipped.

use std::fmt::Write;

use chrono::{DateTime, Datelike, Days, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::Ms;
use super::catalog::{CalendarUnit, Period};

pub const DAY_MS: i64 = 86_400_000;

/// The last instant that can be written: 9999-12-31T23:59:59.999Z.
pub const LAST: Ms = 253_402_300_799_999;

/// A stretch of time that includes `start` and not `end`; `None`: it never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub start: Ms,
    pub end: Option<Ms>,
}

/// A calendar month in UTC: year × 12 + month, January being 0.
pub type MonthId = i32;

impl Span {
    pub fn contains(&self, at: Ms) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

/// `anchor` moved by `n` months in UTC, its day cut to the last of the month reached.
pub fn add_months(anchor: Ms, n: i32) -> Ms {
    let from = utc(anchor);
    let months = Months::new(n.unsigned_abs());
    let moved = if n < 0 { from.checked_sub_months(months) } else { from.checked_add_months(months) };
    moved.map_or(if n < 0 { 0 } else { LAST }, |to| to.and_utc().timestamp_millis())
}

/// The period of `anchor` that contains `at`. A trial (`ends_after_ms`) and an endless period have only one, which is given
/// whatever `at` is. The first calendar month is a part: it begins at the anchor.
pub fn period_at(period: Period, ends_after_ms: Option<i64>, anchor: Ms, at: Ms) -> Span {
    if let Some(length) = ends_after_ms {
        return Span { start: anchor, end: Some(anchor.saturating_add(length)) };
    }
    match period {
        Period::Month => months_from(anchor, at),
        Period::CalendarMonth => {
            let month = month_of(at);
            let start = month_start(month);
            let start = if month == month_of(anchor) { anchor } else { start };
            Span { start, end: Some(month_start(month + 1)) }
        }
        Period::Week => multiple(7 * DAY_MS, anchor, at),
        Period::Day => multiple(DAY_MS, anchor, at),
        Period::Length(length) => multiple(length, anchor, at),
        Period::None => Span { start: anchor, end: None },
    }
}

/// The period after `current`; `None` where it is the last of its subscription (a trial, an endless period).
pub fn next_period(period: Period, ends_after_ms: Option<i64>, anchor: Ms, current: Span) -> Option<Span> {
    match (ends_after_ms, current.end) {
        (None, Some(end)) => Some(Span { start: end, ..period_at(period, None, anchor, end) }),
        _ => None,
    }
}

/// The billing cycle of `anchor` that contains `at`: `months` is 1 or 12.
pub fn cycle_at(months: i32, anchor: Ms, at: Ms) -> Span {
    let month = months_from(anchor, at);
    let passed = month_of(month.start) - month_of(anchor);
    let first = passed.div_euclid(months) * months;
    Span { start: add_months(anchor, first), end: Some(add_months(anchor, first + months)) }
}

/// The calendar day, week (from Monday) or month of `tz` that contains `at`.
pub fn calendar_span(unit: CalendarUnit, tz: Tz, at: Ms) -> Span {
    let at = at.clamp(-LAST, LAST);
    let local = utc(at) + chrono::Duration::seconds(offset_at(tz, at));
    let mut date = first_date(unit, local.date());
    let mut end = first_instant(tz, date_after(unit, date));
    // Where clocks go back over midnight, a later date has begun although the present one shows again.
    while end <= at {
        date = date_after(unit, date);
        end = first_instant(tz, date_after(unit, date));
    }
    Span { start: first_instant(tz, date), end: Some(end) }
}

/// The month that contains `at`. Every record asks for it, so that it is found by arithmetic on a calendar whose years
/// begin in March: their leap day is the last day, and 153 days make five months.
pub fn month_of(at: Ms) -> MonthId {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = at.clamp(0, LAST) as u64 / DAY_MS as u64 + DAYS_TO_1970;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / (DAYS_OF_400_YEARS - 1)) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    ((era * 400 + year) * 12 + month + 2) as MonthId
}

pub fn month_start(month: MonthId) -> Ms {
    let date = NaiveDate::from_ymd_opt(month.div_euclid(12), month.rem_euclid(12) as u32 + 1, 1);
    date.map_or(LAST, |date| date.and_time(NaiveTime::MIN).and_utc().timestamp_millis())
}

/// `2026-11`.
pub fn month_name(month: MonthId) -> String {
    format!("{:04}-{:02}", month.div_euclid(12), month.rem_euclid(12) + 1)
}

/// Reads `2026-11`; years 1970 to 9999.
pub fn parse_month(text: &str) -> Option<MonthId> {
    let bytes = text.as_bytes();
    if bytes.len() != 7 || bytes[4] != b'-' {
        return None;
    }
    let (year, month) = (digits(&bytes[..4])?, digits(&bytes[5..])?);
    (year >= 1970 && (1..=12).contains(&month)).then(|| year as i32 * 12 + month as i32 - 1)
}

/// RFC 3339 in UTC with milliseconds: `2026-11-20T07:00:00.250Z`.
pub fn format_time(at: Ms) -> String {
    let mut text = String::with_capacity(24);
    write_time(&mut text, at);
    text
}

/// As [`format_time`], appended to `out`.
pub fn write_time(out: &mut String, at: Ms) {
    let time = utc(at);
    let date = time.date();
    let of_day = at.rem_euclid(DAY_MS);
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        date.year(),
        date.month(),
        date.day(),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
    .expect("a String takes everything");
}

/// Reads RFC 3339 with a zone, years 1970 to 9999, no second 60, no hour 24 (docs/reference.md 16); cut to milliseconds.
pub fn parse_time(text: &str) -> Option<Ms> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    if !matches!(bytes[10], b'T' | b't') {
        return None;
    }
    let (year, month, day) = (digits(&bytes[..4])?, digits(&bytes[5..7])?, digits(&bytes[8..10])?);
    let (hour, minute, second) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    if year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(year as i32, month, day)?;
    let (ms, zone) = fraction(&bytes[19..])?;
    let days = i64::from(date.num_days_from_ce() - 719_163);
    let of_day = i64::from(hour * 3600 + minute * 60 + second) * 1000 + ms;
    let at = days * DAY_MS + of_day - zone_offset(zone)? * 1000;
    (0..=LAST).contains(&at).then_some(at)
}

/// The milliseconds of a fraction of a second, if there is one, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(part) = text.strip_prefix(b".") else { return Some((0, text)) };
    let length = part.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(part.len());
    if length == 0 {
        return None;
    }
    let kept = &part[..length.min(3)];
    let ms = digits(kept)? * 10u32.pow(3 - kept.len() as u32);
    Some((i64::from(ms), &part[length..]))
}

/// Seconds east of UTC of `Z` or `±hh:mm`.
fn zone_offset(text: &[u8]) -> Option<i64> {
    if let b"Z" | b"z" = text {
        return Some(0);
    }
    let sign = match text.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if text.len() != 6 || text[3] != b':' {
        return None;
    }
    let (hour, minute) = (digits(&text[1..3])?, digits(&text[4..6])?);
    (hour < 24 && minute < 60).then(|| sign * i64::from(hour * 3600 + minute * 60))
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

fn months_from(anchor: Ms, at: Ms) -> Span {
    let mut n = month_of(at) - month_of(anchor);
    if add_months(anchor, n) > at {
        n -= 1;
    }
    Span { start: add_months(anchor, n), end: Some(add_months(anchor, n + 1)) }
}

fn multiple(length: i64, anchor: Ms, at: Ms) -> Span {
    let start = anchor + (at - anchor).div_euclid(length) * length;
    Span { start, end: Some(start.saturating_add(length)) }
}

fn first_date(unit: CalendarUnit, date: NaiveDate) -> NaiveDate {
    let back = match unit {
        CalendarUnit::Day => 0,
        CalendarUnit::Week => date.weekday().num_days_from_monday(),
        CalendarUnit::Month => date.day0(),
    };
    date.checked_sub_days(Days::new(u64::from(back))).expect("chrono holds far more than the years to 9999")
}

fn date_after(unit: CalendarUnit, first: NaiveDate) -> NaiveDate {
    let after = match unit {
        CalendarUnit::Day => first.checked_add_days(Days::new(1)),
        CalendarUnit::Week => first.checked_add_days(Days::new(7)),
        CalendarUnit::Month => first.checked_add_months(Months::new(1)),
    };
    after.expect("chrono holds far more than the years to 9999")
}

/// The first instant at which the clocks of `tz` show `date` or a later one.
fn first_instant(tz: Tz, date: NaiveDate) -> Ms {
    let midnight = date.and_time(NaiveTime::MIN);
    let as_utc = midnight.and_utc().timestamp_millis();
    match tz.offset_from_local_datetime(&midnight) {
        LocalResult::Single(offset) => as_utc - i64::from(offset.fix().local_minus_utc()) * 1000,
        LocalResult::Ambiguous(one, other) => {
            let east = one.fix().local_minus_utc().max(other.fix().local_minus_utc());
            as_utc - i64::from(east) * 1000
        }
        LocalResult::None => gap_end(tz, as_utc / 1000) * 1000,
    }
}

/// Midnight was skipped: the second at which the clocks were put forward over it. No zone is a day away from UTC.
fn gap_end(tz: Tz, midnight_s: i64) -> i64 {
    let (mut before, mut after) = (midnight_s - 2 * 86_400, midnight_s + 2 * 86_400);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if middle + offset_at(tz, middle * 1000) < midnight_s { before = middle } else { after = middle }
    }
    after
}

/// Seconds east of UTC.
fn offset_at(tz: Tz, at: Ms) -> i64 {
    i64::from(tz.offset_from_utc_datetime(&utc(at)).fix().local_minus_utc())
}

/// Instants beyond the years that can be written are taken as the first or the last of them.
fn utc(at: Ms) -> NaiveDateTime {
    let at = at.clamp(-LAST, LAST);
    DateTime::from_timestamp_millis(at).expect("chrono holds far more than the years to 9999").naive_utc()
}

#[cfg(test)]
mod tests;
