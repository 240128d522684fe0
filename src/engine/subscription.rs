//! Subscriptions: starts, changes at once and in waiting, cancellations (docs/reference.md 7.3).

use super::account::{Pending, Price, State, Subscription};
use super::calendar::{Span, cycle_at, period_at};
use super::catalog::{Catalog, Plan, PlanId, UpgradeCredits};
use super::changes::{Stage, Step};
use super::effects::{Body, ChangeReason, Proration, SubscriptionChanged};
use super::exact::{proportion_half_up, scaled_down};
use super::input::Interval;
use super::issue::{NewGrant, times};
use super::{Amount, Ms};

/// What an account moves to.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub plan: PlanId,
    pub seats: u32,
    pub billing: Interval,
    pub reason: ChangeReason,
}

pub(crate) fn plan_of(catalog: &Catalog, plan: PlanId) -> &Plan {
    &catalog.plans[usize::from(plan)]
}

/// What a subscription costs for its billing interval; `None` if it is free.
pub(crate) fn price_of(catalog: &Catalog, plan: PlanId, seats: u32, billing: Interval) -> Option<Price> {
    let plan = plan_of(catalog, plan);
    let price = plan.price?;
    let amount = match billing {
        Interval::Month => price.month?,
        Interval::Year => price.year?,
    };
    let amount = if plan.per_seat { times(amount, seats) } else { amount };
    Some(Price { amount, currency: price.currency })
}

/// The plan's grants for a period.
fn granted_by(plan: &Plan, seats: u32) -> Amount {
    let sum = plan.grants.iter().map(|grant| grant.amount).sum();
    if plan.per_seat { times(sum, seats) } else { sum }
}

fn amount_of(price: Option<Price>) -> Amount {
    price.map_or(Amount::ZERO, |price| price.amount)
}

impl State {
    pub fn own_price(&self, catalog: &Catalog) -> Option<Price> {
        price_of(catalog, self.plan, self.seats, self.billing)
    }

    /// The billing cycle at `now`.
    pub fn cycle(&self, now: Ms) -> Span {
        let months = match self.billing {
            Interval::Month => 1,
            Interval::Year => 12,
        };
        cycle_at(months, self.anchor, now)
    }

    /// `subscription.start` of an account that exists.
    pub fn start(&mut self, step: &mut Step<'_>, to: Move, at: Ms, paid: bool) {
        self.drop_pending(step);
        self.end_grace(step);
        self.end_period(step.now, true);
        self.move_to(step, to, at, None);
        self.begin_subscription(step, at, paid);
    }

    /// The first period of a subscription that counts from `at`.
    pub fn begin_subscription(&mut self, step: &mut Step<'_>, at: Ms, paid: bool) {
        let price = amount_of(self.own_price(step.catalog));
        self.begin_anchor(at);
        if paid {
            self.subscription.paid = price;
            self.paid_before |= price.is_positive();
        }
        let plan = plan_of(step.catalog, self.plan);
        let span = period_at(plan.period, plan.ends_after_ms, self.anchor, step.now);
        self.enter_period(step, span);
        self.issue_plan_grants(step, self.plan, self.seats);
    }

    /// To another plan at once and anew, by something that is neither a start nor a change: its seats, billed by the month.
    pub fn fall_to(&mut self, step: &mut Step<'_>, plan: PlanId, reason: ChangeReason) {
        self.drop_pending(step);
        self.end_grace(step);
        self.end_period(step.now, true);
        let seats = plan_of(step.catalog, plan).seats;
        self.move_to(step, Move { plan, seats, billing: Interval::Month, reason }, step.now, None);
        self.begin_subscription(step, step.now, false);
    }

    /// A new anchor is a new start for refunds, of which nothing is paid yet.
    pub fn begin_anchor(&mut self, at: Ms) {
        self.anchor = at;
        self.subscription = Subscription { start: at, ..Subscription::default() };
    }

    /// An upgrade, or any change that is to happen at once.
    pub fn upgrade(&mut self, step: &mut Step<'_>, to: Move) {
        let catalog = step.catalog;
        let (old, new) = (plan_of(catalog, self.plan), plan_of(catalog, to.plan));
        let in_place = to.billing == self.billing
            && old.price.is_some() == new.price.is_some()
            && old.period == new.period
            && old.ends_after_ms.is_none()
            && new.ends_after_ms.is_none();
        let proration = self.proration(step, &to, in_place);
        self.drop_pending(step);
        if in_place {
            self.upgrade_in_place(step, to, proration);
            return;
        }
        self.end_grace(step);
        self.end_period(step.now, true);
        let amount = proration.amount;
        self.move_to(step, to, step.now, Some(proration));
        let price = amount_of(self.own_price(catalog));
        self.begin_subscription(step, step.now, false);
        self.subscription.paid = amount;
        self.paid_before |= price.is_positive();
        self.period.prorations += amount;
    }

    fn upgrade_in_place(&mut self, step: &mut Step<'_>, to: Move, proration: Proration) {
        let catalog = step.catalog;
        let (old, new) = (plan_of(catalog, self.plan), plan_of(catalog, to.plan));
        let credits = self.upgrade_credits(step, &to);
        let cycle = self.cycle(step.now);
        let amount = proration.amount;
        self.move_to(step, to, step.now, Some(proration));
        self.period.prorations += amount;
        self.period.priced |= new.price.is_some();
        if self.subscription.prorated_cycle != cycle.start {
            self.subscription.prorated_cycle = cycle.start;
            self.subscription.prorations = Amount::ZERO;
        }
        self.subscription.prorations += amount;
        self.paid_before |= amount_of(self.own_price(catalog)).is_positive();
        if old.unit != new.unit {
            self.refill_pool(step);
        }
        if let (true, Some(unit), Some(first)) = (credits.is_positive(), new.unit, new.grants.first()) {
            self.issue(step, NewGrant::of_period(self, unit, &first.name, credits, first.priority, step.now));
        }
    }

