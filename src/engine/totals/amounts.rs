//! Small maps to amounts, without entries of 0.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::engine::Amount;
use crate::engine::catalog::{QuantityId, UnitId};

/// Which side paid for a record (docs/reference.md 6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Route {
    Plan,
    Payg,
    /// Sent to pay as you go by an exceeded limit or an exhausted balance.
    Overflow,
}

/// Amounts by quantity, in order of first appearance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cells(SmallVec<[(QuantityId, Amount); 2]>);

/// Charged amounts by route and unit. Nearly always there is one, which is kept in place.
#[derive(Clone, Debug, PartialEq)]
pub struct Charges {
    first: Charge,
    more: Option<Box<Further>>,
}

/// Behind a pointer of its own, so that charges of one route and unit are 32 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Further(Vec<Charge>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Charge {
    amount: Amount,
    route: Route,
    unit: UnitId,
}

impl Cells {
    #[inline]
    pub fn add(&mut self, quantity: QuantityId, amount: Amount) {
        match self.0.iter_mut().find(|(known, _)| *known == quantity) {
            Some((_, sum)) => *sum += amount,
            None => self.0.push((quantity, amount)),
        }
    }

    pub fn of(&self, quantity: QuantityId) -> Amount {
        self.0.iter().find(|(known, _)| *known == quantity).map_or(Amount::ZERO, |(_, sum)| *sum)
    }

    pub fn as_slice(&self) -> &[(QuantityId, Amount)] {
        &self.0
    }

    pub fn from_vec(cells: Vec<(QuantityId, Amount)>) -> Cells {
        Cells(cells.into())
    }
}

impl Default for Charges {
    fn default() -> Charges {
        Charges { first: Charge { amount: Amount::ZERO, route: Route::Plan, unit: 0 }, more: None }
    }
}

impl Charges {
    #[inline]
    pub fn add(&mut self, route: Route, unit: UnitId, amount: Amount) {
        if amount.is_zero() {
            return;
        }
        let first = &mut self.first;
        if first.amount.is_zero() {
            *first = Charge { amount, route, unit };
        } else if first.route == route && first.unit == unit {
            first.amount += amount;
        } else {
            let Further(more) = &mut **self.more.get_or_insert_default();
            match more.iter_mut().find(|charge| charge.route == route && charge.unit == unit) {
                Some(charge) => charge.amount += amount,
                None => more.push(Charge { amount, route, unit }),
            }
        }
    }

    pub fn of(&self, route: Route, unit: UnitId) -> Amount {
        let found = self.iter().find(|(of_route, of_unit, _)| *of_route == route && *of_unit == unit);
        found.map_or(Amount::ZERO, |(_, _, amount)| amount)
    }

    /// In order of first appearance, none of them 0.
    pub fn iter(&self) -> impl Iterator<Item = (Route, UnitId, Amount)> + '_ {
        let more = self.more.iter().flat_map(|more| more.0.iter());
        let all = std::iter::once(&self.first).chain(more).filter(|charge| !charge.amount.is_zero());
        all.map(|charge| (charge.route, charge.unit, charge.amount))
    }
}

impl FromIterator<(Route, UnitId, Amount)> for Charges {
    fn from_iter<I: IntoIterator<Item = (Route, UnitId, Amount)>>(items: I) -> Charges {
        let mut charges = Charges::default();
        items.into_iter().for_each(|(route, unit, amount)| charges.add(route, unit, amount));
        charges
    }
}
