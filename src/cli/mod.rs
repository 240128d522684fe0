//! The command line: one file for each verb, with no logic of its own (docs/reference.md 12).
//!
//! A verb is a line in [`Verb`] and a line in [`run`]. It gives [`Verdict`] or [`Failure`]; only this module knows how
//! they become text and exit codes:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | findings (`test`, `verify`) |
//! | 64 | usage: the arguments are wrong |
//! | 65 | bad data or damaged state |
//! | 69 | broker unavailable |
//! | 70 | a bug: an invariant failed |
//! | 74 | input or output failed |
//! | 78 | configuration: config, catalog, topics |

mod account;
mod bench;
mod completions;
pub mod config_template;
mod demo;
mod explain;
mod init;
mod man;
mod notice_text;
pub mod run;
pub mod schema;
mod simulate;
mod test;
mod validate;
mod verify;
mod version;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

/// Meters usage from Kafka: prices it, draws it from credits, counts it in limits, and tells what happened, exactly once.
#[derive(Debug, Parser)]
#[command(name = "meterd", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// The daemon's configuration file
    // `init --config` has no value: it writes one.
    #[arg(long, global = true, env = "METERD_CONFIG", value_name = "FILE", default_value = "meterd.toml",
        num_args = 0..=1, default_missing_value = "-")]
    pub config: PathBuf,
    /// How results are printed
    #[arg(short, long, global = true, env = "METERD_OUTPUT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// The verbs, in the order of docs/reference.md 12.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Run(run::Arguments),
    Demo(demo::Arguments),
    Init(init::Arguments),
    Validate(validate::Arguments),
    Explain(explain::Arguments),
    Simulate(simulate::Arguments),
    Test(test::Arguments),
    Bench(bench::Arguments),
    Schema(schema::Arguments),
    Account(account::Arguments),
    Verify(verify::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    Version(version::Arguments),
}

impl Globals {
    /// `--config` without a file, which only `init` takes: write one.
    pub fn wants_template(&self) -> bool {
        self.config.as_os_str() == "-"
    }
}

fn run(verb: Verb, globals: &Globals) -> Result<Verdict, Failure> {
    if globals.wants_template() && !matches!(verb, Verb::Init(_)) {
        return Err(Failure::usage("--config needs a file here, like `--config meterd.toml`"));
    }
    match verb {
        Verb::Run(arguments) => run::run(arguments, globals),
        Verb::Demo(arguments) => demo::run(arguments, globals),
        Verb::Init(arguments) => init::run(arguments, globals),
        Verb::Validate(arguments) => validate::run(arguments, globals),
        Verb::Explain(arguments) => explain::run(arguments, globals),
        Verb::Simulate(arguments) => simulate::run(arguments, globals),
        Verb::Test(arguments) => test::run(arguments, globals),
        Verb::Bench(arguments) => bench::run(arguments, globals),
        Verb::Schema(arguments) => schema::run(arguments),
        Verb::Account(arguments) => account::run(arguments, globals),
        Verb::Verify(arguments) => verify::run(arguments, globals),
        Verb::Completions(arguments) => completions::run(arguments),
        Verb::Man(arguments) => man::run(arguments),
        Verb::Version(arguments) => version::run(arguments, globals),
    }
}

/// How a verb ended that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    /// `test` or `verify` found differences, which it printed: exit 1.
    Findings,
}

/// Why a verb could not do its work. The message says what was expected, what was found, and what to do.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    /// 64: the arguments are wrong in a way that only the verb can see.
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure { code: 64, message: message.to_string() }
    }

    /// 65: bad input data, or damaged state.
    pub fn data(message: impl fmt::Display) -> Failure {
        Failure { code: 65, message: message.to_string() }
    }

    /// 69: the broker, or the daemon that is asked, cannot be reached.
    pub fn unavailable(message: impl fmt::Display) -> Failure {
        Failure { code: 69, message: message.to_string() }
    }

    /// 70: an invariant failed.
    pub fn bug(message: impl fmt::Display) -> Failure {
        Failure { code: 70, message: message.to_string() }
    }

    /// 74: a file or stream could not be read or written.
    pub fn io(message: impl fmt::Display) -> Failure {
        Failure { code: 74, message: message.to_string() }
    }

    /// 78: config, catalog or topics are not what they must be.
    pub fn config(message: impl fmt::Display) -> Failure {
        Failure { code: 78, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Parses the arguments, runs the verb, and turns its end into an exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    crate::ingest::native::keep_freed_memory();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return answer_parse_error(&error),
    };
    // A panic is a bug, whatever thread it came from: the default hook has told it on stderr.
    let end = std::panic::catch_unwind(|| run(cli.verb, &cli.globals));
    match end {
        Ok(Ok(Verdict::Clean)) => ExitCode::SUCCESS,
        Ok(Ok(Verdict::Findings)) => ExitCode::from(1),
        Ok(Err(failure)) => {
            complain(&failure.message);
            ExitCode::from(failure.code)
        }
        Err(_) => ExitCode::from(70),
    }
}

/// Help and version are answers; anything else is a usage error.
fn answer_parse_error(error: &clap::Error) -> ExitCode {
    // Where not even this can be written there is nobody left to tell.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS }
}

/// Writes a line for humans to stderr.
pub fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "meterd: {message}");
}

/// Writes a result to stdout. A reader that went away (`meterd … | head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A bar on a terminal, nothing elsewhere. `length`: `None` where the end is not known.
fn progress_bar(length: Option<u64>, template: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(ProgressStyle::with_template(template).expect("a constant template"))
}

/// The command as clap sees it, for completions and the man page.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_shows_an_example_in_its_help() {
        let command = command();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "`meterd {} --help` shows no example (after_help)", verb.get_name());
            assert!(verb.get_about().is_some(), "`meterd {}` says nothing about itself", verb.get_name());
        }
    }
}
