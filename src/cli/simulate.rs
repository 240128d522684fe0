//! `meterd simulate`: the fold over lines of JSON, without Kafka (docs/reference.md 12.1).

use std::fs::File;
use std::io::{self, BufWriter, Read, Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Failure, Globals, Verdict};
use crate::config::catalog;
use crate::engine::Reason;
use crate::offline::lines::{Failed, Lines};
use crate::offline::run::{Counts, Listener, Quarantined, Run};

const BUFFER_BYTES: usize = 1 << 20;

/// Run records through a catalog without Kafka, and see what would happen
#[derive(Args, Debug)]
#[command(after_help = "Each line of the input is a record or an instant:\n  \
    {\"topic\":\"usage\",\"timestamp\":\"2026-11-20T07:00:00Z\",\"value\":{...}}\n  \
    {\"clock\":\"2026-12-01T00:00:00Z\"}\n\n\
    Examples:\n  \
    meterd simulate --catalog catalogs/zenmux.toml records.jsonl\n  \
    kcat ... | meterd simulate --catalog catalogs/zenmux.toml --no-accounts | jq .notice")]
pub struct Arguments {
    /// The catalog to price by
    #[arg(long, env = "METERD_CATALOG", value_name = "FILE")]
    catalog: PathBuf,
    /// Lines of JSON; `-` or none: standard input
    input: Option<PathBuf>,
    /// Print no notices
    #[arg(long, env = "METERD_QUIET_NOTICES")]
    quiet_notices: bool,
    /// Print no accounts at the end
    #[arg(long, env = "METERD_NO_ACCOUNTS")]
    no_accounts: bool,
}

pub fn run(arguments: Arguments, _globals: &Globals) -> Result<Verdict, Failure> {
    let (catalog, _warnings) = catalog::load(&arguments.catalog).map_err(Failure::config)?;
    let mut run = Run::new(Arc::new(catalog), arguments.quiet_notices);
    let mut printer = Printer { out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout()), failed: None };
    let began = Instant::now();
    let folded = fold_lines(&mut run, &mut printer, arguments.input.as_deref());
    let elapsed = began.elapsed();
    if folded.is_ok() {
        if !arguments.no_accounts {
            let ids: Vec<String> = run.account_ids().into_iter().map(str::to_owned).collect();
            for id in &ids {
                printer.line("account", &run.account(id));
            }
        }
        printer.line("summary", &summary(run.counts(), run.account_ids().len()));
    }
    printer.finish()?;
    folded?;
    let rate = run.inputs() as f64 / elapsed.as_secs_f64().max(1e-9);
    let (inputs, seconds) = (run.inputs(), elapsed.as_secs_f64());
    super::complain(&format!("{inputs} records in {seconds:.3} s: {rate:.0} records/s"));
    match run.take_violations() {
        0 => Ok(Verdict::Clean),
        count => Err(Failure::bug(format!("{count} inputs broke conservation; please report it with the input"))),
    }
}

fn fold_lines(run: &mut Run, printer: &mut Printer, input: Option<&Path>) -> Result<(), Failure> {
    let (name, source, bytes): (String, Box<dyn Read>, Option<u64>) = match input {
        Some(path) if path != Path::new("-") => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| Failure::io(format!("cannot open {name}: {error}")))?;
            let bytes = file.metadata().ok().map(|metadata| metadata.len()).filter(|bytes| *bytes > 0);
            (name, Box::new(file), bytes)
        }
        _ => ("standard input".to_owned(), Box::new(io::stdin()), None),
    };
    let template = match bytes {
        Some(_) => "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{spinner} {bytes} {bytes_per_sec}",
    };
    let bar = super::progress_bar(bytes, template);
    let folded = Lines::default().fold(run, source, printer, |printer, folded| {
        bar.set_position(folded);
        printer.failed.is_none()
    });
    bar.finish_and_clear();
    folded.map_err(|failed| match failed {
        Failed::Io(error) => Failure::io(format!("cannot read {name}: {error}")),
        Failed::Line { number, message } => Failure::data(format!("{name}:{number}: {message}")),
    })
}

/// What became of all inputs.
#[derive(Serialize)]
struct Summary {
    applied: u64,
    duplicate: u64,
    failed: u64,
    commands: u64,
    rejected: u64,
    /// Reasons with 0 are left out.
    quarantined: Map<String, Value>,
    accounts: usize,
    notices: u64,
}

fn summary(counts: &Counts, accounts: usize) -> Summary {
    let counted = Reason::ALL.iter().map(|reason| (reason.name().to_owned(), counts.quarantined[*reason as usize]));
    Summary {
        applied: counts.applied,
        duplicate: counts.duplicate,
        failed: counts.failed,
        commands: counts.commands,
        rejected: counts.rejected,
        quarantined: counted.filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.into())).collect(),
        accounts,
        notices: counts.notices,
    }
}

/// Writes lines to standard output. The first failure ends the run, once its line is done.
struct Printer {
    out: BufWriter<Stdout>,
    failed: Option<io::Error>,
}

impl Printer {
    fn line(&mut self, name: &str, value: &impl Serialize) {
        let json = serde_json::to_vec(value).expect("a Vec takes everything and all names are strings");
        self.raw_line(name, &json);
    }

    fn raw_line(&mut self, name: &str, json: &[u8]) {
        let mut write = || {
            self.out.write_all(b"{\"")?;
            self.out.write_all(name.as_bytes())?;
            self.out.write_all(b"\":")?;
            self.out.write_all(json)?;
            self.out.write_all(b"}\n")
        };
        if let Err(error) = write() {
            self.failed.get_or_insert(error);
        }
    }

    /// A reader that went away (`meterd simulate … | head`) is no failure.
    fn finish(&mut self) -> Result<(), Failure> {
        let ended = match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        match ended {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::io(format!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }
}

impl Listener for Printer {
    fn notice(&mut self, json: &[u8]) {
        self.raw_line("notice", json);
    }

    fn quarantined(&mut self, quarantined: &Quarantined<'_>) {
        self.line("quarantined", quarantined);
    }
}
