use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::engine::catalog::Group;
use crate::engine::fixture::{catalog, pattern, rate};

/// The first row that fits, as the reference says it: row by row.
fn scan(
    rates: &[Rate],
    kind: &str,
    dimensions: &[(DimensionId, Dimension<'_>)],
    time: Ms,
    session: bool,
) -> Option<RateId> {
    let fits = |rate: &Rate| {
        rate.session_max_ms.is_some() == session
            && rate.from <= time
            && time < rate.until
            && rate.kind.as_ref().is_none_or(|pattern| pattern.fits(kind))
            && matches_fit(&rate.matches, dimensions)
    };
    rates.iter().position(fits).map(|place| place as RateId)
}

fn matches_fit(matches: &[Match], dimensions: &[(DimensionId, Dimension<'_>)]) -> bool {
    matches.iter().all(|by| {
        let any = |text: &str| by.patterns.iter().any(|pattern| pattern.fits(text));
        match dimension(dimensions, by.dimension) {
            None => false,
            Some(Dimension::Text(text)) => any(text),
            Some(Dimension::List(list)) => list.iter().any(|text| any(text)),
        }
    })
}

/// Texts over a small alphabet, so that they meet.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ab]{1,3}", 1 => "[abé]{1,2}"]
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        4 => text().prop_map(|text| pattern(&text)),
        2 => "[abé]{0,2}".prop_map(|text| pattern(&format!("{text}*"))),
    ]
}

/// At most one match for a field, as in a catalog.
fn any_matches() -> impl Strategy<Value = Vec<Match>> {
    vec(option::weighted(0.4, vec(any_pattern(), 1..7)), 3).prop_map(|fields| {
        let fields = (0u16..).zip(fields);
        fields.filter_map(|(dimension, patterns)| Some(Match { dimension, patterns: patterns? })).collect()
    })
}

prop_compose! {
    fn any_rate()(
        kind in option::weighted(0.8, any_pattern()),
        matches in any_matches(),
        session in prop::bool::weighted(0.2),
        from in option::weighted(0.2, 0..20i64),
        until in option::weighted(0.2, 0..20i64),
    ) -> Rate {
        Rate {
            kind,
            matches,
            session_max_ms: session.then_some(1),
            from: from.unwrap_or(Ms::MIN),
            until: until.unwrap_or(Ms::MAX),
            ..rate()
        }
    }
}

#[derive(Clone, Debug)]
struct Record {
    kind: String,
    fields: Vec<Option<Vec<String>>>,
    time: Ms,
    session: bool,
}

prop_compose! {
    fn any_record()(
        kind in text(),
        fields in vec(option::weighted(0.8, vec(text(), 1..4)), 3),
        time in 0..20i64,
        session in prop::bool::weighted(0.2),
    ) -> Record {
        Record { kind, fields, time, session }
    }
}

/// A list of one element stands for a string.
fn with_dimensions<T>(fields: &[Option<Vec<String>>], run: impl FnOnce(&[(DimensionId, Dimension<'_>)]) -> T) -> T {
    let lists: Vec<Option<Vec<&str>>> =
        fields.iter().map(|field| field.as_ref().map(|list| list.iter().map(String::as_str).collect())).collect();
    let mut dimensions = Vec::new();
    for (id, list) in (0..).zip(&lists) {
        match list.as_deref() {
            None => {}
            Some([text]) => dimensions.push((id, Dimension::Text(text))),
            Some(list) => dimensions.push((id, Dimension::List(list))),
        }
    }
    run(&dimensions)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_index_finds_what_a_scan_finds(rates in vec(any_rate(), 0..40), records in vec(any_record(), 1..20)) {
        let catalog = catalog(rates, Vec::new());
        for record in records {
            with_dimensions(&record.fields, |dimensions| {
                let found = find_rate(&catalog, &record.kind, dimensions, record.time, record.session);
                let expect = scan(&catalog.rates, &record.kind, dimensions, record.time, record.session);
                prop_assert_eq!(found, expect, "{:?}", record);
                Ok(())
            })?;
        }
    }

    #[test]
    fn groups_hold_what_their_patterns_say(
        groups in vec(any_matches(), 1..6),
        records in vec(any_record(), 1..20),
    ) {
        let groups = groups.into_iter().map(|matches| Group { name: "g".into(), matches }).collect();
        let catalog = catalog(Vec::new(), groups);
        for record in records {
            with_dimensions(&record.fields, |dimensions| {
                for (id, group) in (0..).zip(&catalog.groups) {
                    prop_assert_eq!(group_fits(&catalog, id, dimensions), matches_fit(&group.matches, dimensions));
                }
                Ok(())
            })?;
        }
    }
}

#[test]
fn a_thousand_models_are_few_candidates() {
    let row = |n: usize| {
        let size = Match { dimension: 1, patterns: vec![pattern("large")] };
        let model = Match { dimension: 0, patterns: vec![pattern(&format!("model-{n}"))] };
        Rate { kind: Some(pattern("llm.call")), matches: vec![size, model], ..rate() }
    };
    let catalog = catalog((0..1_000).map(row).collect(), Vec::new());
    let dimensions = [(0, Dimension::Text("model-999")), (1, Dimension::Text("large"))];
    assert_eq!(find_rate(&catalog, "llm.call", &dimensions, 0, false), Some(999));
    catalog.index.rates.ordinary.kinds.hits("llm.call", |node| {
        assert!(node.always.is_empty() && node.fields.len() == 1);
        node.fields[0].rows.hits("model-999", |rows| assert_eq!(rows, &[999]));
    });
}
