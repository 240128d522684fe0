//! `meterd version`: what was built, and with which librdkafka.

use clap::Args;
use serde_json::json;

use super::{Failure, Globals, Output, Verdict};

/// Print the version of meterd and of its Kafka client
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  meterd version -o json")]
pub struct Arguments {}

pub fn run(_arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    let meterd = env!("CARGO_PKG_VERSION");
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let text = match globals.output {
        Output::Text => format!("meterd {meterd} (librdkafka {librdkafka})\n"),
        Output::Json => format!("{}\n", json!({"meterd": meterd, "librdkafka": librdkafka})),
    };
    super::print(&text)?;
    Ok(Verdict::Clean)
}
