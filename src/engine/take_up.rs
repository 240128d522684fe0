//! Taking up a changed catalog (docs/reference.md 7.6, 16 "Reload"), before an account's next input or timer.
//!
//! Ids are places in a catalog, so everything that an account holds by id is found again by its name. Quantities that the
//! new catalog does not know stay in totals under names that the account keeps itself.

use super::Ms;
use super::account::{Account, Rule, State};
use super::catalog::{Catalog, CurrencyId, DimensionId, GroupId, OverflowOn, PlanId, QuantityId, UnitId};
use super::catalogs::Catalogs;
use super::changes::{Changes, Stage, Step};
use super::effects::{Body, Cause, Effects, Timer};
use super::limits::measure_name;
use super::period::Period;
use super::subscription::plan_of;
use super::totals::{Bucket, Row, Totals};

/// Quantities from here on are names of the account's own.
const RETIRED: QuantityId = 0x8000;

/// Takes up the current catalog, if another was taken up last. It happens when the account's next timer is due, or at the
/// clock of its next input, whichever is first.
pub(super) fn take_up(account: &mut Account, catalogs: &Catalogs, changes: &mut Changes, clock: Ms, fx: &mut Effects) {
    let Some(state) = account.state.as_mut().filter(|state| state.catalog as usize != catalogs.current_index()) else {
        return;
    };
    let now = account.due.map_or(clock, |due| due.min(clock));
    let mut step = Step { catalogs, catalog: catalogs.current(), now, changes };
    state.take_up(&mut step);
    state.finish(&mut step, fx);
    let plan = &plan_of(catalogs.current(), state.plan).name;
    changes.emit(&mut account.sequence, Some(plan), now, Cause::Timer(Timer::Catalog), fx);
    account.due = state.find_due(catalogs.current());
}

/// What the account uses that `new` lacks: such a catalog is refused.
pub fn lacks(account: &Account, catalogs: &Catalogs, new: &Catalog) -> Option<String> {
    let state = account.state.as_deref()?;
    let old = &**catalogs.get(state.catalog as usize);
    let pending = state.pending().map(|pending| pending.plan);
    let withheld = state.rare.as_ref().and_then(|rare| rare.withheld).map(|withheld| withheld.plan);
    for plan in [Some(state.plan), pending, withheld].into_iter().flatten() {
        let name = &plan_of(old, plan).name;
        if !new.plans.iter().any(|plan| plan.name == *name) {
            return Some(format!("plan {name}"));
        }
    }
    let units = state.balances.iter().map(|balance| balance.unit).chain(state.autopay().map(|autopay| autopay.unit));
    for name in units.map(|unit| &old.units[usize::from(unit)].name) {
        if !new.units.iter().any(|unit| unit.name == *name) {
            return Some(format!("unit {name}"));
        }
    }
    let groups = state.balances.iter().flat_map(|balance| balance.grants()).filter_map(|grant| grant.group);
    for name in groups.map(|group| &old.groups[usize::from(group)].name) {
        if !new.groups.iter().any(|group| group.name == *name) {
            return Some(format!("group {name}"));
        }
    }
    let measures = plan_of(old, state.plan).limits.iter().map(|limit| measure_name(old, limit.measure));
    let known = |name: &str| {
        name == "records"
            || new.units.iter().any(|unit| *unit.name == *name)
            || new.quantities.iter().any(|quantity| **quantity == *name)
    };
    measures.into_iter().find(|name| !known(name)).map(|name| format!("limit measure {name}"))
}

/// Finds the ids of one catalog in another, by their names.
struct Renamed<'a> {
    old: &'a Catalog,
    new: &'a Catalog,
    /// Names of quantities that the account keeps itself.
    retired: &'a mut Vec<Box<str>>,
}

impl State {
    fn take_up(&mut self, step: &mut Step<'_>) {
        let old = &**step.catalogs.get(self.catalog as usize);
        let new = step.catalog;
        let mut retired = self.rare.as_mut().map_or_else(Vec::new, |rare| std::mem::take(&mut rare.retired));
        let mut names = Renamed { old, new, retired: &mut retired };
        let (from, to) = (self.plan, names.plan(self.plan));
        self.keep_limits(step, old, (from, to));
        self.move_overflows(step, old, to);
        self.move_rare(&mut names);
        for balance in &mut self.balances {
            balance.unit = names.unit(balance.unit);
            balance.rename_groups(|group| names.group(group).expect("a catalog without a group in use is refused"));
        }
        names.period(&mut self.period);
        self.ended.iter_mut().for_each(|period| names.period(period));
        self.totals = names.totals(&self.totals);
        for extra in self.users.iter_mut().filter_map(|user| user.extra.as_mut()) {
            extra.deny = extra.deny.iter().filter_map(|group| names.group(*group)).collect();
            extra.deny.sort_unstable();
            names.rules(&mut extra.denied);
        }
        let moved_unit = plan_of(old, from).unit.map(|unit| names.unit(unit));
        if !retired.is_empty() {
            self.rare_mut().retired = retired;
        }
        self.plan = to;
        self.catalog = step.catalogs.current_index() as u32;
        if moved_unit != plan_of(new, to).unit {
            self.refill_pool(step);
        }
        self.arm_all(new);
        step.changes.plan_changed = true;
    }

