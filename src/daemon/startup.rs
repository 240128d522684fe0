//! What is looked at before anything is folded: brokers, topics, what the journal belongs to.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::topics::{self, Limits};
use crate::commit::Stop;
use crate::commit::recovery::Place;
use crate::config::Config;
use crate::config::daemon::Topics;
use crate::ingest::native;

/// How long brokers may be away when the daemon starts.
pub const BROKERS_WAIT: Duration = Duration::from_secs(20);
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The topics as they are found.
#[derive(Clone, Debug)]
pub struct Found {
    pub partitions: i32,
    pub events_partitions: i32,
    pub dlq_partitions: i32,
    pub limits: Limits,
    pub place: Place,
}

/// Waits for the brokers and checks the topics.
pub fn look(config: &Config, client: &ClientConfig, mock: bool) -> Result<Found, Stop> {
    let consumer: BaseConsumer = client.create().map_err(|error| {
        Stop::config(format!("expected a Kafka client, found {error}: check [kafka] and [kafka.properties]"))
    })?;
    let shapes = shapes(config, &consumer)?;
    let topics = &config.kafka.topics;
    let missing: Vec<&str> =
        shapes.iter().filter(|shape| shape.partitions == 0).map(|shape| shape.topic.as_str()).collect();
    if !missing.is_empty() {
        return Err(Stop::config(format!(
            "expected the topics of [kafka] topics, found no {}: create them with `meterd init`",
            missing.join(", ")
        )));
    }
    let shape = |topic: &str| shapes.iter().find(|shape| shape.topic == topic);
    let count = |topic: &str| shape(topic).map_or(0, |shape| shape.partitions);
    let partitions = count(&topics.usage);
    for topic in [&topics.accounts, &topics.journal, &topics.state] {
        if count(topic) != partitions {
            return Err(Stop::config(format!(
                "expected {topic} to have {partitions} partitions as {} has, found {}: an account must live in one \
                 partition number of all of them; create the topics with the same count",
                topics.usage,
                count(topic)
            )));
        }
    }
    let place = if mock { mock_place(config, partitions) } else { place(config, &consumer, partitions)? };
    let limits = if mock {
        Limits::DEFAULT
    } else {
        let replication = |topic: &str| shape(topic).map_or(0, |shape| shape.replication);
        topics::check(topics, &config.kafka.brokers, client, replication)?
    };
    Ok(Found {
        partitions,
        events_partitions: count(&topics.events),
        dlq_partitions: count(&topics.dlq),
        limits,
        place,
    })
}

struct Shape {
    topic: String,
    /// 0: it does not exist.
    partitions: i32,
    /// The least of its partitions.
    replication: usize,
}

fn shapes(config: &Config, consumer: &BaseConsumer) -> Result<Vec<Shape>, Stop> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        match consumer.fetch_metadata(None, CALL_TIMEOUT) {
            Ok(metadata) => {
                let names = names(&config.kafka.topics);
                let shape = |name: &&str| {
                    let found = metadata.topics().iter().find(|topic| topic.name() == *name && topic.error().is_none());
                    let partitions = found.map_or(&[][..], |topic| topic.partitions());
                    Shape {
                        topic: (*name).to_string(),
                        partitions: partitions.len() as i32,
                        replication: partitions.iter().map(|one| one.replicas().len()).min().unwrap_or(0),
                    }
                };
                return Ok(names.iter().map(shape).collect());
            }
            Err(error) if begun.elapsed() > BROKERS_WAIT => {
                return Err(Stop::broker(format!(
                    "expected a Kafka broker at {}, found {error} for {} s: check that it runs and that [kafka] brokers \
                     is right",
                    config.kafka.brokers,
                    begun.elapsed().as_secs()
                )));
            }
            Err(error) => {
                if !told {
                    tracing::warn!(brokers = config.kafka.brokers, %error, "no broker answers; trying again");
                    told = true;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}

fn place(config: &Config, consumer: &BaseConsumer, partitions: i32) -> Result<Place, Stop> {
    let names = names(&config.kafka.topics);
    let unknown = |error: String| {
        Stop::broker(format!(
            "expected the brokers to tell the ids of cluster and topics, found {error}: meterd needs Apache Kafka 3.7 \
             or later, and DESCRIBE on its topics"
        ))
    };
    let cluster = native::cluster_id(consumer.client(), CALL_TIMEOUT).ok_or_else(|| unknown("no cluster id".into()))?;
    let begun = Instant::now();
    let ids = loop {
        match native::topic_ids(consumer.client(), &names, CALL_TIMEOUT * 3) {
            // A broker that is on its way out, or back, does not answer.
            Err(_) if begun.elapsed() < BROKERS_WAIT => std::thread::sleep(Duration::from_millis(500)),
            answer => break answer.map_err(unknown)?,
        }
    };
    let topics = names.iter().map(|name| (*name).to_string()).zip(ids).collect();
    Ok(Place { cluster, topics, partitions, group: config.kafka.group.clone() })
}

/// The embedded broker does not describe topics.
fn mock_place(config: &Config, partitions: i32) -> Place {
    let topics = names(&config.kafka.topics).iter().map(|name| ((*name).to_string(), String::new())).collect();
    Place { cluster: "embedded".into(), topics, partitions, group: config.kafka.group.clone() }
}

/// In the order of a genesis.
fn names(topics: &Topics) -> [&str; 6] {
    [&topics.usage, &topics.accounts, &topics.events, &topics.dlq, &topics.journal, &topics.state]
}
