//! What becomes of limits where the plan, or the catalog, changes (docs/reference.md 7.3): one that is the same in both
//! keeps its counters, its state and its caps; every other starts empty.

use super::Ms;
use super::account::State;
use super::catalog::{Catalog, Limit, LimitIndex, Measure, PlanId, Scope, Threshold};
use super::changes::{ACCOUNT, Stage, Step};
use super::effects::{Body, CapNotice, RestoreReason};
use super::limits::{LimitState, cap_notice};
use super::subscription::plan_of;
use super::users::UserIndex;

impl State {
    /// Keeps, drops and adds limits for a move from a plan of `old`, the catalog the state is of, to one of the step's.
    /// What was told exceeded of a limit that is gone is told restored.
    pub fn keep_limits(&mut self, step: &mut Step<'_>, old: &Catalog, (from, to): (PlanId, PlanId)) {
        let (old_limits, new_limits) = (&plan_of(old, from).limits, &plan_of(step.catalog, to).limits);
        let kept: Vec<Option<LimitIndex>> = old_limits
            .iter()
            .map(|limit| {
                let same = |other: &Limit| is_same((old, limit), (step.catalog, other));
                new_limits.iter().position(same).map(|place| place as LimitIndex)
            })
            .collect();
        for (place, limit) in old_limits.iter().enumerate().filter(|(place, _)| kept[*place].is_none()) {
            self.tell_gone(step, old, place as LimitIndex, limit);
        }
        for (place, limit) in old_limits.iter().enumerate().filter(|(place, _)| kept[*place].is_some()) {
            self.slide_warned(old, place as LimitIndex, limit, step.now);
        }
        let mut states: Vec<LimitState> = new_limits.iter().map(|limit| LimitState::new(&limit.window)).collect();
        for (place, state) in std::mem::take(&mut self.limits).into_iter().enumerate() {
            if let Some(new) = kept[place].map(usize::from) {
                states[new] = moved(state, &old_limits[place], &new_limits[new]);
            }
        }
        self.limits = states;
        for user in self.users.iter_mut() {
            let mut states: Vec<(LimitIndex, LimitState)> = std::mem::take(&mut user.limits)
                .into_iter()
                .filter_map(|(place, state)| {
                    let new = kept[usize::from(place)]?;
                    let state = moved(state, &old_limits[usize::from(place)], &new_limits[usize::from(new)]);
                    Some((new, state))
                })
                .collect();
            states.sort_unstable_by_key(|entry| entry.0);
            user.limits = states;
        }
    }

    /// Warnings that a sliding window has left behind, under the cap that was, may be told again under the one that comes.
    fn slide_warned(&mut self, old: &Catalog, place: LimitIndex, limit: &Limit, now: Ms) {
        for user in self.counted_by(limit.scope) {
            if self.limit(place, user).is_some_and(|state| state.warned != 0) {
                let cap = self.cap(old, place, user);
                self.limit_mut(place, user, &limit.window).slide(limit, cap, now);
            }
        }
    }

    fn counted_by(&self, scope: Scope) -> Vec<UserIndex> {
        match scope {
            Scope::Account => vec![ACCOUNT],
            Scope::User => self.users.by_name(),
        }
    }

    /// `cap.restored` of a limit that the new plan does not have, as it stood.
    fn tell_gone(&mut self, step: &mut Step<'_>, old: &Catalog, place: LimitIndex, limit: &Limit) {
        let (now, span) = (step.now, self.span());
        for user in self.counted_by(limit.scope) {
            if !self.limit(place, user).is_some_and(|state| state.told) {
                continue;
            }
            let cap = self.cap(old, place, user);
            let state = self.limit_mut(place, user, &limit.window);
            state.counter.advance(&limit.window, now);
            let counter = state.counter.clone();
            let name = self.name_of(user);
            let notice = cap_notice(old, limit, name, &counter, cap, now, &span);
            let notice = CapNotice { reason: Some(RestoreReason::Plan), ..notice };
            step.changes.tell(Stage::Limit, Body::CapRestored(notice));
        }
    }

    pub fn name_of(&self, user: UserIndex) -> Option<Box<str>> {
        (user != ACCOUNT).then(|| self.users.get(user).name.as_str().into())
    }
}

/// A state under its new row: what was told of thresholds that both write alike stays.
fn moved(state: LimitState, old: &Limit, new: &Limit) -> LimitState {
    let told = |threshold: &Threshold| {
        let place = old.warn.iter().position(|other| other.text == threshold.text);
        place.is_some_and(|place| state.warned & (1 << place) != 0)
    };
    let warned = new.warn.iter().enumerate().filter(|(_, threshold)| told(threshold));
    let warned = warned.fold(0, |bits, (place, _)| bits | 1 << place);
    LimitState { warned, timer: Ms::MAX, ..state }
}

fn is_same((old, a): (&Catalog, &Limit), (new, b): (&Catalog, &Limit)) -> bool {
    a.name == b.name
        && a.scope == b.scope
        && a.window == b.window
        && a.kind == b.kind
        && measured(old, a.measure) == measured(new, b.measure)
        && group_name(old, a) == group_name(new, b)
}

/// What tells measures apart whatever the catalog: their kind and name.
fn measured(catalog: &Catalog, measure: Measure) -> (u8, &str) {
    match measure {
        Measure::Unit(unit) => (0, &catalog.units[usize::from(unit)].name),
        Measure::Quantity(quantity) => (1, &catalog.quantities[usize::from(quantity)]),
        Measure::Records => (2, ""),
    }
}

fn group_name<'a>(catalog: &'a Catalog, limit: &Limit) -> Option<&'a str> {
    limit.group.map(|group| &*catalog.groups[usize::from(group)].name)
}
