//! The names of the metrics, and their exposition to Prometheus.
//!
//! One row of [`FAMILIES`] for each; a custom collector reads them all from the atomics of [`Metrics`] at each scrape.
//! Process metrics keep the names that every exporter uses (`process_…`).

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, Registry, TextEncoder};

use super::instrument::{Counter, Gauge, Histogram};
use super::metrics::{Metrics, PartitionMetrics};
use super::tally::{NOTICE_TYPES, PLAIN_OUTCOMES, REJECTIONS};
use crate::engine::Reason;

/// What is scraped: the registry with meterd's own collector and the process'.
pub struct Exposition {
    registry: Registry,
}

struct Families {
    metrics: Arc<Metrics>,
    descriptions: Vec<Desc>,
}

struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: fn(&Metrics, &mut Vec<Metric>),
}

const TOPICS: [&str; 2] = ["usage", "accounts"];
/// Those that are read, now or in a recovery.
const TOPICS_READ: [&str; 4] = ["usage", "accounts", "journal", "state"];
/// Times are kept in microseconds and told in seconds.
const MICROS: f64 = 1e6;

impl Exposition {
    pub fn new(metrics: Arc<Metrics>) -> Exposition {
        let registry = Registry::new();
        let descriptions = FAMILIES
            .iter()
            .map(|family| {
                Desc::new(family.name.into(), family.help.into(), Vec::new(), Default::default())
                    .expect("names and helps of the table are well formed")
            })
            .collect();
        registry.register(Box::new(Families { metrics, descriptions })).expect("names of the table are unique");
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("process metrics have names of their own");
        Exposition { registry }
    }

    /// All families in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("writing to memory cannot fail");
        String::from_utf8(text).expect("names, helps and labels are UTF-8")
    }

    pub fn content_type(&self) -> &'static str {
        prometheus::TEXT_FORMAT
    }
}

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let collect = |family: &Family| {
            let mut metrics = Vec::new();
            (family.read)(&self.metrics, &mut metrics);
            let mut read = MetricFamily::default();
            read.set_name(family.name.into());
            read.set_help(family.help.into());
            read.set_field_type(family.kind);
            read.set_metric(metrics);
            read
        };
        FAMILIES.iter().map(collect).collect()
    }
}

/// Names of all metrics of meterd's own, for the tests of dashboards and alert rules.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.name)
}

const fn counter(name: &'static str, help: &'static str, read: fn(&Metrics, &mut Vec<Metric>)) -> Family {
    Family { name, help, kind: MetricType::COUNTER, read }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Metrics, &mut Vec<Metric>)) -> Family {
    Family { name, help, kind: MetricType::GAUGE, read }
}

const fn histogram(name: &'static str, help: &'static str, read: fn(&Metrics, &mut Vec<Metric>)) -> Family {
    Family { name, help, kind: MetricType::HISTOGRAM, read }
}

