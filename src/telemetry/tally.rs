//! What a batch did, in plain integers: dispositions by outcome and reason, notices by type.

use crate::engine::{Body, Outcome, Reason, Rejection};

/// Types of notices without `meterd.`, in the order of docs/reference.md 9.
pub const NOTICE_TYPES: [&str; 20] = [
    "cap.warning",
    "cap.exceeded",
    "cap.restored",
    "balance.low",
    "balance.exhausted",
    "balance.restored",
    "overflow.started",
    "overflow.ended",
    "access.denied",
    "grant.issued",
    "grant.expired",
    "subscription.changed",
    "subscription.pending",
    "period.closed",
    "autopay.requested",
    "session.closed",
    "refund.quoted",
    "grace.started",
    "grace.ended",
    "command.rejected",
];

pub const REJECTIONS: [Rejection; 17] = [
    Rejection::UnknownPlan,
    Rejection::UnknownUnit,
    Rejection::UnknownPack,
    Rejection::UnknownGroup,
    Rejection::UnknownLimit,
    Rejection::UnknownGrant,
    Rejection::NothingDue,
    Rejection::NothingToCancel,
    Rejection::AtInFuture,
    Rejection::InGrace,
    Rejection::BelowMinimum,
    Rejection::BadValue,
    Rejection::NoPrice,
    Rejection::NotRefundable,
    Rejection::NoChange,
    Rejection::TooManyUsers,
    Rejection::TooManyGrants,
];

/// The outcomes without a reason.
pub const PLAIN_OUTCOMES: [&str; 3] = ["applied", "duplicate", "failed"];

/// Counts of one batch. `Default` is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// In the order of [`PLAIN_OUTCOMES`].
    pub plain: [u64; PLAIN_OUTCOMES.len()],
    /// In the order of [`REJECTIONS`].
    pub rejected: [u64; REJECTIONS.len()],
    /// In the order of [`Reason::ALL`].
    pub quarantined: [u64; Reason::ALL.len()],
    /// In the order of [`NOTICE_TYPES`].
    pub notices: [u64; NOTICE_TYPES.len()],
    pub conservation_violations: u64,
}

impl Tally {
    pub fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Applied => self.plain[0] += 1,
            Outcome::Duplicate => self.plain[1] += 1,
            Outcome::Failed => self.plain[2] += 1,
            Outcome::Rejected(rejection) => self.rejected[*rejection as usize] += 1,
            Outcome::Refused(refusal) => self.quarantined[refusal.reason as usize] += 1,
        }
    }

    pub fn notice(&mut self, body: &Body) {
        self.notices[notice_index(body)] += 1;
    }

    /// Records disposed of; must equal the records consumed (docs/reference.md 11.1).
    pub fn records(&self) -> u64 {
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        sum(&self.plain) + sum(&self.rejected) + sum(&self.quarantined)
    }
}

fn notice_index(body: &Body) -> usize {
    match body {
        Body::CapWarning(_) => 0,
        Body::CapExceeded(_) => 1,
        Body::CapRestored(_) => 2,
        Body::BalanceLow(_) => 3,
        Body::BalanceExhausted(_) => 4,
        Body::BalanceRestored(_) => 5,
        Body::OverflowStarted { .. } => 6,
        Body::OverflowEnded { .. } => 7,
        Body::AccessDenied { .. } => 8,
        Body::GrantIssued(_) => 9,
        Body::GrantExpired(_) => 10,
        Body::SubscriptionChanged(_) => 11,
        Body::SubscriptionPending { .. } => 12,
        Body::PeriodClosed { .. } => 13,
        Body::AutopayRequested { .. } => 14,
        Body::SessionClosed { .. } => 15,
        Body::RefundQuoted(_) => 16,
        Body::GraceStarted { .. } => 17,
        Body::GraceEnded => 18,
        Body::CommandRejected { .. } => 19,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::effects::Refusal;

    #[test]
    fn every_disposition_is_counted_at_its_own_place() {
        let mut tally = Tally::default();
        for rejection in REJECTIONS {
            tally.outcome(&Outcome::Rejected(rejection));
        }
        for reason in Reason::ALL {
            tally.outcome(&Outcome::Refused(Refusal::new(reason, "")));
        }
        for outcome in [Outcome::Applied, Outcome::Duplicate, Outcome::Failed] {
            tally.outcome(&outcome);
        }
        assert_eq!(tally.rejected, [1; REJECTIONS.len()]);
        assert_eq!(tally.quarantined, [1; Reason::ALL.len()]);
        assert_eq!(tally.plain, [1; 3]);
        assert_eq!(tally.records(), 17 + 19 + 3);
    }

    #[test]
    fn notices_are_counted_under_their_type() {
        let mut tally = Tally::default();
        tally.notice(&Body::GraceEnded);
        tally.notice(&Body::OverflowEnded { limit: "5h".into(), unit: "usd".into() });
        let counted: Vec<&str> =
            NOTICE_TYPES.iter().zip(tally.notices).filter(|(_, count)| *count == 1).map(|(name, _)| *name).collect();
        assert_eq!(counted, ["overflow.ended", "grace.ended"]);
    }
}
