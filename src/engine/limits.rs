//! Limits: caps, counting, and what is told when an edge is crossed (docs/reference.md 8).

use std::cmp::Ordering;

use super::account::State;
use super::calendar::Span;
use super::catalog::{Cap, Catalog, Limit, LimitIndex, Measure, Scope, Window};
use super::changes::{ACCOUNT, Stage, Step};
use super::effects::{Body, CapNotice, RestoreReason};
use super::exact::{cmp_percent, percent_of, percent_up, scaled_down};
use super::users::UserIndex;
use super::window::Counter;
use super::{Amount, Ms};

/// One limit, of the account or of one user.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LimitState {
    pub counter: Counter,
    /// Set by a command.
    pub own: Option<OwnCap>,
    /// `cap.exceeded` was told, and nothing since.
    pub told: bool,
    /// Warnings told, by their place in the catalog.
    pub warned: u32,
    /// Of its earliest entry among the account's window timers; `Ms::MAX`: it has none.
    #[serde(skip, default = "no_timer")]
    pub timer: Ms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum OwnCap {
    Amount(Amount),
    /// Of the pool.
    Percent(Amount),
}

/// A limit to be looked at once all changes of the input are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touched {
    pub limit: LimitIndex,
    /// [`ACCOUNT`], or the user.
    pub user: UserIndex,
    pub why: Why,
}

/// Why a limit is looked at; where there are several reasons, the first decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Something counted in it, or it is looked at whatever happened.
    Counted,
    /// Its window ended, or slid.
    Reset,
    /// Its cap may have changed.
    Cap,
}

/// A cap as it was before the command that changed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormerCap {
    pub limit: LimitIndex,
    /// [`ACCOUNT`]: the account's own cap for the limit.
    pub user: UserIndex,
    pub own: Option<OwnCap>,
}

fn no_timer() -> Ms {
    Ms::MAX
}

impl LimitState {
    pub fn new(window: &Window) -> LimitState {
        LimitState { counter: Counter::new(window), own: None, told: false, warned: 0, timer: Ms::MAX }
    }

    /// Whether it is as it was made: nothing counted, and nothing was set or told.
    pub fn is_fresh(&self) -> bool {
        self.counter.is_untouched() && self.own.is_none() && !self.told && self.warned == 0
    }

    /// Moves the window to `now`. Where a sliding window left a warning behind, it may be told again.
    pub fn slide(&mut self, limit: &Limit, cap: Amount, now: Ms) {
        self.counter.advance(&limit.window, now);
        if self.warned != 0 && matches!(limit.window, Window::Sliding(_)) {
            self.forget_warnings(limit, cap);
        }
    }

    /// When its window's timer is due.
    pub fn due(&self, limit: &Limit, cap: Amount) -> Option<Ms> {
        match limit.window {
            Window::Sliding(_) if self.told => self.counter.restores_at(&limit.window, cap),
            Window::Sliding(_) => None,
            _ => self.counter.ends_at(&limit.window),
        }
    }

    /// Whether what was just counted crossed no edge and needs no other timer, so that evaluating it would change nothing.
    fn is_settled(&self, limit: &Limit, cap: Amount) -> bool {
        let used = self.counter.used();
        let armed = match limit.window {
            // More usage only moves the instant at which it is restored away.
            Window::Sliding(_) => !self.told || self.timer != Ms::MAX,
            _ => self.counter.ends_at(&limit.window).is_none_or(|due| due >= self.timer),
        };
        armed && self.told == (used >= cap) && (cap.is_zero() || self.warns_nothing_new(limit, used, cap))
    }

    #[inline]
    fn warns_nothing_new(&self, limit: &Limit, used: Amount, cap: Amount) -> bool {
        let told = |place: usize| self.warned & (1 << place) != 0;
        if limit.cap == Cap::Amount(cap) {
            return limit.edges.iter().enumerate().all(|(place, edge)| used < *edge || told(place));
        }
        limit.warn.iter().enumerate().all(|(place, warn)| told(place) || is_under(used, warn, cap))
    }

    fn forget_warnings(&mut self, limit: &Limit, cap: Amount) {
        if cap.is_zero() {
            return;
        }
        for (place, threshold) in limit.warn.iter().enumerate() {
            if is_under(self.counter.used(), threshold, cap) {
                self.warned &= !(1 << place);
            }
        }
    }
}

/// The least usage of a limit with this cap at which a threshold is reached.
pub(super) fn edge(threshold: &super::catalog::Threshold, cap: Amount) -> Amount {
    match threshold.level {
        super::catalog::Level::Percent(percent) => percent_up(cap, percent),
        super::catalog::Level::Absolute(amount) => amount,
    }
}

