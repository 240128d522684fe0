use chrono_tz::TZ_VARIANTS;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Ms {
    parse_time(text).expect(text)
}

#[test]
fn months_are_counted_from_the_anchor() {
    for (anchor, n, expect) in [
        ("2026-01-31T10:00:00Z", 1, "2026-02-28T10:00:00.000Z"),
        ("2026-01-31T10:00:00Z", 2, "2026-03-31T10:00:00.000Z"),
        ("2024-01-31T00:00:00Z", 1, "2024-02-29T00:00:00.000Z"),
        ("2024-02-29T23:59:59.999Z", 12, "2025-02-28T23:59:59.999Z"),
        ("2024-02-29T23:59:59.999Z", 48, "2028-02-29T23:59:59.999Z"),
        ("2100-01-30T00:00:00Z", 1, "2100-02-28T00:00:00.000Z"),
        ("2026-03-31T00:00:00Z", -1, "2026-02-28T00:00:00.000Z"),
    ] {
        assert_eq!(format_time(add_months(at(anchor), n)), expect, "{anchor} + {n} months");
    }
}

#[test]
fn periods_follow_their_anchor() {
    let month = |anchor, now| {
        let span = period_at(Period::Month, None, at(anchor), at(now));
        (format_time(span.start), format_time(span.end.expect("months end")))
    };
    let pair = |start: &str, end: &str| (format!("{start}T00:00:00.000Z"), format!("{end}T00:00:00.000Z"));
    assert_eq!(month("2026-01-31T00:00:00Z", "2026-02-27T23:59:59Z"), pair("2026-01-31", "2026-02-28"));
    assert_eq!(month("2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"), pair("2026-02-28", "2026-03-31"));
    assert_eq!(month("2026-01-31T00:00:00Z", "2026-03-30T00:00:00Z"), pair("2026-02-28", "2026-03-31"));

    let anchor = at("2026-01-10T12:00:00Z");
    let first = period_at(Period::CalendarMonth, None, anchor, anchor);
    assert_eq!(first, Span { start: anchor, end: Some(at("2026-02-01T00:00:00Z")) });
    let second = next_period(Period::CalendarMonth, None, anchor, first).expect("goes on");
    assert_eq!(second, Span { start: at("2026-02-01T00:00:00Z"), end: Some(at("2026-03-01T00:00:00Z")) });

    let trial = period_at(Period::Month, Some(7 * DAY_MS), anchor, anchor + 30 * DAY_MS);
    assert_eq!(trial, Span { start: anchor, end: Some(anchor + 7 * DAY_MS) });
    assert_eq!(next_period(Period::Month, Some(7 * DAY_MS), anchor, trial), None);
    let endless = period_at(Period::None, None, anchor, anchor + 1);
    assert_eq!(endless, Span { start: anchor, end: None });
    assert_eq!(next_period(Period::None, None, anchor, endless), None);
}

#[test]
fn yearly_cycles_are_twelve_months_of_the_anchor() {
    let anchor = at("2024-02-29T06:00:00Z");
    let cycle = cycle_at(12, anchor, at("2025-03-01T00:00:00Z"));
    assert_eq!(cycle, Span { start: at("2025-02-28T06:00:00Z"), end: Some(at("2026-02-28T06:00:00Z")) });
    assert_eq!(cycle_at(12, anchor, at("2025-02-28T05:59:59Z")).start, anchor);
    assert_eq!(cycle_at(1, anchor, anchor).end, Some(at("2024-03-29T06:00:00Z")));
}