const FAMILIES: &[Family] = &[
    gauge("meterd_build_info", "1, with the version that runs.", |_, out| {
        out.push(gauge_of(&[("version", env!("CARGO_PKG_VERSION"))], 1.0));
    }),
    gauge("meterd_ready", "1 when /readyz answers 200.", |metrics, out| out.push(plain_gauge(&metrics.ready))),
    counter("meterd_records_read_total", "Records read, by topic.", |metrics, out| {
        by_label(out, "topic", TOPICS, &metrics.records_read);
    }),
    counter("meterd_bytes_read_total", "Bytes of keys and values read, by topic.", |metrics, out| {
        by_label(out, "topic", TOPICS, &metrics.bytes_read);
    }),
    counter(
        "meterd_dispositions_total",
        "What became of the records read, by outcome, and by reason where they were rejected or quarantined.",
        dispositions,
    ),
    counter("meterd_notices_total", "Notices committed, by type without its prefix.", |metrics, out| {
        by_label(out, "type", NOTICE_TYPES, &metrics.notices);
    }),
    counter(
        "meterd_conservation_violations_total",
        "Inputs whose changes broke conservation of amounts. Must stay 0.",
        |metrics, out| out.push(plain_counter(&metrics.conservation_violations)),
    ),
    counter("meterd_commits_total", "Transactions committed.", |metrics, out| {
        out.push(plain_counter(&metrics.commits));
    }),
    counter("meterd_transactions_aborted_total", "Transactions aborted.", |metrics, out| {
        out.push(plain_counter(&metrics.aborts));
    }),
    counter(
        "meterd_transactions_unknown_total",
        "Transactions whose outcome had to be looked for in the journal.",
        |metrics, out| out.push(plain_counter(&metrics.unknown_outcomes)),
    ),
    histogram("meterd_commit_seconds", "Time of a transaction, from begin to commit.", |metrics, out| {
        out.push(histogram_of(&metrics.commit_micros, MICROS));
    }),
    histogram("meterd_batch_records", "Input records of a transaction.", |metrics, out| {
        out.push(histogram_of(&metrics.batch_records, 1.0));
    }),
    histogram(
        "meterd_end_to_end_seconds",
        "From a record's Kafka timestamp to the commit of the notices that it gave rise to.",
        |metrics, out| out.push(histogram_of(&metrics.end_to_end_micros, MICROS)),
    ),
    gauge(
        "meterd_end_to_end_recent_seconds",
        "Quantiles of the end-to-end time over the last minute; 0 without notices.",
        |metrics, out| {
            let recent = metrics.latency_minute();
            out.push(gauge_of(&[("quantile", "0.5")], recent.p50_ms as f64 / 1e3));
            out.push(gauge_of(&[("quantile", "0.99")], recent.p99_ms as f64 / 1e3));
        },
    ),
    gauge("meterd_lag_records", "Records not folded yet, by topic and partition.", |metrics, out| {
        by_topic_and_partition(metrics, out, TOPICS, |of| of.lag_records.each_ref().map(|gauge| gauge.get() as f64));
    }),
    gauge(
        "meterd_open_transaction_seconds",
        "Time for which one open transaction has kept committed readers from a topic's end, by topic and partition.",
        |metrics, out| {
            let seconds = |gauge: &Gauge| gauge.get() as f64;
            by_topic_and_partition(metrics, out, TOPICS_READ, |of| of.held_back_seconds.each_ref().map(seconds));
        },
    ),
    gauge("meterd_lag_seconds", "Age of the oldest usage record not folded yet, by partition.", |metrics, out| {
        by_partition(metrics, out, |of| of.lag_ms.get() as f64 / 1e3)
    }),
    gauge("meterd_clock_timestamp_seconds", "The clock of a partition.", |metrics, out| {
        by_partition(metrics, out, |of| of.clock_ms.get() as f64 / 1e3);
    }),
    gauge("meterd_partition_live", "1 when the partition is recovered and folds live input.", |metrics, out| {
        by_partition(metrics, out, |of| of.live.get() as f64);
    }),
    gauge("meterd_accounts", "Accounts held, by partition.", |metrics, out| {
        by_partition(metrics, out, |of| of.accounts.get() as f64);
    }),
    gauge("meterd_identities", "Identities of records remembered against duplicates.", |metrics, out| {
        by_partition(metrics, out, |of| of.identities.get() as f64);
    }),
    gauge("meterd_timers_armed", "Accounts that wait for a timer.", |metrics, out| {
        by_partition(metrics, out, |of| of.timers_armed.get() as f64);
    }),
    gauge("meterd_timers_due", "Accounts whose timer is due and has not fired yet.", |metrics, out| {
        by_partition(metrics, out, |of| of.timers_due.get() as f64);
    }),
    gauge(
        "meterd_checkpoint_age_seconds",
        "Age of the oldest change that no checkpoint holds yet, by partition.",
        |metrics, out| by_partition(metrics, out, |of| of.checkpoint_age_ms.get() as f64 / 1e3),
    ),
    counter("meterd_checkpoint_records_total", "Checkpoint records committed.", |metrics, out| {
        out.push(plain_counter(&metrics.checkpoint_records));
    }),
    counter("meterd_checkpoint_bytes_total", "Bytes of checkpoint records committed.", |metrics, out| {
        out.push(plain_counter(&metrics.checkpoint_bytes));
    }),
    histogram("meterd_checkpoint_seconds", "Time to encode a slice of a checkpoint.", |metrics, out| {
        out.push(histogram_of(&metrics.checkpoint_micros, MICROS));
    }),
    gauge("meterd_replay_left_records", "Journaled inputs that recovery has still to fold.", |metrics, out| {
        by_partition(metrics, out, |of| of.replay_left_records.get() as f64);
    }),
    counter("meterd_replayed_records_total", "Journaled inputs folded again by recoveries.", |metrics, out| {
        out.push(plain_counter(&metrics.replayed_records));
    }),
    histogram("meterd_recovery_seconds", "Time of a partition's recovery, from assigned to live.", |metrics, out| {
        out.push(histogram_of(&metrics.recovery_micros, MICROS));
    }),
    counter("meterd_rebalances_total", "Assignments and revocations of partitions.", |metrics, out| {
        out.push(plain_counter(&metrics.rebalances));
    }),
    counter(
        "meterd_clock_disagreements_total",
        "Times at which the wall clock was too far from the broker's to fire a timer.",
        |metrics, out| out.push(plain_counter(&metrics.clock_disagreements)),
    ),
    counter("meterd_store_failures_total", "Failures of the local store; Kafka holds the truth.", |metrics, out| {
        out.push(plain_counter(&metrics.store_failures));
    }),
];

