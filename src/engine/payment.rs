//! Payments and grace (docs/reference.md 7.4).

use super::account::State;
use super::changes::{Stage, Step};
use super::effects::{Body, ChangeReason};
use super::subscription::plan_of;

impl State {
    /// `payment.failed` of a plan that has a price: grace, or the default plan at once where none is due.
    pub fn payment_failed(&mut self, step: &mut Step<'_>) {
        if self.grace_until().is_some() {
            return;
        }
        match plan_of(step.catalog, self.plan).grace_ms.filter(|_| self.paid_before) {
            Some(grace_ms) => {
                let until = step.now.saturating_add(grace_ms);
                self.rare_mut().grace_until = Some(until);
                step.changes.tell(Stage::Account, Body::GraceStarted { until });
            }
            None => self.fall_to(step, step.catalog.default_plan, ChangeReason::PaymentFailed),
        }
    }

    /// `payment.succeeded`: ends grace, and issues what a turn in grace withheld.
    pub fn payment_succeeded(&mut self, step: &mut Step<'_>) {
        self.paid_before |= self.own_price(step.catalog).is_some_and(|price| price.amount.is_positive());
        let withheld = self.rare.as_mut().and_then(|rare| rare.withheld.take());
        self.end_grace(step);
        let Some(withheld) = withheld else { return };
        self.issue_plan_grants(step, withheld.plan, withheld.seats);
        if let Some(former_start) = withheld.rollover_from {
            self.issue_rollovers(step, withheld.plan, withheld.seats, former_start);
        }
    }

    /// Grace is over, and nothing was paid.
    pub fn end_grace_unpaid(&mut self, step: &mut Step<'_>) {
        self.fall_to(step, step.catalog.default_plan, ChangeReason::PaymentFailed);
    }

    /// Ends grace, if there is any. What it withheld is not issued any more, unless the caller has taken it.
    pub fn end_grace(&mut self, step: &mut Step<'_>) {
        let Some(rare) = self.rare.as_mut().filter(|rare| rare.grace_until.is_some()) else { return };
        rare.grace_until = None;
        rare.withheld = None;
        step.changes.tell(Stage::Account, Body::GraceEnded);
    }
}