#[test]
fn times_are_read_as_rfc_3339() {
    for (text, expect) in [
        ("2026-11-20T07:00:00.250Z", Some("2026-11-20T07:00:00.250Z")),
        ("2026-11-20t07:00:00z", Some("2026-11-20T07:00:00.000Z")),
        ("2026-11-20T07:00:00.9999999999+05:30", Some("2026-11-20T01:30:00.999Z")),
        ("2026-11-20T07:00:00.2-11:00", Some("2026-11-20T18:00:00.200Z")),
        ("2024-02-29T00:00:00-00:00", Some("2024-02-29T00:00:00.000Z")),
        ("1970-01-01T00:00:00Z", Some("1970-01-01T00:00:00.000Z")),
        ("9999-12-31T23:59:59.999Z", Some("9999-12-31T23:59:59.999Z")),
        ("1969-12-31T23:59:59Z", None),
        ("1970-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("2026-02-29T00:00:00Z", None),
        ("2026-11-20T24:00:00Z", None),
        ("2026-11-20T23:59:60Z", None),
        ("2026-11-20T23:60:00Z", None),
        ("2026-11-20 07:00:00Z", None),
        ("2026-11-20T07:00:00", None),
        ("2026-11-20T07:00:00.Z", None),
        ("2026-11-20T07:00:00+0530", None),
        ("2026-11-20T07:00:00+24:00", None),
        ("2026-11-20T07:00Z", None),
        ("2026-1-20T07:00:00Z", None),
        ("+026-11-20T07:00:00Z", None),
        ("2026-11-20T07:00:00Zé", None),
        ("", None),
    ] {
        assert_eq!(parse_time(text).map(format_time).as_deref(), expect, "{text}");
    }
}

#[test]
fn months_have_names() {
    let month = month_of(at("2026-11-30T23:59:59.999Z"));
    assert_eq!(month_name(month), "2026-11");
    assert_eq!(parse_month("2026-11"), Some(month));
    assert_eq!(month_start(month + 1), at("2026-12-01T00:00:00Z"));
    for wrong in ["2026-13", "2026-00", "1969-12", "26-11", "2026/11", "2026-1"] {
        assert_eq!(parse_month(wrong), None, "{wrong}");
    }
}

#[test]
fn every_day_is_in_its_month() {
    let mut date = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
    for day in 0..84_000 {
        assert_eq!(month_of(day * DAY_MS), date.year() * 12 + date.month0() as i32, "{date}");
        date = date.succ_opt().expect("a date");
    }
}

#[test]
fn days_begin_at_the_first_instant_of_their_date() {
    for (tz, now, start, end) in [
        // Put forward at midnight: the day begins at 01:00.
        (Tz::America__Sao_Paulo, "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
        // Put back from 24:00 to 23:00: the day before is longer.
        (Tz::America__Sao_Paulo, "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"),
        // Put back from 01:00 to 00:00: midnight comes twice, the first one counts.
        (Tz::America__Havana, "2025-11-02T06:00:00Z", "2025-11-02T04:00:00Z", "2025-11-03T05:00:00Z"),
        // Put back from 00:01 to 23:01: the new date had begun, and is not taken back.
        (Tz::America__St_Johns, "2010-11-07T02:45:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"),
        // 30 December 2011 did not take place.
        (Tz::Pacific__Apia, "2011-12-30T10:30:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        (Tz::Europe__Rome, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
    ] {
        let span = calendar_span(CalendarUnit::Day, tz, at(now));
        assert_eq!(span, Span { start: at(start), end: Some(at(end)) }, "{tz} {now} {}", format_time(span.start));
    }
    let week = calendar_span(CalendarUnit::Week, Tz::Europe__Rome, at("2026-11-20T00:00:00Z"));
    assert_eq!(week, Span { start: at("2026-11-15T23:00:00Z"), end: Some(at("2026-11-22T23:00:00Z")) });
    let month = calendar_span(CalendarUnit::Month, Tz::UTC, at("2026-02-28T23:59:59.999Z"));
    assert_eq!(month, Span { start: at("2026-02-01T00:00:00Z"), end: Some(at("2026-03-01T00:00:00Z")) });
}

const UNITS: [CalendarUnit; 3] = [CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month];
const END: Ms = 4_102_444_800_000; // 2100

fn check_tile(unit: CalendarUnit, tz: Tz, now: Ms) {
    let span = calendar_span(unit, tz, now);
    let end = span.end.expect("calendar windows end");
    assert!(span.contains(now), "{tz} {unit:?} {} in {span:?}", format_time(now));
    assert_eq!(calendar_span(unit, tz, end - 1), span, "{tz} {unit:?} {}", format_time(now));
    let next = calendar_span(unit, tz, end);
    assert_eq!(next.start, end, "{tz} {unit:?} {}", format_time(now));
    let date = |at: Ms| (utc(at) + chrono::Duration::seconds(offset_at(tz, at))).date();
    assert!(date(end - 1) < date(end), "{tz} {unit:?} {} begins within a date", format_time(end));
    if unit == CalendarUnit::Day {
        assert!(end - span.start <= 50 * 3_600_000, "{tz} {}: a day of {} ms", format_time(now), end - span.start);
    }
}

/// All zones, at instants spread over 130 years and shifted from zone to zone.
#[test]
fn windows_tile_time_in_every_zone() {
    const STEP: Ms = END / 60;
    for (place, tz) in TZ_VARIANTS.iter().enumerate() {
        for step in 0..60 {
            let now = step * STEP + (place as Ms * 7_919 * 3_600_000 + step * 1_234_567) % STEP;
            UNITS.iter().for_each(|unit| check_tile(*unit, *tz, now));
        }
    }
}

/// Around changes of the clocks, where windows are hardest: every one near midnight, and some of the others.
#[test]
fn windows_tile_time_where_clocks_change() {
    const STEP: Ms = 25 * DAY_MS;
    let mut checked = 0;
    for tz in TZ_VARIANTS {
        let mut before = 0;
        while before < END {
            let after = before + STEP;
            if offset_at(tz, before) != offset_at(tz, after) {
                let change = change_between(tz, before, after);
                let of_day = (change + offset_at(tz, change - 1) * 1000).rem_euclid(DAY_MS);
                let near_midnight = !(5_400_000..DAY_MS - 5_400_000).contains(&of_day);
                if (near_midnight && change % 3 == 0) || change / DAY_MS % 97 == 0 {
                    for aside in [-5_400_000, -1, 0, 59_999, 3_599_999, 5_400_000] {
                        UNITS.iter().for_each(|unit| check_tile(*unit, tz, change + aside));
                        checked += 1;
                    }
                }
            }
            before = after;
        }
    }
    assert!(checked > 1_000, "{checked} instants near changes");
}

fn change_between(tz: Tz, mut before: Ms, mut after: Ms) -> Ms {
    let offset = offset_at(tz, before);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if offset_at(tz, middle) == offset { before = middle } else { after = middle }
    }
    after
}

fn any_period() -> impl Strategy<Value = Period> {
    prop_oneof![
        Just(Period::Month),
        Just(Period::CalendarMonth),
        Just(Period::Week),
        Just(Period::Day),
        (1i64..400 * DAY_MS).prop_map(Period::Length),
    ]
}

proptest! {
    #[test]
    fn periods_tile_time(period in any_period(), anchor in 0..END, after in 0..END / 4) {
        let span = period_at(period, None, anchor, anchor + after);
        prop_assert!(span.contains(anchor + after));
        prop_assert!(span.start >= anchor);
        let next = next_period(period, None, anchor, span).expect("goes on");
        prop_assert_eq!(Some(next.start), span.end);
        prop_assert_eq!(period_at(period, None, anchor, next.end.expect("ends") - 1), next);
        prop_assert_eq!(period_at(period, None, anchor, next.start - 1), span);
    }

    #[test]
    fn times_come_back(at in 0..=LAST) {
        prop_assert_eq!(parse_time(&format_time(at)), Some(at));
        prop_assert!(month_start(month_of(at)) <= at && at < month_start(month_of(at) + 1));
        let date = utc(at).date();
        prop_assert_eq!(month_of(at), date.year() * 12 + date.month0() as i32);
    }
}
