//! Whether the settings of the topics are such that nothing is lost by them (docs/reference.md 2). Nothing is altered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaResult;

use super::settings::RECORD_BYTES_MAX;
use super::startup::{BROKERS_WAIT, CALL_TIMEOUT};
use crate::commit::Stop;
use crate::config::daemon::Topics;

/// Of a topic whose limit cannot be read: Kafka's default.
const MESSAGE_BYTES_DEFAULT: usize = 1 << 20;
/// How long a broker may take to know a topic that was created a moment ago.
const NEW_TOPIC_WAIT: Duration = Duration::from_secs(2);
/// Below it `min.insync.replicas` has little to choose.
const REPLICATION_SAFE: usize = 3;

/// What a topic is to meterd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Input,
    Output,
    Journal,
    State,
}

/// A topic as the brokers describe it.
#[derive(Clone, Debug)]
pub struct Topic<'t> {
    pub name: &'t str,
    pub role: Role,
    pub replication: usize,
    /// Empty: they may not be read.
    pub settings: BTreeMap<String, String>,
}

/// What a setting should be.
struct Rule {
    setting: &'static str,
    fits: fn(&str) -> bool,
    /// What to set it to.
    wanted: &'static str,
    why: &'static str,
}

/// A setting that is not what it should be.
#[derive(Debug, PartialEq, Eq)]
struct Misfit {
    setting: &'static str,
    wanted: &'static str,
    found: String,
    why: &'static str,
}

const INPUT_MUST: &[Rule] = &[Rule {
    setting: "cleanup.policy",
    fits: |found| !found.contains("compact"),
    wanted: "delete",
    why: "compaction removes all but the last record of an account, folded or not",
}];
const JOURNAL_MUST: &[Rule] = &[
    Rule {
        setting: "cleanup.policy",
        fits: |found| found == "delete",
        wanted: "delete",
        why: "its records have no keys, and each is needed until meterd deletes it",
    },
    Rule {
        setting: "message.timestamp.type",
        fits: |found| found == "LogAppendTime",
        wanted: "LogAppendTime",
        why: "the wall clock is checked against the brokers' time in it",
    },
    Rule {
        setting: "retention.ms",
        fits: |found| found == "-1",
        wanted: "-1",
        why: "meterd deletes what it needs no more, and nobody else can know",
    },
    Rule {
        setting: "retention.bytes",
        fits: |found| found == "-1",
        wanted: "-1",
        why: "meterd deletes what it needs no more, and nobody else can know",
    },
];
const STATE_MUST: &[Rule] = &[Rule {
    setting: "cleanup.policy",
    fits: |found| found == "compact",
    wanted: "compact",
    why: "retention deletes accounts that did not change for long",
}];

const RETENTION: Rule = Rule {
    setting: "retention.ms",
    fits: |found| found == "-1" || at_least(found, 7 * 86_400_000),
    wanted: "604800000",
    why: "input that waits longer, for meterd or to be folded again, is lost",
};
const ELECTION: Rule = Rule {
    setting: "unclean.leader.election.enable",
    fits: |found| found == "false",
    wanted: "false",
    why: "a replica that was behind may become the leader, and committed records are lost",
};
const REPLICAS: Rule = Rule {
    setting: "min.insync.replicas",
    fits: |found| at_least(found, 2),
    wanted: "2",
    why: "a record that one broker alone has is lost with it",
};
const LARGE_RECORDS: Rule = Rule {
    setting: "max.message.bytes",
    fits: |found| at_least(found, RECORD_BYTES_MAX as i64),
    wanted: "8388608",
    why: "a record that is larger stops the daemon",
};

fn at_least(found: &str, least: i64) -> bool {
    found.parse::<i64>().is_ok_and(|found| found >= least)
}

