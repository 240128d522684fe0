//! The simulator: the real shard, commit, recovery and store code on a simulated cluster, with faults chosen by a seed.
//!
//! `cargo test --release --test simulation -- --seeds 0..1000` runs a range of seeds; a seed that fails prints the command
//! that repeats it, and `--verbose` tells what happens in it. `--naive-every N` asks the naive model for one in N seeds
//! only, which halves the time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line of its own")]

mod broker;
mod check;
mod common;
mod disk;
mod group;
mod log;
mod member;
mod naive;
mod process;
mod producer;
mod random;
mod reader;
mod setup;
mod sim;
mod workload;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use check::Counts;
use meterd::telemetry::Metrics;
use world::Report;

/// Little but small allocations happens here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Arguments {
    seeds: Range<u64>,
    /// Every so many seeds the naive model judges too.
    naive_every: u64,
    jobs: usize,
    verbose: bool,
    /// Of libtest: names that a test must contain to run.
    filters: Vec<String>,
    failures_max: usize,
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("simulation: {error}");
            return ExitCode::from(64);
        }
    };
    if !arguments.filters.is_empty() && !arguments.filters.iter().any(|filter| "simulation".contains(filter.as_str())) {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s");
        return ExitCode::SUCCESS;
    }
    run(&arguments)
}

fn run(arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(arguments.seeds.start);
    let failures: Mutex<Vec<(u64, String)>> = Mutex::default();
    let total: Mutex<(u64, Report)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                let metrics = Metrics::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.seeds.end || failures.lock().expect("kept").len() >= arguments.failures_max {
                        return;
                    }
                    let run = AssertUnwindSafe(|| world::run(seed, &metrics, arguments.verbose, seed.is_multiple_of(arguments.naive_every)));
                    match catch_unwind(run).unwrap_or_else(|panic| Err(text_of(&*panic))) {
                        Ok(report) => add(&mut total.lock().expect("kept"), &report),
                        Err(failure) => {
                            println!("seed {seed} failed: {failure}");
                            println!(
                                "  repeat it with: cargo test --release --test simulation -- --seeds {seed}..{} --verbose",
                                seed + 1
                            );
                            failures.lock().expect("kept").push((seed, failure));
                        }
                    }
                }
            });
        }
    });
    let (passed, report) = total.into_inner().expect("kept");
    let failed = failures.into_inner().expect("kept").len();
    let Report { counts, steps, crashes, rebalances, recoveries, simulated_ms, trace } = report;
    let Counts { applied, duplicate, commands, quarantined, notices, batches, twice_judged, .. } = counts;
    println!(
        "seeds {:?}: {steps} steps, {} simulated hours, {crashes} crashes, {rebalances} rebalances, {recoveries} last \
         recoveries; {applied} records applied, {duplicate} duplicates, {commands} commands, {quarantined} quarantined, \
         {batches} batches, {notices} notices; {twice_judged} partitions judged by the naive model too; trace {trace:016x}",
        arguments.seeds,
        simulated_ms / 3_600_000
    );
    println!(
        "test result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        begun.elapsed().as_secs_f64()
    );
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn add((passed, total): &mut (u64, Report), report: &Report) {
    *passed += 1;
    total.counts.add(&report.counts);
    // The order in which seeds finish does not matter to the digest.
    total.trace = total.trace.wrapping_add(report.trace);
    total.steps += report.steps;
    total.crashes += report.crashes;
    total.rebalances += report.rebalances;
    total.recoveries += report.recoveries;
    total.simulated_ms += report.simulated_ms;
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message"))
}

fn arguments(given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let seeds = if cfg!(debug_assertions) { 0..100 } else { 0..1_000 };
    let jobs = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut arguments =
        Arguments { seeds, naive_every: 1, jobs, verbose: false, filters: Vec::new(), failures_max: 10 };
    let mut given = given;
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("expected a value after {argument}"));
        match argument.as_str() {
            "--seeds" => {
                let text = value()?;
                let wrong = || format!("expected --seeds FROM..BEFORE, found {text}");
                let (from, before) = text.split_once("..").ok_or_else(wrong)?;
                arguments.seeds = from.parse().map_err(|_| wrong())?..before.parse().map_err(|_| wrong())?;
            }
            "--jobs" => arguments.jobs = value()?.parse().map_err(|_| "expected a number after --jobs".to_owned())?,
            "--naive-every" => {
                let text = value()?;
                arguments.naive_every =
                    text.parse().ok().filter(|every| *every > 0).ok_or("expected a number after --naive-every")?;
            }
            "--failures" => {
                arguments.failures_max =
                    value()?.parse().map_err(|_| "expected a number after --failures".to_owned())?;
            }
            "--verbose" => (arguments.verbose, arguments.jobs) = (true, 1),
            // Those of libtest that take a value.
            "--skip" | "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(value()?),
            flag if flag.starts_with('-') => {}
            name => arguments.filters.push(name.to_owned()),
        }
    }
    Ok(arguments)
}
