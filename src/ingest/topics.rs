//! The topics: what each must be like, and creating those that are missing (docs/reference.md 2).
//!
//! An account lives in one partition number of `usage`, `accounts`, `journal` and `state`, so these have the same number
//! of partitions. What exists is never altered: it may hold data, and it is the operator's.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::daemon::Kafka;

/// How long the brokers may take to answer at all; librdkafka retries with backoff until then.
const BROKERS_TIMEOUT: Duration = Duration::from_secs(30);
/// Partitions of new topics where no topic says otherwise.
const PARTITIONS_DEFAULT: i32 = 8;
const REPLICATION_DEFAULT_MAX: usize = 3;
/// From this replication on a write waits for a second broker.
const REPLICATION_SAFE: i32 = 3;

const APPEND_TIME: (&str, &str) = ("message.timestamp.type", "LogAppendTime");
/// Parts of large accounts, long journal records, and quarantined records with their headers fit (8 MiB).
const LARGE_RECORDS: (&str, &str) = ("max.message.bytes", "8388608");
const NO_DATA_LOSS: (&str, &str) = ("unclean.leader.election.enable", "false");

pub const INPUT: &[(&str, &str)] = &[APPEND_TIME, NO_DATA_LOSS];
pub const EVENTS: &[(&str, &str)] = &[LARGE_RECORDS, NO_DATA_LOSS];
pub const DLQ: &[(&str, &str)] = &[LARGE_RECORDS, NO_DATA_LOSS];
/// Never cut by time, which passes differently for the clock of a partition: meterd deletes what it needs no more.
pub const JOURNAL: &[(&str, &str)] = &[
    APPEND_TIME,
    LARGE_RECORDS,
    NO_DATA_LOSS,
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("segment.ms", "3600000"),
    ("segment.bytes", "134217728"),
];
/// Small segments are compacted soon: a restore reads little that is out of date.
pub const STATE: &[(&str, &str)] = &[
    LARGE_RECORDS,
    NO_DATA_LOSS,
    ("cleanup.policy", "compact"),
    ("segment.ms", "3600000"),
    ("segment.bytes", "134217728"),
    ("min.cleanable.dirty.ratio", "0.1"),
    ("max.compaction.lag.ms", "86400000"),
];

/// A topic that meterd uses.
struct Wanted<'k> {
    name: &'k str,
    settings: &'static [(&'static str, &'static str)],
    /// Whether its number of partitions must be that of the others.
    aligned: bool,
}

fn wanted(kafka: &Kafka) -> [Wanted<'_>; 6] {
    let topics = &kafka.topics;
    [
        Wanted { name: &topics.usage, settings: INPUT, aligned: true },
        Wanted { name: &topics.accounts, settings: INPUT, aligned: true },
        Wanted { name: &topics.events, settings: EVENTS, aligned: false },
        Wanted { name: &topics.dlq, settings: DLQ, aligned: false },
        Wanted { name: &topics.journal, settings: JOURNAL, aligned: true },
        Wanted { name: &topics.state, settings: STATE, aligned: true },
    ]
}

/// What became of a topic.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    pub topic: String,
    pub partitions: i32,
    /// Of a created topic; none of one that was there.
    pub replication: Option<i32>,
    /// Settings of a topic that was there in which it differs from one that would be created.
    pub differing: Vec<Differing>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Differing {
    pub setting: &'static str,
    pub wanted: &'static str,
    pub found: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    #[error("no answer from the brokers at {brokers} within {} s ({reason}): expected a running Kafka there; check `brokers` in [kafka]", BROKERS_TIMEOUT.as_secs())]
    Unreachable { brokers: String, reason: String },
    #[error("topic `{topic}` could not be {done}: {reason}")]
    Refused { topic: String, done: &'static str, reason: String },
    #[error("{0}")]
    Counts(String),
}

/// Creates the topics that are missing. `partitions`: for topics to be created, where none exists yet that they must
/// match; `replication`: of topics to be created, else as many as there are brokers, at most 3.
pub fn create_missing(
    kafka: &Kafka,
    partitions: Option<i32>,
    replication: Option<i32>,
) -> Result<Vec<Made>, TopicsError> {
    let admin = Admin::connect(kafka)?;
    let wanted = wanted(kafka);
    let found = wanted.iter().map(|topic| admin.partitions_of(topic.name)).collect::<Result<Vec<_>, _>>()?;
    let common = common_count(&wanted, &found)?;
    let count = match (common, partitions) {
        (Some((topic, found)), Some(asked)) if found != asked => {
            return Err(TopicsError::Counts(format!(
                "topic `{topic}` has {found} partitions, not {asked}: expected the same number for all topics; \
                 leave --partitions out, or choose other topics"
            )));
        }
        (Some((_, found)), _) => found,
        (None, asked) => asked.unwrap_or(PARTITIONS_DEFAULT),
    };
    let replication = replication.unwrap_or(admin.brokers.min(REPLICATION_DEFAULT_MAX) as i32);
    let make = |(topic, found): (&Wanted<'_>, &Option<i32>)| match found {
        Some(partitions) => Ok(Made {
            topic: topic.name.to_owned(),
            partitions: *partitions,
            replication: None,
            differing: admin.differing(topic)?,
        }),
        None => admin.create(topic, count, replication),
    };
    wanted.iter().zip(&found).map(make).collect()
}

/// The number of partitions on which the existing topics that must agree do agree, and the first of them.
fn common_count<'k>(wanted: &[Wanted<'k>], found: &[Option<i32>]) -> Result<Option<(&'k str, i32)>, TopicsError> {
    let aligned = wanted.iter().zip(found).filter(|(topic, _)| topic.aligned);
    let counts: Vec<_> = aligned.filter_map(|(topic, count)| Some((topic.name, (*count)?))).collect();
    let Some(first) = counts.first() else { return Ok(None) };
    match counts.iter().find(|(_, count)| *count != first.1) {
        None => Ok(Some(*first)),
        Some(other) => Err(TopicsError::Counts(format!(
            "topic `{}` has {} partitions and topic `{}` has {}: expected the same number, as an account lives in one \
             partition number of both; choose other topics, or delete one and run `meterd init` again",
            first.0, first.1, other.0, other.1
        ))),
    }
}