impl Topic<'_> {
    /// What must be mended before anything is folded.
    fn faults(&self) -> Vec<Misfit> {
        let rules = match self.role {
            Role::Input => INPUT_MUST,
            Role::Journal => JOURNAL_MUST,
            Role::State => STATE_MUST,
            Role::Output => &[],
        };
        self.misfits(rules.iter())
    }

    /// What may lose something some day.
    fn doubts(&self) -> Vec<Misfit> {
        let own = matches!(self.role, Role::Journal | Role::State);
        let rules = [
            (self.role == Role::Input).then_some(&RETENTION),
            Some(&ELECTION),
            (self.replication >= REPLICATION_SAFE).then_some(&REPLICAS),
            own.then_some(&LARGE_RECORDS),
        ];
        self.misfits(rules.into_iter().flatten())
    }

    fn misfits<'r>(&self, rules: impl Iterator<Item = &'r Rule>) -> Vec<Misfit> {
        let misfit = |rule: &Rule| {
            let found = self.settings.get(rule.setting).filter(|found| !(rule.fits)(found.trim()))?;
            Some(Misfit { setting: rule.setting, wanted: rule.wanted, found: found.clone(), why: rule.why })
        };
        rules.filter_map(misfit).collect()
    }

    fn message(&self, misfit: &Misfit, brokers: &str) -> String {
        let Misfit { setting, wanted, found, why } = misfit;
        let name = self.name;
        format!(
            "expected {setting}={wanted} of topic {name}, found {found}: {why}. Run `kafka-configs.sh --bootstrap-server \
             {brokers} --alter --entity-type topics --entity-name {name} --add-config {setting}={wanted}`"
        )
    }
}

/// What the topics take of what meterd writes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A record of the quarantine.
    pub dlq_bytes: usize,
    /// Records sent together, to any of them.
    pub batch_bytes: usize,
}

impl Limits {
    /// Of topics with Kafka's defaults.
    pub const DEFAULT: Limits = Limits { dlq_bytes: MESSAGE_BYTES_DEFAULT, batch_bytes: MESSAGE_BYTES_DEFAULT };

    fn of(topics: &[Topic<'_>], dlq: &str) -> Limits {
        let bytes_max = |topic: &Topic<'_>| {
            let found = topic.settings.get("max.message.bytes").and_then(|found| found.parse().ok());
            found.unwrap_or(MESSAGE_BYTES_DEFAULT).min(RECORD_BYTES_MAX)
        };
        let written = topics.iter().filter(|topic| topic.role != Role::Input);
        Limits {
            dlq_bytes: topics.iter().find(|topic| topic.name == dlq).map_or(MESSAGE_BYTES_DEFAULT, bytes_max),
            batch_bytes: written.map(bytes_max).min().unwrap_or(MESSAGE_BYTES_DEFAULT),
        }
    }
}

/// Looks at the settings of all topics; gives what they take.
pub fn check(
    topics: &Topics,
    brokers: &str,
    client: &ClientConfig,
    replication: impl Fn(&str) -> usize,
) -> Result<Limits, Stop> {
    let mut all = [
        (&topics.usage, Role::Input),
        (&topics.accounts, Role::Input),
        (&topics.events, Role::Output),
        (&topics.dlq, Role::Output),
        (&topics.journal, Role::Journal),
        (&topics.state, Role::State),
    ]
    .map(|(name, role)| Topic { name, role, replication: replication(name), settings: BTreeMap::new() });
    describe(&mut all, brokers, client)?;
    let unread: Vec<&str> = all.iter().filter(|topic| topic.settings.is_empty()).map(|topic| topic.name).collect();
    if !unread.is_empty() {
        tracing::warn!(
            topics = unread.join(", "),
            "settings of topics cannot be read, and are not checked: allow meterd DESCRIBE_CONFIGS on its topics"
        );
    }
    judge(&all, brokers)?;
    Ok(Limits::of(&all, &topics.dlq))
}

/// Tells everything that must be mended at once; logs the rest.
fn judge(topics: &[Topic<'_>], brokers: &str) -> Result<(), Stop> {
    for topic in topics {
        for doubt in topic.doubts() {
            tracing::warn!("{}", topic.message(&doubt, brokers));
        }
    }
    let told = |topic: &Topic<'_>| -> Vec<String> {
        topic.faults().iter().map(|fault| topic.message(fault, brokers)).collect()
    };
    let faults: Vec<String> = topics.iter().flat_map(told).collect();
    if faults.is_empty() { Ok(()) } else { Err(Stop::config(faults.join("\n"))) }
}

