//! Usage records: acceptance in the order of docs/reference.md 6.2, then the charge.

use smallvec::SmallVec;

use super::access::Asked;
use super::account::State;
use super::calendar::{Span, format_time, period_at};
use super::catalog::{Catalog, PlanId, RateId};
use super::changes::Step;
use super::charge::{Billable, Row, Who};
use super::effects::{Outcome, Reason, Refusal};
use super::input::{Billing, Interval, Phase, Usage};
use super::lookup::find_rate;
use super::period::Period;
use super::profile::Profile;
use super::subscription::plan_of;
use super::totals::{Bucket, Totals};
use super::users::UserIndex;
use super::{Amount, Ms};

impl State {
    /// An account on `plan` from `start` on, whose first period is still to be entered.
    pub fn blank(step: &Step<'_>, plan: PlanId, seats: u32, billing: Interval, start: Ms) -> State {
        let limits = State::fresh_limits(step.catalog, plan);
        let period = Period {
            number: 1,
            span: Span { start, end: Some(start) },
            price: None,
            priced: false,
            prorations: Amount::ZERO,
            recorded: Bucket::default(),
            sums: None,
        };
        State {
            catalog: step.catalogs.current_index() as u32,
            plan,
            billing,
            paid_before: false,
            extra_usage: false,
            seats,
            start,
            anchor: start,
            class: None,
            period,
            ended: Vec::new(),
            pool: Amount::ZERO,
            balances: SmallVec::new(),
            grants_issued: 0,
            limits,
            users: Default::default(),
            windows: Default::default(),
            subscription: Default::default(),
            totals: Totals::default(),
            bulk: Amount::ZERO,
            rare: None,
        }
    }

    /// A new account on the default plan, which begins at `start`.
    pub fn on_default_plan(step: &mut Step<'_>, start: Ms) -> Box<State> {
        let plan = step.catalog.default_plan;
        let row = plan_of(step.catalog, plan);
        let mut state = Box::new(State::blank(step, plan, row.seats, Interval::Month, start));
        state.begin_anchor(start);
        let span = period_at(row.period, row.ends_after_ms, start, start);
        state.enter_period(step, span);
        state.issue_plan_grants(step, plan, row.seats);
        state
    }

    /// The account that a record begins, if it may. It exists only once the record is accepted.
    pub fn begun_by(step: &mut Step<'_>, input: &Usage<'_>) -> Result<Box<State>, Refusal> {
        if !step.catalog.create_accounts {
            let message = "expected an account that a command created (create_accounts is off), found an unknown one";
            return Err(Refusal::new(Reason::UnknownAccount, message));
        }
        if let Some((session, Phase::End)) = input.session {
            return Err(session_unknown(session));
        }
        Ok(State::on_default_plan(step, input.time.min(step.now)))
    }

    /// Applies or counts a record, or says why it is refused.
    pub fn take_usage(
        &mut self,
        step: &mut Step<'_>,
        input: &Usage<'_>,
        profile: &Profile,
    ) -> Result<Outcome, Refusal> {
        let at = self.effective(input.time, step.now);
        step.changes.timers_moved |= input.session.is_some();
        if let Some((session, Phase::End)) = input.session {
            return self.end_session(step, input, session, at);
        }
        let who = self.who(step.catalog, input.user)?;
        if let Some((session, Phase::Start)) = input.session {
            self.may_open(session, input.failed)?;
        }
        if input.failed {
            self.known(input.user, who);
            self.count_failed(step, at);
            return Ok(Outcome::Failed);
        }
        let asks_payg = input.billing == Billing::Payg;
        if asks_payg && step.catalog.payg.is_none() {
            return Err(no_payg());
        }
        let rate = rate_of(step.catalog, input, profile, at)?;
        if let Some((session, _)) = input.session {
            let user = self.known(input.user, who);
            let asked = Asked { kind: input.kind, user, asks_payg, dimensions: input.dimensions, profile };
            self.check_access(step, &asked);
            self.open_session(step, input, session, user, rate, at);
            return Ok(Outcome::Applied);
        }
        let row = Row { catalog: step.catalog, rate, quantities: input.quantities, dimensions: input.dimensions };
        let record = Billable {
            kind: input.kind,
            user: who,
            asks_payg,
            at,
            row,
            quantities: input.quantities,
            profile,
            lenient: false,
        };
        let charge = self.assess(step, &record)?;
        // Nothing is refused from here on.
        let user = self.known(input.user, who);
        let asked = Asked { kind: input.kind, user, asks_payg, dimensions: input.dimensions, profile };
        self.check_access(step, &asked);
        self.charge(step, &record, user, charge);
        Ok(Outcome::Applied)
    }

    fn who(&self, catalog: &Catalog, user: Option<&str>) -> Result<Who, Refusal> {
        let Some(name) = user else { return Ok(Who::Nobody) };
        match self.users.find(name) {
            Some(index) => Ok(Who::Known(index)),
            None if self.users.len() >= catalog.users_max as usize => {
                let message = format!("expected at most {} users of an account, found another", catalog.users_max);
                Err(Refusal::new(Reason::TooManyUsers, message))
            }
            None => Ok(Who::New),
        }
    }

    /// The index of an accepted record's user.
    fn known(&mut self, name: Option<&str>, who: Who) -> Option<UserIndex> {
        match who {
            Who::Nobody => None,
            Who::Known(index) => Some(index),
            Who::New => name.map(|name| self.users.intern(name)),
        }
    }
}

pub(super) fn session_unknown(session: &str) -> Refusal {
    let message = format!("expected the end of an open session, found no session {session:?}");
    Refusal::new(Reason::SessionUnknown, message)
}

fn no_payg() -> Refusal {
    let message = "expected a catalog with [payg] for billing = \"payg\", found none";
    Refusal::new(Reason::NoPayg, message)
}

fn rate_of(catalog: &Catalog, input: &Usage<'_>, profile: &Profile, at: Ms) -> Result<RateId, Refusal> {
    let found = match input.session {
        None => profile.rate(catalog, at),
        Some(_) => find_rate(catalog, input.kind, input.dimensions, at, true),
    };
    found.ok_or_else(|| {
        let what = if input.session.is_some() { "with session_max " } else { "" };
        let (kind, time) = (input.kind, format_time(at));
        let message = format!("expected a rate {what}that fits type {kind:?} and its fields at {time}, found none");
        Refusal::new(Reason::NoRate, message)
    })
}
