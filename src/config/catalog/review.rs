//! Warnings: what is allowed and probably not meant.

use hashbrown::HashMap;

use super::super::reading::{Place, Table};
use super::Check;
use crate::engine::catalog::{
    DimensionId, Exchange, Limit, Match, Measure, OnExceed, OverflowOn, Pattern, Plan, Rate, UnitId,
};

impl Check<'_> {
    /// Rows of the rate card that no record reaches, or that can price none.
    pub(super) fn review_rates(&self, rates: &[Rate], places: &[Place]) {
        if rates.is_empty() {
            let whole = Place { path: "rate".to_owned(), span: 0..0 };
            let help = "a record that no [[rate]] fits is quarantined as `no_rate`".to_owned();
            self.reading.warning(&whole, "there is no rate, so nothing can be metered", Some(help));
        }
        let mut rows: HashMap<Key<'_>, Vec<usize>> = HashMap::new();
        for (at, (rate, place)) in rates.iter().zip(places).enumerate() {
            let earlier = keys_of_coverers(rate).filter_map(|key| rows.get(&key)).flatten().copied();
            if let Some(first) = earlier.filter(|earlier| covers(&rates[*earlier], rate)).min() {
                let line = rates[first].line;
                let help = format!("the row in line {line} fits every record that this one fits, and stands first");
                self.reading.warning(place, "this row is never reached", Some(help));
            }
            for key in own_keys(rate) {
                rows.entry(key).or_default().push(at);
            }
            self.review_rate(rate, place);
        }
    }

    fn review_rate(&self, rate: &Rate, place: &Place) {
        let warn = |message: &str, help: &str| self.reading.warning(place, message, Some(help.to_owned()));
        if rate.kind.as_ref().is_some_and(|kind| kind.text.starts_with("meterd.")) {
            warn("this row is never reached", "types of usage records do not begin with `meterd.`");
        }
        if rate.multiply.as_ref().is_some_and(|multiply| multiply.values.is_empty() && multiply.otherwise.is_none()) {
            warn("this row prices no record", "`multiply` has no value and no `otherwise`");
        }
        let nothing_each = rate.each.as_ref().is_none_or(|each| each.prices.values().all(Vec::is_empty));
        if rate.minimum.is_some() && rate.price.is_empty() && nothing_each {
            warn("`minimum` does nothing in a row that is free", "a minimum is of what costs something; set a `price`");
        }
        let mut texts = rate.multiply.iter().flat_map(|multiply| multiply.values.keys());
        let mut features = rate.each.iter().flat_map(|each| each.prices.keys());
        if texts.any(|text| text.ends_with('*')) || features.any(|text| text.ends_with('*')) {
            warn("a `*` that stands for itself", "`multiply` and `each` compare whole texts; use `match` for prefixes");
        }
    }

    /// Exchange rows that a later one always comes before.
    pub(super) fn review_exchanges(&self, exchanges: &[Exchange], places: &[Place]) {
        for (at, (row, place)) in exchanges.iter().zip(places).enumerate() {
            let hides = |later: &&Exchange| {
                (later.from_unit, later.to_unit, &later.class) == (row.from_unit, row.to_unit, &row.class)
                    && later.from <= row.from
            };
            if exchanges[at + 1..].iter().any(|later| hides(&later)) {
                let help = "the last row in force counts, and a later one is in force whenever this one is";
                self.reading.warning(place, "this row is never used", Some(help.to_owned()));
            }
        }
    }

    /// Charges that can never be expressed in the unit they are needed in.
    pub(super) fn review_units(
        &self,
        rates: &[Rate],
        exchanges: &[Exchange],
        plans: &[Plan],
        payg: Option<UnitId>,
        places: &[Place],
    ) {
        let exchanged = |from: UnitId, to: UnitId| {
            from == to || exchanges.iter().any(|row| (row.from_unit, row.to_unit) == (from, to))
        };
        let limits = plans.iter().flat_map(|plan| &plan.limits).filter_map(|limit| match limit.measure {
            Measure::Unit(unit) if limit.group.is_none() && limit.kind.is_none() => Some(unit),
            _ => None,
        });
        let mut needed: Vec<UnitId> = plans.iter().filter_map(|plan| plan.unit).chain(payg).chain(limits).collect();
        needed.sort_unstable();
        needed.dedup();
        let mut told = Vec::new();
        for (rate, place) in rates.iter().zip(places).filter(|(rate, _)| !rate.price.is_empty()) {
            for unit in needed.iter().copied().filter(|unit| !exchanged(rate.unit, *unit)) {
                if told.contains(&(rate.unit, unit)) {
                    continue;
                }
                told.push((rate.unit, unit));
                let (from, to) = (self.units.name(rate.unit), self.units.name(unit));
                let help =
                    format!("records in need of it are `no_exchange`; add an [[exchange]] from `{from}` to `{to}`");
                self.reading.warning(place, format!("nothing exchanges `{from}` into `{to}`"), Some(help));
            }
        }
    }

    /// What a plan says without effect.
    pub(super) fn review_plan(&self, table: &Table<'_>, plan: &Plan) {
        let warn = |key: &str, why: &str| {
            if table.has(key) {
                let place = table.place_of(key);
                self.reading.warning(&place, format!("`{key}` does nothing here"), Some(why.to_owned()));
            }
        };
        if plan.unit.is_none() {
            for key in ["low", "exhausted_below", "overdraft"] {
                warn(key, "a plan without `unit` draws on nothing");
            }
        }
        if plan.price.is_none() {
            warn("grace", "payments do not fail on a plan without `price`");
            warn("refund", "nothing was paid for a plan without `price`");
        }
        if !self.has_payg && !plan.overflow.is_empty() {
            warn("overflow", "without [payg] there is nothing to overflow to");
        }
        for (at, limit) in plan.limits.iter().enumerate() {
            if limit.on_exceed == OnExceed::Overflow && !plan.overflow.contains(&OverflowOn::Limit(at as u16)) {
                self.review_overflow(table, limit);
            }
        }
    }

    fn review_overflow(&self, table: &Table<'_>, limit: &Limit) {
        let message = format!("the limit `{}` says that it overflows, and nothing does", limit.name);
        let help = "name it in the plan's `overflow`, or choose another `on_exceed`";
        self.reading.warning(table.place(), message, Some(help.to_owned()));
    }
}

