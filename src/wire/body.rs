//! The types of notices and the members of their data, in the order of docs/reference.md 9.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::{Exact, Time};
use crate::engine::catalog::OnExceed;
use crate::engine::effects::{
    BalanceNotice, Body, CapNotice, ChangeReason, ExpiryReason, GrantExpired, GrantIssued, NoRefund, Proration,
    RefundQuote, RestoreReason, Statement, SubscriptionChanged, WindowKind, WindowTold,
};
use crate::engine::input::Interval;
use crate::engine::{Amount, Ms};

/// The CloudEvents type.
pub fn kind(body: &Body) -> &'static str {
    match body {
        Body::CapWarning(_) => "meterd.cap.warning",
        Body::CapExceeded(_) => "meterd.cap.exceeded",
        Body::CapRestored(_) => "meterd.cap.restored",
        Body::BalanceLow(_) => "meterd.balance.low",
        Body::BalanceExhausted(_) => "meterd.balance.exhausted",
        Body::BalanceRestored(_) => "meterd.balance.restored",
        Body::OverflowStarted { .. } => "meterd.overflow.started",
        Body::OverflowEnded { .. } => "meterd.overflow.ended",
        Body::AccessDenied { .. } => "meterd.access.denied",
        Body::GrantIssued(_) => "meterd.grant.issued",
        Body::GrantExpired(_) => "meterd.grant.expired",
        Body::SubscriptionChanged(_) => "meterd.subscription.changed",
        Body::SubscriptionPending { .. } => "meterd.subscription.pending",
        Body::PeriodClosed { .. } => "meterd.period.closed",
        Body::AutopayRequested { .. } => "meterd.autopay.requested",
        Body::SessionClosed { .. } => "meterd.session.closed",
        Body::RefundQuoted(_) => "meterd.refund.quoted",
        Body::GraceStarted { .. } => "meterd.grace.started",
        Body::GraceEnded => "meterd.grace.ended",
        Body::CommandRejected { .. } => "meterd.command.rejected",
    }
}

/// Writes what a notice's data has besides sequence, plan and cause.
pub(super) fn members<M: SerializeMap>(data: &mut M, body: &Body) -> Result<(), M::Error> {
    match body {
        Body::CapWarning(cap) | Body::CapExceeded(cap) | Body::CapRestored(cap) => of_cap(data, cap),
        Body::BalanceLow(balance) | Body::BalanceExhausted(balance) | Body::BalanceRestored(balance) => {
            of_balance(data, balance)
        }
        Body::OverflowStarted { limit, unit } | Body::OverflowEnded { limit, unit } => {
            data.serialize_entry("limit", limit)?;
            data.serialize_entry("unit", unit)
        }
        Body::AccessDenied { user, rule, kind, model } => {
            data.serialize_entry("user", user)?;
            data.serialize_entry("rule", rule)?;
            data.serialize_entry("type", kind)?;
            data.serialize_entry("model", model)
        }
        Body::GrantIssued(grant) => of_issued(data, grant),
        Body::GrantExpired(grant) => of_expired(data, grant),
        Body::SubscriptionChanged(change) => of_change(data, change),
        Body::SubscriptionPending { from, to, seats, billing, effective_at } => {
            data.serialize_entry("from", from)?;
            data.serialize_entry("to", to)?;
            data.serialize_entry("seats", seats)?;
            data.serialize_entry("billing", &billing.map(interval))?;
            data.serialize_entry("effective_at", &effective_at.map(Time))
        }
        Body::PeriodClosed { start, end, statement } => {
            data.serialize_entry("period", &Period { start: Time(*start), end: end.map(Time) })?;
            data.serialize_entry("statement", &StatementTold::of(statement))
        }
        Body::AutopayRequested { unit, below, amount, available } => {
            data.serialize_entry("unit", unit)?;
            data.serialize_entry("below", &Exact(*below))?;
            data.serialize_entry("amount", &Exact(*amount))?;
            data.serialize_entry("available", &Exact(*available))
        }
        Body::SessionClosed { session, user, seconds, charged, unit } => {
            data.serialize_entry("session", session)?;
            data.serialize_entry("user", user)?;
            data.serialize_entry("seconds", &Exact(*seconds))?;
            data.serialize_entry("charged", &Exact(*charged))?;
            data.serialize_entry("unit", unit)
        }
        Body::RefundQuoted(quote) => of_quote(data, quote),
        Body::GraceStarted { until } => data.serialize_entry("until", &Time(*until)),
        Body::GraceEnded => data.serialize_entry("until", &None::<Time>),
        Body::CommandRejected { command, id, reason, message } => {
            data.serialize_entry("command", command)?;
            data.serialize_entry("id", id)?;
            data.serialize_entry("reason", reason.name())?;
            data.serialize_entry("message", message)
        }
    }
}

