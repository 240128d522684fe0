//! Refunds: what a quote goes by, and booking one (docs/reference.md 7.5).

use super::account::State;
use super::catalog::Catalog;
use super::changes::{Stage, Step};
use super::effects::{Body, ChangeReason, NoRefund, RefundQuote};
use super::exact::scaled_half_up;
use super::subscription::plan_of;
use super::{Amount, Ms};

impl State {
    /// `refund.request`.
    pub fn quote_refund(&mut self, step: &mut Step<'_>) {
        let quote = self.refund_quote(step.catalog, step.now);
        step.changes.tell(Stage::Answer, Body::RefundQuoted(quote));
    }

    /// `refund.completed` of a plan that can be refunded: books it, and moves to the plan that follows.
    pub fn complete_refund(&mut self, step: &mut Step<'_>, amount: Amount) {
        let refund = plan_of(step.catalog, self.plan).refund.as_ref();
        let then = refund.expect("a completed refund is of a plan that has one").then;
        self.subscription.refunded += amount;
        self.fall_to(step, then, ChangeReason::Refunded);
    }

    fn refund_quote(&self, catalog: &Catalog, now: Ms) -> RefundQuote {
        let plan = plan_of(catalog, self.plan);
        let currency = plan.price.map(|price| &catalog.currencies[usize::from(price.currency)]);
        let decimals = currency.map_or(9, |currency| currency.decimals);
        let (paid, usage, refunded) = (self.paid_so_far(now), self.subscription.usage, self.subscription.refunded);
        let reason = match &plan.refund {
            None => Some(NoRefund::NoRefund),
            Some(refund) if now - self.subscription.start > refund.within_ms => Some(NoRefund::TooLate),
            Some(_) if usage > paid => Some(NoRefund::UsedUp),
            Some(_) => None,
        };
        let (mut amount, mut fee) = (Amount::ZERO, Amount::ZERO);
        if let (None, Some(refund)) = (reason, &plan.refund) {
            let left = (paid - usage - refunded).max(Amount::ZERO);
            let percent = refund.fee.unwrap_or_default();
            let hundred = Amount::whole(100);
            amount = scaled_half_up(left, (hundred - percent).nanos(), hundred.nanos(), decimals);
            fee = scaled_half_up(left, percent.nanos(), hundred.nanos(), decimals);
        }
        let currency = currency.map(|currency| currency.name.clone());
        RefundQuote { eligible: reason.is_none(), reason, paid, usage, refunded, fee, amount, currency }
    }

    /// The start's price until the first billing cycle ends, and the prorations of the present cycle.
    fn paid_so_far(&self, now: Ms) -> Amount {
        let subscription = &self.subscription;
        let cycle = self.cycle(now);
        let first = self.cycle(subscription.start);
        let started = if first.contains(now) { subscription.paid } else { Amount::ZERO };
        let prorated = if subscription.prorated_cycle == cycle.start { subscription.prorations } else { Amount::ZERO };
        started + prorated
    }
}