/// What a row is filed under: the text of its type, and of a pattern of its first match.
type Key<'c> = (Option<&'c str>, Option<(DimensionId, &'c str)>);

fn own_keys(rate: &Rate) -> Vec<Key<'_>> {
    let kind = rate.kind.as_ref().map(|kind| &*kind.text);
    match rate.matches.first() {
        None => vec![(kind, None)],
        Some(one) => one.patterns.iter().map(|pattern| (kind, Some((one.dimension, &*pattern.text)))).collect(),
    }
}

/// The keys under which a row that covers this one can be filed. It has this one's type or a prefix of it, or none; and
/// its first match, if any, is of a field of this one, with each pattern of this one or a prefix of it.
fn keys_of_coverers(rate: &Rate) -> impl Iterator<Item = Key<'_>> {
    let kinds: Vec<Option<&str>> =
        std::iter::once(None).chain(rate.kind.iter().flat_map(|kind| prefixes(&kind.text)).map(Some)).collect();
    let patterns: Vec<_> = std::iter::once(None).chain(rate.matches.iter().flat_map(keys_of_match).map(Some)).collect();
    kinds.into_iter().flat_map(move |kind| patterns.clone().into_iter().map(move |pattern| (kind, pattern)))
}

fn keys_of_match(one: &Match) -> impl Iterator<Item = (DimensionId, &str)> {
    let first = one.patterns.first();
    first.into_iter().flat_map(|pattern| prefixes(&pattern.text)).map(|prefix| (one.dimension, prefix))
}

/// The empty text up to the whole one.
fn prefixes(text: &str) -> impl Iterator<Item = &str> {
    (0..=text.len()).filter_map(|end| text.get(..end))
}

/// Whether every record that `later` fits is fitted by `earlier`, at any time.
fn covers(earlier: &Rate, later: &Rate) -> bool {
    let of_a_kind = earlier.session_max_ms.is_some() == later.session_max_ms.is_some();
    let kind = match (&earlier.kind, &later.kind) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => pattern_covers(earlier, later),
    };
    let in_time = earlier.from <= later.from && later.until <= earlier.until;
    of_a_kind
        && kind
        && in_time
        && earlier.matches.iter().all(|one| later.matches.iter().any(|other| match_covers(one, other)))
}

fn match_covers(earlier: &Match, later: &Match) -> bool {
    let covered = |pattern: &Pattern| earlier.patterns.iter().any(|one| pattern_covers(one, pattern));
    earlier.dimension == later.dimension && later.patterns.iter().all(covered)
}

fn pattern_covers(earlier: &Pattern, later: &Pattern) -> bool {
    if earlier.prefix { later.text.starts_with(&*earlier.text) } else { !later.prefix && earlier.text == later.text }
}
