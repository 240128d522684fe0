//! Who plays in the demo: a handful of companies on the plans of the Zencoder catalog, with fates.

use serde_json::{Value, json};

/// A company, its people, and how fast it uses what it has.
pub struct Actor {
    pub account: &'static str,
    /// Users with the weight of each in the company's usage.
    pub users: &'static [(&'static str, u64)],
    /// Weight in the stream of records.
    pub weight: u64,
    /// Credits used a second, over all of its records.
    pub credits_per_second: u64,
    /// Credits used before the demo began.
    pub head_start: u64,
    pub models: &'static [(&'static str, u64)],
    /// How its subscription begins: types and data of commands.
    pub opening: fn() -> Vec<(&'static str, Value)>,
}

/// Models with their multipliers, as in the catalog; in hundredths.
pub const MULTIPLIERS: [(&str, u64); 8] = [
    ("grok-code-fast-1", 25),
    ("haiku-4.5", 100),
    ("auto", 100),
    ("gpt-5.3-codex", 200),
    ("gemini-pro-3.1", 200),
    ("sonnet-4.6", 300),
    ("opus-4.7", 500),
    ("gpt-5.5", 500),
];

const USUAL: &[(&str, u64)] = &[
    ("sonnet-4.6", 6),
    ("haiku-4.5", 4),
    ("gpt-5.3-codex", 3),
    ("opus-4.7", 3),
    ("gpt-5.5", 2),
    ("grok-code-fast-1", 2),
];
const LARGE: &[(&str, u64)] = &[("opus-4.7", 5), ("gpt-5.5", 3), ("gemini-pro-3.1", 2), ("sonnet-4.6", 4)];
const OPEN: &[(&str, u64)] = &[("auto", 30), ("opus-4.7", 1)];

/// In days before now: where the first period begins.
const DAY_MS: i64 = 86_400_000;

pub const CAST: [Actor; 8] = [
    // A user of the three is about to use up a third of the pool, then gets a larger share, then all use up the rest.
    Actor {
        account: "acme",
        users: &[("ana", 6), ("ben", 2), ("chloe", 1)],
        weight: 24,
        credits_per_second: 900,
        head_start: 36_000,
        models: USUAL,
        opening: || vec![subscription("pro", 3, 12)],
    },
    // Runs low and out, and buys top-ups.
    Actor {
        account: "globex",
        users: &[("dmitri", 3), ("eve", 3)],
        weight: 18,
        credits_per_second: 700,
        head_start: 44_000,
        models: LARGE,
        opening: || vec![subscription("pro", 2, 20)],
    },
    // A trial that ends in a subscription.
    Actor {
        account: "initech",
        users: &[("milton", 1), ("peter", 2)],
        weight: 8,
        credits_per_second: 160,
        head_start: 2_500,
        models: USUAL,
        opening: || vec![subscription("trial", 1, 2)],
    },
    // Large and calm.
    Actor {
        account: "hooli",
        users: &[("gavin", 1), ("jared", 4), ("nelson", 2), ("dinesh", 3), ("gilfoyle", 3)],
        weight: 22,
        credits_per_second: 1_200,
        head_start: 300_000,
        models: LARGE,
        opening: || vec![subscription("pro_max", 5, 25)],
    },
    // On Free, where large models are not included.
    Actor {
        account: "umbrella",
        users: &[("alice", 2), ("rain", 1)],
        weight: 4,
        credits_per_second: 60,
        head_start: 0,
        models: OPEN,
        opening: || vec![topup("4000", "20")],
    },
    // An old plan that counts calls.
    Actor {
        account: "wayne",
        users: &[("lucius", 1)],
        weight: 6,
        credits_per_second: 90,
        head_start: 900,
        models: USUAL,
        opening: || vec![subscription("legacy_starter", 1, 40)],
    },
    // A prepaid commit that fills itself up.
    Actor {
        account: "stark",
        users: &[("pepper", 3), ("happy", 1), ("rhodey", 2)],
        weight: 14,
        credits_per_second: 1_500,
        head_start: 60_000,
        models: LARGE,
        opening: || {
            vec![
                subscription("enterprise", 10, 60),
                ("meterd.grant.issue", json!({"unit": "credit", "amount": "150000", "name": "commit", "priority": 15})),
                ("meterd.account.set", json!({"autopay": {"unit": "credit", "below": "50000", "amount": "60000"}})),
            ]
        },
    },
    // Its card fails.
    Actor {
        account: "northwind",
        users: &[("nancy", 3), ("andrew", 1)],
        weight: 6,
        credits_per_second: 250,
        head_start: 30_000,
        models: USUAL,
        opening: || vec![subscription("pro_plus", 1, 8), ("meterd.payment.failed", Value::Null)],
    },
];

pub fn subscription(plan: &str, seats: u32, days_ago: i64) -> (&'static str, Value) {
    let at = crate::engine::calendar::format_time(super::world::now_ms() - days_ago * DAY_MS);
    ("meterd.subscription.start", json!({"plan": plan, "seats": seats, "at": at}))
}

pub fn topup(credits: &str, usd: &str) -> (&'static str, Value) {
    ("meterd.topup", json!({"unit": "credit", "amount": credits, "price": usd, "currency": "usd"}))
}

/// Input and output tokens that cost about so many thousandths of a credit: four of input for one of output.
pub fn tokens(model: &str, millicredits: u64) -> (u64, u64) {
    let multiplier = MULTIPLIERS.iter().find(|(name, _)| *name == model).map_or(100, |(_, multiplier)| *multiplier);
    // 4 × 1,000 + 5,000 credits for a million output tokens and their input, times the multiplier.
    let output = (millicredits * 100 * 1_000 / (9_000 * multiplier)).max(1);
    (output * 4, output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::catalog;

    #[test]
    fn everyone_plays_by_the_catalog() {
        let (catalog, _) = catalog::parse(super::super::CATALOG, "zencoder.toml").expect("the catalog of the demo");
        for actor in &CAST {
            for (kind, data) in (actor.opening)() {
                if kind == "meterd.subscription.start" {
                    let plan = data["plan"].as_str().expect("a plan");
                    assert!(catalog.plans.iter().any(|known| *known.name == *plan), "{plan}");
                }
            }
            for (model, _) in actor.models {
                assert!(MULTIPLIERS.iter().any(|(name, _)| name == model), "{model}");
            }
        }
    }

    #[test]
    fn tokens_cost_what_was_asked_for() {
        // 20 credits at 5x: (input × 1,000 + output × 5,000) / 10^6 × 5.
        let (input, output) = tokens("opus-4.7", 20_000);
        let credits = (input * 1_000 + output * 5_000) as f64 / 1e6 * 5.0;
        assert!((19.9..=20.0).contains(&credits), "{credits}");
    }
}
