//! The balance of one unit: its grants and its debt (docs/reference.md 6.7).
//!
//! The grants of a unit are one list in two parts. In front, in burn order, are those that something is left of and that
//! have not ended; a draw at the clock looks only at these. Behind them, in no order, are those that wait to close: used up
//! or ended. Only a late record looks there, and only if something that is left there was active at its time.

#[cfg(test)]
mod tests;

use smallvec::SmallVec;

use super::catalog::{GroupId, UnitId};
use super::grants::{Ended, Grant, NEVER};
use super::ledger::Ledger;
use super::{Amount, Ms};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Balance {
    pub unit: UnitId,
    pub debt: Amount,
    /// Remaining of the grants in front that have no group.
    usable: Amount,
    /// Remaining of all grants that have not closed.
    pub held: Amount,
    grants: SmallVec<[Grant; 1]>,
    /// How many of `grants` are in front.
    front: u32,
    /// Earliest end of a grant in front; [`NEVER`] if there is none.
    pub next_expiry: Ms,
    /// Earliest end of a grant behind; [`NEVER`] if there is none.
    next_close: Ms,
    /// Latest end of a grant behind of which something is left.
    ended_until: Ms,
    /// What was told of the thresholds, by their place in the list that applies.
    pub low_told: u32,
    /// Whether it was exhausted when last looked at, and whether that was told.
    pub exhausted: bool,
    pub exhausted_told: bool,
}

/// A draw from one unit.
pub(crate) struct Draw<H> {
    pub amount: Amount,
    /// The effective time.
    pub at: Ms,
    pub forgive: bool,
    /// Whether a group holds for what is drawn for.
    pub holds: H,
}

impl Balance {
    pub fn new(unit: UnitId) -> Balance {
        Balance {
            unit,
            debt: Amount::ZERO,
            usable: Amount::ZERO,
            held: Amount::ZERO,
            grants: SmallVec::new(),
            front: 0,
            next_expiry: NEVER,
            next_close: NEVER,
            ended_until: Ms::MIN,
            low_told: 0,
            exhausted: false,
            exhausted_told: false,
        }
    }

    /// From what is stored of its grants; debt and what was told are to be put in.
    pub fn restored(unit: UnitId, mut front: Vec<Grant>, behind: Vec<Grant>) -> Balance {
        front.sort_unstable_by_key(Grant::burn_key);
        let mut balance = Balance { front: front.len() as u32, grants: front.into(), ..Balance::new(unit) };
        balance.usable = balance.grants.iter().filter(|grant| grant.group.is_none()).map(|grant| grant.remaining).sum();
        balance.grants.extend(behind);
        balance.held = balance.grants.iter().map(|grant| grant.remaining).sum();
        balance.look_in_front();
        balance.look_behind();
        balance
    }

    pub fn is_in_front(&self, place: usize) -> bool {
        place < self.front as usize
    }

    pub fn available(&self) -> Amount {
        self.usable - self.debt
    }

    /// What remains of the active grants without a group.
    pub fn usable(&self) -> Amount {
        self.usable
    }

    /// All grants that have not closed.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// When the next grant closes.
    pub fn closes_at(&self, late_ms: i64) -> Option<Ms> {
        (self.next_close != NEVER).then(|| self.next_close.saturating_add(late_ms))
    }

    /// Takes in a new grant, which pays debt first if it has no group. Gives what it paid.
    pub fn issue(&mut self, mut grant: Grant, now: Ms, ledger: &mut Ledger) -> Amount {
        let paid = if grant.group.is_none() { self.debt.min(grant.amount) } else { Amount::ZERO };
        let entry = ledger.entry(self);
        entry.granted += grant.amount;
        entry.debt_paid += paid;
        self.debt -= paid;
        grant.remaining = grant.amount - paid;
        self.held += grant.remaining;
        self.place(grant, now);
        paid
    }

