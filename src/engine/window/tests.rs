use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::engine::catalog::CalendarUnit;

const PERIOD: Span = Span { start: 0, end: None };
const HOUR: Ms = 3_600_000;

/// As limits do it: the window moves to the clock, then the record counts.
fn count(counter: &mut Counter, window: &Window, amount: Amount, at: Ms, clock: Ms) -> bool {
    counter.advance(window, clock);
    counter.add(window, amount, at, clock, &PERIOD)
}

fn whole(value: i64) -> Amount {
    Amount::whole(value)
}

#[test]
fn an_untouched_counter_is_small() {
    assert_eq!(size_of::<Counter>(), 32);
    for window in [Window::Sliding(300), Window::FirstUse(1), Window::Period, Window::Lifetime] {
        assert!(Counter::new(&window).is_untouched());
    }
}

/// A look at a window sees what moving it there would leave, and moves nothing.
#[test]
fn a_look_sees_the_window_as_of_the_clock() {
    let day = Window::Calendar(CalendarUnit::Day, Tz::UTC);
    for window in [Window::Sliding(300 * HOUR), Window::FirstUse(50 * HOUR), day, Window::Lifetime] {
        let mut counter = Counter::new(&window);
        for hours in [1, 2, 30, 60] {
            count(&mut counter, &window, whole(hours), hours * HOUR, hours * HOUR);
        }
        let before = counter.clone();
        for clock in (60..420).map(|hours| hours * HOUR) {
            let mut moved = counter.clone();
            moved.advance(&window, clock);
            assert_eq!(counter.used_at(&window, clock), moved.used(), "{window:?} at {clock}");
        }
        assert_eq!(counter, before);
    }
}

/// A record, as (time, amount, clock), and what is told after it, as (counted, used, start).
type Step = ((Ms, i64, Ms), (bool, i64, Option<Ms>));

fn check_first_use(length: Ms, steps: &[Step]) {
    let window = Window::FirstUse(length);
    let mut counter = Counter::new(&window);
    for (step, ((at, amount, clock), (counted, used, start))) in steps.iter().enumerate() {
        assert_eq!(count(&mut counter, &window, whole(*amount), *at, *clock), *counted, "step {step}");
        assert_eq!(counter.used(), whole(*used), "step {step}");
        let told = counter.told(&window, *clock, &PERIOD, whole(1));
        assert_eq!(told.start, *start, "step {step}");
        assert_eq!(told.resets_at, start.map(|start| start + length), "step {step}");
        assert_eq!(counter.ends_at(&window), told.resets_at, "step {step}");
    }
}

#[test]
fn a_first_use_window_runs_from_the_first_use() {
    check_first_use(
        100,
        &[
            // Nothing added: no window starts, though the record counts.
            ((1_000, 0, 1_000), (true, 0, None)),
            ((1_000, 5, 1_000), (true, 5, Some(1_000))),
            ((1_099, 1, 1_099), (true, 6, Some(1_000))),
            // The end is not in it.
            ((1_100, 2, 1_100), (true, 2, Some(1_100))),
            // Before the end of the one before: counts in none.
            ((1_099, 7, 1_150), (false, 2, Some(1_100))),
        ],
    );
}

#[test]
fn a_first_use_window_moves_back() {
    check_first_use(
        100,
        &[
            ((1_000, 5, 1_000), (true, 5, Some(1_000))),
            ((990, 1, 1_010), (true, 6, Some(990))),
            // Nothing added: nothing moves.
            ((980, 0, 1_010), (true, 6, Some(990))),
            // Moved to 940 it would be over at 1040: it does not count, and nothing moves.
            ((940, 1, 1_040), (false, 6, Some(990))),
            ((941, 1, 1_040), (true, 7, Some(941))),
            // It is over at 1041. A late record whose own window would be over counts in none.
            ((941, 3, 1_041), (false, 0, None)),
            ((1_040, 3, 1_200), (false, 0, None)),
            ((1_101, 3, 1_200), (true, 3, Some(1_101))),
            ((1_041, 1, 1_140), (true, 4, Some(1_041))),
            // Not back over the previous window's end.
            ((1_040, 1, 1_139), (false, 4, Some(1_041))),
        ],
    );
}

#[test]
fn a_calendar_window_ends_and_late_records_miss_it() {
    let window = Window::Calendar(CalendarUnit::Day, Tz::UTC);
    let day = 24 * HOUR;
    let mut counter = Counter::new(&window);
    assert_eq!(counter.told(&window, day + 5, &PERIOD, whole(1)).start, Some(day));
    assert!(count(&mut counter, &window, whole(0), day, day));
    assert_eq!(counter.ends_at(&window), None);
    assert!(count(&mut counter, &window, whole(3), day + 5, day + 5));
    assert_eq!(counter.ends_at(&window), Some(2 * day));
    assert!(!count(&mut counter, &window, whole(1), day - 1, day + 6));
    counter.advance(&window, 2 * day - 1);
    assert_eq!(counter.used(), whole(3));
    counter.advance(&window, 2 * day);
    assert_eq!((counter.used(), counter.ends_at(&window)), (whole(0), None));
    assert_eq!(counter.told(&window, 2 * day, &PERIOD, whole(1)).resets_at, Some(3 * day));
}