fn of_cap<M: SerializeMap>(data: &mut M, cap: &CapNotice) -> Result<(), M::Error> {
    data.serialize_entry("limit", &cap.limit)?;
    data.serialize_entry("user", &cap.user)?;
    data.serialize_entry("measure", &cap.measure)?;
    data.serialize_entry("used", &Exact(cap.used))?;
    data.serialize_entry("cap", &Exact(cap.cap))?;
    data.serialize_entry("threshold", &cap.threshold)?;
    let action = match cap.action {
        OnExceed::Block => "block",
        OnExceed::Overflow => "overflow",
        OnExceed::Notify => "notify",
    };
    data.serialize_entry("action", action)?;
    data.serialize_entry("window", &Window::of(cap.window))?;
    let reason = cap.reason.map(|reason| match reason {
        RestoreReason::Time => "time",
        RestoreReason::Cap => "cap",
        RestoreReason::Plan => "plan",
    });
    data.serialize_entry("reason", &reason)
}

fn of_balance<M: SerializeMap>(data: &mut M, balance: &BalanceNotice) -> Result<(), M::Error> {
    data.serialize_entry("unit", &balance.unit)?;
    data.serialize_entry("available", &Exact(balance.available))?;
    data.serialize_entry("debt", &Exact(balance.debt))?;
    data.serialize_entry("threshold", &balance.threshold)
}

fn of_issued<M: SerializeMap>(data: &mut M, grant: &GrantIssued) -> Result<(), M::Error> {
    data.serialize_entry("grant", &GrantId(grant.grant))?;
    data.serialize_entry("reference", &grant.reference)?;
    data.serialize_entry("name", &grant.name)?;
    data.serialize_entry("unit", &grant.unit)?;
    data.serialize_entry("amount", &Exact(grant.amount))?;
    data.serialize_entry("priority", &grant.priority)?;
    data.serialize_entry("group", &grant.group)?;
    data.serialize_entry("effective_at", &Time(grant.effective_at))?;
    data.serialize_entry("expires_at", &grant.expires_at.map(Time))?;
    data.serialize_entry("debt_paid", &Exact(grant.debt_paid))
}

fn of_expired<M: SerializeMap>(data: &mut M, grant: &GrantExpired) -> Result<(), M::Error> {
    data.serialize_entry("grant", &GrantId(grant.grant))?;
    data.serialize_entry("reference", &grant.reference)?;
    data.serialize_entry("name", &grant.name)?;
    data.serialize_entry("unit", &grant.unit)?;
    data.serialize_entry("amount", &Exact(grant.amount))?;
    data.serialize_entry("unused", &Exact(grant.unused))?;
    data.serialize_entry("expired_at", &Time(grant.expired_at))?;
    let reason = match grant.reason {
        ExpiryReason::Period => "period",
        ExpiryReason::Expiry => "expiry",
        ExpiryReason::Cancelled => "cancelled",
        ExpiryReason::Voided => "voided",
    };
    data.serialize_entry("reason", reason)
}

fn of_change<M: SerializeMap>(data: &mut M, change: &SubscriptionChanged) -> Result<(), M::Error> {
    data.serialize_entry("from", &change.from)?;
    data.serialize_entry("to", &change.to)?;
    let reason = match change.reason {
        ChangeReason::Started => "started",
        ChangeReason::Upgraded => "upgraded",
        ChangeReason::Downgraded => "downgraded",
        ChangeReason::Cancelled => "cancelled",
        ChangeReason::TrialEnded => "trial_ended",
        ChangeReason::PaymentFailed => "payment_failed",
        ChangeReason::Refunded => "refunded",
    };
    data.serialize_entry("reason", reason)?;
    data.serialize_entry("seats", &change.seats)?;
    data.serialize_entry("billing", interval(change.billing))?;
    data.serialize_entry("effective_at", &Time(change.effective_at))?;
    data.serialize_entry("proration", &change.proration.as_ref().map(ProrationTold::of))
}

