//! What the outside world produces: usage and commands of a few accounts, with repetitions, late ones and broken ones.

use meterd::engine::Ms;
use meterd::engine::calendar::format_time;
use meterd::ingest::partition::{Partitioner, place};
use meterd::ingest::raw::Input;
use serde_json::{Value, json};

use super::log::Content;
use super::random::Random;

/// A record to be produced.
#[derive(Clone, Debug)]
pub struct Made {
    pub input: Input,
    pub partition: i32,
    pub content: Content,
}

pub struct Workload {
    accounts: Vec<String>,
    partitions: i32,
    made: Vec<Made>,
    number: u64,
}

const MODELS: [&str; 4] = ["haiku", "haiku-3", "opus-4", "opus-5"];
const USERS: [&str; 5] = ["ana", "ben", "cy", "dee", "eve"];
const PLANS: [&str; 4] = ["free", "trial", "pro", "team"];

impl Workload {
    pub fn new(random: &mut Random, partitions: i32) -> Workload {
        let count = random.between(2, 9);
        let accounts = (0..count).map(|number| format!("account-{number}")).collect();
        Workload { accounts, partitions, made: Vec::new(), number: 0 }
    }

    /// The next record.
    pub fn next(&mut self, random: &mut Random, now: Ms) -> Made {
        if !self.made.is_empty() && random.below(8) == 0 {
            // A producer tries again: something recent, or anything.
            let back = if random.below(3) > 0 { 6 } else { self.made.len() as u64 };
            let back = 1 + random.below(back.min(self.made.len() as u64)) as usize;
            return self.made[self.made.len() - back].clone();
        }
        self.number += 1;
        let account = random.pick(&self.accounts).clone();
        let input = if random.below(5) == 0 { Input::Accounts } else { Input::Usage };
        let id = format!("{}-{}", if input == Input::Usage { "r" } else { "c" }, self.number);
        let mut event = match input {
            Input::Usage => self.usage(random, now, &account),
            Input::Accounts => command(random, now, self.number),
        };
        event["specversion"] = "1.0".into();
        event["id"] = id.into();
        event["source"] = "simulation".into();
        event["subject"] = account.as_str().into();
        let mut value = event.to_string().into_bytes();
        if random.below(40) == 0 {
            value.truncate(random.below(value.len() as u64) as usize);
        }
        let mut partition = place(Partitioner::Murmur2, account.as_bytes(), self.partitions).expect("it is known");
        if random.below(60) == 0 {
            partition = random.below(self.partitions as u64) as i32;
        }
        let key = (random.below(20) > 0).then(|| account.into_bytes());
        let headers =
            if random.below(15) == 0 { vec![(b"trace".to_vec(), Some(b"\xFF\x00".to_vec()))] } else { vec![] };
        let made = Made { input, partition, content: Content { key, value: Some(value), headers } };
        self.made.push(made.clone());
        made
    }

    fn usage(&self, random: &mut Random, now: Ms, _account: &str) -> Value {
        let model = *random.pick(&MODELS);
        let mut data = json!({ "model": model, "input_tokens": random.below(900), "output_tokens": random.below(300) });
        let kind = match random.below(14) {
            0 => {
                data = json!({ "images": random.below(9), "kind": "image" });
                "image"
            }
            1 | 2 => {
                let phase = if random.below(2) == 0 { "start" } else { "end" };
                data = json!({ "session": format!("s{}", random.below(4)), "phase": phase });
                "live"
            }
            3 if random.below(4) == 0 => "unpriced",
            _ => "llm.call",
        };
        if random.below(4) > 0 {
            data["user"] = (*random.pick(&USERS)).into();
        }
        match random.below(12) {
            0 => data["billing"] = "payg".into(),
            1 => data["status"] = "failed".into(),
            2 => data["features"] = json!(["search", "other"]),
            3 if random.below(4) == 0 => data["input_tokens"] = "many".into(),
            _ => {}
        }
        let mut event = json!({ "type": kind, "data": data });
        if random.below(6) > 0 {
            let behind = match random.below(20) {
                0 => random.between(3_000, 6_000),
                1 => random.between(-3_000, 0),
                2..=6 => random.between(0, 3_000),
                _ => random.between(0, 200),
            };
            event["time"] = format_time(now - behind).into();
        }
        event
    }
}

fn command(random: &mut Random, now: Ms, number: u64) -> Value {
    let amount = |random: &mut Random, most: u64| format!("{}.{}", random.below(most), 1 + random.below(9));
    let unit = if random.below(4) == 0 { "usd" } else { "credit" };
    let plan = *random.pick(&PLANS);
    let billing = if random.below(5) == 0 { "year" } else { "month" };
    let soon = |random: &mut Random| format_time(now + random.between(-3_000, 12_000));
    let (kind, data) = match random.below(22) {
        0..=2 => ("subscription.start", json!({ "plan": plan, "billing": billing })),
        3 => ("subscription.start", json!({ "plan": plan, "at": format_time(now - random.between(0, 20_000)) })),
        4 | 5 => ("subscription.change", json!({ "plan": plan, "seats": 1 + random.below(5) })),
        6 => ("subscription.change", json!({ "plan": plan, "when": *random.pick(&["now", "period_end"]) })),
        7 => ("subscription.cancel", json!({ "when": *random.pick(&["now", "period_end"]) })),
        8 => ("payment.failed", json!({})),
        9 => ("payment.succeeded", json!({})),
        10 => ("topup", json!({ "pack": *random.pick(&["small", "unknown"]) })),
        11 => {
            let (amount, price) = (amount(random, 60), amount(random, 30));
            ("topup", json!({ "amount": amount, "unit": unit, "price": price, "currency": "usd" }))
        }
        12 => {
            let (amount, end) = (amount(random, 40), soon(random));
            ("grant.issue", json!({ "amount": amount, "unit": unit, "expires_at": end, "priority": random.below(60) }))
        }
        13 => {
            let amount = amount(random, 20);
            ("grant.issue", json!({ "amount": amount, "unit": "credit", "group": "premium", "name": "gift" }))
        }
        14 => ("grant.void", json!({ "grant": format!("g{}", 1 + random.below(12)) })),
        15 => {
            let sign = if random.below(2) == 0 { "-" } else { "" };
            (
                "balance.adjust",
                json!({ "amount": format!("{sign}{}", amount(random, 40)), "unit": unit, "reason": "test" }),
            )
        }
        16 => {
            let cap = random.pick(&[json!("25%"), json!("7"), Value::Null]).clone();
            let user = *random.pick(&USERS);
            ("member.set", json!({ "user": user, "caps": { "member": cap }, "deny": ["premium"] }))
        }
        17 => {
            let cap = if random.below(3) == 0 { Value::Null } else { amount(random, 30).into() };
            ("limit.set", json!({ "limit": *random.pick(&["burst", "member", "session"]), "cap": cap }))
        }
        18 => {
            let autopay = json!({ "unit": unit, "below": "10", "amount": "50" });
            let class = *random.pick(&["standard", "partner"]);
            ("account.set", json!({ "extra_usage": random.below(4) > 0, "autopay": autopay, "class": class }))
        }
        19 => ("refund.request", json!({})),
        20 => ("refund.completed", json!({ "amount": amount(random, 15) })),
        _ if number.is_multiple_of(3) => ("account.delete", json!({})),
        _ => ("account.set", json!({ "extra_usage": true })),
    };
    json!({ "type": format!("meterd.{kind}"), "data": data })
}