/// Asks for the settings of all topics. What may not be read stays empty, as the client does not tell it from a topic that
/// the broker does not know yet.
fn describe(topics: &mut [Topic<'_>], brokers: &str, client: &ClientConfig) -> Result<(), Stop> {
    let unable = |error: &dyn std::fmt::Display| {
        Stop::broker(format!(
            "expected the brokers at {brokers} to describe the settings of topics, found {error}: check the brokers"
        ))
    };
    let admin: AdminClient<DefaultClientContext> = client.create().map_err(|error| unable(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| unable(&error))?;
    let options = AdminOptions::new().request_timeout(Some(CALL_TIMEOUT));
    let asked: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic.name)).collect();
    let begun = Instant::now();
    let described = loop {
        let answer: KafkaResult<Vec<ConfigResource>> = runtime
            .block_on(admin.describe_configs(&asked, &options))
            .map(|resources| resources.into_iter().flatten().collect());
        match answer {
            Ok(all) if begun.elapsed() > NEW_TOPIC_WAIT || all.iter().all(|one| !one.entries.is_empty()) => break all,
            Err(error) if begun.elapsed() > BROKERS_WAIT => return Err(unable(&error)),
            _ => std::thread::sleep(Duration::from_millis(500)),
        }
    };
    for resource in described {
        let OwnedResourceSpecifier::Topic(name) = resource.specifier else { continue };
        if let Some(topic) = topics.iter_mut().find(|topic| topic.name == name) {
            topic.settings =
                resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::topics;

    fn topic<'t>(name: &'t str, role: Role, replication: usize, settings: &[(&str, &str)]) -> Topic<'t> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Topic { name, role, replication, settings }
    }

    #[test]
    fn what_init_creates_is_neither_refused_nor_doubted() {
        let roles = [
            (Role::Input, topics::INPUT),
            (Role::Output, topics::EVENTS),
            (Role::Output, topics::DLQ),
            (Role::Journal, topics::JOURNAL),
            (Role::State, topics::STATE),
        ];
        for (role, made) in roles {
            // Kafka's defaults, and what `init` adds for three replicas.
            let defaults = [("cleanup.policy", "delete"), ("retention.ms", "604800000"), ("retention.bytes", "-1")];
            let settings: Vec<_> = defaults.iter().chain(made).copied().chain([("min.insync.replicas", "2")]).collect();
            let topic = topic("made", role, 3, &settings);
            assert_eq!((topic.faults(), topic.doubts()), (vec![], vec![]), "{role:?}");
        }
    }

    #[test]
    fn what_loses_records_is_refused_with_both_values_and_the_command() {
        let refused = [
            (Role::Input, "cleanup.policy", "compact,delete", "delete"),
            (Role::Journal, "cleanup.policy", "compact", "delete"),
            (Role::Journal, "message.timestamp.type", "CreateTime", "LogAppendTime"),
            (Role::Journal, "retention.ms", "604800000", "-1"),
            (Role::Journal, "retention.bytes", "1000000", "-1"),
            (Role::State, "cleanup.policy", "delete", "compact"),
            (Role::State, "cleanup.policy", "compact,delete", "compact"),
        ];
        for (role, setting, found, wanted) in refused {
            let topics = [topic("a-topic", role, 1, &[(setting, found)])];
            let stop = judge(&topics, "kafka:9092").expect_err("it loses records");
            assert_eq!(stop.code, 78, "{stop}");
            let told = [
                format!("expected {setting}={wanted} of topic a-topic, found {found}: "),
                format!("--entity-name a-topic --add-config {setting}={wanted}`"),
            ];
            assert!(told.iter().all(|text| stop.message.contains(text)), "{stop}");
        }
        let fits = topic("a-topic", Role::Output, 1, &[("cleanup.policy", "compact"), ("retention.ms", "1000")]);
        assert_eq!(fits.faults(), vec![]);
        assert_eq!(topic("unread", Role::State, 3, &[]).faults(), vec![]);
    }

    #[test]
    fn what_may_lose_records_is_doubted() {
        let doubted = |role, replication, setting, found| {
            let doubts = topic("a-topic", role, replication, &[(setting, found)]).doubts();
            doubts.iter().any(|doubt| doubt.setting == setting)
        };
        assert!(doubted(Role::Input, 1, "retention.ms", "86400000"));
        assert!(!doubted(Role::Output, 1, "retention.ms", "86400000"));
        assert!(doubted(Role::Output, 1, "unclean.leader.election.enable", "true"));
        assert!(doubted(Role::State, 3, "min.insync.replicas", "1"));
        assert!(!doubted(Role::State, 1, "min.insync.replicas", "1"));
        assert!(doubted(Role::Journal, 1, "max.message.bytes", "1048588"));
        assert!(!doubted(Role::Input, 1, "max.message.bytes", "1048588"));
    }
}
