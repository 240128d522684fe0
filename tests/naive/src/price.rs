//! Section 6.4: which row prices a record, what it costs, and exchange.

use crate::catalog::{self, Catalog, Component, Match, Rate};
use crate::decode::Dim;
use crate::num::{self, Amt, E15};
use crate::time::Ms;
use num_rational::BigRational;
use num_traits::Zero;
use std::collections::{BTreeMap, BTreeSet};

/// What of a record is priced and counted; of a session, its start overlaid by its end.
#[derive(Clone)]
pub struct Facts {
    pub type_: String,
    pub user: Option<String>,
    pub payg: bool,
    pub dims: BTreeMap<String, Dim>,
    pub quantities: BTreeMap<String, Amt>,
    /// The effective time.
    pub time: Ms,
    pub session: bool,
}

impl Facts {
    /// `requests` is 1 unless given; every other quantity 0.
    pub fn quantity(&self, name: &str) -> Amt {
        let absent = if name == "requests" { num::ONE } else { 0 };
        self.quantities.get(name).copied().unwrap_or(absent)
    }

    fn texts(&self, field: &str) -> Vec<String> {
        match self.dims.get(field) {
            None => Vec::new(),
            Some(Dim::Text(t)) => vec![t.clone()],
            Some(Dim::Bool(b)) => vec![b.to_string()],
            Some(Dim::List(items)) => items.clone(),
        }
    }

    pub fn fits(&self, matches: &Match) -> bool {
        matches
            .0
            .iter()
            .all(|(field, patterns)| self.texts(field).iter().any(|t| patterns.iter().any(|p| catalog::pattern(p, t))))
    }

    pub fn in_group(&self, catalog: &Catalog, name: &str) -> bool {
        catalog.group(name).is_some_and(|m| self.fits(m))
    }
}

pub struct Priced {
    pub unit: String,
    pub price: Amt,
    pub quantities: BTreeMap<String, Amt>,
}

/// The first row from the top that fits.
pub fn row(catalog: &Catalog, facts: &Facts) -> Option<usize> {
    catalog.rates.iter().position(|r| {
        r.session_max.is_some() == facts.session
            && r.type_.as_ref().is_none_or(|p| catalog::pattern(p, &facts.type_))
            && facts.fits(&r.matches)
            && r.from.is_none_or(|from| from <= facts.time)
            && r.until.is_none_or(|until| facts.time < until)
    })
}

fn component(c: &Component, facts: &Facts) -> BigRational {
    let mut quantity = facts.quantity(&c.quantity);
    if let Some(step) = c.step {
        quantity = (quantity + step - 1) / step * step;
    }
    num::exact(quantity) * &c.rate / &c.per
}

/// The quantities that the row's price and its applying add-ons use, as given.
pub fn used_quantities(rate: &Rate, facts: &Facts) -> BTreeMap<String, Amt> {
    let mut names: BTreeSet<&str> = rate.price.iter().map(|c| c.quantity.as_str()).collect();
    if let Some(each) = &rate.each {
        for element in facts.texts(&each.field) {
            names.extend(each.prices.get(&element).into_iter().flatten().map(|c| c.quantity.as_str()));
        }
    }
    names.into_iter().map(|n| (n.to_owned(), facts.quantity(n))).filter(|q| q.1 > 0).collect()
}

pub fn price(catalog: &Catalog, rate: &Rate, facts: &Facts) -> Result<Priced, &'static str> {
    let mut sum: BigRational = rate.price.iter().map(|c| component(c, facts)).fold(BigRational::zero(), |a, b| a + b);
    if let Some(each) = &rate.each {
        let elements: BTreeSet<String> = facts.texts(&each.field).into_iter().collect();
        for element in elements {
            match each.prices.get(&element) {
                Some(components) => {
                    for c in components {
                        sum += component(c, facts);
                    }
                }
                None if each.free => {}
                None => return Err("no_rate"),
            }
        }
    }
    if let Some((field, values, otherwise)) = &rate.multiply {
        let value = match facts.dims.get(field) {
            Some(Dim::Text(t)) => values.get(t),
            Some(Dim::Bool(b)) => values.get(&b.to_string()),
            _ => None,
        };
        sum *= value.or(otherwise.as_ref()).ok_or("no_rate")?;
    }
    let mut price = num::half_up(&sum, catalog.scale(&rate.unit));
    if num::is_positive(&sum) {
        price = price.max(rate.minimum.unwrap_or(0));
    }
    if price >= E15 {
        return Err("bad_quantity");
    }
    Ok(Priced { unit: rate.unit.clone(), price, quantities: used_quantities(rate, facts) })
}

/// The last row in force for the class, else for `*`; the same unit and nothing need none.
pub fn exchange(c: &Catalog, from: &str, to: &str, amount: Amt, class: &str, time: Ms) -> Result<Amt, &'static str> {
    if from == to || amount == 0 {
        return Ok(amount);
    }
    let row = |class: &str| {
        c.exchanges
            .iter()
            .rev()
            .find(|e| e.from_unit == from && e.to_unit == to && e.class == class && e.from.is_none_or(|f| f <= time))
    };
    let found = row(class).or_else(|| row("*")).ok_or("no_exchange")?;
    Ok(num::half_up(&(num::exact(amount) / &found.value), c.scale(to)))
}
