//! `meterd verify`: folds the topics again and compares what is there.

use clap::Args;
use serde_json::json;

use super::run::failure;
use super::{Failure, Globals, Output, Verdict};
use crate::config;
use crate::daemon::inspect::inspect;
use crate::verify::{self, Begin, Difference, Report};

/// Fold the topics again and compare notices, quarantine, checkpoints and the journal with what comes out
#[derive(Args, Debug)]
#[command(
    after_help = "Begins with the first record ever folded or, where journal or inputs do not reach back to it, with the \
    checkpoints; it says which. Writes nothing; the daemon may run meanwhile.\nEnds with 1 where something differs, and \
    shows for each partition the first difference.\n\nExamples:\n  \
    meterd verify --config meterd.toml\n  \
    meterd verify --partition 3 -o json | jq '.partitions[].difference'"
)]
pub struct Arguments {
    /// Only these partitions
    #[arg(long = "partition", value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
}

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    let config = config::load(&globals.config).map_err(Failure::config)?;
    let inspection = inspect(&config).map_err(failure)?;
    if let Some(unknown) = arguments.partitions.iter().find(|partition| **partition >= inspection.partitions) {
        return Err(Failure::usage(format!(
            "expected partitions 0 to {}, found --partition {unknown}",
            inspection.partitions - 1
        )));
    }
    let partitions = match arguments.partitions.as_slice() {
        [] => (0..inspection.partitions).collect(),
        some => some.to_vec(),
    };
    let mut reports = Vec::new();
    for partition in partitions {
        let bar = super::progress_bar(Some(0), "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}");
        bar.set_message(format!("partition {partition}"));
        let mut progress = |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        };
        let report = verify::verify(&inspection, partition, &mut progress).map_err(failure)?;
        bar.finish_and_clear();
        if globals.output == Output::Text {
            super::print(&text(&report))?;
        }
        reports.push(report);
    }
    let equal = reports.iter().all(|report| report.difference.is_none());
    if globals.output == Output::Json {
        super::print(&format!("{}\n", json!({"equal": equal, "partitions": reports})))?;
    }
    Ok(if equal { Verdict::Clean } else { Verdict::Findings })
}

fn text(report: &Report) -> String {
    let Report { partition, through, batches, records, notices, quarantined, accounts, checkpoints, .. } = report;
    let from = match &report.from {
        None => return format!("partition {partition}: equal, nothing was folded yet\n"),
        Some(Begin::Genesis) => "from its first batch".to_owned(),
        Some(Begin::Checkpoint { batch, why }) => format!("from the checkpoints at batch {batch} ({why})"),
    };
    let verdict = if report.difference.is_some() { "DIFFERENT" } else { "equal" };
    let mut text = format!("partition {partition}: {verdict}, {from} through batch {through}\n");
    text += &format!(
        "  compared {batches} batches with {records} records, {notices} notices, {quarantined} quarantined records, \
         {checkpoints} checkpoints of {accounts} accounts\n"
    );
    if let Some(of) = &report.dispositions {
        text += &format!(
            "  applied {}, duplicate {}, failed {}, rejected {}, quarantined {}; conservation holds in every input\n",
            of.applied, of.duplicate, of.failed, of.rejected, of.quarantined
        );
    }
    report.notes.iter().for_each(|note| text += &format!("  {note}\n"));
    report.difference.iter().for_each(|difference| text += &different(difference));
    text
}

fn different(difference: &Difference) -> String {
    let Difference { what, topic, partition, offset, batch, account, expected, found } = difference;
    let mut text = format!("  {what} in {topic}/{partition}");
    offset.iter().for_each(|offset| text += &format!(" at offset {offset}"));
    batch.iter().for_each(|batch| text += &format!(", batch {batch}"));
    account.iter().for_each(|account| text += &format!(", account {account:?}"));
    text + &format!(":\n    expected {expected}\n    found    {found}\n")
}
