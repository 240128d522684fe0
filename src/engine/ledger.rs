//! Conservation, checked on the changes of every input (docs/reference.md 11.3): what the input moved, against what its
//! balances hold afterwards.

use super::Amount;
use super::balance::Balance;
use super::catalog::UnitId;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
}

/// What one input moved in one unit.
#[derive(Debug)]
pub(crate) struct Entry {
    unit: UnitId,
    held_before: Amount,
    debt_before: Amount,
    pub granted: Amount,
    /// Charges and negative adjustments.
    pub charged: Amount,
    pub drawn: Amount,
    pub debt_raised: Amount,
    pub debt_paid: Amount,
    pub overage: Amount,
    pub rolled_over: Amount,
    pub unused: Amount,
    pub voided: Amount,
}

impl Ledger {
    /// The entry of a balance, which is about to change.
    pub fn entry(&mut self, balance: &Balance) -> &mut Entry {
        let index = match self.entries.iter().position(|entry| entry.unit == balance.unit) {
            Some(index) => index,
            None => {
                self.entries.push(Entry::new(balance));
                self.entries.len() - 1
            }
        };
        &mut self.entries[index]
    }

    /// Whether everything that was moved went somewhere; the ledger is empty afterwards.
    pub fn settle(&mut self, balances: &[Balance]) -> bool {
        let kept = self.entries.iter().all(|entry| {
            balances.iter().find(|balance| balance.unit == entry.unit).is_some_and(|balance| entry.holds(balance))
        });
        self.entries.clear();
        kept
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets what was moved: the account is deleted.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

impl Entry {
    fn new(balance: &Balance) -> Entry {
        Entry {
            unit: balance.unit,
            held_before: balance.held,
            debt_before: balance.debt,
            granted: Amount::ZERO,
            charged: Amount::ZERO,
            drawn: Amount::ZERO,
            debt_raised: Amount::ZERO,
            debt_paid: Amount::ZERO,
            overage: Amount::ZERO,
            rolled_over: Amount::ZERO,
            unused: Amount::ZERO,
            voided: Amount::ZERO,
        }
    }

    fn holds(&self, after: &Balance) -> bool {
        let left = self.drawn + self.debt_paid + self.rolled_over + self.unused + self.voided;
        self.granted - left == after.held - self.held_before
            && self.charged == self.drawn + self.debt_raised + self.overage
            && self.debt_raised - self.debt_paid == after.debt - self.debt_before
    }
}
