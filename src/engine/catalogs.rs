//! The catalogs that accounts and open sessions still refer to, and what is derived from each once.

use std::sync::Arc;

use super::Catalog;
use super::catalog::{PlanId, UnitId};

/// Catalogs by index; accounts remember the index of the one they last took up. None is ever removed.
#[derive(Debug)]
pub struct Catalogs {
    list: Vec<Arc<Catalog>>,
    derived: Vec<Derived>,
    current: usize,
}

/// What a record would otherwise look up by name.
#[derive(Debug)]
pub(crate) struct Derived {
    /// For each plan the unit with the name of its currency, in which a refund counts usage.
    refund_units: Vec<Option<UnitId>>,
}

impl Catalogs {
    pub fn new(catalog: Arc<Catalog>) -> Catalogs {
        let mut catalogs = Catalogs { list: Vec::new(), derived: Vec::new(), current: 0 };
        catalogs.push(catalog);
        catalogs
    }

    /// Makes `catalog` the current one, and returns its index. One that is known by its hash keeps its index.
    pub fn push(&mut self, catalog: Arc<Catalog>) -> usize {
        self.current = self.add(catalog);
        self.current
    }

    /// Makes `catalog` known without making it current: accounts in the store may still refer to it.
    pub fn add(&mut self, catalog: Arc<Catalog>) -> usize {
        if let Some(index) = self.by_hash(&catalog.hash) {
            return index;
        }
        self.derived.push(Derived::of(&catalog));
        self.list.push(catalog);
        self.list.len() - 1
    }

    pub fn current(&self) -> &Arc<Catalog> {
        &self.list[self.current]
    }

    pub fn current_index(&self) -> usize {
        self.current
    }

    pub fn get(&self, index: usize) -> &Arc<Catalog> {
        &self.list[index]
    }

    pub fn by_hash(&self, hash: &[u8; 16]) -> Option<usize> {
        self.list.iter().position(|catalog| catalog.hash == *hash)
    }

    pub(crate) fn derived(&self, index: usize) -> &Derived {
        &self.derived[index]
    }
}

impl Derived {
    fn of(catalog: &Catalog) -> Derived {
        let refund_unit = |plan: &super::catalog::Plan| {
            let currency = &catalog.currencies[usize::from(plan.price?.currency)].name;
            catalog.units.iter().position(|unit| unit.name == *currency).map(|index| index as UnitId)
        };
        Derived { refund_units: catalog.plans.iter().map(refund_unit).collect() }
    }

    pub(crate) fn refund_unit(&self, plan: PlanId) -> Option<UnitId> {
        self.refund_units[usize::from(plan)]
    }
}