fn is_under(used: Amount, threshold: &super::catalog::Threshold, cap: Amount) -> bool {
    match threshold.level {
        super::catalog::Level::Percent(percent) => cmp_percent(used, percent, cap) == Ordering::Less,
        super::catalog::Level::Absolute(amount) => used < amount,
    }
}

/// What caps go by: those of the account as they are, or as they were.
#[derive(Clone, Copy)]
pub(crate) struct CapBasis {
    pub pool: Amount,
    pub seats: u32,
}

impl State {
    pub fn cap_basis(&self) -> CapBasis {
        CapBasis { pool: self.pool, seats: self.seats }
    }

    /// The cap of a limit for a user, or for the account.
    pub fn cap(&self, catalog: &Catalog, limit: LimitIndex, user: UserIndex) -> Amount {
        cap_by(catalog, self, limit, self.own_cap(catalog, limit, user), self.cap_basis())
    }

    /// The cap set by a command that applies: the user's own, else the account's.
    fn own_cap(&self, catalog: &Catalog, limit: LimitIndex, user: UserIndex) -> Option<OwnCap> {
        let of_account = self.limits[usize::from(limit)].own;
        if user == ACCOUNT {
            return of_account;
        }
        let of_user = self.users.get(user).limit(limit).and_then(|state| state.own);
        self.applying(catalog, limit, of_user).or(of_account)
    }

    /// A share is one of the plan's pool: on a plan of another unit than the limit's it is as if absent.
    fn applying(&self, catalog: &Catalog, limit: LimitIndex, own: Option<OwnCap>) -> Option<OwnCap> {
        let plan = &catalog.plans[usize::from(self.plan)];
        let of_pool = || plan.unit.map(Measure::Unit) == Some(plan.limits[usize::from(limit)].measure);
        own.filter(|own| matches!(own, OwnCap::Amount(_)) || of_pool())
    }

    /// Whether the cap that applies is a share of the pool.
    fn is_share(&self, catalog: &Catalog, limit: LimitIndex, user: UserIndex) -> bool {
        let of_catalog = catalog.plans[usize::from(self.plan)].limits[usize::from(limit)].cap;
        match self.own_cap(catalog, limit, user) {
            Some(own) => matches!(own, OwnCap::Percent(_)),
            None => !matches!(of_catalog, Cap::Amount(_)),
        }
    }

    /// The state of a limit, made if there is none yet.
    #[inline]
    pub fn limit_mut(&mut self, limit: LimitIndex, user: UserIndex, window: &Window) -> &mut LimitState {
        if user == ACCOUNT {
            return &mut self.limits[usize::from(limit)];
        }
        self.users.get_mut(user).limit_mut(limit, || LimitState::new(window))
    }

    pub fn limit(&self, limit: LimitIndex, user: UserIndex) -> Option<&LimitState> {
        if user == ACCOUNT { Some(&self.limits[usize::from(limit)]) } else { self.users.get(user).limit(limit) }
    }

    /// Whether a limit of the account is exceeded at `now`, told or not.
    pub fn is_exceeded(&self, catalog: &Catalog, limit: LimitIndex, now: Ms) -> bool {
        let cap = self.cap(catalog, limit, ACCOUNT);
        let row = &catalog.plans[usize::from(self.plan)].limits[usize::from(limit)];
        self.limits[usize::from(limit)].counter.used_at(&row.window, now) >= cap
    }

    /// Counts `amount` of something with the effective time `at`. What is too old for the window counts in none.
    pub fn count(
        &mut self,
        step: &mut Step<'_>,
        (limit, row): (LimitIndex, &Limit),
        user: UserIndex,
        amount: Amount,
        at: Ms,
    ) {
        let cap = match row.cap {
            Cap::Amount(cap) if user == ACCOUNT && self.limits[usize::from(limit)].own.is_none() => cap,
            _ => self.cap(step.catalog, limit, user),
        };
        let span = self.span();
        let state = self.limit_mut(limit, user, &row.window);
        state.slide(row, cap, step.now);
        let counted = state.counter.add(&row.window, amount, at, step.now, &span);
        // Most records cross no edge: they are done with here, as long as the cap stays what it is.
        if counted && !(step.changes.is_plain() && state.is_settled(row, cap)) {
            step.changes.touch(limit, user, Why::Counted);
        } else if state.told && matches!(row.window, Window::Sliding(_)) {
            // It is restored at another instant.
            step.changes.timers_moved = true;
        }
    }

    /// Starts the counters of the billing period again.
    pub fn reset_period_limits(&mut self, step: &mut Step<'_>) {
        let limits = &step.catalog.plans[usize::from(self.plan)].limits;
        for (place, row) in limits.iter().enumerate().filter(|(_, row)| row.window == Window::Period) {
            let limit = place as LimitIndex;
            if row.scope == Scope::Account {
                self.limits[place].counter.reset();
                step.changes.touch(limit, ACCOUNT, Why::Reset);
                continue;
            }
            for (user, entry) in self.users.iter_mut().enumerate() {
                if let Ok(at) = entry.limits.binary_search_by_key(&limit, |entry| entry.0) {
                    entry.limits[at].1.counter.reset();
                    step.changes.touch(limit, user as UserIndex, Why::Reset);
                }
            }
        }
    }

