//! `meterd test`: plays scenario files and prints what differs (docs/reference.md 12.2).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::{Failure, Globals, Output, Verdict};
use crate::config::catalog;
use crate::engine::Catalog;
use crate::offline::expect::{self, Difference};
use crate::offline::scenario;

/// Play scenario files against their catalogs, and show what differs
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    meterd test scenarios/upgrade.toml\n  \
    meterd test scenarios/\n  \
    meterd test scenarios/ -o json | jq '.files[] | select(.passed | not)'")]
pub struct Arguments {
    /// Scenario files, or directories of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Catalogs by path, each read once; `None` where one is wrong, which was told.
type Catalogs = HashMap<PathBuf, Result<Arc<Catalog>, String>>;

/// What became of a file.
enum Played {
    Compared(Vec<Difference>),
    /// It could not be played at all.
    Wrong(String),
}

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    let mut files = Vec::new();
    for path in &arguments.files {
        find(path, &mut files)?;
    }
    if files.is_empty() {
        return Err(Failure::usage("expected scenario files (.toml), found none in these directories"));
    }
    let mut catalogs = Catalogs::new();
    let mut told = Vec::new();
    let (mut failed, mut wrong) = (0, 0);
    for file in &files {
        let played = play(file, &mut catalogs);
        match &played {
            Played::Compared(differences) if differences.is_empty() => {}
            Played::Compared(_) => failed += 1,
            Played::Wrong(_) => wrong += 1,
        }
        match globals.output {
            Output::Text => super::print(&text(file, &played))?,
            Output::Json => told.push(json_of(file, &played)),
        }
    }
    let passed = files.len() - failed - wrong;
    match globals.output {
        Output::Text => super::print(&format!(
            "{} files: {passed} passed, {failed} differ, {wrong} cannot be played\n",
            files.len()
        ))?,
        Output::Json => {
            let all = json!({"passed": passed, "failed": failed, "wrong": wrong, "files": told});
            super::print(&format!("{all}\n"))?;
        }
    }
    match (failed, wrong) {
        (0, 0) => Ok(Verdict::Clean),
        (_, 0) => Ok(Verdict::Findings),
        _ => Err(Failure::data(format!("{wrong} of {} files cannot be played", files.len()))),
    }
}

/// A file as it is; of a directory all scenarios at any depth, in order of their names.
fn find(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let failure = |error| Failure::io(format!("cannot read the directory {}: {error}", path.display()));
    let entries = std::fs::read_dir(path).map_err(failure)?;
    let mut inside: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(failure)?;
    inside.sort();
    for path in inside {
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "toml") && !scenario::is_other(&path)
        {
            find(&path, files)?;
        }
    }
    Ok(())
}

fn play(file: &Path, catalogs: &mut Catalogs) -> Played {
    let scenario = match scenario::load(file) {
        Ok(scenario) => scenario,
        Err(message) => return Played::Wrong(message),
    };
    let known = catalogs.entry(scenario.catalog.clone()).or_insert_with_key(|path| {
        catalog::load(path).map(|(catalog, _)| Arc::new(catalog)).map_err(|wrong| wrong.to_string())
    });
    match known {
        Ok(catalog) => Played::Compared(expect::play(&scenario, Arc::clone(catalog))),
        Err(message) => Played::Wrong(format!("its catalog is wrong:\n{message}")),
    }
}

fn text(file: &Path, played: &Played) -> String {
    let name = file.display();
    match played {
        Played::Compared(differences) if differences.is_empty() => String::new(),
        Played::Compared(differences) => {
            let lines: Vec<String> = differences.iter().map(|difference| format!("{difference}\n")).collect();
            format!("{name}\n{}", lines.concat())
        }
        Played::Wrong(message) => format!("{name}\n  {}\n", message.trim_end().replace('\n', "\n  ")),
    }
}

fn json_of(file: &Path, played: &Played) -> serde_json::Value {
    let (error, differences) = match played {
        Played::Compared(differences) => (None, differences.as_slice()),
        Played::Wrong(message) => (Some(message), [].as_slice()),
    };
    let told: Vec<_> = differences
        .iter()
        .map(|found| {
            json!({
                "step": found.step,
                "line": found.line,
                "what": found.what,
                "expected": found.expected,
                "found": found.found,
            })
        })
        .collect();
    let passed = error.is_none() && differences.is_empty();
    json!({"file": file.display().to_string(), "passed": passed, "error": error, "differences": told})
}