#[test]
fn periods_and_lifetimes_count_until_reset() {
    let period = Span { start: 1_000, end: Some(2_000) };
    let mut counter = Counter::new(&Window::Period);
    assert!(counter.add(&Window::Period, whole(2), 1_000, 1_500, &period));
    assert!(!counter.add(&Window::Period, whole(2), 999, 1_500, &period));
    assert_eq!(counter.used(), whole(2));
    let told = counter.told(&Window::Period, 1_500, &period, whole(1));
    assert_eq!((told.start, told.resets_at), (Some(1_000), Some(2_000)));
    counter.reset();
    assert!(counter.is_untouched());
    let mut counter = Counter::new(&Window::Lifetime);
    assert!(counter.add(&Window::Lifetime, whole(2), 5, 9_000, &period));
    assert_eq!(counter.told(&Window::Lifetime, 9_000, &period, whole(1)).start, None);
}

#[test]
fn a_counter_tells_before_it_would_reach_its_bound() {
    let window = Window::Sliding(300);
    let mut counter = Counter::new(&window);
    let almost = Amount::from_nanos(Amount::TOTAL_LIMIT.nanos() - 1);
    assert!(!counter.would_overflow(almost));
    count(&mut counter, &window, almost, 10, 10);
    assert!(counter.would_overflow(Amount::from_nanos(1)));
    assert_eq!(counter.used(), almost);
    counter.advance(&window, 310);
    assert!(counter.used().is_zero() && counter.is_untouched());
}

/// What is held of all records counted so far, computed from nothing.
fn held(records: &[(Ms, i128)], pane: Ms, clock: Ms) -> i128 {
    records.iter().filter(|(at, _)| at / pane > clock / pane - 300).map(|(_, nanos)| nanos).sum()
}

fn amounts() -> impl Strategy<Value = i128> {
    prop_oneof![Just(0i128), 1..10i128, 1..1_000_000_000i128, 1..1_000_000_000_000_000_000_000_000i128]
}

proptest! {
    #[test]
    fn sliding_equals_recomputation(
        pane in prop_oneof![Just(1i64), Just(7), Just(1_000)],
        steps in prop::collection::vec((0..200i64, 0..400i64, amounts()), 1..120),
        cap in amounts(),
    ) {
        let window = Window::Sliding(pane * 300);
        let mut counter = Counter::new(&window);
        let (mut clock, mut counted) = (1_000_000 * pane, Vec::new());
        for (later, ago, nanos) in steps {
            clock += later * pane / 20;
            let at = clock - ago * pane;
            let in_window = at / pane > clock / pane - 300;
            prop_assert_eq!(count(&mut counter, &window, Amount::from_nanos(nanos), at, clock), in_window);
            if in_window {
                counted.push((at, nanos));
            }
            let used = held(&counted, pane, clock);
            prop_assert_eq!(counter.used().nanos(), used);
            let first_pane = clock / pane;
            let mut leaving = (first_pane..=first_pane + 300).map(|index| index * pane).filter(|_| used >= cap);
            let expect = leaving.find(|clock| held(&counted, pane, *clock) < cap);
            prop_assert_eq!(counter.restores_at(&window, Amount::from_nanos(cap)), expect);
        }
        let bytes = postcard::to_stdvec(&counter).expect("encodes");
        let mut restored = postcard::from_bytes::<Counter>(&bytes).expect("decodes");
        prop_assert_eq!(&restored, &counter);
        // Cut into groups and put together again, in any order.
        if let (Some(panes), Some(cut)) = (counter.panes(), restored.panes_mut()) {
            let groups = panes.older_groups();
            if !groups.is_empty() {
                cut.keep_newest_group();
            }
            let mut numbers: Vec<u32> = groups.iter().map(|group| group.0).collect();
            numbers.sort_unstable();
            prop_assert!(numbers.is_sorted_by(|a, b| a < b) && numbers.iter().all(|number| *number < panes::GROUPS));
            cut.join(groups.into_iter().rev().flat_map(|group| group.1).collect());
        }
        prop_assert_eq!(restored, counter);
    }

    /// Whatever comes, the window holds the records counted since it opened, and only those within it; windows do not
    /// overlap.
    #[test]
    fn first_use_windows_hold_what_they_span(
        steps in prop::collection::vec((0..60i64, 0..150i64, 0..3i64), 1..80),
    ) {
        let window = Window::FirstUse(100);
        let mut counter = Counter::new(&window);
        let (mut clock, mut inside, mut last_end) = (10_000, Vec::new(), 0);
        for (later, ago, amount) in steps {
            clock += later;
            let before = counter.clone();
            counter.advance(&window, clock);
            if let Some(end) = before.ends_at(&window)
                && end <= clock
            {
                prop_assert_eq!(counter.ends_at(&window), None);
                inside.clear();
                last_end = end;
            }
            let at = clock - ago;
            if count(&mut counter, &window, whole(amount), at, clock) && amount > 0 {
                inside.push((at, amount));
            }
            let first = inside.iter().map(|(at, _)| *at).min();
            let told = counter.told(&window, clock, &PERIOD, whole(1));
            prop_assert_eq!(told.start, first);
            prop_assert_eq!(counter.used(), whole(inside.iter().map(|(_, amount)| amount).sum()));
            if let Some(start) = first {
                prop_assert!(start >= last_end && start + 100 > clock);
                prop_assert!(inside.iter().all(|(at, _)| *at < start + 100));
            }
        }
        let bytes = postcard::to_stdvec(&counter).expect("encodes");
        prop_assert_eq!(postcard::from_bytes::<Counter>(&bytes).expect("decodes"), counter);
    }
}
