//! Commands: judged in the order of docs/reference.md 4, then carried out.

use super::account::{Account, State};
use super::catalog::Catalog;
use super::changes::{Changes, Stage, Step};
use super::effects::{Body, Effects, Outcome, Reason, Refusal, Rejection};
use super::identities::identity;
use super::input::{Change, Command, Interval, When};
use super::step::{Engine, Moment, step};
use super::subscription::{Move, plan_of, price_of};
use super::{Amount, Ms};
use crate::engine::effects::ChangeReason;

/// Why a command cannot be applied, and what was expected and found.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub reason: Rejection,
    pub message: String,
}

pub(crate) type Judged = Result<(), Rejected>;

pub(crate) fn reject<T>(reason: Rejection, message: impl Into<String>) -> Result<T, Rejected> {
    Err(Rejected { reason, message: message.into() })
}

impl Engine {
    /// Folds a command. Timers of the account that are due by the clock fire first, and those it made due after it.
    pub fn command(&mut self, account: &mut Account, input: &Command, at: Moment, fx: &mut Effects) -> Outcome {
        self.prepare(account, at.clock, fx);
        let identity = identity(&input.source, &input.id);
        if account.commands.as_ref().is_some_and(|known| known.contains(identity, at.clock)) {
            return Outcome::Duplicate;
        }
        let (catalogs, changes) = self.parts();
        let mut step = step(catalogs, changes, at.clock);
        let judged = match &mut account.state {
            Some(_) if input.change == Change::AccountDelete => {
                delete(account, &mut step, fx);
                Ok(())
            }
            Some(state) => state.apply(&mut step, input),
            None => match State::made_by(&mut step, input) {
                Ok(state) => {
                    account.state = Some(state);
                    Ok(())
                }
                Err(Unmade::Rejected(rejected)) => Err(rejected),
                Err(Unmade::Unknown) => {
                    let message = format!("expected an account that exists for {}, found none", input.kind);
                    return Outcome::Refused(Refusal::new(Reason::UnknownAccount, message));
                }
            },
        };
        account.commands.get_or_insert_default().insert(identity, at.clock);
        let outcome = match judged {
            Ok(()) => Outcome::Applied,
            Err(Rejected { reason, message }) => {
                tell_rejected(changes, input, reason, message);
                Outcome::Rejected(reason)
            }
        };
        self.finish(account, at.clock, fx);
        outcome
    }
}

fn tell_rejected(changes: &mut Changes, input: &Command, reason: Rejection, message: String) {
    let (command, id) = (input.kind.as_str().into(), input.id.as_str().into());
    changes.tell(Stage::Answer, Body::CommandRejected { command, id, reason, message: message.into() });
}

/// Forgets everything but the sequence of notices and the identities of commands.
fn delete(account: &mut Account, step: &mut Step<'_>, fx: &mut Effects) {
    let Some(mut state) = account.state.take() else { return };
    state.close_all_periods(step);
    let plan = &plan_of(step.catalog, state.plan).name;
    step.changes.emit(&mut account.sequence, Some(plan), step.now, super::Cause::Input, fx);
    step.changes.forget();
    account.due = None;
}

/// Why a command makes no account.
enum Unmade {
    Rejected(Rejected),
    /// It is not one of those that may.
    Unknown,
}

impl State {
    /// The account that a command makes.
    fn made_by(step: &mut Step<'_>, input: &Command) -> Result<Box<State>, Unmade> {
        let made = match &input.change {
            Change::SubscriptionStart { plan, billing, seats, at, paid } => {
                started(step.catalog, plan, *billing, *seats, *at, step.now).map(|(to, at)| {
                    let mut state = Box::new(State::blank(step, to.plan, to.seats, to.billing, at));
                    step.changes.plan_changed = true;
                    state.tell_changed(step, None, ChangeReason::Started, at, None);
                    state.begin_subscription(step, at, *paid);
                    state.start = state.span().start;
                    state
                })
            }
            Change::Topup(_)
            | Change::GrantIssue(_)
            | Change::BalanceAdjust { .. }
            | Change::AccountSet { .. }
            | Change::MemberSet { .. }
            | Change::LimitSet { .. } => {
                let mut state = State::on_default_plan(step, step.now);
                state.apply(step, input).map(|()| state)
            }
            _ => return Err(Unmade::Unknown),
        };
        made.map_err(|rejected| {
            step.changes.forget();
            Unmade::Rejected(rejected)
        })
    }

