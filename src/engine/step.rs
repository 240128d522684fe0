//! The engine: one input in, the account changed, effects out.

use super::Ms;
use super::account::{Account, State};
use super::calendar::format_time;
use super::catalogs::Catalogs;
use super::changes::{Changes, Step};
use super::effects::{Cause, Effects, Outcome, Reason, Refusal};
use super::input::Usage;
use super::profile::Profiles;
use super::take_up::take_up;
use super::timers::fire_due;

/// Folds inputs into accounts. Holds the catalogs, and buffers that are reused; accounts are the caller's.
#[derive(Debug)]
pub struct Engine {
    pub catalogs: Catalogs,
    changes: Changes,
    profiles: Profiles,
}

/// When an input is processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The partition's clock, this input's timestamp included.
    pub clock: Ms,
    /// Usage records older than this are too late whatever the catalog's `late` says.
    pub oldest: Ms,
}

impl Engine {
    pub fn new(catalogs: Catalogs) -> Engine {
        Engine { catalogs, changes: Changes::default(), profiles: Profiles::default() }
    }

    /// Folds a usage record. Timers of the account that are due by the clock fire first, and those it made due after it.
    pub fn usage(&mut self, account: &mut Account, input: &Usage<'_>, at: Moment, fx: &mut Effects) -> Outcome {
        self.prepare(account, at.clock, fx);
        if let Err(refusal) = self.in_time(input, at) {
            return Outcome::Refused(refusal);
        }
        let current = (self.catalogs.current_index(), &**self.catalogs.current());
        let profile = self.profiles.of(current, input.kind, input.dimensions, &mut self.changes.names);
        let mut step = step(&self.catalogs, &mut self.changes, at.clock);
        let taken = match &mut account.state {
            Some(state) => state.take_usage(&mut step, input, profile),
            None => State::begun_by(&mut step, input).and_then(|mut state| {
                let outcome = state.take_usage(&mut step, input, profile)?;
                account.state = Some(state);
                Ok(outcome)
            }),
        };
        match taken {
            // Most records cross no edge and draw on nothing: there is nothing to evaluate.
            Ok(outcome) if self.changes.is_still() && account.state.as_ref().is_some_and(|state| state.is_quiet()) => {
                outcome
            }
            Ok(outcome) => {
                self.finish(account, at.clock, fx);
                outcome
            }
            Err(refusal) => {
                self.changes.forget();
                Outcome::Refused(refusal)
            }
        }
    }

    /// Fires the account's timers that are due by `clock`.
    pub fn advance(&mut self, account: &mut Account, clock: Ms, fx: &mut Effects) {
        if account.due.is_some_and(|due| due <= clock) {
            self.prepare(account, clock, fx);
        }
    }

    /// Brings an account to where its next input finds it: on the current catalog, and with no timer due.
    pub fn prepare(&mut self, account: &mut Account, clock: Ms, fx: &mut Effects) {
        take_up(account, &self.catalogs, &mut self.changes, clock, fx);
        fire_due(account, &self.catalogs, &mut self.changes, (Ms::MIN, clock), fx);
    }

    fn in_time(&self, input: &Usage<'_>, at: Moment) -> Result<(), Refusal> {
        let catalog = self.catalogs.current();
        let oldest = at.clock.saturating_sub(catalog.late_ms).max(at.oldest);
        let told = |reason: Reason, bound: &str, limit: Ms| {
            let (limit, time) = (format_time(limit), format_time(input.time));
            Refusal::new(reason, format!("expected a time {bound} {limit}, found {time}"))
        };
        if input.time < oldest {
            return Err(told(Reason::TooLate, "not before", oldest));
        }
        let newest = at.clock.saturating_add(catalog.future_ms);
        if input.time > newest {
            return Err(told(Reason::TooEarly, "not after", newest));
        }
        Ok(())
    }

    /// Evaluates and tells what an applied input gave rise to, then fires what it made due.
    pub(super) fn finish(&mut self, account: &mut Account, clock: Ms, fx: &mut Effects) {
        let catalogs = &self.catalogs;
        let mut plan = None;
        if let Some(state) = &mut account.state {
            state.finish(&mut step(catalogs, &mut self.changes, clock), fx);
            plan = Some(&*catalogs.current().plans[usize::from(state.plan)].name);
            account.due = state.find_due(catalogs.current());
        }
        self.changes.emit(&mut account.sequence, plan, clock, Cause::Input, fx);
        fire_due(account, catalogs, &mut self.changes, (clock, clock), fx);
    }

    /// The parts that folding a command needs.
    pub(super) fn parts(&mut self) -> (&Catalogs, &mut Changes) {
        (&self.catalogs, &mut self.changes)
    }
}

pub(super) fn step<'a>(catalogs: &'a Catalogs, changes: &'a mut Changes, now: Ms) -> Step<'a> {
    Step { catalogs, catalog: catalogs.current(), now, changes }
}

impl State {
    /// Whether nothing is evaluated after every input, whatever it changed.
    fn is_quiet(&self) -> bool {
        self.rare
            .as_ref()
            .is_none_or(|rare| rare.overflow.is_empty() && !rare.autopay.as_ref().is_some_and(|autopay| autopay.armed))
    }

    /// Evaluates limits and balances once all changes of an input, or of an instant, are made.
    pub fn finish(&mut self, step: &mut Step<'_>, fx: &mut Effects) {
        self.evaluate_limits(step);
        self.evaluate_overflows(step);
        self.evaluate_balances(step);
        self.evaluate_autopay(step);
        if !step.changes.ledger.settle(&self.balances) {
            fx.conservation_violations += 1;
        }
        step.changes.done();
    }
}
