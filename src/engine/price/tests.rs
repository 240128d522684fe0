use hashbrown::HashMap;
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::engine::Ms;
use crate::engine::catalog::{Component, Each, Exchange, Multiply, Rate};
use crate::engine::fixture::{amount, blank, catalog, component, rate};

/// A row in unit 0 with `price`, changed by `change`; quantities of `q0`, `q1`, ...
fn check(
    change: impl FnOnce(&mut Rate),
    quantities: &[&str],
    dimensions: &[(DimensionId, Dimension<'_>)],
    expect: &str,
) {
    let mut row = rate();
    change(&mut row);
    let catalog = catalog(vec![row], Vec::new());
    let quantities: Vec<_> = (0..).zip(quantities.iter().map(|text| amount(text))).collect();
    let price = price(&catalog, 0, &quantities, dimensions);
    let told = match &price {
        Ok(price) => price.to_string(),
        Err(PriceError::NoRate(message)) => format!("no_rate: {message}"),
        Err(PriceError::BadQuantity(message)) => format!("bad_quantity: {message}"),
    };
    assert!(told.starts_with(expect), "{told} is not {expect}");
    assert_eq!(price, explain(&catalog, 0, &quantities, dimensions).map(|explained| explained.price));
}

#[test]
fn components_are_summed_and_rounded_once() {
    let tokens = |row: &mut Rate| {
        row.price = vec![component(0, "5", "1000000", None), component(1, "25", "1000000", None)];
    };
    check(tokens, &["1200", "300"], &[], "0.0135");
    check(tokens, &["0", "0"], &[], "0");
    let thirds = |row: &mut Rate| row.price = vec![component(0, "1", "3", None), component(1, "1", "3", None)];
    check(thirds, &["1", "1"], &[], "0.666666667");
    check(thirds, &["1", "0.5"], &[], "0.5");
    let cents = |row: &mut Rate| {
        row.unit = 2;
        row.price = vec![component(0, "0.005", "1", None)];
    };
    check(cents, &["1"], &[], "0.01");
    check(cents, &["0.999999999"], &[], "0");
    check(cents, &["3"], &[], "0.02");
}

#[test]
fn quantities_are_rounded_up_to_their_step() {
    let minutes = |row: &mut Rate| row.price = vec![component(0, "0.1", "60", Some("60"))];
    check(minutes, &["0"], &[], "0");
    check(minutes, &["0.000000001"], &[], "0.1");
    check(minutes, &["60"], &[], "0.1");
    check(minutes, &["60.1"], &[], "0.2");
}

#[test]
fn a_minimum_holds_for_what_is_not_free() {
    let least = |row: &mut Rate| {
        row.unit = 2;
        row.price = vec![component(0, "0.000000000001", "1", None)];
        row.minimum = Some(amount("0.05"));
    };
    check(least, &["0"], &[], "0");
    check(least, &["0.000000001"], &[], "0.05");
    check(least, &["100000000000"], &[], "0.1");
}

#[test]
fn add_ons_are_priced_once_for_each_distinct_element() {
    let addons = |free| {
        move |row: &mut Rate| {
            row.price = vec![component(0, "1", "1", None)];
            let prices = [("a", "0.02"), ("b", "0.3")];
            let prices = prices.map(|(name, each)| (name.into(), vec![component(0, each, "1", None)]));
            row.each = Some(Each { field: 0, prices: prices.into_iter().collect(), otherwise_free: free });
        }
    };
    check(addons(false), &["10"], &[], "10");
    check(addons(false), &["10"], &[(0, Dimension::Text("a"))], "10.2");
    check(addons(false), &["10"], &[(0, Dimension::List(&["a", "b", "a"]))], "13.2");
    check(addons(false), &["10"], &[(0, Dimension::List(&["a", "x"]))], "no_rate: field \"d0\": expected");
    check(addons(true), &["10"], &[(0, Dimension::List(&["a", "x"]))], "10.2");
}

#[test]
fn a_multiplier_is_looked_up_by_text() {
    let by_model = |otherwise| {
        move |row: &mut Rate| {
            row.price = vec![component(0, "1", "3", None)];
            let values = [("small".into(), Factor::parse("0.25").expect("factor")), ("none".into(), Factor(0))];
            row.multiply = Some(Multiply { field: 0, values: values.into_iter().collect(), otherwise });
        }
    };
    check(by_model(None), &["4"], &[(0, Dimension::Text("small"))], "0.333333333");
    check(by_model(None), &["4"], &[(0, Dimension::Text("none"))], "0");
    check(by_model(None), &["4"], &[(0, Dimension::Text("large"))], "no_rate: field \"d0\": expected");
    check(by_model(None), &["4"], &[], "no_rate: ");
    check(by_model(Some(Factor::ONE)), &["3"], &[(0, Dimension::List(&["small"]))], "1");
    check(by_model(Some(Factor::ONE)), &["3"], &[], "1");
}

#[test]
fn prices_end_before_ten_to_the_fifteenth() {
    let dear = |row: &mut Rate| row.price = vec![component(0, "999999999", "0.000000001", None)];
    check(dear, &["0.000000001"], &[], "999999999");
    check(dear, &["0.001"], &[], "999999999000000");
    check(dear, &["0.001001002"], &[], "bad_quantity: ");
    check(dear, &["999999999999999.999999999"], &[], "bad_quantity: ");
    let exact = |row: &mut Rate| row.price = vec![component(0, "1", "1", None)];
    check(exact, &["999999999999999.999999999"], &[], "999999999999999.999999999");
}

#[test]
fn what_is_used_is_named_once() {
    let mut row = rate();
    row.price = vec![component(1, "1", "1", None), component(0, "1", "1", None), component(1, "1", "2", None)];
    let addon = vec![component(2, "1", "1", None), component(1, "1", "1", None)];
    row.each = Some(Each { field: 0, prices: [("a".into(), addon)].into_iter().collect(), otherwise_free: true });
    let catalog = catalog(vec![row], Vec::new());
    let quantities = [(1, amount("5")), (2, amount("7")), (3, amount("9"))];
    let mut out = vec![(9, Amount::ZERO)];
    quantities_used(&catalog, 0, &quantities, &[(0, Dimension::List(&["a", "a"]))], &mut out);
    assert_eq!(out, [(9, Amount::ZERO), (1, amount("5")), (2, amount("7"))]);
}

#[test]
fn exchange_takes_the_last_row_in_force() {
    let row = |value: &str, class: Option<&str>, from: Ms| Exchange {
        from_unit: 0,
        to_unit: 1,
        value: Factor::parse(value).expect(value),
        class: class.map(Box::from),
        from,
    };
    let mut catalog = blank(Vec::new(), Vec::new());
    catalog.exchanges = vec![
        row("0.03283", None, 0),
        row("4", None, 100),
        row("2", Some("gold"), 50),
        row("8", None, 50),
        Exchange { to_unit: 2, ..row("0.000000000001", None, 0) },
    ];
    let catalog = catalog.finish();
    let one = amount("1");
    for (class, at, expect, place) in [
        ("standard", 0, Some("30.459945172"), Some(0)),
        // The last row from the top, not the latest.
        ("standard", 200, Some("0.125"), Some(3)),
        ("gold", 49, Some("30.459945172"), Some(0)),
        ("gold", 50, Some("0.5"), Some(2)),
        ("standard", -1, None, None),
    ] {
        let exchanged = exchange(&catalog, one, 0, 1, class, at).ok();
        assert_eq!(exchanged.map(|amount| amount.to_string()).as_deref(), expect, "{class} at {at}");
        assert_eq!(exchange_row(&catalog, 0, 1, class, at), place);
    }
    assert_eq!(exchange(&catalog, one, 1, 1, "standard", 0), Ok(one));
    assert_eq!(exchange(&catalog, Amount::ZERO, 1, 0, "standard", 0), Ok(Amount::ZERO));
    let missing = exchange(&catalog, one, 1, 0, "standard", 0).expect_err("no way back");
    assert!(missing.message(&catalog).contains("from flow to credit"));
    let largest = exchange(&catalog, amount("999999999999999.999999999"), 0, 2, "standard", 0);
    assert_eq!(largest, Ok(amount("999999999999999999999999000")));
}

fn decimal(most: u64) -> impl Strategy<Value = String> {
    let whole = prop_oneof![Just(0), Just(1), Just(3), 0..most, Just(most)];
    (whole, prop_oneof![Just(String::new()), "[0-9]{0,8}[1-9]".prop_map(|digits| format!(".{digits}"))])
        .prop_map(|(whole, decimals)| format!("{whole}{decimals}"))
}

fn any_component() -> impl Strategy<Value = Component> {
    let per = prop_oneof![
        Just("1".to_owned()),
        Just("1000000".to_owned()),
        Just("3600".to_owned()),
        Just("0.000000001".to_owned()),
        "[1-9][0-9]{0,10}",
    ];
    let step = option::weighted(0.3, prop_oneof![Just("1".to_owned()), Just("0.25".to_owned()), "[1-9][0-9]{0,4}"]);
    (0..4u16, decimal(999_999_999), "[0-9]{0,3}", per, step).prop_map(|(quantity, rate, more, per, step)| {
        let rate = if rate.contains('.') { format!("{rate}{more}") } else { rate };
        component(quantity, &rate, &per, step.as_deref())
    })
}

prop_compose! {
    fn any_rate()(
        unit in 0..3u8,
        price in vec(any_component(), 0..4),
        each in option::weighted(0.3, hash_map("[abc]", vec(any_component(), 0..3), 0..3)),
        free: bool,
        multiply in option::weighted(0.4, hash_map("[abc]", decimal(999_999_999), 0..3)),
        otherwise in option::of(decimal(9)),
        minimum in option::weighted(0.3, "[1-9][0-9]{0,2}"),
    ) -> Rate {
        let factor = |text: &String| Factor::parse(text).expect("factor");
        let values = |values: std::collections::HashMap<String, String>| -> HashMap<Box<str>, Factor> {
            values.iter().map(|(value, by)| (value.as_str().into(), factor(by))).collect()
        };
        let prices = |prices: std::collections::HashMap<String, Vec<Component>>| -> HashMap<Box<str>, Vec<Component>> {
            prices.into_iter().map(|(value, price)| (value.into(), price)).collect()
        };
        Rate {
            unit,
            price,
            each: each.map(|each| Each { field: 0, prices: prices(each), otherwise_free: free }),
            multiply: multiply.map(|by| Multiply {
                field: 1,
                values: values(by),
                otherwise: otherwise.as_ref().map(factor),
            }),
            minimum: minimum.map(|least| amount(&least)),
            ..rate()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_fast_price_is_the_exact_price(
        row in any_rate(),
        quantities in vec(decimal(999_999_999_999_999), 4),
        list in vec("[abc]", 1..4),
        text in "[abc]",
    ) {
        let catalog = catalog(vec![row], Vec::new());
        let quantities: Vec<_> = (0..).zip(quantities.iter().map(|text| amount(text))).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let dimensions = [(0, Dimension::List(&list)), (1, Dimension::Text(&text))];
        let exact = explain(&catalog, 0, &quantities, &dimensions).map(|explained| explained.price);
        prop_assert_eq!(price(&catalog, 0, &quantities, &dimensions), exact.clone());
        let fast = catalog.index.formulas[0].evaluate(&catalog.rates[0], &quantities, &dimensions);
        match fast {
            Ok(Some(fast)) if fast < Amount::VALUE_LIMIT => prop_assert_eq!(Ok(fast), exact),
            Ok(Some(_)) => prop_assert!(matches!(exact, Err(PriceError::BadQuantity(_)))),
            Ok(None) => {}
            Err(_) => prop_assert!(matches!(exact, Err(PriceError::NoRate(_)))),
        }
    }

    #[test]
    fn exchange_is_exact(value in 1..1_000_000_000_000_000_000_000u128, given in 1..1_000_000_000_000_000_000_000_000i128) {
        let mut catalog = blank(Vec::new(), Vec::new());
        let row = |to_unit| Exchange { from_unit: 0, to_unit, value: Factor(value), class: None, from: 0 };
        catalog.exchanges = vec![row(1), row(2)];
        let catalog = catalog.finish();
        for (to, nanos_kept) in [(1, 1u128), (2, 10_000_000)] {
            let got = exchange(&catalog, Amount::from_nanos(given), 0, to, "standard", 0).expect("a row");
            // |got × value − given| ≤ value × half of the last decimal, the upper half excluded.
            let twice = |nanos: i128| num_bigint::BigInt::from(nanos) * 2;
            let product = twice(got.nanos()) * value;
            let target = twice(given) * 1_000_000_000_000u128;
            let half = num_bigint::BigInt::from(value * nanos_kept);
            let error = product - target;
            prop_assert!(error <= half && error > -half);
            prop_assert_eq!(got.nanos() as u128 % nanos_kept, 0);
        }
    }
}