fn of_quote<M: SerializeMap>(data: &mut M, quote: &RefundQuote) -> Result<(), M::Error> {
    data.serialize_entry("eligible", &quote.eligible)?;
    let reason = quote.reason.map(|reason| match reason {
        NoRefund::NoRefund => "no_refund",
        NoRefund::TooLate => "too_late",
        NoRefund::UsedUp => "used_up",
    });
    data.serialize_entry("reason", &reason)?;
    data.serialize_entry("paid", &Exact(quote.paid))?;
    data.serialize_entry("usage", &Exact(quote.usage))?;
    data.serialize_entry("refunded", &Exact(quote.refunded))?;
    data.serialize_entry("fee", &Exact(quote.fee))?;
    data.serialize_entry("amount", &Exact(quote.amount))?;
    data.serialize_entry("currency", &quote.currency)
}

fn interval(billing: Interval) -> &'static str {
    match billing {
        Interval::Month => "month",
        Interval::Year => "year",
    }
}

/// `g1`, `g2`, ...
struct GrantId(u64);

impl Serialize for GrantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("g{}", self.0))
    }
}

#[derive(Serialize)]
struct Window {
    kind: &'static str,
    start: Option<Time>,
    resets_at: Option<Time>,
}

impl Window {
    fn of(told: WindowTold) -> Window {
        let kind = match told.kind {
            WindowKind::Sliding => "sliding",
            WindowKind::FirstUse => "first_use",
            WindowKind::Calendar => "calendar",
            WindowKind::Period => "period",
            WindowKind::Lifetime => "lifetime",
        };
        Window { kind, start: told.start.map(Time), resets_at: told.resets_at.map(Time) }
    }
}

#[derive(Serialize)]
struct Period {
    start: Time,
    end: Option<Time>,
}

#[derive(Serialize)]
struct ProrationTold<'a> {
    amount: Exact,
    currency: Option<&'a str>,
    remaining_ms: Ms,
    cycle_ms: Ms,
}

impl ProrationTold<'_> {
    fn of(proration: &Proration) -> ProrationTold<'_> {
        ProrationTold {
            amount: Exact(proration.amount),
            currency: proration.currency.as_deref(),
            remaining_ms: proration.remaining_ms,
            cycle_ms: proration.cycle_ms,
        }
    }
}

#[derive(Serialize)]
struct StatementTold<'a> {
    charged: Charged<'a>,
    granted: ByName<'a>,
    unused: ByName<'a>,
    overage: ByName<'a>,
    records: u64,
    failed: u64,
    quantities: ByType<'a>,
    price: Option<Price<'a>>,
    prorations: Exact,
}

#[derive(Serialize)]
struct Charged<'a> {
    plan: ByName<'a>,
    payg: ByName<'a>,
    overflow: ByName<'a>,
}

#[derive(Serialize)]
struct Price<'a> {
    amount: Exact,
    currency: &'a str,
}

impl StatementTold<'_> {
    fn of(statement: &Statement) -> StatementTold<'_> {
        StatementTold {
            charged: Charged {
                plan: ByName(&statement.plan),
                payg: ByName(&statement.payg),
                overflow: ByName(&statement.overflow),
            },
            granted: ByName(&statement.granted),
            unused: ByName(&statement.unused),
            overage: ByName(&statement.overage),
            records: statement.records,
            failed: statement.failed,
            quantities: ByType(&statement.quantities),
            price: statement.price.as_ref().map(|(amount, currency)| Price { amount: Exact(*amount), currency }),
            prorations: Exact(statement.prorations),
        }
    }
}

/// `{unit: amount}`
struct ByName<'a>(&'a [(Box<str>, Amount)]);

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, amount)| (name, Exact(*amount))))
    }
}

/// `{type: {quantity: amount}}`
struct ByType<'a>(&'a [(Box<str>, Vec<(Box<str>, Amount)>)]);

impl Serialize for ByType<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(kind, quantities)| (kind, ByName(quantities))))
    }
}
