//! `meterd bench`: load, a bare reading loop, and latency, for measurements.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Failure, Globals, Output, Verdict};
use crate::config;
use crate::config::parse_duration;
use crate::daemon::{Options, settings};
use crate::load::record::Shape;
use crate::load::{LoadError, consume, echo, latency, produce};

/// What topics take at once by Kafka's default.
const BATCH_BYTES: usize = 1 << 20;
const BAR: &str = "{wide_bar} {human_pos}/{human_len} {per_sec} {eta}";

/// Measure: produce usage records, read a topic bare, time notices
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    meterd bench produce --records 5000000 --accounts 100000 --event-time-spread 30m\n  \
    meterd bench consume --topic meter.usage\n  \
    meterd bench latency --rate 200 --records 2000")]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Where the brokers are
    #[arg(long, global = true, env = "METERD_BROKERS", value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    brokers: String,
}

#[derive(Debug, Subcommand)]
enum What {
    Produce(Produce),
    Consume(Consume),
    Latency(Latency),
    Echo(Echo),
    Daemon(Daemon),
}

/// Copy usage to events by transactions and do nothing else, until ended: what latency is compared with
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  meterd bench echo --config bench.toml &\n  meterd bench latency --rate 200")]
struct Echo {}

/// Run a daemon without one of its parts, to measure what that costs; never on topics that matter
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  meterd bench daemon --without-identities --config bench.toml")]
struct Daemon {
    /// Records that come again are charged again
    #[arg(long, required = true)]
    without_identities: bool,
}

/// Produce usage records of about 277 bytes, placed as the Java client places them
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  meterd bench produce --records 5000000 --accounts 100000 --skew 1")]
struct Produce {
    #[arg(long, default_value = "meter.usage")]
    topic: String,
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Different accounts
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    accounts: u64,
    /// Different users of each account
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// Records a second; default: as fast as they go
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// How much the first accounts are preferred; 0: not at all
    #[arg(long, default_value_t = 0.0)]
    skew: f64,
    /// How far before now the records' times lie, evenly
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    event_time_spread: String,
    /// Type of the records
    #[arg(long = "type", default_value = "llm.call")]
    kind: String,
    /// Models, drawn evenly
    #[arg(long, value_name = "NAME", num_args = 1.., default_values_t = ["anthropic/claude-opus-4.7".to_owned()])]
    model: Vec<String>,
    /// Of the draws and the records' ids; default: from the time
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
}

/// Read a topic from its beginning, doing nothing with the records
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  meterd bench consume --topic meter.usage")]
struct Consume {
    #[arg(long, default_value = "meter.usage")]
    topic: String,
    /// Stop after so many records; default: at the end
    #[arg(long)]
    records: Option<u64>,
}

/// Time from a record to the notice that it gives rise to, with a daemon running
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  meterd bench latency --rate 200 --records 2000 --model anthropic/claude-opus-4.7")]
struct Latency {
    #[arg(long, default_value = "meter.usage")]
    usage_topic: String,
    #[arg(long, default_value = "meter.events")]
    events_topic: String,
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Records a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Type of the records
    #[arg(long = "type", default_value = "llm.call")]
    kind: String,
    #[arg(long, default_value = "anthropic/claude-opus-4.7")]
    model: String,
    /// The quantity that crosses the caps
    #[arg(long, default_value = "input_tokens")]
    quantity: String,
    /// How much of it each record brings
    #[arg(long, default_value_t = 1_000_000_000)]
    amount: u64,
}

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    let brokers = arguments.brokers;
    let (text, json) = match arguments.what {
        What::Produce(asked) => produce(asked, brokers)?,
        What::Consume(asked) => consume(&asked, &brokers)?,
        What::Latency(asked) => latency(asked, brokers)?,
        What::Echo(Echo {}) => return echo(globals),
        What::Daemon(Daemon { without_identities }) => {
            return super::run::serve(globals, Options { without_identities, ..Options::default() });
        }
    };
    super::print(&match globals.output {
        Output::Text => text,
        Output::Json => format!("{json}\n"),
    })?;
    Ok(Verdict::Clean)
}

