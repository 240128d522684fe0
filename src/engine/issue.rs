//! Issuing and voiding grants.

use super::account::State;
use super::catalog::{GroupId, UnitId};
use super::changes::{Stage, Step};
use super::grants::{Ended, Grant, NEVER};
use super::period::add_to;
use super::{Amount, Ms};

/// A grant to be issued; its number and what remains of it come from the account.
#[derive(Debug)]
pub(crate) struct NewGrant {
    pub unit: UnitId,
    pub name: Box<str>,
    pub reference: Option<Box<str>>,
    pub amount: Amount,
    pub priority: u16,
    pub effective_at: Ms,
    /// `None`: never.
    pub expires_at: Option<Ms>,
    pub group: Option<GroupId>,
    /// The period whose end ends it; 0: none.
    pub period: u32,
}

pub(crate) fn times(amount: Amount, seats: u32) -> Amount {
    Amount::from_nanos(amount.nanos() * i128::from(seats))
}

impl NewGrant {
    /// One that ends with the current period.
    pub fn of_period(
        state: &State,
        unit: UnitId,
        name: &str,
        amount: Amount,
        priority: u16,
        effective_at: Ms,
    ) -> NewGrant {
        NewGrant {
            unit,
            name: name.into(),
            reference: None,
            amount,
            priority,
            effective_at,
            expires_at: state.period.span.end,
            group: None,
            period: state.period.number,
        }
    }
}

impl State {
    /// Grants that have not closed.
    pub fn grants_open(&self) -> usize {
        self.balances.iter().map(|balance| balance.grants().len()).sum()
    }

    pub fn issue(&mut self, step: &mut Step<'_>, new: NewGrant) {
        self.grants_issued += 1;
        let grant = Grant {
            number: self.grants_issued,
            name: new.name.as_ref().into(),
            reference: new.reference,
            amount: new.amount,
            remaining: new.amount,
            effective_at: new.effective_at,
            expires_at: new.expires_at.unwrap_or(NEVER),
            priority: new.priority,
            group: new.group,
            period: new.period,
            ended: Ended::No,
        };
        let unit = new.unit;
        let in_pool = step.catalog.plans[usize::from(self.plan)].unit == Some(unit)
            && grant.group.is_none()
            && grant.is_active(step.now);
        let paid = self.balance_mut(unit).issue(grant.clone(), step.now, &mut step.changes.ledger);
        if in_pool {
            step.pool_moves(self);
            self.pool += grant.amount - paid;
        }
        self.raise_bulk(grant.amount);
        add_to(&mut self.period.sums_mut().granted, unit, grant.amount);
        self.rearm_autopay(unit);
        step.changes.tell(Stage::Account, grant.issued(step.catalog, unit, paid));
    }

    /// The grant that a command names: by its id, else the oldest open one with that reference.
    pub fn named_grant(&self, text: &str) -> Option<u64> {
        let open = || self.balances.iter().flat_map(|balance| balance.grants());
        let number =
            text.strip_prefix('g').filter(|digits| !digits.starts_with(['0', '+'])).and_then(|n| n.parse().ok());
        let by_id = number.filter(|number| open().any(|grant| grant.number == *number));
        let referenced = || open().filter(|grant| grant.reference.as_deref() == Some(text)).map(|grant| grant.number);
        by_id.or_else(|| referenced().min())
    }

    /// What remains of an open grant is gone, and it closes.
    pub fn void(&mut self, step: &mut Step<'_>, number: u64) {
        let plan_unit = step.catalog.plans[usize::from(self.plan)].unit;
        let ledger = &mut step.changes.ledger;
        let found = self.balances.iter_mut().find_map(|balance| {
            let (grant, was_active) = balance.void(number, ledger)?;
            Some((balance.unit, grant, was_active))
        });
        let Some((unit, grant, was_active)) = found else { return };
        if was_active && grant.group.is_none() && plan_unit == Some(unit) {
            step.pool_moves(self);
            self.pool -= grant.remaining;
        }
        if grant.remaining.is_positive() {
            step.changes.tell(Stage::Account, grant.voided(step.catalog, unit, step.now));
        }
    }

    /// Notes an amount that came in: no sum of the account is above all of these together.
    pub fn raise_bulk(&mut self, amount: Amount) {
        let sum = self.bulk.nanos().saturating_add(amount.nanos());
        self.bulk = Amount::from_nanos(sum.min(i128::MAX / 2));
    }
}