    /// Overflows that the new plan does not have end; the others go on under their place in it.
    fn move_overflows(&mut self, step: &mut Step<'_>, old: &Catalog, to: PlanId) {
        let running = std::mem::take(match &mut self.rare {
            Some(rare) => &mut rare.overflow,
            None => return,
        });
        let limits = &plan_of(old, self.plan).limits;
        let new = plan_of(step.catalog, to);
        for on in running {
            let (name, moved) = match on {
                OverflowOn::Balance => ("balance", Some(OverflowOn::Balance)),
                OverflowOn::Limit(limit) => {
                    let name = &*limits[usize::from(limit)].name;
                    let place = new.limits.iter().position(|limit| *limit.name == *name);
                    (name, place.map(|place| OverflowOn::Limit(place as u16)))
                }
            };
            match moved.filter(|on| new.overflow.contains(on) && step.catalog.payg.is_some()) {
                Some(on) => self.rare_mut().overflow.push(on),
                None => {
                    let unit = old
                        .payg
                        .as_ref()
                        .map_or_else(Box::default, |payg| old.units[usize::from(payg.unit)].name.clone());
                    step.changes.tell(Stage::OverflowEnded, Body::OverflowEnded { limit: name.into(), unit });
                }
            }
        }
    }

    fn move_rare(&mut self, names: &mut Renamed<'_>) {
        let Some(rare) = &mut self.rare else { return };
        if let Some(pending) = &mut rare.pending {
            pending.plan = names.plan(pending.plan);
        }
        if let Some(withheld) = &mut rare.withheld {
            withheld.plan = names.plan(withheld.plan);
        }
        if let Some(autopay) = &mut rare.autopay {
            autopay.unit = names.unit(autopay.unit);
        }
        names.rules(&mut rare.denied);
    }

    /// The name of a quantity in this account's totals.
    pub fn quantity_name<'a>(&'a self, catalog: &'a Catalog, id: QuantityId) -> &'a str {
        match (id.checked_sub(RETIRED), &self.rare) {
            (Some(place), Some(rare)) => &rare.retired[usize::from(place)],
            _ => &catalog.quantities[usize::from(id)],
        }
    }
}

impl Renamed<'_> {
    fn plan(&self, id: PlanId) -> PlanId {
        let name = &plan_of(self.old, id).name;
        let found = self.new.plans.iter().position(|plan| plan.name == *name);
        found.expect("a catalog without a plan in use is refused") as PlanId
    }

    fn unit(&self, id: UnitId) -> UnitId {
        let name = &self.old.units[usize::from(id)].name;
        let found = self.new.units.iter().position(|unit| unit.name == *name);
        found.expect("a catalog without a unit in use is refused") as UnitId
    }

    /// A unit of what was recorded, which the new catalog may not know any more.
    fn recorded_unit(&self, id: UnitId) -> Option<UnitId> {
        let name = &self.old.units[usize::from(id)].name;
        self.new.units.iter().position(|unit| unit.name == *name).map(|place| place as UnitId)
    }

    fn group(&self, id: GroupId) -> Option<GroupId> {
        let name = &self.old.groups[usize::from(id)].name;
        self.new.groups.iter().position(|group| group.name == *name).map(|place| place as GroupId)
    }

    fn dimension(&self, id: DimensionId) -> Option<DimensionId> {
        let name = &self.old.dimensions[usize::from(id)];
        self.new.dimensions.iter().position(|known| known == name).map(|place| place as DimensionId)
    }

    fn quantity(&mut self, id: QuantityId) -> QuantityId {
        let name = match id.checked_sub(RETIRED) {
            Some(place) => self.retired[usize::from(place)].clone(),
            None => self.old.quantities[usize::from(id)].clone(),
        };
        if let Some(place) = self.new.quantities.iter().position(|known| *known == name) {
            return place as QuantityId;
        }
        let place = self.retired.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.retired.push(name);
            self.retired.len() - 1
        });
        RETIRED + place as QuantityId
    }

    fn rules(&self, rules: &mut Vec<Rule>) {
        *rules = rules
            .iter()
            .filter_map(|rule| match rule {
                Rule::Group(group) => self.group(*group).map(Rule::Group),
                other => Some(*other),
            })
            .collect();
    }

    fn period(&mut self, period: &mut Period) {
        let currency = |id: CurrencyId| {
            let name = &self.old.currencies[usize::from(id)].name;
            self.new.currencies.iter().position(|currency| currency.name == *name).map(|place| place as CurrencyId)
        };
        period.price =
            period.price.and_then(|price| Some(super::account::Price { currency: currency(price.currency)?, ..price }));
        if let Some(sums) = &mut period.sums {
            for list in [&mut sums.granted, &mut sums.unused, &mut sums.overage] {
                list.retain_mut(|entry| match self.recorded_unit(entry.0) {
                    Some(unit) => {
                        entry.0 = unit;
                        true
                    }
                    None => false,
                });
            }
        }
        let mut recorded = Bucket::default();
        for row in period.recorded.rows().filter_map(|row| self.row(row.to_row())) {
            recorded.restore(row);
        }
        period.recorded = recorded;
    }

    fn totals(&mut self, totals: &Totals) -> Totals {
        let mut moved = Totals::default();
        for month in totals.months() {
            for row in month.rows().filter_map(|row| self.row(row.to_row())) {
                moved.restore(month.month, row);
            }
        }
        moved
    }

    fn row(&mut self, row: Row) -> Option<Row> {
        let charged = |charges: Vec<_>| {
            let found = charges
                .into_iter()
                .filter_map(|(route, unit, amount)| Some((route, self.recorded_unit(unit)?, amount)));
            found.collect()
        };
        Some(match row {
            Row::Head { records, failed, charges } => Row::Head { records, failed, charges: charged(charges) },
            Row::User { user, records, charges } => Row::User { user, records, charges: charged(charges) },
            Row::Value { dimension, name, records, charges } => {
                Row::Value { dimension: self.dimension(dimension)?, name, records, charges: charged(charges) }
            }
            Row::Kind { name, quantities } => {
                let quantities = quantities.into_iter().map(|(id, amount)| (self.quantity(id), amount)).collect();
                Row::Kind { name, quantities }
            }
        })
    }
}
