//! Section 6.1: which timers of an account are due, and what they do, in their order.

use crate::account::{Account, Kind};
use crate::catalog::Catalog;
use crate::grants;
use crate::limits;
use crate::periods;
use crate::step::Step;
use crate::time::Ms;
use crate::usage;

/// The next due time of any timer. One whose instant has passed is due at the account's clock.
pub fn next(c: &Catalog, account: &Account) -> Option<Ms> {
    let plan = account.plan(c);
    let mut due: Vec<Ms> = Vec::new();
    due.extend(account.grace_until);
    due.extend(periods::turn_due(account));
    for grant in &account.grants {
        let Some(expires_at) = grant.expires_at else { continue };
        if grant.kind == Kind::Other && !grant.ended && grant.remaining > 0 {
            due.push(expires_at);
        }
        if grant.kind == Kind::Other || grant.ended {
            due.push(expires_at + c.late);
        }
    }
    for (index, limit) in plan.limits.iter().enumerate() {
        for (key, counter) in &account.limits[index].counters {
            // Only a sliding window that was told looks at its cap.
            let cap = if counter.told { limits::cap(account, c, plan, index, key) } else { 0 };
            due.extend(limits::due(limit, counter, cap, account.clock));
        }
    }
    due.extend(account.sessions.values().map(|s| s.closes_at));
    let closing = account.periods.len() - 1;
    due.extend(account.periods[..closing].iter().filter_map(|p| p.end).map(|e| e + c.late));
    due.into_iter().min().map(|d| d.max(account.clock))
}

/// Fires all that is due at this instant as one input; returns the first kind that fired.
pub fn fire(c: &Catalog, account: &mut Account, step: &mut Step) -> &'static str {
    let clock = step.clock;
    let mut fired: Vec<&'static str> = Vec::new();
    if account.grace_until.is_some_and(|g| g <= clock) {
        fired.push("grace");
        periods::move_now(account, c, step, &c.default_plan, "payment_failed");
    }
    while let Some(due) = periods::turn_due(account).filter(|d| *d <= clock) {
        fired.push("period");
        periods::turn(account, c, step, due);
    }
    for grant in account.grants.iter_mut() {
        if grant.kind == Kind::Other && !grant.ended && grant.expires_at.is_some_and(|e| e <= clock) {
            grant.ended = true;
            if grant.remaining > 0 {
                fired.push("expiry");
            }
        }
    }
    let plan = account.plan(c);
    for (index, limit) in plan.limits.iter().enumerate() {
        for key in account.limits[index].counters.keys().cloned().collect::<Vec<_>>() {
            let cap = limits::cap(account, c, plan, index, &key);
            let counter = account.limits[index].counters.get_mut(&key).expect("it is there");
            let slid = counter.told && limits::used(limit, counter, clock) < cap && is_sliding(limit);
            if slid || limits::due(limit, counter, cap, clock).is_some_and(|d| d <= clock) {
                fired.push("window");
                limits::end_window(limit, counter);
            }
        }
    }
    let mut sessions: Vec<(Ms, String)> =
        account.sessions.iter().map(|(id, s)| (s.closes_at, id.clone())).filter(|s| s.0 <= clock).collect();
    sessions.sort();
    for (_, id) in sessions {
        fired.push("session");
        usage::close_session(c, account, step, &id);
    }
    let mut closing: Vec<(Ms, u64)> = account
        .grants
        .iter()
        .filter(|g| g.kind == Kind::Other || g.ended)
        .filter(|g| g.expires_at.is_some_and(|e| e + c.late <= clock))
        .map(|g| (g.effective_at, g.number))
        .collect();
    closing.sort_unstable();
    for (_, number) in closing {
        fired.push("close");
        grants::close(account, step, number);
    }
    while account.periods.len() > 1
        && account.periods[..account.periods.len() - 1].iter().any(|p| over(p.end, c, clock))
    {
        let index = account.periods.iter().position(|p| over(p.end, c, clock)).expect("one is");
        fired.push("close");
        periods::close(step, account.periods.remove(index));
    }
    account.closed_sessions.retain(|_, at| clock < *at + c.late);
    fired.first().copied().unwrap_or("close")
}

fn is_sliding(limit: &crate::catalog::Limit) -> bool {
    matches!(limit.window, crate::catalog::Window::Sliding(_))
}

fn over(end: Option<Ms>, c: &Catalog, clock: Ms) -> bool {
    end.is_some_and(|e| e + c.late <= clock)
}