/// With clients as the daemon's.
fn echo(globals: &Globals) -> Result<Verdict, Failure> {
    let config = config::load(&globals.config).map_err(Failure::config)?;
    let plan = echo::Plan {
        consumer: settings::group_consumer(&config),
        producer: settings::producer(&config, BATCH_BYTES),
        from: config.kafka.topics.usage.clone(),
        to: config.kafka.topics.events.clone(),
    };
    let bar = super::progress_bar(None, "{human_pos} {per_sec}");
    echo::echo(&plan, |records| bar.inc(records)).map_err(failure)?;
    Ok(Verdict::Clean)
}

fn produce(asked: Produce, brokers: String) -> Result<(String, serde_json::Value), Failure> {
    let spread_ms = parse_duration(&asked.event_time_spread).ok_or_else(|| {
        Failure::usage(format!(
            "--event-time-spread: expected a duration as 30m or 2h, found {}",
            asked.event_time_spread
        ))
    })?;
    let plan = produce::Plan {
        brokers,
        topic: asked.topic,
        records: asked.records,
        rate: asked.rate,
        seed: asked.seed.unwrap_or_else(seed_of_now),
        threads: asked.threads,
        shape: Shape {
            kind: asked.kind,
            models: asked.model,
            accounts: asked.accounts,
            users: asked.users,
            skew: asked.skew.max(0.0),
            spread_ms,
        },
    };
    let bar = super::progress_bar(Some(plan.records), BAR);
    let done = produce::produce(&plan, |records| bar.inc(records)).map_err(failure)?;
    bar.finish_and_clear();
    let (rate, mean) = (done.records as f64 / done.seconds, done.bytes as f64 / done.records as f64);
    let text = format!(
        "{} records of {mean:.0} bytes in {:.2} s: {rate:.0} records/s (seed {})\n",
        done.records, done.seconds, plan.seed
    );
    let json = json!({
        "records": done.records, "bytes": done.bytes, "seconds": done.seconds, "rate": rate, "seed": plan.seed,
    });
    Ok((text, json))
}

fn consume(asked: &Consume, brokers: &str) -> Result<(String, serde_json::Value), Failure> {
    let bar = super::progress_bar(Some(asked.records.unwrap_or(0)), BAR);
    let read = consume::consume(brokers, &asked.topic, asked.records.unwrap_or(u64::MAX), |records| {
        bar.set_position(records);
    });
    bar.finish_and_clear();
    let done = read.map_err(failure)?;
    let rate = done.records as f64 / done.seconds;
    let cpu = done.cpu_seconds.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.2}"));
    let text = format!("{} records in {:.2} s: {rate:.0} records/s, {cpu} CPU seconds\n", done.records, done.seconds);
    let json = json!({
        "records": done.records, "bytes": done.bytes, "seconds": done.seconds, "rate": rate,
        "cpu_seconds": done.cpu_seconds,
    });
    Ok((text, json))
}

fn latency(asked: Latency, brokers: String) -> Result<(String, serde_json::Value), Failure> {
    let plan = latency::Plan {
        brokers,
        usage_topic: asked.usage_topic,
        events_topic: asked.events_topic,
        records: asked.records,
        rate: asked.rate,
        run: seed_of_now(),
        kind: asked.kind,
        model: asked.model,
        quantity: asked.quantity,
        amount: asked.amount,
    };
    let bar = super::progress_bar(Some(plan.records), BAR);
    let done = latency::measure(&plan, |records| bar.inc(records)).map_err(failure)?;
    bar.finish_and_clear();
    let at = |quantile: f64| done.micros.value_at_quantile(quantile) as f64 / 1_000.0;
    let (p50, p90, p99, max) = (at(0.5), at(0.9), at(0.99), done.micros.max() as f64 / 1_000.0);
    let text = format!(
        "{} notices at {} records/s: p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms; {} records without one\n",
        done.micros.len(),
        plan.rate,
        done.silent
    );
    let json = json!({
        "notices": done.micros.len(), "rate": plan.rate, "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": max,
        "silent": done.silent,
    });
    Ok((text, json))
}

fn failure(error: LoadError) -> Failure {
    Failure::unavailable(error)
}

/// Differs from run to run, so that the records of one are no duplicates of another's.
fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
