//! `meterd run`: the daemon.

use std::time::Duration;

use clap::Args;
use crossbeam_channel::select;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Failure, Globals, Verdict};
use crate::commit::Stop;
use crate::commit::ways_out::WaysOut;
use crate::daemon::{self, Options};
use crate::{config, telemetry};

/// Run the daemon: read usage and commands, write notices, until SIGTERM or SIGINT
#[derive(Args, Debug)]
#[command(
    after_help = "Signals: SIGTERM and SIGINT finish the batch, commit, write checkpoints and leave; SIGHUP loads \
    the catalog again.\nLogs go to stderr: METERD_LOG=info, METERD_LOG_FORMAT=text or json.\n\nExample:\n  \
    meterd run --config meterd.toml"
)]
pub struct Arguments {
    /// Fold batches of another engine revision as this version does, where recovery says that they differ
    #[arg(long)]
    accept_refold: bool,
    /// Go on from the checkpoints of a partition whose inputs or journal are gone; what it did since is lost
    #[arg(long, value_name = "PARTITION", value_parser = clap::value_parser!(i32).range(0..))]
    rebuild: Vec<i32>,
}

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    let Arguments { accept_refold, rebuild } = arguments;
    let ways_out = WaysOut { accept_refold, rebuild, ..WaysOut::default() };
    serve(globals, Options { ways_out, ..Options::default() })
}

/// Runs a daemon until it is told to stop.
pub fn serve(globals: &Globals, options: Options) -> Result<Verdict, Failure> {
    let config = config::load(&globals.config).map_err(Failure::config)?;
    telemetry::logs::start().map_err(Failure::usage)?;
    let (heard, signals) = crossbeam_channel::unbounded();
    let mut listener = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Failure::io(format!("expected to listen for signals, found {error}")))?;
    std::thread::spawn(move || {
        for signal in listener.forever() {
            if heard.send(signal).is_err() {
                return;
            }
        }
    });
    let daemon = daemon::start(config, options).map_err(failure)?;
    loop {
        select! {
            recv(signals) -> signal => match signal {
                Ok(SIGHUP) => {
                    if let Err(stop) = daemon.reload() {
                        tracing::error!("the catalog is not loaded, the old one stays:\n{stop}");
                    }
                }
                _ => {
                    tracing::info!("stopping: finishing the batch and writing checkpoints");
                    daemon.stop();
                    return Ok(Verdict::Clean);
                }
            },
            recv(daemon.stops()) -> stop => {
                let stop = stop.unwrap_or_else(|_| Stop::bug("every thread of the daemon is gone"));
                return Err(failure(stop));
            }
            default(Duration::from_secs(3_600)) => {}
        }
    }
}

/// A stop of the daemon as a failure of the verb.
pub fn failure(stop: Stop) -> Failure {
    Failure { code: stop.code, message: stop.message }
}
