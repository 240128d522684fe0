//! Sessions: opened by a start, charged as one record when they end (docs/reference.md 6.8).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::account::State;
use super::catalog::{Catalog, DimensionId, QuantityId, REQUESTS, RateId, Role, SECONDS};
use super::changes::{Stage, Step};
use super::charge::{Billable, Row, Who};
use super::effects::{Body, Outcome, Reason, Refusal};
use super::input::{Billing, Dimension, Usage};
use super::profile::Profile;
use super::record::session_unknown;
use super::users::UserIndex;
use super::{Amount, Ms};

/// Open sessions of an account.
pub(crate) const SESSIONS_MAX: usize = 10_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    open: BTreeMap<Box<str>, Session>,
    /// When each open one is closed at the latest.
    due: BTreeSet<(Ms, Box<str>)>,
    /// When each was closed that may still be asked for.
    closed: BTreeMap<Box<str>, Ms>,
    /// In the order in which they were closed; an id may be there more than once.
    closings: VecDeque<(Ms, Box<str>)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub kind: Box<str>,
    pub user: Option<UserIndex>,
    pub asks_payg: bool,
    /// The catalog of its row, by index in `Catalogs`, and the row.
    pub catalog: u32,
    pub rate: RateId,
    pub started_at: Ms,
    pub closes_at: Ms,
    pub fields: Fields,
}

/// A record's fields by name, so that they can be read in the ids of any catalog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fields {
    quantities: BTreeMap<Box<str>, Amount>,
    dimensions: BTreeMap<Box<str>, Texts>,
}

/// A dimension that outlives its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Texts {
    One(Box<str>),
    List(Vec<Box<str>>),
}

impl Sessions {
    /// Open sessions, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Session)> {
        self.open.iter().map(|(id, session)| (&**id, session))
    }

    /// Closed ones that are remembered, by id, with when they closed.
    pub fn closed(&self) -> impl Iterator<Item = (&str, Ms)> {
        self.closed.iter().map(|(id, at)| (&**id, *at))
    }

    pub fn next_due(&self) -> Option<Ms> {
        self.due.first().map(|(at, _)| *at)
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn insert(&mut self, id: &str, session: Session) {
        self.due.insert((session.closes_at, id.into()));
        self.open.insert(id.into(), session);
    }

    /// Closes an open session.
    fn close(&mut self, id: &str, now: Ms) {
        let Some(session) = self.open.remove(id) else { return };
        self.due.remove(&(session.closes_at, id.into()));
        self.remember(id, now);
    }

    pub fn remember(&mut self, id: &str, closed_at: Ms) {
        self.closed.insert(id.into(), closed_at);
        self.closings.push_back((closed_at, id.into()));
    }

    /// Forgets sessions that closed `late_ms` ago or longer.
    fn forget(&mut self, now: Ms, late_ms: i64) {
        while let Some((at, id)) = self.closings.pop_front_if(|(at, _)| at.saturating_add(late_ms) <= now) {
            if self.closed.get(&id) == Some(&at) {
                self.closed.remove(&id);
            }
        }
    }
}

impl State {
    /// Whether a session may be opened under this id.
    pub fn may_open(&self, id: &str, failed: bool) -> Result<(), Refusal> {
        let Some(sessions) = self.sessions() else { return Ok(()) };
        if sessions.open.contains_key(id) {
            let message = format!("expected a session that is not open, found that {id:?} is");
            return Err(Refusal::new(Reason::SessionOpen, message));
        }
        if !failed && sessions.len() >= SESSIONS_MAX {
            let message = format!("expected at most {SESSIONS_MAX} open sessions of an account, found another");
            return Err(Refusal::new(Reason::TooManySessions, message));
        }
        Ok(())
    }

