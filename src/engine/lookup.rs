//! What the catalog's rows and groups are compiled to, so that the work of a record does not grow with their number.
//!
//! The rows of a record's type are found by hash, and among them those that name one of its values in the most selective
//! of their fields; the few candidates are then checked in full, lowest row first. A prefix is found by hashing the
//! beginnings of a text, one for each length that prefixes of that field have.

mod texts;

use hashbrown::HashMap;

use self::texts::{TextSet, Texts};
use super::Ms;
use super::catalog::{Cap, Catalog, DimensionId, GroupId, Match, Pattern, Rate, RateId};
use super::input::Dimension;
use super::limits::edge;
use super::price::{Exchanges, Formula};

/// Compiled from the rest of the catalog by [`Catalog::finish`].
#[derive(Debug, Default)]
pub struct Index {
    rates: RateIndex,
    groups: Vec<Vec<Matcher>>,
    /// By rate.
    pub(super) formulas: Vec<Formula>,
    pub(super) exchanges: Exchanges,
}

/// Finds the first fitting row.
#[derive(Debug, Default)]
struct RateIndex {
    rows: Vec<Row>,
    ordinary: Side,
    sessions: Side,
}

/// What of a row is left to check for a candidate: its type fitted already.
#[derive(Debug)]
struct Row {
    matchers: Vec<Matcher>,
    /// It is in force at all times.
    is_always: bool,
}

/// A field that must have one of some texts.
#[derive(Debug)]
struct Matcher {
    dimension: DimensionId,
    set: TextSet,
}

#[derive(Debug, Default)]
struct Side {
    kinds: Texts<Node>,
    any_kind: Node,
}

/// The rows of one type (or pattern of types): those found by a field's value, and those that are always candidates.
#[derive(Debug, Default)]
struct Node {
    always: Vec<RateId>,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    dimension: DimensionId,
    rows: Texts<Vec<RateId>>,
}

/// The rate that prices a record of this type, fields and time: the first row that fits and is in force. Sessions have
/// rows of their own.
pub fn find_rate(
    catalog: &Catalog,
    kind: &str,
    dimensions: &[(DimensionId, Dimension<'_>)],
    time: Ms,
    session: bool,
) -> Option<RateId> {
    let fitting = fitting_rates(catalog, kind, dimensions, session);
    fitting.into_iter().find(|rate| catalog.rates[*rate as usize].is_in_force(time))
}

/// The rows that fit a record, in order; none after one that is always in force.
pub(super) fn fitting_rates(
    catalog: &Catalog,
    kind: &str,
    dimensions: &[(DimensionId, Dimension<'_>)],
    session: bool,
) -> Vec<RateId> {
    let index = &catalog.index.rates;
    let side = if session { &index.sessions } else { &index.ordinary };
    let mut search = Search { rows: &index.rows, dimensions, always: RateId::MAX, fitting: Vec::new() };
    side.kinds.hits(kind, |node| search.visit(node));
    search.visit(&side.any_kind);
    let Search { always, mut fitting, .. } = search;
    fitting.sort_unstable();
    fitting.dedup();
    fitting.retain(|rate| *rate <= always);
    fitting
}

/// Whether a record with these fields is in the group.
pub fn group_fits(catalog: &Catalog, group: GroupId, dimensions: &[(DimensionId, Dimension<'_>)]) -> bool {
    catalog.index.groups[usize::from(group)].iter().all(|matcher| matcher.fits(dimensions))
}

/// The value of a field, if the record has it.
pub fn dimension<'a>(dimensions: &[(DimensionId, Dimension<'a>)], id: DimensionId) -> Option<Dimension<'a>> {
    dimensions.iter().find(|(dimension, _)| *dimension == id).map(|(_, value)| *value)
}

impl Catalog {
    /// Compiles the index; to be called once, when the catalog is complete.
    #[must_use]
    pub fn finish(mut self) -> Catalog {
        for limit in self.plans.iter_mut().flat_map(|plan| &mut plan.limits) {
            if let Cap::Amount(cap) = limit.cap {
                limit.edges = limit.warn.iter().map(|threshold| edge(threshold, cap)).collect();
            }
        }
        self.index = Index {
            rates: RateIndex::new(&self.rates),
            groups: self.groups.iter().map(|group| matchers(&group.matches)).collect(),
            formulas: self.rates.iter().map(|rate| Formula::new(rate, &self.units)).collect(),
            exchanges: Exchanges::new(&self.exchanges, &self.units),
        };
        self
    }
}

impl RateIndex {
    fn new(rates: &[Rate]) -> RateIndex {
        let side = |session: bool| {
            let of_side = |(_, rate): &(RateId, &Rate)| rate.session_max_ms.is_some() == session;
            Side::new((0..).zip(rates).filter(of_side))
        };
        let row = |rate: &Rate| Row { matchers: matchers(&rate.matches), is_always: rate.is_always_in_force() };
        RateIndex { rows: rates.iter().map(row).collect(), ordinary: side(false), sessions: side(true) }
    }
}

impl Side {
    fn new<'a>(rates: impl Iterator<Item = (RateId, &'a Rate)>) -> Side {
        let mut any_kind = Vec::new();
        let mut by_kind: Texts<Vec<(RateId, &Rate)>> = Texts::default();
        for (id, rate) in rates {
            match &rate.kind {
                None => any_kind.push((id, rate)),
                Some(kind) => by_kind.entry(kind).push((id, rate)),
            }
        }
        Side { kinds: by_kind.map(|rates| Node::new(&rates)), any_kind: Node::new(&any_kind) }
    }
}

