//! The counter of one limit (and user) in its window (docs/reference.md 8.1–8.3).
//!
//! A counter is as of the clock it was last advanced to: call [`Counter::advance`] with the clock before reading and adding.
//! An untouched counter is 32 bytes and owns nothing. Amounts added are never negative.
//!
//! A sliding window W is cut into panes of W / 300. At clock c it holds the panes with an index over floor(c / pane) − 300;
//! only panes that counted something are kept, with their running total.

pub(crate) mod panes;

use serde::{Deserialize, Serialize};

use self::panes::Panes;
use super::calendar::{self, Span};
use super::catalog::Window;
use super::effects::{WindowKind, WindowTold};
use super::{Amount, Ms};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counter {
    /// Of a billing period or a lifetime.
    Total { used: Amount },
    Sliding {
        used: Amount,
        /// `None`: no pane counted anything.
        panes: Option<Box<Panes>>,
    },
    FirstUse {
        used: Amount,
        /// Of the window that runs, if one does.
        start: Stamp,
        /// End of the window before.
        ended: Stamp,
    },
    Calendar {
        used: Amount,
        /// The window that the counter was last advanced into; none before the first.
        start: Stamp,
        end: Stamp,
    },
}

/// An instant, or none, in six bytes: what keeps a counter at 32.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Ms>", into = "Option<Ms>")]
pub struct Stamp([u16; 3]);

impl Counter {
    pub fn new(window: &Window) -> Counter {
        match window {
            Window::Sliding(_) => Counter::Sliding { used: Amount::ZERO, panes: None },
            Window::FirstUse(_) => Counter::FirstUse { used: Amount::ZERO, start: Stamp::NONE, ended: Stamp::NONE },
            Window::Calendar(..) => Counter::Calendar { used: Amount::ZERO, start: Stamp::NONE, end: Stamp::NONE },
            Window::Period | Window::Lifetime => Counter::Total { used: Amount::ZERO },
        }
    }

    /// What the window holds, as of the clock last advanced to.
    #[inline]
    pub fn used(&self) -> Amount {
        match self {
            Counter::Total { used }
            | Counter::Sliding { used, .. }
            | Counter::FirstUse { used, .. }
            | Counter::Calendar { used, .. } => *used,
        }
    }

    /// What the window holds at `clock`, to which the counter is not moved: a record that only looks at it may be refused.
    pub fn used_at(&self, window: &Window, clock: Ms) -> Amount {
        match (self, window) {
            (Counter::Sliding { used, panes: Some(panes) }, Window::Sliding(length)) => {
                *used - panes.held_before(oldest_pane(*length, clock))
            }
            (Counter::FirstUse { start, .. }, Window::FirstUse(length))
                if start.get().is_some_and(|from| from + length <= clock) =>
            {
                Amount::ZERO
            }
            (Counter::Calendar { end, .. }, Window::Calendar(..)) if end.get().is_none_or(|end| end <= clock) => {
                Amount::ZERO
            }
            _ => self.used(),
        }
    }

    /// Whether nothing was ever counted, or no trace of it is left: such a counter need not be kept.
    pub fn is_untouched(&self) -> bool {
        match self {
            Counter::FirstUse { used, start, ended } => {
                used.is_zero() && start.get().is_none() && ended.get().is_none()
            }
            _ => self.used().is_zero(),
        }
    }

    /// Reads a word ahead, see `engine/ahead.rs`.
    pub(super) fn fetch(&self) -> u64 {
        self.panes().map_or(0, Panes::fetch)
    }

    pub(super) fn fetch_panes(&self) -> u64 {
        self.panes().map_or(0, Panes::fetch_ends)
    }