    /// Applies a command to an account that exists. One that is rejected changes nothing.
    fn apply(&mut self, step: &mut Step<'_>, input: &Command) -> Judged {
        let id = input.id.as_str();
        match &input.change {
            Change::SubscriptionStart { plan, billing, seats, at, paid } => {
                let (to, at) = started(step.catalog, plan, *billing, *seats, *at, step.now)?;
                self.start(step, to, at, *paid);
                Ok(())
            }
            Change::SubscriptionChange { plan, seats, billing, when } => {
                self.change_subscription(step, plan.as_deref(), *seats, *billing, *when)
            }
            Change::SubscriptionCancel { when } => self.cancel(step, *when),
            Change::PaymentSucceeded => {
                self.payment_succeeded(step);
                Ok(())
            }
            Change::PaymentFailed => {
                if plan_of(step.catalog, self.plan).price.is_none() {
                    return reject(Rejection::NothingDue, "expected a plan with a price, found a free one");
                }
                self.payment_failed(step);
                Ok(())
            }
            Change::Topup(topup) => self.top_up(step, id, topup),
            Change::GrantIssue(grant) => self.issue_grant(step, id, grant),
            Change::GrantVoid { grant } => match self.named_grant(grant) {
                Some(number) => {
                    self.void(step, number);
                    Ok(())
                }
                None => reject(
                    Rejection::UnknownGrant,
                    format!("expected the id or reference of a grant that has not closed, found {grant:?}"),
                ),
            },
            Change::BalanceAdjust { unit, amount } => self.adjust(step, id, unit, *amount),
            Change::MemberSet { user, caps, deny } => self.set_member(step, user, caps, deny.as_deref()),
            Change::LimitSet { limit, cap } => self.set_limit(step, limit, *cap),
            Change::AccountSet { class, extra_usage, autopay } => self.set_account(step, class, extra_usage, autopay),
            Change::RefundRequest => {
                self.quote_refund(step);
                Ok(())
            }
            Change::RefundCompleted { amount } => self.refund_completed(step, *amount),
            Change::AccountDelete => Ok(()),
        }
    }

    fn change_subscription(
        &mut self,
        step: &mut Step<'_>,
        plan: Option<&str>,
        seats: Option<u32>,
        billing: Option<Interval>,
        when: Option<When>,
    ) -> Judged {
        let catalog = step.catalog;
        let plan = plan.map_or(Ok(self.plan), |name| plan_named(catalog, name))?;
        let (seats, billing) = (seats.unwrap_or(self.seats), billing.unwrap_or(self.billing));
        let to = Move { plan, seats, billing, reason: ChangeReason::Upgraded };
        if (plan, seats, billing) == (self.plan, self.seats, self.billing) {
            if self.drop_pending(step) {
                return Ok(());
            }
            return reject(Rejection::NoChange, "expected something that differs from the subscription, found nothing");
        }
        self.bounds_of_plan(catalog, &to)?;
        has_price(catalog, &to)?;
        let (old, new) = (plan_of(catalog, self.plan), plan_of(catalog, plan));
        if let (Some(old), Some(new)) = (old.price, new.price)
            && old.currency != new.currency
        {
            let currency = |id: u8| &catalog.currencies[usize::from(id)].name;
            let (old, new) = (currency(old.currency), currency(new.currency));
            return reject(Rejection::NoPrice, format!("expected a plan with a price in {old}, found one in {new}"));
        }
        let amount = |price: Option<super::account::Price>| price.map_or(Amount::ZERO, |price| price.amount);
        let dearer = amount(price_of(catalog, plan, seats, billing)) > amount(self.own_price(catalog));
        let more_seats = plan == self.plan && new.per_seat && seats > self.seats;
        let upgrade = billing == self.billing && (dearer || more_seats);
        match when {
            Some(When::Now) => self.upgrade(step, to),
            None if upgrade => self.upgrade(step, to),
            _ => match self.waits_until(step) {
                Some(until) => self.wait(step, &to, until, false),
                None => self.upgrade(step, to),
            },
        }
        Ok(())
    }

