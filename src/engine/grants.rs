//! Grants: what they are, and the order in which they burn (docs/reference.md 6.7, 7.1, 7.2).

use compact_str::CompactString;

use super::catalog::{Catalog, GroupId, UnitId};
use super::effects::{Body, ExpiryReason, GrantExpired, GrantIssued};
use super::{Amount, Ms};

/// Of a grant that never expires.
pub(crate) const NEVER: Ms = Ms::MAX;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Grant {
    /// `g1`, `g2`, ...: the number.
    pub number: u64,
    pub name: CompactString,
    /// The id of the command that issued it.
    pub reference: Option<Box<str>>,
    pub amount: Amount,
    pub remaining: Amount,
    pub effective_at: Ms,
    /// [`NEVER`], or after `effective_at` unless it was cut short there.
    pub expires_at: Ms,
    pub priority: u16,
    pub group: Option<GroupId>,
    /// The period whose end ends it: a grant of the plan, a rollover, an upgrade credit. 0: none.
    pub period: u32,
    pub ended: Ended,
}

/// What ended a grant of a period. It ends once, also where its period had no length and counts into the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Ended {
    /// Nothing yet, or its own expiry.
    No,
    WithItsPeriod,
    /// Its end was moved to where its plan ended.
    CutShort,
}

impl Grant {
    /// Grants burn in the order of these keys: lower priority, earlier expiry, with a group before without, earlier
    /// start, earlier issue.
    pub fn burn_key(&self) -> (u16, Ms, bool, Ms, u64) {
        (self.priority, self.expires_at, self.group.is_none(), self.effective_at, self.number)
    }

    pub fn is_active(&self, at: Ms) -> bool {
        self.effective_at <= at && at < self.expires_at
    }

    pub fn is_of_period(&self) -> bool {
        self.period != 0
    }

    /// Whether it left the account when it was used up: one without an end has nothing to wait for.
    pub fn is_over(&self) -> bool {
        self.remaining.is_zero() && self.expires_at == NEVER
    }

    pub fn expires(&self) -> Option<Ms> {
        (self.expires_at != NEVER).then_some(self.expires_at)
    }

    pub fn issued(&self, catalog: &Catalog, unit: UnitId, debt_paid: Amount) -> Body {
        Body::GrantIssued(GrantIssued {
            grant: self.number,
            reference: self.reference.clone(),
            name: self.name.as_str().into(),
            unit: catalog.units[usize::from(unit)].name.clone(),
            amount: self.amount,
            priority: self.priority,
            group: self.group.map(|group| catalog.groups[usize::from(group)].name.clone()),
            effective_at: self.effective_at,
            expires_at: self.expires(),
            debt_paid,
        })
    }

    /// What is told when it closes at the end of its life.
    pub fn expired(&self, catalog: &Catalog, unit: UnitId) -> Body {
        let reason = match (self.ended, self.is_of_period()) {
            (Ended::CutShort, _) => ExpiryReason::Cancelled,
            (_, true) => ExpiryReason::Period,
            (_, false) => ExpiryReason::Expiry,
        };
        self.told(catalog, unit, self.expires_at, reason)
    }

    pub fn voided(&self, catalog: &Catalog, unit: UnitId, now: Ms) -> Body {
        self.told(catalog, unit, now, ExpiryReason::Voided)
    }

    fn told(&self, catalog: &Catalog, unit: UnitId, expired_at: Ms, reason: ExpiryReason) -> Body {
        Body::GrantExpired(GrantExpired {
            grant: self.number,
            reference: self.reference.clone(),
            name: self.name.as_str().into(),
            unit: catalog.units[usize::from(unit)].name.clone(),
            amount: self.amount,
            unused: self.remaining,
            expired_at,
            reason,
        })
    }
}
