//! What the tests send: a catalog with everything that gives rise to notices, commands, and usage of many accounts.

use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};

use crate::log::{self, Producer};
use crate::random::Random;
use crate::simulated::rfc3339;
use crate::world::World;

/// No window or period of it ends while a test runs: what a test finds does not depend on how long it takes.
pub const CATALOG: &str = r#"
catalog = "test"
default_plan = "free"
late = "1h"
future = "5m"

[unit.credit]
scale = 3

[currency.usd]

[[rate]]
type = "llm.call"
match = { model = "opus-*" }
unit = "credit"
price = [
  { quantity = "input_tokens", rate = "1.5", per = 1_000 },
  { quantity = "output_tokens", rate = "7.5", per = 1_000 },
]

[[rate]]
type = "llm.call"
match = { model = "haiku-*" }
unit = "credit"
price = [
  { quantity = "input_tokens", rate = "0.3", per = 1_000 },
  { quantity = "output_tokens", rate = "1.5", per = 1_000 },
]
minimum = "0.1"

[[rate]]
type = "image.*"
unit = "credit"
price = [{ quantity = "requests", rate = "2.5" }]

[plan.free]
unit = "credit"
grants = [{ name = "free", amount = "60" }]
low = ["20%"]

[[plan.free.limit]]
name = "weekly"
measure = { unit = "credit" }
window = { first_use = "7d" }
cap = "40"
warn = ["50%", "80%"]

[plan.pro]
price = { currency = "usd", month = "20" }
unit = "credit"
grants = [{ name = "plan", amount = "150", priority = 10 }]
low = ["50%", "10"]

[[plan.pro.limit]]
name = "5h"
measure = { unit = "credit" }
window = { sliding = "5h" }
cap = "100"
warn = ["80%"]

[[plan.pro.limit]]
name = "member"
scope = "user"
measure = { unit = "credit" }
window = "period"
cap = { share = "25%" }

[[plan.pro.limit]]
name = "images"
type = "image.*"
measure = "records"
window = "lifetime"
cap = "5"
on_exceed = "notify"
"#;

pub fn account(number: u64) -> String {
    format!("account-{number:05}")
}

/// A CloudEvent in structured mode.
pub fn event(id: &str, source: &str, kind: &str, account: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": source, "type": kind, "subject": account, "data": data})
}

pub fn command(id: &str, kind: &str, account: &str, data: &Value) -> Value {
    event(id, "billing", &format!("meterd.{kind}"), account, data)
}

/// Usage of one call, with figures that tell the records of an account apart.
pub fn call(id: &str, account: &str, model: &str, input_tokens: u64) -> Value {
    let data = json!({"user": "ana", "model": model, "input_tokens": input_tokens, "output_tokens": 100});
    event(id, "gateway", "llm.call", account, &data)
}

impl World {
    pub fn producer(&self) -> Producer {
        Producer::new(&self.broker)
    }
}

/// Random usage of `accounts` accounts, numbered on and on: most of it good, some failed, repeated or wrong.
pub struct Traffic {
    random: Random,
    accounts: u64,
    sent: u64,
}

impl Traffic {
    pub fn new(random: Random, accounts: u64) -> Traffic {
        Traffic { random, accounts, sent: 0 }
    }

    /// A command for each account: two of three subscribe, some get a grant on the default plan.
    pub fn send_commands(&mut self, producer: &Producer, world: &World) {
        for number in 0..self.accounts {
            let account = account(number);
            let (kind, data) = match number % 6 {
                0..=3 => ("subscription.start", json!({"plan": "pro", "seats": 4})),
                4 => ("grant.issue", json!({"unit": "credit", "amount": "25", "name": "welcome", "priority": 5})),
                _ => continue,
            };
            producer.send_json(
                &world.accounts(),
                &account,
                &command(&format!("start-{number}"), kind, &account, &data),
            );
        }
        producer.flush();
    }

    /// One usage record, and now and then its repetition by a producer that was not sure.
    pub fn send_usage(&mut self, producer: &Producer, world: &World) {
        self.sent += 1;
        let account = account(self.random.below(self.accounts));
        let id = format!("call-{}", self.sent);
        let usage = self.usage(&id, &account);
        for _ in 0..1 + u64::from(self.random.one_in(50)) {
            if self.sent.is_multiple_of(8) {
                self.send_binary(producer, world, &usage, &account);
            } else {
                producer.send_json(&world.usage(), &account, &usage);
            }
        }
    }

    /// As `send_usage`, under ids that no other traffic of the test has.
    pub fn send_again(&mut self, producer: &Producer, world: &World) {
        self.sent += 1;
        let account = account(self.random.below(self.accounts));
        let usage = self.usage(&format!("again-{}", self.sent), &account);
        producer.send_json(&world.usage(), &account, &usage);
    }

    fn usage(&mut self, id: &str, account: &str) -> Value {
        let user = format!("user-{}", self.random.below(4));
        let (kind, mut data) = if self.random.one_in(5) {
            ("image.render", json!({"user": user, "requests": 1 + self.random.below(2)}))
        } else {
            let model = ["opus-4.7", "haiku-4.5", "haiku-4.5"][self.random.below(3) as usize];
            let (input, output) = (self.random.below(4_000), self.random.below(800));
            ("llm.call", json!({"user": user, "model": model, "input_tokens": input, "output_tokens": output}))
        };
        match self.random.below(300) {
            0 => data["status"] = "failed".into(),
            1 => data["model"] = "unheard-of".into(),
            2 => data["input_tokens"] = (-5).into(),
            _ => {}
        }
        let mut event = event(id, "gateway", kind, account, &data);
        if self.random.one_in(3) {
            event["time"] = rfc3339(chrono::Utc::now().timestamp_millis()).into();
        }
        event
    }

    fn send_binary(&self, producer: &Producer, world: &World, event: &Value, account: &str) {
        let attributes = event.as_object().expect("an event is an object");
        let headers: Vec<_> = attributes
            .iter()
            .filter(|(name, _)| *name != "data")
            .map(|(name, value)| (format!("ce_{name}"), value.as_str().expect("attributes are texts")))
            .collect();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let (topic, data) = (world.usage(), event["data"].to_string());
        let record = BaseRecord::to(&topic).key(account).payload(data.as_bytes()).headers(log::raw_headers(&headers));
        producer.send_record(record);
    }
}
