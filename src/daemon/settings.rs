//! What the daemon's threads read of the configuration, and the Kafka clients it makes of it.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::commit::producer::TRANSACTION_TIMEOUT;
use crate::config::Config;

/// No record that meterd writes is larger.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

#[derive(Clone, Debug)]
pub struct Settings {
    pub group: String,
    pub instance: String,
    /// Where readers reach this instance, if it says so.
    pub advertise: Option<String>,
    pub interval: Duration,
    pub records_max: usize,
    pub checkpoint: Duration,
    /// False only in measurements.
    pub identities: bool,
    /// Whether the broker tells its time. The embedded one makes its times up.
    pub witnessed: bool,
}

/// What every client shares: brokers, security, and what the user set in `[kafka.properties]`.
fn client(config: &Config) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("client.id", "meterd");
    client.set("retry.backoff.ms", "5");
    client.set("retry.backoff.max.ms", "100");
    client.set("reconnect.backoff.ms", "20");
    client.set("reconnect.backoff.max.ms", "1000");
    client.set("socket.nagle.disable", "true");
    for (name, value) in &config.kafka.properties {
        client.set(name, value);
    }
    client.set("bootstrap.servers", &config.kafka.brokers);
    client
}

/// What `over` sets replaces what was set before.
fn layer(base: &mut ClientConfig, over: &ClientConfig) {
    for (name, value) in over.config_map() {
        base.set(name, value);
    }
}

fn consumer(config: &Config) -> ClientConfig {
    let mut consumer = ClientConfig::new();
    // A consumer that is slower than its fetcher waits this long once its queue is full: the default is a second.
    consumer.set("fetch.queue.backoff.ms", "5");
    consumer.set("queued.min.messages", "500000");
    consumer.set("queued.max.messages.kbytes", "65536");
    // The end of a partition is told when a fetch comes back empty, so a fetch must not wait long for more.
    consumer.set("fetch.wait.max.ms", "10");
    layer(&mut consumer, &client(config));
    consumer.set("isolation.level", "read_committed");
    consumer.set("enable.auto.commit", "false");
    consumer.set("enable.auto.offset.store", "false");
    consumer.set("auto.offset.reset", "error");
    consumer.set("enable.partition.eof", "true");
    consumer.set("check.crcs", "true");
    consumer.set("allow.auto.create.topics", "false");
    consumer
}

/// The member of the consumer group, which reads usage.
pub fn group_consumer(config: &Config) -> ClientConfig {
    let mut group = ClientConfig::new();
    group.set("session.timeout.ms", "10000");
    // A member learns from its next heartbeat that others joined or left: in two turns, until which partitions stand still.
    group.set("heartbeat.interval.ms", "1000");
    layer(&mut group, &consumer(config));
    group.set("group.id", &config.kafka.group);
    if !config.kafka.instance.is_empty() {
        group.set("group.instance.id", &config.kafka.instance);
    }
    group.set("group.protocol", "classic");
    group.set("partition.assignment.strategy", "cooperative-sticky");
    group.set("max.poll.interval.ms", "60000");
    group
}

/// A reader of partitions of its own choice, which commits nothing: of commands, and in recovery.
pub fn free_consumer(config: &Config) -> ClientConfig {
    let mut free = consumer(config);
    free.set("group.id", &config.kafka.group);
    free
}

/// The transactional producer of the instance. What goes to a partition together takes `batch_bytes` at most.
pub fn producer(config: &Config, batch_bytes: usize) -> ClientConfig {
    let mut producer = ClientConfig::new();
    // A transaction's records wait for all of them, then go out at once: while one request of a partition is on its way and
    // more is ready, librdkafka asks without pause whether it has come back.
    producer.set("linger.ms", "100");
    producer.set("batch.size", (batch_bytes / 16 * 15).to_string());
    producer.set("queue.buffering.max.messages", "500000");
    producer.set("queue.buffering.max.kbytes", "262144");
    producer.set("batch.num.messages", "100000");
    // Checkpoints of one batch have much in common; what cannot be made shorter goes as it is, at little cost.
    producer.set("compression.codec", "lz4");
    layer(&mut producer, &client(config));
    // The topics say what they take; the client's own limit, 1 MB, would only be a second one.
    producer.set("message.max.bytes", RECORD_BYTES_MAX.to_string());
    let instance = if config.kafka.instance.is_empty() { nameless() } else { config.kafka.instance.clone() };
    producer.set("transactional.id", format!("meterd/{}/{instance}", config.kafka.group));
    producer.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
    // Shorter than the transaction's, so that a record that cannot be delivered ends in an abort of ours.
    producer.set("message.timeout.ms", "8000");
    producer.set("enable.idempotence", "true");
    producer.set("acks", "all");
    producer
}

/// In place of a name, where none is given. A process id would not do: in containers all have the same.
fn nameless() -> String {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => format!("process-{:016x}", u64::from_le_bytes(bytes)),
        Err(_) => format!("process-{}", std::process::id()),
    }
}

/// Asks brokers about topics, and creates and trims them.
pub fn admin(config: &Config) -> ClientConfig {
    client(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of_group(text: &str) -> ClientConfig {
        let config = format!("catalog = \"c.toml\"\n[kafka]\n{text}");
        group_consumer(
            &crate::config::daemon::parse(&config, "", Path::new("")).unwrap_or_else(|wrong| panic!("{wrong}")),
        )
    }

    /// A static member sends no word when it leaves: its partitions wait for its session to end, so that is short.
    #[test]
    fn a_session_is_short_unless_set_otherwise() {
        let usual = of_group("instance = \"a\"");
        assert_eq!(usual.get("group.instance.id"), Some("a"));
        assert_eq!(
            (usual.get("session.timeout.ms"), usual.get("heartbeat.interval.ms")),
            (Some("10000"), Some("1000"))
        );
        let set = of_group("properties = { \"session.timeout.ms\" = \"30000\" }");
        assert_eq!(set.get("session.timeout.ms"), Some("30000"));
    }

    /// Where names of hosts change, nobody would come back under the old one.
    #[test]
    fn an_instance_without_a_name_is_a_dynamic_member() {
        assert_eq!(of_group("instance = \"\"").get("group.instance.id"), None);
    }
}