    /// Draws in burn order; what no grant can pay becomes debt, or is given back as overage.
    pub fn draw(&mut self, draw: Draw<impl Fn(GroupId) -> bool>, ledger: &mut Ledger) -> Amount {
        let entry = ledger.entry(self);
        entry.charged += draw.amount;
        let left = if draw.at < self.ended_until { self.draw_late(&draw) } else { self.draw_front(&draw) };
        let drawn = draw.amount - left;
        self.held -= drawn;
        entry.drawn += drawn;
        if draw.forgive {
            entry.overage += left;
            return left;
        }
        entry.debt_raised += left;
        self.debt += left;
        Amount::ZERO
    }

    /// Moves grants that have ended behind. Whether there were any.
    pub fn expire(&mut self, now: Ms) -> bool {
        if now < self.next_expiry {
            return false;
        }
        self.sort_out(|grant| grant.expires_at <= now);
        true
    }

    /// Ends the grants of a period at `at`: those that would have lasted longer too, which `cuts_short` says was not their
    /// end.
    pub fn end_period(&mut self, period: u32, at: Ms, cuts_short: bool) {
        for grant in &mut self.grants {
            if grant.period == period && grant.ended == Ended::No {
                let is_cut = cuts_short && grant.expires_at > at;
                grant.ended = if is_cut { Ended::CutShort } else { Ended::WithItsPeriod };
                grant.expires_at = grant.expires_at.min(at);
            }
        }
        self.sort_out(|grant| grant.period == period && grant.expires_at <= at);
        self.look_behind();
    }

    /// Takes out the grants that close by `now`.
    pub fn close(&mut self, now: Ms, late_ms: i64, ledger: &mut Ledger) -> Vec<Grant> {
        let is_due = |grant: &Grant| grant.expires_at != NEVER && grant.expires_at.saturating_add(late_ms) <= now;
        let behind = self.grants.drain(self.front as usize..);
        let (closed, kept): (Vec<Grant>, Vec<Grant>) = behind.into_iter().partition(is_due);
        self.grants.extend(kept);
        let unused: Amount = closed.iter().map(|grant| grant.remaining).sum();
        ledger.entry(self).unused += unused;
        self.held -= unused;
        self.look_behind();
        closed
    }

    /// Takes out the grant with this number. Gives it, and whether it was active.
    pub fn void(&mut self, number: u64, ledger: &mut Ledger) -> Option<(Grant, bool)> {
        let at = self.grants.iter().position(|grant| grant.number == number)?;
        let was_active = at < self.front as usize;
        ledger.entry(self).voided += self.grants[at].remaining;
        let grant = self.grants.remove(at);
        self.held -= grant.remaining;
        if was_active {
            self.front -= 1;
            if grant.group.is_none() {
                self.usable -= grant.remaining;
            }
            self.look_in_front();
        }
        self.look_behind();
        Some((grant, was_active))
    }

    /// Takes up to `most` out of the grants behind that `which` names, in burn order: it rolls over.
    pub fn roll_over(&mut self, most: Amount, ledger: &mut Ledger, which: impl Fn(&Grant) -> bool) -> Amount {
        let front = self.front as usize;
        let mut order: Vec<usize> = (front..self.grants.len()).filter(|at| which(&self.grants[*at])).collect();
        order.sort_unstable_by_key(|at| self.grants[*at].burn_key());
        let mut moved = Amount::ZERO;
        for at in order {
            let taken = self.grants[at].remaining.min(most - moved);
            self.grants[at].remaining -= taken;
            moved += taken;
        }
        ledger.entry(self).rolled_over += moved;
        self.held -= moved;
        self.look_behind();
        moved
    }

    /// Puts the groups of a changed catalog in the place of their former ids.
    pub fn rename_groups(&mut self, renamed: impl Fn(GroupId) -> GroupId) {
        for grant in &mut self.grants {
            grant.group = grant.group.map(&renamed);
        }
    }

    /// Everything in burn order.
    pub fn in_burn_order(&self) -> Vec<&Grant> {
        let mut list: Vec<&Grant> = self.grants.iter().collect();
        list.sort_unstable_by_key(|grant| grant.burn_key());
        list
    }

