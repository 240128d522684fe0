//! The world around the daemon: a gateway that sends usage and stops who is blocked, and a billing side that answers
//! notices with commands, as a business would.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::cast::{Actor, CAST, subscription, tokens, topup};
use super::dice::Dice;
use crate::config::daemon::Topics;
use crate::engine::calendar::format_time;
use crate::query::{Backend, NoticeLine};

const KNOWN_WITHIN: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(20);
/// Records over which an account's use before the demo is spread.
const HEAD_START_RECORDS: u64 = 30;
/// Of ten thousand: what goes wrong in real streams.
const FAILED: u64 = 150;
const REPEATED: u64 = 40;
const UNPRICED: u64 = 12;
const LATE: u64 = 5;
/// Of ten thousand: calls that a gateway lets through although it was told to block, as they were under way.
const UNDER_WAY: u64 = 150;
const TWO_HOURS_MS: i64 = 7_200_000;

/// The running world; it ends when told to.
pub struct World {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Stage {
    producer: BaseProducer,
    topics: Topics,
    notices: broadcast::Receiver<Arc<NoticeLine>>,
    dice: Dice,
    /// Records a second.
    rate: u32,
    sent: u64,
    commands: u64,
    /// (account, user): the gateway lets them wait. An empty user is all of the account.
    blocked: BTreeSet<(String, String)>,
    /// What the billing side is about to do.
    planned: Vec<(Instant, String, &'static str, Value)>,
}

impl World {
    /// Waits for the daemon to be ready: what came before would look like a backlog.
    pub fn start(brokers: &str, topics: &Topics, rate: u32, backend: Arc<dyn Backend>) -> Result<World, KafkaError> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "2")
            .create()?;
        // A producer that knows its topics sends at once.
        for topic in [&topics.usage, &topics.accounts] {
            producer.client().fetch_metadata(Some(topic), KNOWN_WITHIN)?;
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let mut stage = Stage {
            producer,
            topics: topics.clone(),
            notices: backend.notices(),
            dice: Dice::new(now_ms() as u64),
            rate,
            sent: 0,
            commands: 0,
            blocked: BTreeSet::new(),
            planned: Vec::new(),
        };
        let ended = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || {
            while !backend.health().ready && !ended.load(Ordering::Acquire) {
                std::thread::sleep(TICK);
            }
            stage.play(&ended);
        });
        Ok(World { stopping, thread: Some(thread) })
    }

    pub fn stop(mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been told on stderr.
            let _ = thread.join();
        }
    }
}