    /// What the rest of the billing cycle costs more.
    fn proration(&self, step: &Step<'_>, to: &Move, in_place: bool) -> Proration {
        let catalog = step.catalog;
        let old = self.own_price(catalog);
        let new = price_of(catalog, to.plan, to.seats, to.billing);
        let cycle = self.cycle(step.now);
        let end = cycle.end.expect("a billing cycle has an end");
        let (remaining_ms, cycle_ms) = (end - step.now, end - cycle.start);
        let currency = new.or(old).map(|price| &catalog.currencies[usize::from(price.currency)]);
        let weight = if in_place { remaining_ms } else { cycle_ms };
        let rest = (amount_of(new), i128::from(weight));
        let given_back = (amount_of(old), i128::from(remaining_ms));
        let decimals = currency.map_or(0, |currency| currency.decimals);
        let amount = proportion_half_up(rest, given_back, i128::from(cycle_ms), decimals);
        let currency = currency.map(|currency| currency.name.clone());
        Proration { amount: amount.max(Amount::ZERO), currency, remaining_ms, cycle_ms }
    }

    fn upgrade_credits(&self, step: &Step<'_>, to: &Move) -> Amount {
        let catalog = step.catalog;
        let (old, new) = (plan_of(catalog, self.plan), plan_of(catalog, to.plan));
        let price = amount_of(price_of(catalog, to.plan, to.seats, to.billing));
        let Some(unit) = new.unit.filter(|_| price >= amount_of(self.own_price(catalog))) else { return Amount::ZERO };
        let before = if old.unit == Some(unit) { granted_by(old, self.seats) } else { Amount::ZERO };
        let more = granted_by(new, to.seats) - before;
        match (new.upgrade_credits, self.period.span.end) {
            _ if !more.is_positive() => Amount::ZERO,
            (UpgradeCredits::None, _) => Amount::ZERO,
            (UpgradeCredits::Difference, _) | (UpgradeCredits::Prorated, None) => more,
            (UpgradeCredits::Prorated, Some(end)) => {
                let length = end - self.period.span.start;
                let scale = catalog.units[usize::from(unit)].scale;
                scaled_down(more, i128::from(end - step.now), i128::from(length), scale)
            }
        }
    }

    /// Makes a change wait; it replaces one that waits already.
    pub fn wait(&mut self, step: &mut Step<'_>, to: &Move, effective_at: Ms, cancels: bool) {
        let Move { plan, seats, billing, .. } = *to;
        self.rare_mut().pending = Some(Pending { plan, seats, billing, effective_at, cancels });
        let from = plan_of(step.catalog, self.plan).name.clone();
        let to = Some(plan_of(step.catalog, plan).name.clone());
        let (seats, billing, effective_at) = (Some(seats), Some(billing), Some(effective_at));
        let body = Body::SubscriptionPending { from, to, seats, billing, effective_at };
        step.changes.tell(Stage::Account, body);
    }

    /// The first end of a period at or after the end of the billing cycle. On an endless free plan nothing waits.
    pub fn waits_until(&self, step: &Step<'_>) -> Option<Ms> {
        let plan = plan_of(step.catalog, self.plan);
        let cycle_end = self.cycle(step.now).end.expect("a billing cycle has an end");
        Some(match self.period.span.end {
            Some(end) if plan.price.is_none() || plan.ends_after_ms.is_some() || end >= cycle_end => end,
            Some(_) => {
                let after = period_at(plan.period, None, self.anchor, cycle_end);
                if after.start == cycle_end { cycle_end } else { after.end.unwrap_or(cycle_end) }
            }
            None if plan.price.is_none() => return None,
            None => cycle_end,
        })
    }

    /// Drops what waits, unapplied.
    pub fn drop_pending(&mut self, step: &mut Step<'_>) -> bool {
        let dropped = self.rare.as_mut().and_then(|rare| rare.pending.take()).is_some();
        if dropped {
            let from = plan_of(step.catalog, self.plan).name.clone();
            let body = Body::SubscriptionPending { from, to: None, seats: None, billing: None, effective_at: None };
            step.changes.tell(Stage::Account, body);
        }
        dropped
    }

    /// Changes the plan. Periods and grants are the caller's.
    pub fn move_to(&mut self, step: &mut Step<'_>, to: Move, effective_at: Ms, proration: Option<Proration>) {
        let catalog = step.catalog;
        let from = plan_of(catalog, self.plan).name.clone();
        self.end_overflows(step, |_, _| true);
        self.keep_limits(step, catalog, (self.plan, to.plan));
        (self.plan, self.seats, self.billing) = (to.plan, to.seats, to.billing);
        self.arm_all(catalog);
        self.users.change_plan();
        if let Some(rare) = &mut self.rare {
            rare.denied.clear();
        }
        step.changes.plan_changed = true;
        self.tell_changed(step, Some(from), to.reason, effective_at, proration);
    }

    pub fn tell_changed(
        &self,
        step: &mut Step<'_>,
        from: Option<Box<str>>,
        reason: ChangeReason,
        effective_at: Ms,
        proration: Option<Proration>,
    ) {
        let to = plan_of(step.catalog, self.plan).name.clone();
        let (seats, billing) = (self.seats, self.billing);
        let changed = SubscriptionChanged { from, to, reason, seats, billing, effective_at, proration };
        step.changes.tell(Stage::Account, Body::SubscriptionChanged(changed));
    }
}
