//! Every type of notice as it stands in `meter.events`, one a line. `INSTA_UPDATE=always cargo test --test notices`
//! rewrites the expected lines.

use meterd::engine::catalog::{Measure, OnExceed};
use meterd::engine::effects::*;
use meterd::engine::input::Interval;
use meterd::engine::{Amount, Ms};
use meterd::wire::notice::{CauseInput, Envelope, write_notice};

const AT: Ms = 1_795_158_000_250;

fn amount(text: &str) -> Amount {
    Amount::parse(text).expect(text)
}

fn cap() -> CapNotice {
    CapNotice {
        limit: "5h".into(),
        user: Some("ana \"q\" \\ \u{1} é".into()),
        measure: "flow".into(),
        measure_kind: Measure::Unit(0),
        used: amount("49.5"),
        cap: amount("50"),
        threshold: None,
        action: OnExceed::Block,
        window: WindowTold { kind: WindowKind::FirstUse, start: Some(AT), resets_at: Some(AT + 18_000_000) },
        reason: None,
    }
}

fn balance(threshold: Option<&str>) -> BalanceNotice {
    BalanceNotice {
        unit: "credit".into(),
        available: amount("-0.000000001"),
        debt: amount("0.000000001"),
        threshold: threshold.map(Into::into),
    }
}

fn change(proration: Option<Proration>) -> Body {
    Body::SubscriptionChanged(SubscriptionChanged {
        from: None,
        to: "pro".into(),
        reason: ChangeReason::Upgraded,
        seats: 3,
        billing: Interval::Year,
        effective_at: AT,
        proration,
    })
}

fn statement() -> Statement {
    Statement {
        plan: vec![("credit".into(), amount("120"))],
        overage: vec![("credit".into(), amount("1.25"))],
        records: 12,
        failed: 1,
        quantities: vec![("llm.call".into(), vec![("input_tokens".into(), amount("14400"))])],
        price: Some((amount("20"), "usd".into())),
        ..Statement::default()
    }
}

fn grants() -> [Body; 2] {
    [
        Body::GrantIssued(GrantIssued {
            grant: 1,
            reference: None,
            name: "plan".into(),
            unit: "credit".into(),
            amount: amount("30000"),
            priority: 10,
            group: None,
            effective_at: AT,
            expires_at: None,
            debt_paid: Amount::ZERO,
        }),
        Body::GrantExpired(GrantExpired {
            grant: 1,
            reference: Some("invoice-7".into()),
            name: "plan".into(),
            unit: "credit".into(),
            amount: amount("30000"),
            unused: amount("1"),
            expired_at: AT,
            reason: ExpiryReason::Cancelled,
        }),
    ]
}

fn bodies() -> Vec<Body> {
    let sliding = WindowTold { kind: WindowKind::Sliding, start: None, resets_at: None };
    let proration = Proration { amount: amount("6.67"), currency: Some("usd".into()), remaining_ms: 1, cycle_ms: 3 };
    let quote = RefundQuote {
        eligible: false,
        reason: Some(NoRefund::TooLate),
        paid: amount("20"),
        usage: amount("0"),
        refunded: amount("0"),
        fee: amount("0"),
        amount: amount("0"),
        currency: None,
    };
    let mut bodies = vec![
        Body::CapWarning(CapNotice { threshold: Some("80%".into()), ..cap() }),
        Body::CapExceeded(CapNotice { window: sliding, user: None, action: OnExceed::Overflow, ..cap() }),
        Body::CapRestored(CapNotice { reason: Some(RestoreReason::Time), action: OnExceed::Notify, ..cap() }),
        Body::BalanceLow(balance(Some("20%"))),
        Body::BalanceExhausted(balance(None)),
        Body::BalanceRestored(balance(None)),
        Body::OverflowStarted { limit: "weekly".into(), unit: "usd".into() },
        Body::OverflowEnded { limit: "balance".into(), unit: "usd".into() },
        Body::AccessDenied { user: None, rule: "group:premium".into(), kind: "llm.call".into(), model: None },
        change(None),
        change(Some(proration)),
        Body::SubscriptionPending { from: "pro".into(), to: None, seats: None, billing: None, effective_at: None },
        Body::PeriodClosed { start: AT, end: None, statement: Box::new(statement()) },
        Body::AutopayRequested {
            unit: "credit".into(),
            below: amount("10"),
            amount: amount("500"),
            available: amount("9.99"),
        },
        Body::SessionClosed {
            session: "s-1".into(),
            user: Some("ana".into()),
            seconds: amount("10800"),
            charged: amount("0.5"),
            unit: None,
        },
        Body::RefundQuoted(quote),
        Body::GraceStarted { until: AT },
        Body::GraceEnded,
        Body::CommandRejected {
            command: "meterd.topup".into(),
            id: "c-1".into(),
            reason: Rejection::InGrace,
            message: "expected no payment due, found one".into(),
        },
    ];
    bodies.extend(grants());
    bodies
}

#[test]
fn every_notice_has_all_its_members() {
    let cause = CauseInput { topic: "meter.usage", partition: 3, offset: 42, id: "req-1", source: "gateway/eu-1" };
    let envelope = Envelope { account: "ac\"me", source: "meterd/meterd", cause: Some(cause) };
    let mut lines = Vec::new();
    for (place, body) in bodies().into_iter().enumerate() {
        let timer = matches!(body, Body::PeriodClosed { .. } | Body::GraceEnded);
        let notice = Notice {
            sequence: place as u64 + 1,
            time: AT,
            plan: (place != 2).then(|| "pro".into()),
            cause: if timer { Cause::Timer(Timer::Close) } else { Cause::Input },
            body,
        };
        write_notice(&mut lines, &envelope, &notice);
        lines.push(b'\n');
    }
    let text = String::from_utf8(lines).expect("JSON is UTF-8");
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect(line);
    }
    insta::assert_snapshot!(text);
}