    /// The panes of a sliding window, if it counted something.
    pub(crate) fn panes(&self) -> Option<&Panes> {
        match self {
            Counter::Sliding { panes, .. } => panes.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn panes_mut(&mut self) -> Option<&mut Panes> {
        match self {
            Counter::Sliding { panes, .. } => panes.as_deref_mut(),
            _ => None,
        }
    }

    /// Whether adding `amount` would reach 10²⁰.
    pub fn would_overflow(&self, amount: Amount) -> bool {
        self.used() + amount >= Amount::TOTAL_LIMIT
    }

    /// Moves the window to `clock`: panes leave, a first_use or calendar window that is over ends. A period's counter is
    /// reset by its owner.
    #[inline]
    pub fn advance(&mut self, window: &Window, clock: Ms) {
        match (self, window) {
            (Counter::Sliding { used, panes }, Window::Sliding(length)) => {
                if let Some(kept) = panes {
                    *used -= kept.evict(oldest_pane(*length, clock));
                    if kept.is_empty() {
                        *panes = None;
                    }
                }
            }
            (Counter::FirstUse { used, start, ended }, Window::FirstUse(length)) => {
                if let Some(from) = start.get()
                    && from + length <= clock
                {
                    *ended = Stamp::at(from + length);
                    *start = Stamp::NONE;
                    *used = Amount::ZERO;
                }
            }
            (Counter::Calendar { used, start, end }, Window::Calendar(unit, tz))
                if end.get().is_none_or(|end| end <= clock) =>
            {
                let span = calendar::calendar_span(*unit, *tz, clock);
                *start = Stamp::at(span.start);
                *end = span.end.map_or(Stamp::NONE, Stamp::at);
                *used = Amount::ZERO;
            }
            _ => {}
        }
    }

    /// Whether a record with the effective time `at` counts in a window that does not slide, whatever it adds.
    fn counts(&self, window: &Window, at: Ms, clock: Ms, period: &Span) -> bool {
        match (self, window) {
            (Counter::FirstUse { start, ended, .. }, Window::FirstUse(length)) => match start.get() {
                Some(start) if at >= start => true,
                _ => ended.get().is_none_or(|ended| at >= ended) && at + length > clock,
            },
            (Counter::Calendar { start, .. }, Window::Calendar(..)) => start.get().is_none_or(|start| at >= start),
            (_, Window::Period) => at >= period.start,
            _ => true,
        }
    }

    /// Counts `amount` of a record with the effective time `at` (not after `clock`). False: it counts in no window. Advance
    /// first.
    #[inline]
    pub fn add(&mut self, window: &Window, amount: Amount, at: Ms, clock: Ms, period: &Span) -> bool {
        if let (Counter::Sliding { used, panes }, Window::Sliding(length)) = (&mut *self, window) {
            let current = pane_of(*length, clock);
            let pane = if at == clock { current } else { pane_of(*length, at) };
            let counts = pane > current - PANES;
            if counts && amount.is_positive() {
                *used += amount;
                panes.get_or_insert_default().add(pane, amount);
            }
            return counts;
        }
        if !self.counts(window, at, clock, period) {
            return false;
        }
        match self {
            // Nothing added starts no window, and moves none.
            Counter::FirstUse { .. } if amount.is_zero() => {}
            Counter::FirstUse { used, start, .. } => {
                *used += amount;
                if start.get().is_none_or(|start| at < start) {
                    *start = Stamp::at(at);
                }
            }
            Counter::Total { used } | Counter::Sliding { used, .. } | Counter::Calendar { used, .. } => *used += amount,
        }
        true
    }

    /// Forgets what was counted: a new billing period.
    pub fn reset(&mut self) {
        match self {
            Counter::Total { used } => *used = Amount::ZERO,
            Counter::Sliding { used, panes } => (*used, *panes) = (Amount::ZERO, None),
            Counter::FirstUse { used, start, ended } => {
                (*used, *start, *ended) = (Amount::ZERO, Stamp::NONE, Stamp::NONE);
            }
            Counter::Calendar { used, start, end } => {
                (*used, *start, *end) = (Amount::ZERO, Stamp::NONE, Stamp::NONE);
            }
        }
    }

    /// The window as notices and views tell it at `clock`, whether or not the counter was advanced to it.
    pub fn told(&self, window: &Window, clock: Ms, period: &Span, cap: Amount) -> WindowTold {
        match (self, window) {
            (_, Window::Sliding(_)) => {
                WindowTold { kind: WindowKind::Sliding, start: None, resets_at: self.restores_at(window, cap) }
            }
            (Counter::FirstUse { start, .. }, Window::FirstUse(length)) => {
                let start = start.get().filter(|start| start + length > clock);
                let resets_at = start.map(|start| start + length);
                WindowTold { kind: WindowKind::FirstUse, start, resets_at }
            }
            (_, Window::FirstUse(_)) => WindowTold { kind: WindowKind::FirstUse, start: None, resets_at: None },
            (_, Window::Calendar(unit, tz)) => {
                let span = self.calendar_at(clock).unwrap_or_else(|| calendar::calendar_span(*unit, *tz, clock));
                WindowTold { kind: WindowKind::Calendar, start: Some(span.start), resets_at: span.end }
            }
            (_, Window::Period) => {
                WindowTold { kind: WindowKind::Period, start: Some(period.start), resets_at: period.end }
            }
            (_, Window::Lifetime) => WindowTold { kind: WindowKind::Lifetime, start: None, resets_at: None },
        }
    }

    /// Of a sliding window that holds `cap` or more: the start of the first pane at which it holds less, without more
    /// usage. `None` where there is none, or it holds less already.
    pub fn restores_at(&self, window: &Window, cap: Amount) -> Option<Ms> {
        match (self, window) {
            (Counter::Sliding { used, panes: Some(panes) }, Window::Sliding(length)) if *used >= cap => {
                let leaving = panes.restored_by(*used, cap)?;
                Some((leaving + PANES) * pane_length(*length))
            }
            _ => None,
        }
    }

    /// When the window's timer is due: the end of a first_use window that runs, or of a calendar window that counted
    /// something.
    #[inline]
    pub fn ends_at(&self, window: &Window) -> Option<Ms> {
        match (self, window) {
            (Counter::FirstUse { start, .. }, Window::FirstUse(length)) => start.get().map(|start| start + length),
            (Counter::Calendar { used, end, .. }, _) if used.is_positive() => end.get(),
            _ => None,
        }
    }

    fn calendar_at(&self, clock: Ms) -> Option<Span> {
        let Counter::Calendar { start, end, .. } = self else { return None };
        let span = Span { start: start.get()?, end: Some(end.get()?) };
        span.contains(clock).then_some(span)
    }
}

/// Panes of a sliding window.
const PANES: i64 = 300;

fn pane_length(window_ms: i64) -> i64 {
    window_ms / PANES
}

/// Instants are not before 1970.
fn pane_of(window_ms: i64, at: Ms) -> i64 {
    (at as u64 / pane_length(window_ms) as u64) as i64
}

/// The first pane that the window still holds at `clock`.
fn oldest_pane(window_ms: i64, clock: Ms) -> i64 {
    pane_of(window_ms, clock) - PANES + 1
}

impl Stamp {
    const NONE: Stamp = Stamp([u16::MAX; 3]);

    /// Instants lie between 1970 and the year 10889; others are taken as the nearest of these.
    fn at(at: Ms) -> Stamp {
        let bits = at.clamp(0, (1 << 48) - 2) as u64;
        Stamp([bits as u16, (bits >> 16) as u16, (bits >> 32) as u16])
    }

    fn get(self) -> Option<Ms> {
        let [low, middle, high] = self.0.map(Ms::from);
        (self != Stamp::NONE).then_some(high << 32 | middle << 16 | low)
    }
}

impl From<Option<Ms>> for Stamp {
    fn from(at: Option<Ms>) -> Stamp {
        at.map_or(Stamp::NONE, Stamp::at)
    }
}

impl From<Stamp> for Option<Ms> {
    fn from(stamp: Stamp) -> Option<Ms> {
        stamp.get()
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(out)
    }
}

const _: () = assert!(size_of::<Counter>() == 32);

#[cfg(test)]
mod tests;
