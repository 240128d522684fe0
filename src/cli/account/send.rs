//! Sends a command to the topic of commands, and waits until Kafka has it.

use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bumpalo::Bump;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde_json::{Value, json};

use super::super::{Failure, Globals, Output, Verdict};
use super::change::{Change, Command};
use crate::config::{self, Config};
use crate::ingest::decode::{self, Decoder};
use crate::ingest::partition::{Partitioner, place};

const DELIVERED_WITHIN: Duration = Duration::from_secs(30);
const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

pub fn run(change: &Change, globals: &Globals) -> Result<Verdict, Failure> {
    let command = change.command();
    let record = record(&command, SystemTime::now());
    check(&command, &record)?;
    if command.sending.dry_run {
        super::super::print(&format!("{record}\n"))?;
        return Ok(Verdict::Clean);
    }
    let config = config::load(&globals.config).map_err(Failure::config)?;
    let sent = Sender::connect(&config)?.send(&command, &record)?;
    super::super::print(&match globals.output {
        Output::Text => format!(
            "{} of {} sent as {}: {} partition {} offset {}\n",
            command.kind, command.account, record["id"], config.kafka.topics.accounts, sent.partition, sent.offset
        ),
        Output::Json => format!(
            "{}\n",
            json!({
                "id": record["id"],
                "source": record["source"],
                "topic": config.kafka.topics.accounts,
                "partition": sent.partition,
                "offset": sent.offset,
            })
        ),
    })?;
    Ok(Verdict::Clean)
}

/// The CloudEvent. An id that was not given is new for each call.
fn record(command: &Command<'_>, now: SystemTime) -> Value {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let id =
        command.sending.id.clone().unwrap_or_else(|| format!("cli-{:x}-{:x}", since.as_nanos(), std::process::id()));
    let mut record = json!({
        "specversion": "1.0",
        "id": id,
        "source": command.sending.source,
        "type": command.kind,
        "subject": command.account,
        "time": crate::engine::calendar::format_time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
    });
    if !command.data.is_empty() {
        record["data"] = Value::Object(command.data.clone());
    }
    record
}

/// What the daemon would quarantine is not sent.
fn check(command: &Command<'_>, record: &Value) -> Result<(), Failure> {
    let value = record.to_string();
    let content_type = [decode::Header { key: b"content-type", value: Some(CONTENT_TYPE.as_bytes()) }];
    let raw = decode::Raw {
        key: Some(command.account.as_bytes()),
        value: Some(value.as_bytes()),
        headers: &content_type,
        timestamp: 0,
    };
    match Decoder::default().command(&raw, usize::MAX, &Bump::new()) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(Failure::usage(format!("{}: {}", refusal.reason.name(), refusal.message))),
    }
}

struct Sent {
    partition: i32,
    offset: i64,
}

struct Sender<'c> {
    config: &'c Config,
    producer: BaseProducer<Deliveries>,
    delivered: mpsc::Receiver<Result<Sent, KafkaError>>,
}