    pub fn open_session(
        &mut self,
        step: &mut Step<'_>,
        input: &Usage<'_>,
        id: &str,
        user: Option<UserIndex>,
        rate: RateId,
        at: Ms,
    ) {
        let longest = step.catalog.rates[rate as usize].session_max_ms.expect("a session's row has a longest session");
        let session = Session {
            kind: input.kind.into(),
            user,
            asks_payg: input.billing == Billing::Payg,
            catalog: step.catalogs.current_index() as u32,
            rate,
            started_at: at,
            closes_at: at.saturating_add(longest),
            fields: Fields::of(step.catalog, input),
        };
        self.rare_mut().sessions.insert(id, session);
    }

    /// The end of a session: its charge, or nothing if it failed.
    pub fn end_session(
        &mut self,
        step: &mut Step<'_>,
        input: &Usage<'_>,
        id: &str,
        at: Ms,
    ) -> Result<Outcome, Refusal> {
        let late_ms = step.catalog.late_ms;
        let sessions = self.sessions();
        let Some(session) = sessions.and_then(|sessions| sessions.open.get(id)).cloned() else {
            let closed = sessions.and_then(|sessions| sessions.closed.get(id));
            if closed.is_some_and(|at| step.now < at.saturating_add(late_ms)) {
                let message = format!("expected the end of an open session, found that {id:?} was closed before");
                return Err(Refusal::new(Reason::SessionClosed, message));
            }
            return Err(session_unknown(id));
        };
        let at = at.max(session.started_at);
        if input.failed {
            self.close_session(step, id);
            self.count_failed(step, at);
            return Ok(Outcome::Failed);
        }
        let mut session = session;
        session.fields.overlay(step.catalog, input);
        self.charge_session(step, &session, at, false)?;
        self.close_session(step, id);
        Ok(Outcome::Applied)
    }

    /// Closes the sessions that were open as long as they may be, and charges them in full.
    pub fn close_due_sessions(&mut self, step: &mut Step<'_>) -> bool {
        let mut any = false;
        while let Some((at, id)) = self.sessions().and_then(|sessions| sessions.due.first().cloned())
            && at <= step.now
        {
            let session = self.sessions().and_then(|sessions| sessions.open.get(&id)).cloned();
            let session = session.expect("a session that is due is open");
            self.close_session(step, &id);
            let charged = self.charge_session(step, &session, at, true);
            let (charged, unit) = charged.expect("a lenient charge is not refused");
            let user = session.user.map(|user| self.users.get(user).name.as_str().into());
            let seconds = seconds_between(session.started_at, session.closes_at);
            let unit = Some(step.catalog.units[usize::from(unit)].name.clone());
            let body = Body::SessionClosed { session: id, user, seconds, charged, unit };
            step.changes.tell(Stage::Session, body);
            any = true;
        }
        any
    }

    fn close_session(&mut self, step: &Step<'_>, id: &str) {
        let sessions = &mut self.rare_mut().sessions;
        sessions.forget(step.now, step.catalog.late_ms);
        sessions.close(id, step.now);
    }

    fn charge_session(
        &mut self,
        step: &mut Step<'_>,
        session: &Session,
        at: Ms,
        lenient: bool,
    ) -> Result<(Amount, super::catalog::UnitId), Refusal> {
        let catalogs = step.catalogs;
        let row_catalog = &**catalogs.get(session.catalog as usize);
        let longest = session.closes_at - session.started_at;
        let until = session.started_at + (at - session.started_at).clamp(0, longest);
        let seconds = seconds_between(session.started_at, until);
        let fields = session.fields.texts();
        let (row_quantities, row_dimensions) = session.fields.read(row_catalog, seconds, &fields);
        let (quantities, dimensions) = session.fields.read(step.catalog, seconds, &fields);
        let profile = Profile::of(step.catalog, &session.kind, &dimensions, &mut step.changes.names);
        let record = Billable {
            kind: &session.kind,
            user: session.user.map_or(Who::Nobody, Who::Known),
            asks_payg: session.asks_payg,
            at,
            row: Row {
                catalog: row_catalog,
                rate: session.rate,
                quantities: &row_quantities,
                dimensions: &row_dimensions,
            },
            quantities: &quantities,
            profile: &profile,
            lenient,
        };
        let charge = self.assess(step, &record)?;
        let told = (charge.amount, charge.unit);
        self.charge(step, &record, session.user, charge);
        Ok(told)
    }
}