fn dispositions(metrics: &Metrics, out: &mut Vec<Metric>) {
    for (outcome, count) in PLAIN_OUTCOMES.iter().zip(&metrics.plain) {
        out.push(counter_of(&[("outcome", outcome), ("reason", "")], count));
    }
    for (rejection, count) in REJECTIONS.iter().zip(&metrics.rejected) {
        out.push(counter_of(&[("outcome", "rejected"), ("reason", rejection.name())], count));
    }
    for (reason, count) in Reason::ALL.iter().zip(&metrics.quarantined) {
        out.push(counter_of(&[("outcome", "quarantined"), ("reason", reason.name())], count));
    }
}

fn by_label<const N: usize>(out: &mut Vec<Metric>, label: &str, values: [&'static str; N], counters: &[Counter]) {
    for (value, counter) in values.iter().zip(counters) {
        out.push(counter_of(&[(label, value)], counter));
    }
}

fn by_partition(metrics: &Metrics, out: &mut Vec<Metric>, value: fn(&PartitionMetrics) -> f64) {
    for (partition, of) in metrics.partitions() {
        out.push(gauge_of(&[("partition", &partition.to_string())], value(&of)));
    }
}

fn by_topic_and_partition<const N: usize>(
    metrics: &Metrics,
    out: &mut Vec<Metric>,
    topics: [&'static str; N],
    values: impl Fn(&PartitionMetrics) -> [f64; N],
) {
    for (partition, of) in metrics.partitions() {
        for (topic, value) in topics.iter().zip(values(&of)) {
            out.push(gauge_of(&[("topic", topic), ("partition", &partition.to_string())], value));
        }
    }
}

fn plain_counter(counter: &Counter) -> Metric {
    counter_of(&[], counter)
}

fn plain_gauge(gauge: &Gauge) -> Metric {
    gauge_of(&[], gauge.get() as f64)
}

fn counter_of(labels: &[(&str, &str)], counter: &Counter) -> Metric {
    let mut value = proto::Counter::default();
    value.set_value(counter.get() as f64);
    let mut metric = labelled(labels);
    metric.set_counter(value);
    metric
}

fn gauge_of(labels: &[(&str, &str)], of: f64) -> Metric {
    let mut value = proto::Gauge::default();
    value.set_value(of);
    let mut metric = labelled(labels);
    metric.set_gauge(value);
    metric
}

fn histogram_of(histogram: &Histogram, per_whole: f64) -> Metric {
    let read = histogram.read();
    let bucket = |(bound, count): (u64, u64)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound as f64 / per_whole);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut value = proto::Histogram::default();
    value.set_sample_count(read.count);
    value.set_sample_sum(read.sum as f64 / per_whole);
    value.set_bucket(read.cumulative.into_iter().map(bucket).collect());
    let mut metric = labelled(&[]);
    metric.set_histogram(value);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{Body, Outcome};
    use crate::telemetry::{Input, Tally};

    #[test]
    fn a_scrape_tells_what_was_counted() {
        let metrics = Metrics::new();
        metrics.read(Input::Usage, 3, 900);
        let mut tally = Tally::default();
        tally.outcome(&Outcome::Applied);
        tally.notice(&Body::GraceEnded);
        metrics.add(&mut tally);
        assert_eq!(tally, Tally::default());
        metrics.committed(Duration::from_micros(2_400), 3);
        metrics.end_to_end([7, 40].into_iter());
        metrics.partition(2).lag_records[0].set(12);
        let text = Exposition::new(metrics.clone()).render();
        for line in [
            "meterd_records_read_total{topic=\"usage\"} 3",
            "meterd_bytes_read_total{topic=\"usage\"} 900",
            "meterd_dispositions_total{outcome=\"applied\",reason=\"\"} 1",
            "meterd_dispositions_total{outcome=\"quarantined\",reason=\"bad_json\"} 0",
            "meterd_notices_total{type=\"grace.ended\"} 1",
            "meterd_commit_seconds_bucket{le=\"0.0025\"} 1",
            "meterd_end_to_end_seconds_bucket{le=\"0.01\"} 1",
            "meterd_end_to_end_seconds_count 2",
            "meterd_end_to_end_recent_seconds{quantile=\"0.99\"} 0.04",
            "meterd_lag_records{topic=\"usage\",partition=\"2\"} 12",
            "meterd_conservation_violations_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes"));
        metrics.forget_partition(2);
        assert!(!Exposition::new(metrics).render().contains("partition=\"2\""));
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for family in FAMILIES {
            assert!(family.name.starts_with("meterd_"), "{}", family.name);
            assert_eq!(family.kind == MetricType::COUNTER, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.'), "{}", family.name);
        }
    }
}