    fn cancel(&mut self, step: &mut Step<'_>, when: When) -> Judged {
        let plan = step.catalog.default_plan;
        if self.plan == plan {
            return reject(Rejection::NothingToCancel, "expected another plan than the default one, found that one");
        }
        match self.waits_until(step).filter(|_| when == When::PeriodEnd) {
            Some(until) => {
                let seats = plan_of(step.catalog, plan).seats;
                let to = Move { plan, seats, billing: Interval::Month, reason: ChangeReason::Cancelled };
                self.wait(step, &to, until, true);
            }
            None => self.fall_to(step, plan, ChangeReason::Cancelled),
        }
        Ok(())
    }

    /// A change of plan must not bring what its grants add up to near what can be held.
    fn bounds_of_plan(&self, catalog: &Catalog, to: &Move) -> Judged {
        granted_in_bounds(catalog, to)?;
        let sum: Amount = plan_of(catalog, to.plan).grants.iter().map(|grant| grant.amount).sum();
        match plan_of(catalog, to.plan).unit {
            Some(unit) => self.holds(unit, super::issue::times(sum, to.seats)),
            None => Ok(()),
        }
    }
}

/// The plan, seats and billing of a start, and from when it counts.
fn started(
    catalog: &Catalog,
    plan: &str,
    billing: Option<Interval>,
    seats: Option<u32>,
    at: Option<Ms>,
    now: Ms,
) -> Result<(Move, Ms), Rejected> {
    let plan = plan_named(catalog, plan)?;
    let seats = seats.unwrap_or(plan_of(catalog, plan).seats);
    let billing = billing.unwrap_or(Interval::Month);
    let at = effective_from(catalog, at, now)?;
    let to = Move { plan, seats, billing, reason: ChangeReason::Started };
    granted_in_bounds(catalog, &to)?;
    has_price(catalog, &to)?;
    Ok((to, at))
}

/// A plan's grants stay under 10²⁰, whatever the seats.
fn granted_in_bounds(catalog: &Catalog, to: &Move) -> Judged {
    let plan = plan_of(catalog, to.plan);
    let seats = if plan.per_seat { to.seats } else { 1 };
    let sum: Amount = plan.grants.iter().map(|grant| super::issue::times(grant.amount, seats)).sum();
    if sum >= Amount::TOTAL_LIMIT {
        return reject(Rejection::BadValue, format!("expected plan grants under 10^20 together, found {sum}"));
    }
    Ok(())
}

fn has_price(catalog: &Catalog, to: &Move) -> Judged {
    let plan = plan_of(catalog, to.plan);
    if plan.price.is_some() && price_of(catalog, to.plan, to.seats, to.billing).is_none() {
        let interval = match to.billing {
            Interval::Month => "month",
            Interval::Year => "year",
        };
        return reject(
            Rejection::NoPrice,
            format!("expected a price of plan {} for a {interval}, found none", plan.name),
        );
    }
    Ok(())
}

fn plan_named(catalog: &Catalog, name: &str) -> Result<super::catalog::PlanId, Rejected> {
    match catalog.plans.iter().position(|plan| *plan.name == *name) {
        Some(index) => Ok(index as super::catalog::PlanId),
        None => reject(Rejection::UnknownPlan, format!("expected a plan of the catalog, found {name:?}")),
    }
}

/// The instant from which a command counts: not after the clock.
pub(crate) fn effective_from(catalog: &Catalog, at: Option<Ms>, now: Ms) -> Result<Ms, Rejected> {
    let at = at.unwrap_or(now);
    let newest = now.saturating_add(catalog.future_ms);
    if at > newest {
        let (newest, at) = (super::calendar::format_time(newest), super::calendar::format_time(at));
        return reject(Rejection::AtInFuture, format!("expected an at not after {newest}, found {at}"));
    }
    Ok(at.min(now))
}