impl Node {
    /// So few rows are checked one by one sooner than found by hash.
    const FEW: usize = 4;

    fn new(rates: &[(RateId, &Rate)]) -> Node {
        let mut node = Node::default();
        let few = rates.len() <= Node::FEW;
        let shared = if few { HashMap::new() } else { Node::shares(rates) };
        for (id, rate) in rates {
            let widest = |by: &&Match| by.patterns.iter().map(|p| shared[&(by.dimension, p)]).max().unwrap_or(0);
            let selective = rate.matches.iter().filter(|_| !few).min_by_key(|by| (widest(by), by.patterns.len()));
            match selective {
                None => node.always.push(*id),
                Some(by) => {
                    let field = node.field(by.dimension);
                    for pattern in &by.patterns {
                        let rows = field.rows.entry(pattern);
                        if rows.last() != Some(id) {
                            rows.push(*id);
                        }
                    }
                }
            }
        }
        node
    }

    /// How many rows name each pattern of each field. A prefix is found for values of many rows: it counts for all of them.
    fn shares<'a>(rates: &[(RateId, &'a Rate)]) -> HashMap<(DimensionId, &'a Pattern), usize> {
        let mut shared = HashMap::new();
        for (_, rate) in rates {
            for by in &rate.matches {
                for pattern in &by.patterns {
                    *shared.entry((by.dimension, pattern)).or_insert(0) += 1;
                }
            }
        }
        for ((_, pattern), count) in &mut shared {
            if pattern.prefix && pattern.text.is_empty() {
                *count = rates.len();
            }
        }
        shared
    }

    fn field(&mut self, dimension: DimensionId) -> &mut Field {
        let place = self.fields.iter().position(|field| field.dimension == dimension);
        let place = place.unwrap_or_else(|| {
            self.fields.push(Field { dimension, rows: Texts::default() });
            self.fields.len() - 1
        });
        &mut self.fields[place]
    }
}

struct Search<'a> {
    rows: &'a [Row],
    dimensions: &'a [(DimensionId, Dimension<'a>)],
    /// The first of those found that is always in force: none after it is needed.
    always: RateId,
    fitting: Vec<RateId>,
}

impl Search<'_> {
    fn visit(&mut self, node: &Node) {
        self.consider(&node.always, None);
        for field in &node.fields {
            let known = Some(field.dimension);
            match dimension(self.dimensions, field.dimension) {
                None => {}
                Some(Dimension::Text(text)) => field.rows.hits(text, |rows| self.consider(rows, known)),
                Some(Dimension::List(list)) => {
                    for text in list {
                        field.rows.hits(text, |rows| self.consider(rows, known));
                    }
                }
            }
        }
    }

    /// Takes those of `candidates` (ascending) that fit and may be needed. The field `known` fits already.
    fn consider(&mut self, candidates: &[RateId], known: Option<DimensionId>) {
        for id in candidates.iter().take_while(|id| **id < self.always) {
            let row = &self.rows[*id as usize];
            let mut unknown = row.matchers.iter().filter(|matcher| Some(matcher.dimension) != known);
            if unknown.all(|matcher| matcher.fits(self.dimensions)) {
                self.fitting.push(*id);
                if row.is_always {
                    self.always = *id;
                    return;
                }
            }
        }
    }
}

impl Matcher {
    fn fits(&self, dimensions: &[(DimensionId, Dimension<'_>)]) -> bool {
        match dimension(dimensions, self.dimension) {
            None => false,
            Some(Dimension::Text(text)) => self.set.fits(text),
            Some(Dimension::List(list)) => list.iter().any(|text| self.set.fits(text)),
        }
    }
}

fn matchers(matches: &[Match]) -> Vec<Matcher> {
    matches.iter().map(|by| Matcher { dimension: by.dimension, set: TextSet::new(&by.patterns) }).collect()
}

#[cfg(test)]
mod tests;
