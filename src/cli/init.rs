//! `meterd init`: creates the topics that are missing; without a config, shows one to begin with.

use clap::Args;
use serde_json::json;

use super::{Failure, Globals, Output, Verdict, config_template};
use crate::config;
use crate::ingest::topics::{self, Made, TopicsError};

/// Create the topics that are missing; `--config` without a file prints a config to begin with
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    meterd init --config > meterd.toml\n  \
    meterd init --config meterd.toml --partitions 16")]
pub struct Arguments {
    /// Partitions of new topics; default: as many as those that exist, else 8
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replicas of new topics; default: as many as there are brokers, at most 3
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    replication: Option<i32>,
}

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    if globals.wants_template() {
        return config_template::run();
    }
    let config = config::load(&globals.config).map_err(Failure::config)?;
    let made = topics::create_missing(&config.kafka, arguments.partitions, arguments.replication);
    let made = made.map_err(|error| match error {
        TopicsError::Unreachable { .. } => Failure::unavailable(error),
        TopicsError::Refused { .. } | TopicsError::Counts(_) => Failure::config(error),
    })?;
    super::print(&match globals.output {
        Output::Text => made.iter().map(text).collect(),
        Output::Json => format!("{}\n", json!({"topics": made.iter().map(json).collect::<Vec<_>>()})),
    })?;
    Ok(Verdict::Clean)
}

fn text(made: &Made) -> String {
    let Made { topic, partitions, .. } = made;
    let mut text = match made.replication {
        Some(replication) => format!("{topic}: created, {partitions} partitions, replication {replication}\n"),
        None => format!("{topic}: exists, {partitions} partitions\n"),
    };
    for setting in &made.differing {
        text += &format!(
            "{topic}: {} is {}, a new topic would have {}; left as it is\n",
            setting.setting, setting.found, setting.wanted
        );
    }
    text
}

fn json(made: &Made) -> serde_json::Value {
    let differing = made.differing.iter();
    let differing = differing.map(|one| json!({"setting": one.setting, "found": one.found, "wanted": one.wanted}));
    json!({
        "topic": made.topic,
        "partitions": made.partitions,
        "created": made.replication.is_some(),
        "replication": made.replication,
        "differing": differing.collect::<Vec<_>>(),
    })
}