impl Stage {
    fn play(&mut self, stopping: &AtomicBool) {
        for actor in &CAST {
            for (kind, data) in (actor.opening)() {
                self.command(actor.account, kind, &data);
            }
        }
        // Commands are not ordered with usage of the same millisecond in another topic; a moment makes it plain.
        std::thread::sleep(Duration::from_millis(10));
        for actor in &CAST {
            let each = actor.head_start * 1_000 / HEAD_START_RECORDS;
            (0..HEAD_START_RECORDS).filter(|_| each > 0).for_each(|_| self.usage(actor, each));
        }
        let begun = Instant::now();
        let mut owed = 0;
        while !stopping.load(Ordering::Acquire) {
            self.hear();
            self.act();
            let due = (begun.elapsed().as_secs_f64() * f64::from(self.rate)) as u64;
            for _ in owed..due {
                let actor = &CAST[self.dice.weighted(CAST.iter().map(|actor| actor.weight))];
                let each = actor.credits_per_second * 1_000 * total_weight() / (actor.weight * u64::from(self.rate));
                let spread = each / 2 + self.dice.below(each.max(1));
                self.usage(actor, spread.max(1));
            }
            owed = due;
            self.producer.poll(TICK);
        }
        // What is still queued is of no use to anybody.
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue());
    }

    /// One call of a user through the gateway.
    fn usage(&mut self, actor: &Actor, millicredits: u64) {
        let user = actor.users[self.dice.weighted(actor.users.iter().map(|(_, weight)| *weight))].0;
        if self.is_blocked(actor.account, user) && !self.dice.often(UNDER_WAY) {
            return;
        }
        let model = actor.models[self.dice.weighted(actor.models.iter().map(|(_, weight)| *weight))].0;
        let (input, output) = tokens(model, millicredits);
        let now = now_ms();
        self.sent += 1;
        let model = if self.dice.often(UNPRICED) { "shiny-model-1" } else { model };
        let time = if self.dice.often(LATE) { now - TWO_HOURS_MS } else { now };
        let mut record = json!({
            "specversion": "1.0",
            "id": format!("call-{}", self.sent),
            "source": "demo/gateway",
            "type": "llm.call",
            "subject": actor.account,
            "time": format_time(time),
            "data": {"user": user, "model": model, "input_tokens": input, "output_tokens": output, "workflow": "agent"},
        });
        if self.dice.often(FAILED) {
            record["data"]["status"] = Value::from("failed");
        }
        let topic = self.topics.usage.clone();
        self.send(&topic, actor.account, &record);
        if self.dice.often(REPEATED) {
            self.send(&topic, actor.account, &record);
        }
    }

    fn command(&mut self, account: &str, kind: &str, data: &Value) {
        self.commands += 1;
        let mut record = json!({
            "specversion": "1.0",
            "id": format!("billing-{}", self.commands),
            "source": "demo/billing",
            "type": kind,
            "subject": account,
            "time": format_time(now_ms()),
        });
        if !data.is_null() {
            record["data"] = data.clone();
        }
        let topic = self.topics.accounts.clone();
        self.send(&topic, account, &record);
    }

    fn send(&self, topic: &str, account: &str, record: &Value) {
        let value = record.to_string();
        let headers =
            OwnedHeaders::new().insert(Header { key: "content-type", value: Some("application/cloudevents+json") });
        // A full queue drops a record of a demo: the broker is behind, and the next tick sends others.
        let _ = self.producer.send(BaseRecord::to(topic).key(account).payload(&value).headers(headers));
    }

    fn is_blocked(&self, account: &str, user: &str) -> bool {
        let has = |user: &str| self.blocked.contains(&(account.to_owned(), user.to_owned()));
        has("") || has(user)
    }

    fn hear(&mut self) {
        while let Ok(line) = self.notices.try_recv() {
            if let Ok(notice) = serde_json::from_slice::<Value>(&line.json) {
                self.react(&line.account, &line.kind, &notice["data"]);
            }
        }
    }

    /// What gateway and billing side make of a notice.
    fn react(&mut self, account: &str, kind: &str, data: &Value) {
        let plan = data["plan"].as_str().unwrap_or("");
        let user = data["user"].as_str().unwrap_or("");
        match kind {
            "cap.exceeded" => {
                self.blocked.insert((account.to_owned(), user.to_owned()));
                self.answer_cap(account, plan, user);
            }
            "cap.restored" => {
                self.blocked.remove(&(account.to_owned(), user.to_owned()));
            }
            "balance.exhausted" => {
                self.blocked.insert((account.to_owned(), String::new()));
                match plan {
                    "trial" => self.plan(6, account, subscription("pro", 2, 0)),
                    "free" => self.plan(12, account, topup("4000", "20")),
                    _ => self.plan(7, account, topup("25000", "40")),
                }
            }
            "balance.restored" => {
                self.blocked.remove(&(account.to_owned(), String::new()));
            }
            "subscription.changed" => self.blocked.retain(|(of, _)| of != account),
            "autopay.requested" => self.plan(3, account, topup(data["amount"].as_str().unwrap_or("60000"), "90")),
            "grace.started" => self.plan(25, account, ("meterd.payment.succeeded", Value::Null)),
            _ => {}
        }
    }

    /// First a larger share for who needs it, then a larger plan, then a top-up, which makes every share larger.
    fn answer_cap(&mut self, account: &str, plan: &str, user: &str) {
        let choice = match plan {
            "legacy_starter" => subscription("pro", 1, 0),
            "pro" if self.dice.often(5_000) => ("meterd.subscription.change", json!({"plan": "pro_plus"})),
            "pro_plus" if self.dice.often(5_000) => ("meterd.subscription.change", json!({"plan": "pro_max"})),
            _ if self.dice.often(5_000) => ("meterd.member.set", json!({"user": user, "caps": {"user": "60%"}})),
            _ => topup("30000", "45"),
        };
        self.plan(5, account, choice);
    }

    fn plan(&mut self, seconds: u64, account: &str, (kind, data): (&'static str, Value)) {
        self.planned.push((Instant::now() + Duration::from_secs(seconds), account.to_owned(), kind, data));
    }

    fn act(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = self.planned.drain(..).partition(|(at, ..)| *at <= now);
        self.planned = later;
        for (_, account, kind, data) in due {
            self.command(&account, kind, &data);
        }
    }
}

fn total_weight() -> u64 {
    CAST.iter().map(|actor| actor.weight).sum()
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
