//! What a catalog makes of a record's type and fields alone. Records repeat a few combinations of these, so that it is
//! found once for each: the rows that may price it, the groups it is in, the names its totals go under.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::Ms;
use super::catalog::{Breakdown, Catalog, DimensionId, GroupId, RateId};
use super::charge::Dimensions;
use super::input::Dimension;
use super::lookup::{dimension, fitting_rates, group_fits};
use super::price::elements;
use super::sessions::Texts;
use super::totals::{Name, Names};

/// Combinations held; past this all are forgotten, as they are too many to come back.
const HELD_MAX: usize = 4_096;

#[derive(Debug)]
pub(crate) struct Profile {
    /// Rows that fit, in order, sessions' rows aside; none after one that is always in force.
    rates: Vec<RateId>,
    /// A bit for each group.
    groups: Vec<u64>,
    pub kind: Name,
    /// The distinct values of the fields by which totals are broken down.
    pub values: Vec<(DimensionId, Name)>,
}

/// The combinations met lately, under one catalog.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    /// Index in `Catalogs`.
    catalog: usize,
    places: HashTable<u32>,
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    hash: u64,
    kind: Box<str>,
    dimensions: Vec<(DimensionId, Texts)>,
    profile: Profile,
}

impl Profile {
    pub fn of(catalog: &Catalog, kind: &str, dimensions: Dimensions<'_>, names: &mut Names) -> Profile {
        let mut groups = vec![0; catalog.groups.len().div_ceil(64)];
        for group in (0..catalog.groups.len()).filter(|group| group_fits(catalog, *group as GroupId, dimensions)) {
            groups[group / 64] |= 1 << (group % 64);
        }
        let mut values: Vec<(DimensionId, Name)> = Vec::new();
        for breakdown in &catalog.totals.by {
            let Breakdown::Dimension(id) = *breakdown else { continue };
            values.extend(elements(dimension(dimensions, id)).map(|text| (id, names.name(text))));
        }
        Profile { rates: fitting_rates(catalog, kind, dimensions, false), groups, kind: names.name(kind), values }
    }

    /// The row that prices a record at `at`.
    #[inline]
    pub fn rate(&self, catalog: &Catalog, at: Ms) -> Option<RateId> {
        self.rates.iter().copied().find(|rate| catalog.rates[*rate as usize].is_in_force(at))
    }

    #[inline]
    pub fn is_in(&self, group: GroupId) -> bool {
        let group = usize::from(group);
        self.groups[group / 64] & (1 << (group % 64)) != 0
    }
}

impl Profiles {
    /// The profile of a record; `current` is the index of `catalog`.
    #[inline]
    pub fn of(
        &mut self,
        (current, catalog): (usize, &Catalog),
        kind: &str,
        dimensions: Dimensions<'_>,
        names: &mut Names,
    ) -> &Profile {
        if self.catalog != current || self.held.len() >= HELD_MAX {
            *self = Profiles { catalog: current, ..Profiles::default() };
        }
        let hash = hash_of(kind, dimensions);
        let found = self.places.find(hash, |place| self.held[*place as usize].is(kind, dimensions)).copied();
        let place = found.unwrap_or_else(|| {
            let place = self.held.len() as u32;
            let profile = Profile::of(catalog, kind, dimensions, names);
            self.held.push(Held::new(hash, kind, dimensions, profile));
            self.places.insert_unique(hash, place, |place| self.held[*place as usize].hash);
            place
        });
        &self.held[place as usize].profile
    }
}

impl Held {
    fn new(hash: u64, kind: &str, dimensions: Dimensions<'_>, profile: Profile) -> Held {
        let dimensions = dimensions.iter().map(|(id, value)| (*id, Texts::from(*value))).collect();
        Held { hash, kind: kind.into(), dimensions, profile }
    }

    #[inline]
    fn is(&self, kind: &str, dimensions: Dimensions<'_>) -> bool {
        let same = |((id, texts), (of, value)): (&(DimensionId, Texts), &(DimensionId, Dimension<'_>))| {
            id == of && texts.are(*value)
        };
        *self.kind == *kind
            && self.dimensions.len() == dimensions.len()
            && self.dimensions.iter().zip(dimensions).all(same)
    }
}

#[inline]
fn hash_of(kind: &str, dimensions: Dimensions<'_>) -> u64 {
    let mut hasher = FixedState::with_seed(1).build_hasher();
    hasher.write(kind.as_bytes());
    for (id, value) in dimensions {
        hasher.write_u16(*id);
        match value {
            Dimension::Text(text) => hasher.write(text.as_bytes()),
            Dimension::List(list) => list.iter().for_each(|text| hasher.write(text.as_bytes())),
        }
    }
    hasher.finish()
}