    fn place(&mut self, grant: Grant, now: Ms) {
        let front = self.front as usize;
        if grant.is_active(now) && grant.remaining.is_positive() {
            if grant.group.is_none() {
                self.usable += grant.remaining;
            }
            self.next_expiry = self.next_expiry.min(grant.expires_at);
            let key = grant.burn_key();
            let at = self.grants[..front].partition_point(|other| other.burn_key() < key);
            self.grants.insert(at, grant);
            self.front += 1;
        } else if !grant.is_over() {
            self.put_behind(grant);
        }
    }

    fn put_behind(&mut self, grant: Grant) {
        self.next_close = self.next_close.min(grant.expires_at);
        if grant.remaining.is_positive() {
            self.ended_until = self.ended_until.max(grant.expires_at);
        }
        self.grants.push(grant);
    }

    /// The usual draw: from what is in front. Gives what is left to pay.
    fn draw_front(&mut self, draw: &Draw<impl Fn(GroupId) -> bool>) -> Amount {
        let mut left = draw.amount;
        let mut used_up = false;
        for grant in &mut self.grants[..self.front as usize] {
            if left.is_zero() {
                break;
            }
            if grant.effective_at > draw.at || grant.group.is_some_and(|group| !(draw.holds)(group)) {
                continue;
            }
            let taken = grant.remaining.min(left);
            grant.remaining -= taken;
            left -= taken;
            if grant.group.is_none() {
                self.usable -= taken;
            }
            used_up |= grant.remaining.is_zero();
        }
        if used_up {
            self.sort_out(|grant| grant.remaining.is_zero());
        }
        left
    }

    /// The draw of a record so late that something behind may have been active then.
    fn draw_late(&mut self, draw: &Draw<impl Fn(GroupId) -> bool>) -> Amount {
        let fits = |grant: &Grant| {
            grant.remaining.is_positive()
                && grant.is_active(draw.at)
                && grant.group.is_none_or(|group| (draw.holds)(group))
        };
        let mut order: Vec<usize> = (0..self.grants.len()).filter(|at| fits(&self.grants[*at])).collect();
        order.sort_unstable_by_key(|at| self.grants[*at].burn_key());
        let mut left = draw.amount;
        for at in order {
            let grant = &mut self.grants[at];
            let taken = grant.remaining.min(left);
            grant.remaining -= taken;
            left -= taken;
            if at < self.front as usize && grant.group.is_none() {
                self.usable -= taken;
            }
        }
        self.sort_out(|grant| grant.remaining.is_zero());
        self.look_behind();
        left
    }

    /// Takes the grants that `leaves` names out of the front.
    fn sort_out(&mut self, leaves: impl Fn(&Grant) -> bool) {
        let all = std::mem::take(&mut self.grants);
        let mut behind = Vec::new();
        for (at, grant) in all.into_iter().enumerate() {
            if at < self.front as usize && !leaves(&grant) {
                self.grants.push(grant);
                continue;
            }
            if at < self.front as usize && grant.group.is_none() {
                self.usable -= grant.remaining;
            }
            if !grant.is_over() {
                behind.push(grant);
            }
        }
        self.front = self.grants.len() as u32;
        self.grants.extend(behind);
        self.look_behind();
        self.look_in_front();
    }

    fn look_in_front(&mut self) {
        let front = &self.grants[..self.front as usize];
        self.next_expiry = front.iter().map(|grant| grant.expires_at).min().unwrap_or(NEVER);
    }

    fn look_behind(&mut self) {
        let behind = &self.grants[self.front as usize..];
        self.next_close = behind.iter().map(|grant| grant.expires_at).min().unwrap_or(NEVER);
        let ends = behind.iter().filter(|grant| grant.remaining.is_positive()).map(|grant| grant.expires_at);
        self.ended_until = ends.max().unwrap_or(Ms::MIN);
    }
}
