use super::*;

const NOW: Ms = 1_000_000;

fn amount(text: &str) -> Amount {
    Amount::parse(text).expect(text)
}

/// A grant of 10 from 0 on: `number`, priority, end, group.
fn grant(number: u64, priority: u16, expires_at: Ms, group: Option<GroupId>) -> Grant {
    Grant {
        number,
        name: "plan".into(),
        reference: None,
        amount: amount("10"),
        remaining: amount("10"),
        effective_at: 0,
        expires_at,
        priority,
        group,
        period: 0,
        ended: Ended::No,
    }
}

fn balance(grants: &[Grant]) -> Balance {
    let mut balance = Balance::new(0);
    for grant in grants {
        balance.issue(grant.clone(), NOW, &mut Ledger::default());
    }
    balance
}

fn draw(balance: &mut Balance, text: &str, at: Ms, holds: bool) -> Amount {
    let mut ledger = Ledger::default();
    let draw = Draw { amount: amount(text), at, forgive: false, holds: |_| holds };
    let overage = balance.draw(draw, &mut ledger);
    assert!(ledger.settle(std::slice::from_ref(balance)), "what was drawn went somewhere");
    overage
}

/// What remains of each grant that has not closed, by number.
fn remaining(balance: &Balance) -> String {
    let mut list: Vec<String> =
        balance.grants().iter().map(|grant| format!("g{}={}", grant.number, grant.remaining)).collect();
    list.sort();
    list.join(" ")
}

#[test]
fn burns_in_order() {
    let later = NOW + 100;
    let cases: [(&str, &[Grant], bool, &str); 6] = [
        ("lower priority", &[grant(1, 20, NEVER, None), grant(2, 10, NEVER, None)], false, "g1=10 g2=6"),
        ("earlier end", &[grant(1, 10, NEVER, None), grant(2, 10, later, None)], false, "g1=10 g2=6"),
        ("with a group before without", &[grant(1, 10, later, None), grant(2, 10, later, Some(0))], true, "g1=10 g2=6"),
        ("a group that does not hold", &[grant(1, 10, later, None), grant(2, 10, later, Some(0))], false, "g1=6 g2=10"),
        (
            "earlier start",
            &[Grant { effective_at: 5, ..grant(1, 10, later, None) }, grant(2, 10, later, None)],
            false,
            "g1=10 g2=6",
        ),
        ("order of issue", &[grant(1, 10, later, None), grant(2, 10, later, None)], false, "g1=6 g2=10"),
    ];
    for (what, grants, holds, expect) in cases {
        let mut balance = balance(grants);
        draw(&mut balance, "4", NOW, holds);
        assert_eq!(remaining(&balance), expect, "{what}");
    }
}

#[test]
fn what_no_grant_pays_is_owed_until_the_next_grant() {
    let mut balance = balance(&[grant(1, 10, NEVER, None), grant(2, 20, NOW + 5, None)]);
    draw(&mut balance, "23.5", NOW, false);
    assert_eq!((balance.available().to_string(), balance.debt.to_string()), ("-3.5".into(), "3.5".into()));
    assert_eq!(remaining(&balance), "g2=0", "used up: the one without an end leaves, the other waits to close");
    let paid = balance.issue(grant(3, 10, NEVER, Some(0)), NOW, &mut Ledger::default());
    assert_eq!(paid, Amount::ZERO, "a grant with a group pays no debt");
    let paid = balance.issue(grant(4, 10, NEVER, None), NOW, &mut Ledger::default());
    assert_eq!((paid.to_string(), balance.available().to_string()), ("3.5".into(), "6.5".into()));
}

#[test]
fn a_late_record_finds_what_had_not_ended_then() {
    let mut balance =
        balance(&[grant(1, 10, NOW + 10, None), Grant { effective_at: NOW, ..grant(2, 20, NEVER, None) }]);
    assert!(!balance.expire(NOW + 9));
    assert!(balance.expire(NOW + 10));
    assert_eq!(balance.available(), amount("10"), "what ended is not available");
    draw(&mut balance, "4", NOW + 9, false);
    assert_eq!(remaining(&balance), "g1=6 g2=10");
    draw(&mut balance, "4", NOW - 1, false);
    assert_eq!(remaining(&balance), "g1=2 g2=10", "before its start a grant pays nothing");
    draw(&mut balance, "4", NOW + 10, false);
    assert_eq!(remaining(&balance), "g1=2 g2=6");
    assert_eq!(balance.available(), amount("6"));
}

#[test]
fn closes_late_and_counts_what_is_left() {
    let mut balance = balance(&[grant(1, 10, NOW + 10, None), grant(2, 10, NEVER, None)]);
    balance.expire(NOW + 10);
    assert_eq!(balance.closes_at(60), Some(NOW + 70));
    let mut ledger = Ledger::default();
    assert_eq!(balance.close(NOW + 69, 60, &mut ledger), []);
    let closed = balance.close(NOW + 70, 60, &mut ledger);
    assert!(ledger.settle(std::slice::from_ref(&balance)));
    assert_eq!(closed.iter().map(|grant| grant.number).collect::<Vec<_>>(), [1]);
    assert_eq!((balance.held, balance.closes_at(60)), (amount("10"), None));
}

#[test]
fn a_period_ends_only_its_own_grants() {
    let of_period = |number, period| Grant { period, ..grant(number, 10, NOW + 50, None) };
    let mut balance = balance(&[of_period(1, 7), of_period(2, 8), grant(3, 10, NOW + 50, None)]);
    balance.end_period(8, NOW + 5, true);
    let ends: Vec<(u64, Ms, Ended)> =
        balance.in_burn_order().iter().map(|grant| (grant.number, grant.expires_at, grant.ended)).collect();
    assert_eq!(ends, [(2, NOW + 5, Ended::CutShort), (1, NOW + 50, Ended::No), (3, NOW + 50, Ended::No)]);
    assert_eq!(balance.available(), amount("20"));
    // What has ended does not end once more, whatever its period counts into.
    balance.end_period(8, NOW + 2, false);
    assert_eq!(balance.in_burn_order().first().map(|grant| grant.expires_at), Some(NOW + 5));
    let moved = balance.roll_over(amount("4"), &mut Ledger::default(), |grant| grant.period == 8);
    assert_eq!((moved, remaining(&balance)), (amount("4"), "g1=10 g2=6 g3=10".into()));
}

#[test]
fn restored_as_it_was() {
    let mut balance =
        balance(&[grant(1, 10, NOW + 10, None), grant(2, 5, NEVER, Some(1)), grant(3, 10, NOW + 9, None)]);
    balance.expire(NOW + 9);
    let front = (0..balance.grants().len()).partition::<Vec<usize>, _>(|place| balance.is_in_front(*place));
    let take = |places: Vec<usize>| places.into_iter().rev().map(|place| balance.grants()[place].clone()).collect();
    let restored = Balance::restored(0, take(front.0), take(front.1));
    assert_eq!(restored, balance);
}