/// Milliseconds are thousandths.
fn seconds_between(from: Ms, to: Ms) -> Amount {
    Amount::from_nanos(i128::from(to - from) * 1_000_000)
}

impl From<Dimension<'_>> for Texts {
    fn from(value: Dimension<'_>) -> Texts {
        match value {
            Dimension::Text(text) => Texts::One(text.into()),
            Dimension::List(list) => Texts::List(list.iter().map(|text| (*text).into()).collect()),
        }
    }
}

impl Texts {
    #[inline]
    pub fn are(&self, value: Dimension<'_>) -> bool {
        match (self, value) {
            (Texts::One(text), Dimension::Text(found)) => **text == *found,
            (Texts::List(list), Dimension::List(found)) => {
                list.len() == found.len() && list.iter().zip(found).all(|(text, found)| **text == **found)
            }
            _ => false,
        }
    }

    fn list(&self) -> Vec<&str> {
        match self {
            Texts::One(_) => Vec::new(),
            Texts::List(list) => list.iter().map(|text| &**text).collect(),
        }
    }
}

impl Fields {
    fn of(catalog: &Catalog, input: &Usage<'_>) -> Fields {
        let mut fields = Fields::default();
        fields.overlay(catalog, input);
        fields
    }

    /// Puts a record's fields over these. A count of `requests` that it does not give itself changes nothing.
    fn overlay(&mut self, catalog: &Catalog, input: &Usage<'_>) {
        for (id, amount) in input.quantities {
            let name = &catalog.quantities[usize::from(*id)];
            if *id != REQUESTS || input.requests_given || !self.quantities.contains_key(name) {
                self.quantities.insert(name.clone(), *amount);
            }
        }
        for (id, value) in input.dimensions {
            self.dimensions.insert(catalog.dimensions[usize::from(*id)].clone(), Texts::from(*value));
        }
    }

    /// The elements of the lists, for [`Fields::read`] to borrow.
    fn texts(&self) -> Vec<Vec<&str>> {
        self.dimensions.values().map(Texts::list).collect()
    }

    /// The fields in the ids of a catalog, as far as it knows them, with `seconds`.
    #[expect(clippy::type_complexity, reason = "the two lists that a record has")]
    fn read<'a>(
        &'a self,
        catalog: &Catalog,
        seconds: Amount,
        lists: &'a [Vec<&'a str>],
    ) -> (Vec<(QuantityId, Amount)>, Vec<(DimensionId, Dimension<'a>)>) {
        let mut quantities = vec![(SECONDS, seconds)];
        for (name, amount) in &self.quantities {
            match catalog.quantities.iter().position(|known| known == name) {
                Some(id) if id != usize::from(SECONDS) => quantities.push((id as QuantityId, *amount)),
                _ => {}
            }
        }
        quantities.sort_unstable_by_key(|entry| entry.0);
        let mut dimensions = Vec::new();
        for ((name, texts), list) in self.dimensions.iter().zip(lists) {
            let id = catalog.dimensions.iter().position(|known| known == name);
            let known = id.filter(|_| !matches!(catalog.roles.get(name), Some(Role::Quantity(_))));
            if let Some(id) = known {
                let value = match texts {
                    Texts::One(text) => Dimension::Text(text),
                    Texts::List(_) => Dimension::List(list),
                };
                dimensions.push((id as DimensionId, value));
            }
        }
        dimensions.sort_unstable_by_key(|entry| entry.0);
        (quantities, dimensions)
    }
}