/// One connection for all requests of an `init`.
struct Admin<'k> {
    kafka: &'k Kafka,
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
    brokers: usize,
}

impl<'k> Admin<'k> {
    fn connect(kafka: &'k Kafka) -> Result<Admin<'k>, TopicsError> {
        let unreachable = |error: &dyn std::fmt::Display| TopicsError::Unreachable {
            brokers: kafka.brokers.clone(),
            reason: error.to_string(),
        };
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &kafka.brokers).set("allow.auto.create.topics", "false");
        kafka.properties.iter().for_each(|(name, value)| {
            config.set(name, value);
        });
        let client: AdminClient<_> = config.create().map_err(|error| unreachable(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| unreachable(&error))?;
        // The list of all topics names the brokers too; a list of none would be cheaper, but cannot be asked for.
        let metadata = client.inner().fetch_metadata(None, BROKERS_TIMEOUT).map_err(|error| unreachable(&error))?;
        Ok(Admin { kafka, client, runtime, brokers: metadata.brokers().len() })
    }

    fn unreachable(&self, error: &KafkaError) -> TopicsError {
        TopicsError::Unreachable { brokers: self.kafka.brokers.clone(), reason: error.to_string() }
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(BROKERS_TIMEOUT)).operation_timeout(Some(BROKERS_TIMEOUT))
    }

    /// None: there is no such topic.
    fn partitions_of(&self, topic: &str) -> Result<Option<i32>, TopicsError> {
        let metadata = self.client.inner().fetch_metadata(Some(topic), BROKERS_TIMEOUT);
        let metadata = metadata.map_err(|error| self.unreachable(&error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(found.partitions().len() as i32)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(error) => Err(refused(topic, "looked up", error)),
        }
    }

    fn create(&self, topic: &Wanted<'_>, partitions: i32, replication: i32) -> Result<Made, TopicsError> {
        let mut new = NewTopic::new(topic.name, partitions, TopicReplication::Fixed(replication));
        for (setting, value) in topic.settings {
            new = new.set(setting, value);
        }
        if replication >= REPLICATION_SAFE {
            new = new.set("min.insync.replicas", "2");
        }
        let answer = self.runtime.block_on(self.client.create_topics([&new], &Self::options()));
        let replication = match answer.map_err(|error| self.unreachable(&error))?.pop() {
            // Somebody else did, or the broker that was asked did not know yet.
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => None,
            Some(Err((_, error))) => return Err(refused(topic.name, "created", error)),
            _ => Some(replication),
        };
        let partitions = self.await_topic(topic.name)?;
        Ok(Made { topic: topic.name.to_owned(), partitions, replication, differing: Vec::new() })
    }

    /// Brokers learn of a new topic one after the other; whoever comes next must find it.
    fn await_topic(&self, topic: &str) -> Result<i32, TopicsError> {
        let deadline = Instant::now() + BROKERS_TIMEOUT;
        loop {
            match self.partitions_of(topic)? {
                Some(partitions) => return Ok(partitions),
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                None => {
                    return Err(refused(
                        topic,
                        "found after it was created",
                        RDKafkaErrorCode::UnknownTopicOrPartition,
                    ));
                }
            }
        }
    }

    /// Not being allowed to ask is no reason to stop: the daemon looks at what it must know.
    fn differing(&self, topic: &Wanted<'_>) -> Result<Vec<Differing>, TopicsError> {
        let asked = [ResourceSpecifier::Topic(topic.name)];
        let answer = self.runtime.block_on(self.client.describe_configs(&asked, &Self::options()));
        let Some(Ok(described)) = answer.map_err(|error| self.unreachable(&error))?.pop() else {
            return Ok(Vec::new());
        };
        let differing = topic.settings.iter().filter_map(|(setting, wanted)| {
            let found = described.get(setting)?.value.clone()?;
            (found != *wanted).then_some(Differing { setting, wanted, found })
        });
        Ok(differing.collect())
    }
}

fn refused(topic: &str, done: &'static str, error: RDKafkaErrorCode) -> TopicsError {
    TopicsError::Refused { topic: topic.to_owned(), done, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, aligned: bool) -> Wanted<'_> {
        Wanted { name, settings: &[], aligned }
    }

    #[test]
    fn only_topics_that_hold_accounts_must_have_the_same_count() {
        let topics = [topic("usage", true), topic("events", false), topic("state", true)];
        assert_eq!(common_count(&topics, &[None, Some(3), None]).ok(), Some(None));
        assert_eq!(common_count(&topics, &[None, Some(3), Some(4)]).ok(), Some(Some(("state", 4))));
        assert_eq!(common_count(&topics, &[Some(4), Some(3), Some(4)]).ok(), Some(Some(("usage", 4))));
        let error = common_count(&topics, &[Some(4), None, Some(5)]).expect_err("4 is not 5").to_string();
        assert!(error.starts_with("topic `usage` has 4 partitions and topic `state` has 5: expected"), "{error}");
    }
}
