use proptest::prelude::*;

use super::*;
use crate::engine::fixture::amount;

fn record<'a>(kind: &'a Name, values: &'a [(DimensionId, Name)]) -> Applied<'a> {
    Applied {
        month: 24_322,
        kind,
        user: None,
        values,
        route: Route::Plan,
        unit: 0,
        charged: amount("1.5"),
        quantities: &[],
    }
}

fn charges(tally: &Charges) -> Vec<(Route, UnitId, String)> {
    tally.iter().map(|(route, unit, amount)| (route, unit, amount.to_string())).collect()
}

#[test]
fn records_are_counted_by_month_type_and_field() {
    let (mut totals, mut names) = (Totals::default(), Names::default());
    let (llm, free) = (names.name("llm.call"), names.name("free"));
    let opus = [(0, names.name("opus"))];
    let both = [(0, names.name("opus")), (0, names.name("haiku"))];
    let tokens = [(3, amount("1200")), (1, amount("1"))];
    let call = Applied { user: Some(5), quantities: &tokens, ..record(&llm, &opus) };
    totals.applied(&call);
    totals.applied(&Applied { user: Some(2), route: Route::Overflow, unit: 1, ..call });
    totals.applied(&Applied { charged: Amount::ZERO, ..record(&free, &both) });
    totals.applied(&Applied { month: 24_320, ..call });
    totals.failed(24_321);
    assert_eq!(totals.months().iter().map(|month| month.month).collect::<Vec<_>>(), [24_320, 24_321, 24_322]);

    let month = totals.month(24_322).expect("counted");
    assert_eq!((month.whole.records, month.whole.failed), (3, 0));
    let expect = [(Route::Plan, 0, "1.5".to_owned()), (Route::Overflow, 1, "1.5".to_owned())];
    assert_eq!(charges(&month.whole.charges), expect);
    let kinds: Vec<_> = month.whole.kinds().collect();
    assert_eq!(kinds, [("llm.call", &[(3, amount("2400")), (1, amount("2"))][..])]);
    let values: Vec<_> = month.values(0).map(|(name, tally)| (name, tally.records, charges(&tally.charges))).collect();
    assert_eq!(values, [("opus", 3, expect.to_vec()), ("haiku", 1, vec![])]);
    let users: Vec<_> = month.users().map(|(user, tally)| (user, tally.records)).collect();
    assert_eq!(users, [(5, 1), (2, 1)]);
    assert_eq!(totals.month(24_321).map(|month| (month.whole.records, month.whole.failed)), Some((0, 1)));

    totals.forget_before(24_322);
    assert_eq!(totals.months().len(), 1);
}

#[test]
fn beyond_a_thousand_names_everything_is_others() {
    let (mut totals, mut names) = (Totals::default(), Names::default());
    let tokens = [(0, amount("2"))];
    for n in 0..NAMES_MAX + 5 {
        let name = format!("name-{n}");
        let (kind, value) = (names.name(&name), [(0, names.name(&name))]);
        totals.applied(&Applied { quantities: &tokens, ..record(&kind, &value) });
    }
    let (kind, again) = (names.name("name-999"), [(0, names.name("name-999"))]);
    totals.applied(&Applied { quantities: &tokens, ..record(&kind, &again) });
    let month = totals.month(24_322).expect("counted");
    assert_eq!((month.whole.kinds().count(), month.values(0).count()), (NAMES_MAX + 1, NAMES_MAX + 1));
    assert_eq!(month.whole.kinds().last(), Some((OTHERS, &[(0, amount("10"))][..])));
    let values: Vec<_> = month.values(0).map(|(name, tally)| (name, tally.records)).collect();
    assert_eq!(values[NAMES_MAX - 1..], [("name-999", 2), (OTHERS, 5)]);
}

#[test]
fn totals_hold_ten_to_the_eighteenth_with_nine_decimals() {
    let (mut totals, mut names) = (Totals::default(), Names::default());
    let most = amount("999999999999999.999999999");
    let tokens = [(0, most)];
    let llm = names.name("llm.call");
    let large = Applied { charged: most, quantities: &tokens, ..record(&llm, &[]) };
    for _ in 0..99_999 {
        totals.applied(&large);
    }
    let month = totals.month(24_322).expect("counted");
    assert_eq!(charges(&month.whole.charges), [(Route::Plan, 0, "99998999999999999999.999900001".to_owned())]);
    assert!(!totals.would_overflow(&large));
    totals.applied(&large);
    assert!(totals.would_overflow(&large));
    assert!(totals.would_overflow(&Applied { charged: Amount::ZERO, ..large }), "by its quantity");
    assert!(!totals.would_overflow(&Applied { month: 24_323, ..large }));
    let small = [(0, amount("0.000099999"))];
    assert!(!totals.would_overflow(&Applied { charged: Amount::ZERO, quantities: &small, ..large }));
}

#[test]
fn names_are_shared_and_dropped_when_unused() {
    let mut names = Names::default();
    let (mut one, mut other) = (Totals::default(), Totals::default());
    let (llm, value) = (names.name("llm.call"), [(0, names.name("opus"))]);
    one.applied(&record(&llm, &value));
    other.applied(&record(&llm, &value));
    drop((llm, value));
    let hash = names::hash_of("opus");
    assert_eq!(names.find(hash, "opus").map(std::sync::Arc::strong_count), Some(3));
    drop((one, other));
    for n in 0..70_000 {
        let text = format!("{n}");
        names.intern(names::hash_of(&text), &text);
    }
    assert_eq!(names.find(hash, "opus"), None);
}

proptest! {
    /// Stored and read back, totals are the same and go on the same.
    #[test]
    fn rows_bring_everything_back(
        steps in prop::collection::vec((0..3i32, "[a-c]{1,3}", 0..40u32, "[a-d]{1,2}", 0..5i64, 0..2u8), 0..120),
    ) {
        let (mut totals, mut names) = (Totals::default(), Names::default());
        let (mut copy, mut fresh) = (Totals::default(), Names::default());
        let half = steps.len() / 2;
        for (step, (month, kind, user, value, charged, unit)) in steps.into_iter().enumerate() {
            if step == half {
                let bytes = postcard::to_stdvec(&totals).expect("encodes");
                copy = postcard::from_bytes(&bytes).expect("decodes");
            }
            let (kind, values) = (names.name(&kind), [(0, names.name(&value))]);
            let (copied_kind, copied_values) = (fresh.name(&kind.text), [(0, fresh.name(&value))]);
            let quantities = [(unit.into(), Amount::whole(charged + 1))];
            let record = Applied {
                month,
                user: (user > 0).then_some(user),
                unit,
                charged: Amount::whole(charged),
                quantities: &quantities,
                ..record(&kind, &values)
            };
            totals.applied(&record);
            if step >= half {
                copy.applied(&Applied { kind: &copied_kind, values: &copied_values, ..record });
            }
        }
        prop_assert_eq!(&copy, &totals);
        let mut restored = Totals::default();
        for month in totals.months() {
            month.rows().for_each(|row| restored.restore(month.month, row.to_row()));
        }
        prop_assert_eq!(restored, totals);
    }
}
