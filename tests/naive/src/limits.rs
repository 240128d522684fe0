//! Section 8: limits, windows, caps.

use crate::account::{Account, Counter, LimitState};
use crate::catalog::{Cap, Catalog, Limit, Measure, Plan, Window};
use crate::num::{self, Amt};
use crate::time::{self, Ms};
use num_bigint::BigInt;
use num_rational::BigRational;

/// The counter of a user (or the account), also where it has counted nothing yet.
pub fn counter(state: &LimitState, key: &Option<String>) -> Counter {
    state.counters.get(key).cloned().unwrap_or_default()
}

fn pane(width: Ms) -> Ms {
    width / 300
}

pub fn used(limit: &Limit, counter: &Counter, clock: Ms) -> Amt {
    match limit.window {
        Window::Sliding(width) => {
            let oldest = clock.div_euclid(pane(width)) - 300;
            counter.entries.iter().filter(|e| e.0 > oldest).map(|e| e.1).sum()
        }
        _ => counter.entries.iter().map(|e| e.1).sum(),
    }
}

/// A cap as it stands: a user's own, else the account's own, else the plan's.
pub fn cap(account: &Account, catalog: &Catalog, plan: &Plan, index: usize, key: &Option<String>) -> Amt {
    let (limit, state) = (&plan.limits[index], &account.limits[index]);
    let own = own(plan, limit, state, key).cloned();
    let cap = own.or(state.cap.map(Cap::Amount)).unwrap_or(limit.cap.clone());
    let scale = plan.unit.as_ref().map_or(9, |u| catalog.scale(u));
    match cap {
        Cap::Amount(amount) => amount,
        Cap::Equal => {
            num::down(&(num::exact(account.pool) / BigRational::from_integer(BigInt::from(account.seats))), scale)
        }
        Cap::Share(share) => num::down(&(num::exact(account.pool) * share), scale),
    }
}

/// A user's own cap; a share only while the limit is measured in the unit of the plan.
fn own<'a>(plan: &Plan, limit: &Limit, state: &'a LimitState, key: &Option<String>) -> Option<&'a Cap> {
    let own = state.user_caps.get(key.as_ref()?)?;
    let in_unit = matches!(&limit.measure, Measure::Unit(unit) if plan.unit.as_ref() == Some(unit));
    (in_unit || matches!(own, Cap::Amount(_))).then_some(own)
}

/// Whether the cap that applies is a share of the pool.
pub fn shares(account: &Account, plan: &Plan, index: usize, key: &Option<String>) -> bool {
    let (limit, state) = (&plan.limits[index], &account.limits[index]);
    match own(plan, limit, state, key) {
        Some(own) => !matches!(own, Cap::Amount(_)),
        None => state.cap.is_none() && !matches!(limit.cap, Cap::Amount(_)),
    }
}

pub fn exceeded(account: &Account, catalog: &Catalog, plan: &Plan, index: usize, key: &Option<String>, at: Ms) -> bool {
    let counter = counter(&account.limits[index], key);
    used(&plan.limits[index], &counter, at) >= cap(account, catalog, plan, index, key)
}

/// Counts an amount at its effective time; false where it is outside of the window.
pub fn count(limit: &Limit, counter: &mut Counter, time: Ms, amount: Amt, clock: Ms, period_start: Ms) -> bool {
    match &limit.window {
        Window::Sliding(width) => {
            let (pane, oldest) = (time.div_euclid(pane(*width)), clock.div_euclid(pane(*width)) - 300);
            if pane <= oldest {
                return false;
            }
            counter.entries.retain(|e| e.0 > oldest);
            counter.entries.push((pane, amount));
            return true;
        }
        Window::FirstUse(width) => {
            let before = counter.previous_end.is_some_and(|end| time < end);
            match counter.start {
                Some(start) if time >= start => {}
                _ if before || time + width <= clock => return false,
                _ if amount == 0 => return true,
                _ => counter.start = Some(time),
            }
        }
        Window::Calendar(kind, zone) => {
            if time < time::calendar(clock, *kind, *zone).0 {
                return false;
            }
        }
        Window::Period => {
            if time < period_start {
                return false;
            }
        }
        Window::Lifetime => {}
    }
    match counter.entries.first_mut() {
        Some(entry) => *entry = (entry.0.max(time), entry.1 + amount),
        None => counter.entries.push((time, amount)),
    }
    true
}

/// The start of the first pane at which a sliding window is under its cap without more usage.
pub fn slides_under(width: Ms, counter: &Counter, cap: Amt, clock: Ms) -> Option<Ms> {
    let now = clock.div_euclid(pane(width));
    let mut leaving: Vec<Ms> = counter.entries.iter().map(|e| e.0 + 300).filter(|p| *p > now).collect();
    leaving.sort_unstable();
    let left = |at: Ms| -> Amt { counter.entries.iter().filter(|e| e.0 > at - 300).map(|e| e.1).sum() };
    leaving.into_iter().find(|at| left(*at) < cap).map(|at| at * pane(width))
}

/// When the timer of a window is due: its end, or the instant of 8.2 where it was told exceeded.
pub fn due(limit: &Limit, counter: &Counter, cap: Amt, clock: Ms) -> Option<Ms> {
    match &limit.window {
        Window::Sliding(width) if counter.told => slides_under(*width, counter, cap, clock),
        Window::FirstUse(width) => counter.start.map(|s| s + width),
        Window::Calendar(kind, zone) => {
            let last = counter.entries.iter().filter(|e| e.1 > 0).map(|e| e.0).max()?;
            Some(time::calendar(last, *kind, *zone).1)
        }
        _ => None,
    }
}

/// Ends a window that is over at the clock. A sliding one is only looked at again.
pub fn end_window(limit: &Limit, counter: &mut Counter) {
    match limit.window {
        Window::FirstUse(width) => {
            counter.previous_end = counter.start.map(|s| s + width);
            counter.start = None;
            counter.entries.clear();
        }
        Window::Calendar(..) => counter.entries.clear(),
        _ => {}
    }
}

/// `kind`, `start` and `resets_at` as notices and the view show them.
pub fn window(
    limit: &Limit,
    counter: &Counter,
    cap: Amt,
    clock: Ms,
    period: (Ms, Option<Ms>),
) -> (&'static str, Option<Ms>, Option<Ms>) {
    match &limit.window {
        Window::Sliding(width) => {
            let over = used(limit, counter, clock) >= cap;
            ("sliding", None, if over { slides_under(*width, counter, cap, clock) } else { None })
        }
        Window::FirstUse(width) => ("first_use", counter.start, counter.start.map(|s| s + width)),
        Window::Calendar(kind, zone) => {
            let (start, end) = time::calendar(clock, *kind, *zone);
            ("calendar", Some(start), Some(end))
        }
        Window::Period => ("period", Some(period.0), period.1),
        Window::Lifetime => ("lifetime", None, None),
    }
}

pub fn measure(limit: &Limit) -> &str {
    match &limit.measure {
        Measure::Unit(name) | Measure::Quantity(name) => name,
        Measure::Records => "records",
    }
}
