//! Catalogs for the tests of the engine's leaves, which read none from a file.

use super::catalog::{Catalog, Component, Group, Pattern, Rate, Totals, Unit};
use super::lookup::Index;
use super::{Amount, Factor, Ms};

/// A complete catalog of these rows and groups; units 0 and 1 keep 9 decimals, unit 2 keeps 2; quantities `q0` to `q3`,
/// dimensions `d0` to `d3`.
pub fn catalog(rates: Vec<Rate>, groups: Vec<Group>) -> Catalog {
    blank(rates, groups).finish()
}

/// As [`catalog`], not finished.
pub fn blank(rates: Vec<Rate>, groups: Vec<Group>) -> Catalog {
    let unit = |name: &str, scale| Unit { name: name.into(), scale };
    let names = |prefix: &str| (0..4).map(|n| format!("{prefix}{n}").into()).collect();
    Catalog {
        name: "fixture".into(),
        hash: [0; 16],
        default_plan: 0,
        create_accounts: true,
        late_ms: 3_600_000,
        future_ms: 300_000,
        users_max: 100_000,
        units: vec![unit("credit", 9), unit("flow", 9), unit("cent", 2)],
        currencies: Vec::new(),
        payg: None,
        topup: Default::default(),
        packs: Vec::new(),
        groups,
        rates,
        exchanges: Vec::new(),
        plans: Vec::new(),
        totals: Totals { by: Vec::new(), months: 14 },
        quantities: names("q"),
        dimensions: names("d"),
        roles: Default::default(),
        index: Index::default(),
    }
}

/// A row that prices everything at nothing in unit 0.
pub fn rate() -> Rate {
    Rate {
        kind: None,
        matches: Vec::new(),
        unit: 0,
        price: Vec::new(),
        multiply: None,
        each: None,
        minimum: None,
        session_max_ms: None,
        from: Ms::MIN,
        until: Ms::MAX,
        line: 1,
    }
}

/// A pattern as a catalog writes it.
pub fn pattern(text: &str) -> Pattern {
    match text.strip_suffix('*') {
        Some(start) => Pattern { text: start.into(), prefix: true },
        None => Pattern { text: text.into(), prefix: false },
    }
}

pub fn component(quantity: u16, rate: &str, per: &str, step: Option<&str>) -> Component {
    let (rate, step) = (Factor::parse(rate).expect(rate), step.map(amount));
    Component { quantity, rate, per: amount(per), step }
}

pub fn amount(text: &str) -> Amount {
    Amount::parse(text).expect(text)
}