    /// Tells the edges that the input crossed, in the order of the catalog, users by the bytes of their names.
    pub fn evaluate_limits(&mut self, step: &mut Step<'_>) {
        let mut list = std::mem::take(&mut step.changes.touched);
        if step.changes.plan_changed {
            list.clear();
            self.touch_all(step.catalog, &mut list, Why::Counted, |_| true);
        } else if step.changes.pool_changed(self) {
            // A user's own cap may be a share where the limit's is none.
            let may_share = |limit: &Limit| limit.scope == Scope::User || !matches!(limit.cap, Cap::Amount(_));
            self.touch_all(step.catalog, &mut list, Why::Cap, may_share);
        }
        for former in step.changes.caps.iter() {
            self.touch_capped(step.catalog, former, &mut list);
        }
        if list.len() > 1 {
            self.put_in_order(&mut list);
        }
        for touched in &list {
            self.evaluate(step, *touched);
        }
        list.clear();
        step.changes.touched = list;
    }

    /// Adds every limit that `which` names, with every user that it is to be looked at for.
    fn touch_all(&self, catalog: &Catalog, list: &mut Vec<Touched>, why: Why, which: impl Fn(&Limit) -> bool) {
        let limits = catalog.plans[usize::from(self.plan)].limits.iter().enumerate();
        for (place, row) in limits.filter(|(_, row)| which(row)) {
            let limit = place as LimitIndex;
            match row.scope {
                Scope::Account => list.push(Touched { limit, user: ACCOUNT, why }),
                Scope::User => self.touch_users(catalog, limit, why, list),
            }
        }
    }

    /// A user that never counted in a limit has something to be told only where its cap is 0.
    fn touch_users(&self, catalog: &Catalog, limit: LimitIndex, why: Why, list: &mut Vec<Touched>) {
        let capped = self.cap(catalog, limit, ACCOUNT).is_zero();
        for (user, entry) in self.users.iter().enumerate() {
            if capped || entry.limit(limit).is_some() {
                list.push(Touched { limit, user: user as UserIndex, why });
            }
        }
    }

    fn touch_capped(&self, catalog: &Catalog, former: &FormerCap, list: &mut Vec<Touched>) {
        let row = &catalog.plans[usize::from(self.plan)].limits[usize::from(former.limit)];
        if former.user == ACCOUNT && row.scope == Scope::User {
            self.touch_users(catalog, former.limit, Why::Cap, list);
        } else {
            list.push(Touched { limit: former.limit, user: former.user, why: Why::Cap });
        }
    }

    fn put_in_order(&self, list: &mut Vec<Touched>) {
        let order = |a: &Touched, b: &Touched| {
            a.limit.cmp(&b.limit).then_with(|| match (a.user, b.user) {
                (a, b) if a == b => Ordering::Equal,
                (ACCOUNT, _) => Ordering::Less,
                (_, ACCOUNT) => Ordering::Greater,
                (a, b) => self.users.get(a).name.cmp(&self.users.get(b).name),
            })
        };
        if !list.is_sorted_by(|a, b| order(a, b) == Ordering::Less) {
            list.sort_by(|a, b| order(a, b).then(a.why.cmp(&b.why)));
            list.dedup_by_key(|touched| (touched.limit, touched.user));
        }
    }

    fn evaluate(&mut self, step: &mut Step<'_>, touched: Touched) {
        let catalog = step.catalog;
        let Touched { limit, user, why } = touched;
        let row = &catalog.plans[usize::from(self.plan)].limits[usize::from(limit)];
        let cap = self.cap(catalog, limit, user);
        let unmoved = step.changes.former_pool.is_none() && step.changes.caps.is_empty();
        let former = if unmoved { cap } else { self.former_cap(step, limit, user) };
        let changed = cap != former || (step.changes.pool_changed(self) && self.is_share(catalog, limit, user));
        if why == Why::Cap && !changed {
            return;
        }
        let (now, span) = (step.now, self.span());
        let plan_changed = step.changes.plan_changed;
        let state = self.limit_mut(limit, user, &row.window);
        // What was counted in slid then.
        if why != Why::Counted || plan_changed || !unmoved {
            state.slide(row, former, now);
        }
        let used = state.counter.used();
        // A window that begins with cap 0 changes nothing.
        if why != Why::Reset || changed || !cap.is_zero() {
            let edges = cross(state, row, cap);
            if edges.is_any() {
                let reason = match (plan_changed, used < former) {
                    (true, _) => RestoreReason::Plan,
                    (false, true) => RestoreReason::Time,
                    (false, false) => RestoreReason::Cap,
                };
                let state = state.clone();
                let name = (user != ACCOUNT).then(|| self.users.get(user).name.as_str().into());
                let notice = cap_notice(catalog, row, name, &state.counter, cap, now, &span);
                edges.tell(step, row, notice, reason);
            }
        }
        let due = self.limit_mut(limit, user, &row.window).due(row, cap);
        self.arm(limit, user, due);
    }