/// Hands the delivery report over.
struct Deliveries(mpsc::Sender<Result<Sent, KafkaError>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let told = match result {
            Ok(message) => Ok(Sent { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(error.clone()),
        };
        // The receiver lives as long as the producer that calls this.
        let _ = self.0.send(told);
    }
}

impl<'c> Sender<'c> {
    fn connect(config: &'c Config) -> Result<Sender<'c>, Failure> {
        let (tell, delivered) = mpsc::channel();
        let mut client = ClientConfig::new();
        for (name, value) in &config.kafka.properties {
            client.set(name, value);
        }
        client
            .set("bootstrap.servers", &config.kafka.brokers)
            .set("allow.auto.create.topics", "false")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("message.timeout.ms", DELIVERED_WITHIN.as_millis().to_string());
        let producer = client
            .create_with_context(Deliveries(tell))
            .map_err(|error| Failure::config(format!("[kafka] of the config: {error}")))?;
        Ok(Sender { config, producer, delivered })
    }

    fn send(&self, command: &Command<'_>, record: &Value) -> Result<Sent, Failure> {
        let partition = self.partition(command)?;
        let value = record.to_string();
        let headers = OwnedHeaders::new().insert(Header { key: "content-type", value: Some(CONTENT_TYPE) });
        let message = BaseRecord::to(&self.config.kafka.topics.accounts)
            .partition(partition)
            .key(command.account)
            .payload(&value)
            .headers(headers);
        self.producer.send(message).map_err(|(error, _)| self.unavailable(&error))?;
        let end = Instant::now() + DELIVERED_WITHIN;
        while Instant::now() < end {
            self.producer.poll(Duration::from_millis(50));
            if let Ok(sent) = self.delivered.try_recv() {
                return sent.map_err(|error| self.unavailable(&error));
            }
        }
        Err(Failure::unavailable(format!(
            "no acknowledgement within {} s: the command may or may not be in the topic; send it again with --id {} and \
             it counts once",
            DELIVERED_WITHIN.as_secs(),
            record["id"]
        )))
    }

    /// Where the account lives.
    fn partition(&self, command: &Command<'_>) -> Result<i32, Failure> {
        let topic = &self.config.kafka.topics.accounts;
        let metadata = self.producer.client().fetch_metadata(Some(topic), DELIVERED_WITHIN);
        let metadata = metadata.map_err(|error| self.unavailable(&error))?;
        let found = metadata.topics().first().map(|topic| topic.partitions().len());
        let count = found.and_then(|count| i32::try_from(count).ok()).filter(|count| *count > 0).ok_or_else(|| {
            Failure::config(format!(
                "topic {topic} does not exist at {}; `meterd init` creates it",
                self.config.kafka.brokers
            ))
        })?;
        match (place(self.config.partitioner, command.account.as_bytes(), count), command.sending.partition) {
            (Some(partition), None) => Ok(partition),
            (Some(partition), Some(asked)) if asked == partition => Ok(partition),
            (Some(partition), Some(asked)) => Err(Failure::usage(format!(
                "--partition {asked}: the {} partitioner puts {} into partition {partition}",
                self.config.partitioner.name(),
                command.account
            ))),
            (None, Some(asked)) if (0..count).contains(&asked) => Ok(asked),
            (None, Some(asked)) => {
                Err(Failure::usage(format!("--partition {asked}: topic {topic} has 0 to {}", count - 1)))
            }
            (None, None) => Err(Failure::usage(format!(
                "partitioner = \"{}\": expected --partition with the partition that holds the account's usage",
                Partitioner::Any.name()
            ))),
        }
    }

    fn unavailable(&self, error: &KafkaError) -> Failure {
        Failure::unavailable(format!("the brokers at {}: {error}", self.config.kafka.brokers))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Verb};
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn sent(line: &str) -> Result<(String, Value), String> {
        let words = std::iter::once("account").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let Verb::Change(change) = line.arguments.verb else { return Err("it sends nothing".into()) };
        let command = change.command();
        let record = record(&command, UNIX_EPOCH + Duration::from_secs(1));
        check(&command, &record).map_err(|failure| failure.message)?;
        Ok((command.kind.to_owned(), record["data"].clone()))
    }

    #[test]
    fn every_command_can_be_written() {
        for (line, kind, data) in [
            (
                "subscription-start acme --plan pro --billing year --seats 3 --at 2026-11-01T00:00:00Z --unpaid",
                "meterd.subscription.start",
                json!({"plan": "pro", "billing": "year", "seats": 3, "at": "2026-11-01T00:00:00Z", "paid": false}),
            ),
            (
                "subscription-change acme --seats 5 --when now",
                "meterd.subscription.change",
                json!({"seats": 5, "when": "now"}),
            ),
            ("subscription-cancel acme", "meterd.subscription.cancel", Value::Null),
            ("payment-succeeded acme", "meterd.payment.succeeded", Value::Null),
            ("payment-failed acme", "meterd.payment.failed", Value::Null),
            ("topup acme --pack small", "meterd.topup", json!({"pack": "small"})),
            (
                "topup acme --amount 500 --unit credit --price 20 --currency usd --expires-at never",
                "meterd.topup",
                json!({"amount": "500", "unit": "credit", "price": "20", "currency": "usd", "expires_at": null}),
            ),
            (
                "grant-issue acme --unit credit --amount 12.5 --name gift --priority 5 --group premium",
                "meterd.grant.issue",
                json!({"unit": "credit", "amount": "12.5", "name": "gift", "priority": 5, "group": "premium"}),
            ),
            ("grant-void acme --grant g1", "meterd.grant.void", json!({"grant": "g1"})),
            (
                "balance-adjust acme --unit credit --amount -5 --reason refund",
                "meterd.balance.adjust",
                json!({"unit": "credit", "amount": "-5", "reason": "refund"}),
            ),
            (
                "member-set acme --user ana --cap user=25% --cap images=none --deny premium",
                "meterd.member.set",
                json!({"user": "ana", "caps": {"user": "25%", "images": null}, "deny": ["premium"]}),
            ),
            (
                "member-set acme --user ana --clear-caps --allow-all",
                "meterd.member.set",
                json!({"user": "ana", "caps": null, "deny": []}),
            ),
            ("limit-set acme --limit 5h --cap none", "meterd.limit.set", json!({"limit": "5h", "cap": null})),
            (
                "set acme --class none --extra-usage on --autopay credit:1000:5000",
                "meterd.account.set",
                json!({"class": null, "extra_usage": true, "autopay": {"unit": "credit", "below": "1000", "amount": "5000"}}),
            ),
            ("refund-request acme", "meterd.refund.request", Value::Null),
            ("refund-completed acme --amount 12", "meterd.refund.completed", json!({"amount": "12"})),
            ("delete acme --yes", "meterd.account.delete", Value::Null),
        ] {
            assert_eq!(sent(line), Ok((kind.to_owned(), data)), "{line}");
        }
    }

    #[test]
    fn what_would_be_quarantined_is_not_sent() {
        for line in [
            "topup acme",
            "topup acme --pack small --price 3 --currency usd",
            "topup acme --amount 5 --unit credit --price 3",
            "topup acme --amount lots --unit credit",
            "subscription-change acme",
            "subscription-start acme --plan pro --seats 0",
            "subscription-start acme --plan pro --at yesterday",
            "grant-issue acme --unit credit --amount -1",
            "grant-issue acme --unit credit --amount 1 --priority 1001",
            "member-set acme --user ana --cap 5",
            "set acme",
            "delete acme",
            "payment-failed acme --source \u{7}",
        ] {
            assert!(sent(line).is_err(), "{line}");
        }
    }
}
