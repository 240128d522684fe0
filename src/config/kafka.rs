//! `[kafka.properties]`: librdkafka's own settings, but those that meterd decides.

use std::collections::BTreeMap;
use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use toml::de::DeValue;

use super::daemon::Topics;
use super::reading::{Reading, Value};

/// Properties that the guarantees rest on (docs/reference.md 15), and what stands for them.
const DECIDED: [(&str, &str); 40] = [
    ("bootstrap.servers", "set `brokers` in [kafka]"),
    ("metadata.broker.list", "set `brokers` in [kafka]"),
    ("group.id", "set `group` in [kafka]"),
    ("group.instance.id", "set `instance` in [kafka]"),
    ("transactional.id", "set `instance` in [kafka]"),
    ("group.protocol", "meterd uses the classic protocol"),
    ("group.protocol.type", "meterd uses the classic protocol"),
    ("group.remote.assignor", "meterd uses the classic protocol"),
    ("partition.assignment.strategy", "meterd uses cooperative-sticky"),
    ("max.poll.interval.ms", "meterd polls on its own schedule"),
    ("isolation.level", "each of meterd's clients has its own"),
    ("enable.auto.commit", "meterd commits offsets in its transactions"),
    ("auto.commit.interval.ms", "meterd commits offsets in its transactions"),
    ("auto.commit.enable", "meterd commits offsets in its transactions"),
    ("enable.auto.offset.store", "meterd commits offsets in its transactions"),
    ("offset.store.method", "meterd commits offsets in its transactions"),
    ("offset.store.path", "meterd commits offsets in its transactions"),
    ("offset.store.sync.interval.ms", "meterd commits offsets in its transactions"),
    ("auto.offset.reset", "meterd stops where its offset is gone, and never skips"),
    ("enable.partition.eof", "meterd must know the ends of its topics"),
    ("check.crcs", "meterd always checks what it reads"),
    ("allow.auto.create.topics", "`meterd init` creates topics"),
    ("acks", "transactions need all replicas"),
    ("request.required.acks", "transactions need all replicas"),
    ("enable.idempotence", "transactions need it"),
    ("enable.gapless.guarantee", "transactions need their own order"),
    ("max.in.flight", "transactions need their own order"),
    ("max.in.flight.requests.per.connection", "transactions need their own order"),
    ("retries", "meterd repeats whole transactions"),
    ("message.send.max.retries", "meterd repeats whole transactions"),
    ("delivery.timeout.ms", "it follows from the transaction timeout, which meterd decides"),
    ("message.timeout.ms", "it follows from the transaction timeout, which meterd decides"),
    ("transaction.timeout.ms", "a dead instance must not block readers for longer"),
    ("partitioner", "the top-level `partitioner` says how producers place keys; notices follow their account"),
    ("message.max.bytes", "each topic's max.message.bytes says what it takes"),
    ("message.copy.max.bytes", "meterd's client copies what it sends"),
    ("delivery.report.only.error", "meterd counts every acknowledgement"),
    ("queuing.strategy", "meterd bounds its own queues"),
    ("enable.sparse.connections", "meterd keeps its connections"),
    ("test.mock.num.brokers", "brokers in memory are for `meterd demo`; set `brokers` in [kafka]"),
];

/// Checked properties, secrets read.
pub(super) fn properties(reading: &Reading<'_>, value: &Value<'_>, folder: &Path) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let Some(table) = value.table() else { return properties };
    for (name, value) in flatten(table.entries()) {
        if let Some((_, instead)) = DECIDED.iter().find(|(decided, _)| *decided == name) {
            reading.error(&value.place, format!("`{name}` is decided by meterd"), Some((*instead).to_owned()));
            continue;
        }
        let Some(text) = property(&value, folder) else { continue };
        // librdkafka knows its names and their ranges best; nothing is connected to by asking.
        if let Err(error) = ClientConfig::new().set(&name, &text).create_native_config() {
            let message = format!("librdkafka does not take it: {}", reason(&error, &text));
            value.conceal(message, "its CONFIGURATION.md lists what it takes");
            continue;
        }
        properties.insert(name, text);
    }
    properties
}

/// TOML reads `sasl.mechanism = "PLAIN"` as a table `sasl`; a table that is no secret is more of the name.
fn flatten<'r>(entries: Vec<(super::reading::Name<'r>, Value<'r>)>) -> Vec<(String, Value<'r>)> {
    let mut flat = Vec::new();
    for (name, value) in entries {
        match value.quiet_table() {
            Some(table) if !table.has("file") && !table.has("env") => {
                let inner = flatten(table.entries());
                flat.extend(inner.into_iter().map(|(rest, value)| (format!("{}.{rest}", name.text), value)));
            }
            _ => flat.push((name.text.to_owned(), value)),
        }
    }
    flat
}

fn property(value: &Value<'_>, folder: &Path) -> Option<String> {
    match value.item {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Table(_) => secret(value, folder),
        _ => {
            value.expected("a value, { file = \"…\" } or { env = \"…\" }");
            None
        }
    }
}

fn secret(value: &Value<'_>, folder: &Path) -> Option<String> {
    let mut table = value.table()?;
    let (file, env) = (table.get("file"), table.get("env"));
    table.finish();
    match (file, env) {
        (Some(file), None) => {
            let path = folder.join(file.text()?);
            match std::fs::read_to_string(&path) {
                Ok(text) => return Some(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => file.error(format!("{} cannot be read: {error}", path.display()), "name a readable file"),
            }
        }
        (None, Some(env)) => match std::env::var(env.text()?) {
            Ok(text) => return Some(text),
            Err(error) => {
                env.error(format!("the environment does not give it: {error}"), "set the variable for meterd")
            }
        },
        _ => value.error("a secret has one source", "write { file = \"…\" } or { env = \"…\" }"),
    }
    None
}

/// A property's value may be a secret, and messages go to logs.
fn reason(error: &KafkaError, value: &str) -> String {
    let text = match error {
        KafkaError::ClientConfig(_, reason, _, _) => reason.clone(),
        other => other.to_string(),
    };
    if value.is_empty() { text } else { text.replace(value, "…") }
}

/// Topic names are Kafka's, and six different ones.
pub(super) fn check_topics(value: &Value<'_>, topics: &Topics) {
    let names = [&topics.usage, &topics.accounts, &topics.events, &topics.dlq, &topics.journal, &topics.state];
    for (at, name) in names.iter().enumerate() {
        let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.len() > 249 || !name.as_bytes().iter().all(legal) || matches!(name.as_str(), "." | "..") {
            value.error(format!("{name:?} is no name for a topic"), "up to 249 letters, digits, `.`, `_` and `-`");
        }
        if names[..at].contains(name) {
            value.error(format!("two topics are named `{name}`"), "each of the six topics is a topic of its own");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_the_configuration_refuses_what_meterd_decides() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../config/schema/config.schema.json")).expect("JSON");
        let listed = &schema["properties"]["kafka"]["properties"]["properties"]["propertyNames"]["not"]["enum"];
        let decided: Vec<&str> = DECIDED.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, &serde_json::json!(decided));
    }
}