    /// The cap before this input.
    fn former_cap(&self, step: &Step<'_>, limit: LimitIndex, user: UserIndex) -> Amount {
        let basis = CapBasis { pool: step.changes.former_pool.unwrap_or(self.pool), seats: self.seats };
        let former = |user: UserIndex| step.changes.caps.iter().find(|cap| cap.limit == limit && cap.user == user);
        let of_account = former(ACCOUNT).map_or(self.limits[usize::from(limit)].own, |cap| cap.own);
        let own = if user == ACCOUNT {
            of_account
        } else {
            let of_user =
                former(user).map_or_else(|| self.users.get(user).limit(limit).and_then(|s| s.own), |cap| cap.own);
            self.applying(step.catalog, limit, of_user).or(of_account)
        };
        cap_by(step.catalog, self, limit, own, basis)
    }
}

/// The edges that a limit crossed.
struct Edges {
    restored: bool,
    /// Places of the warnings.
    warnings: u32,
    exceeded: bool,
}

/// Brings what was told up to what is.
fn cross(state: &mut LimitState, limit: &Limit, cap: Amount) -> Edges {
    let used = state.counter.used();
    let exceeded = used >= cap;
    let mut edges = Edges { restored: state.told && !exceeded, warnings: 0, exceeded: !state.told && exceeded };
    state.told = exceeded;
    if !cap.is_zero() {
        for (place, threshold) in limit.warn.iter().enumerate() {
            let bit = 1 << place;
            if is_under(used, threshold, cap) {
                state.warned &= !bit;
            } else if state.warned & bit == 0 {
                state.warned |= bit;
                edges.warnings |= bit;
            }
        }
    }
    edges
}

impl Edges {
    fn is_any(&self) -> bool {
        self.restored || self.exceeded || self.warnings != 0
    }

    fn tell(&self, step: &mut Step<'_>, limit: &Limit, notice: CapNotice, reason: RestoreReason) {
        if self.restored {
            let restored = CapNotice { reason: Some(reason), ..notice.clone() };
            step.changes.tell(Stage::Limit, Body::CapRestored(restored));
        }
        for (place, threshold) in limit.warn.iter().enumerate().filter(|(place, _)| self.warnings & (1 << place) != 0) {
            debug_assert!(place < 32, "a catalog has at most 32 thresholds for a limit");
            let warning = CapNotice { threshold: Some(threshold.text.clone()), ..notice.clone() };
            step.changes.tell(Stage::Limit, Body::CapWarning(warning));
        }
        if self.exceeded {
            step.changes.tell(Stage::Limit, Body::CapExceeded(notice));
        }
    }
}

/// A limit as notices tell it, without threshold and reason.
pub(crate) fn cap_notice(
    catalog: &Catalog,
    limit: &Limit,
    user: Option<Box<str>>,
    counter: &Counter,
    cap: Amount,
    now: Ms,
    period: &Span,
) -> CapNotice {
    CapNotice {
        limit: limit.name.clone(),
        user,
        measure: measure_name(catalog, limit.measure).into(),
        measure_kind: limit.measure,
        used: counter.used(),
        cap,
        threshold: None,
        action: limit.on_exceed,
        window: counter.told(&limit.window, now, period, cap),
        reason: None,
    }
}

pub(crate) fn measure_name(catalog: &Catalog, measure: Measure) -> &str {
    match measure {
        Measure::Unit(unit) => &catalog.units[usize::from(unit)].name,
        Measure::Quantity(quantity) => &catalog.quantities[usize::from(quantity)],
        Measure::Records => "records",
    }
}

fn cap_by(catalog: &Catalog, state: &State, limit: LimitIndex, own: Option<OwnCap>, basis: CapBasis) -> Amount {
    let plan = &catalog.plans[usize::from(state.plan)];
    let scale = || plan.unit.map_or(9, |unit| catalog.units[usize::from(unit)].scale);
    match (own, plan.limits[usize::from(limit)].cap) {
        (Some(OwnCap::Amount(cap)), _) | (None, Cap::Amount(cap)) => cap,
        (Some(OwnCap::Percent(percent)), _) | (None, Cap::SharePercent(percent)) => {
            percent_of(basis.pool, percent, scale())
        }
        (None, Cap::ShareEqual) => scaled_down(basis.pool, 1, i128::from(basis.seats), scale()),
    }
}
