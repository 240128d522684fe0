//! `meterd validate`: checks config and catalogs, and shows everything that is wrong.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Failure, Globals, Output, Verdict};
use crate::config::{self, Diagnostics};
use crate::engine::Catalog;

/// Check config and catalog, and show every mistake with its line
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    meterd validate --config meterd.toml\n  \
    meterd validate --strict --catalog catalogs/zenmux.toml\n  \
    meterd validate -o json | jq '.diagnostics[] | select(.severity == \"error\")'")]
pub struct Arguments {
    /// Take warnings for errors
    #[arg(long, env = "METERD_STRICT")]
    strict: bool,
    /// Check these catalogs alone, and no config
    #[arg(long, value_name = "FILE", num_args = 1..)]
    catalog: Vec<PathBuf>,
}

/// Memory of an accepted record's identity, at least and at most: its table is between half full and full.
const IDENTITY_BYTES: (i64, i64) = (30, 60);

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    let mut found = Diagnostics::default();
    let mut notes = Vec::new();
    let checked = if arguments.catalog.is_empty() {
        check_config(&globals.config, &mut found, &mut notes)
    } else {
        arguments.catalog.iter().for_each(|catalog| check_catalog(catalog, &mut found, &mut notes));
        arguments.catalog
    };
    let errors = found.list.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = found.list.len() - errors;
    super::print(&match globals.output {
        Output::Text => notes.concat() + &text(&found, &checked, errors, warnings),
        Output::Json => {
            let valid = errors == 0 && !(arguments.strict && warnings > 0);
            format!("{}\n", json!({"valid": valid, "errors": errors, "warnings": warnings, "diagnostics": found.list}))
        }
    })?;
    match (errors, warnings) {
        (0, 0) => Ok(Verdict::Clean),
        (0, _) if !arguments.strict => Ok(Verdict::Clean),
        (0, 1) => Err(Failure::config("1 warning, which --strict takes for an error")),
        (0, _) => Err(Failure::config(format!("{warnings} warnings, which --strict takes for errors"))),
        _ => Err(Failure::config(counted(errors, "error"))),
    }
}

/// The config, and the catalog that it names.
fn check_config(path: &Path, found: &mut Diagnostics, notes: &mut Vec<String>) -> Vec<PathBuf> {
    let mut checked = vec![path.to_owned()];
    match config::load(path) {
        Ok(config) => {
            check_catalog(&config.catalog, found, notes);
            checked.push(config.catalog);
        }
        Err(wrong) => {
            found.list.extend(wrong.list);
            // A mistake elsewhere in the config need not hide those of the catalog.
            if let Some(catalog) = config::daemon::catalog_of(path) {
                check_catalog(&catalog, found, notes);
                checked.push(catalog);
            }
        }
    }
    checked
}

fn check_catalog(path: &Path, found: &mut Diagnostics, notes: &mut Vec<String>) {
    match config::catalog::load(path) {
        Ok((catalog, warnings)) => {
            found.list.extend(warnings);
            notes.push(memory_note(path, &catalog));
        }
        Err(wrong) => found.list.extend(wrong.list),
    }
}

/// What `late` costs: the identities of so long a time are held in memory (docs/reference.md 6.2).
fn memory_note(path: &Path, catalog: &Catalog) -> String {
    let records = catalog.late_ms;
    let (least, most) = (records * IDENTITY_BYTES.0 / 1_000_000, records * IDENTITY_BYTES.1 / 1_000_000);
    format!(
        "{}: {} plans, {} rates; 1,000 records a second keep {least} to {most} MB of identities in memory (`late`)\n",
        path.display(),
        catalog.plans.len(),
        catalog.rates.len(),
    )
}

fn text(found: &Diagnostics, checked: &[PathBuf], errors: usize, warnings: usize) -> String {
    let files: Vec<String> = checked.iter().map(|path| path.display().to_string()).collect();
    let files = files.join(", ");
    match (errors, warnings) {
        (0, 0) => format!("{files}: valid\n"),
        (0, _) => format!("{found}{files}: valid, with {}\n", counted(warnings, "warning")),
        (_, 0) => format!("{found}{files}: {}\n", counted(errors, "error")),
        _ => format!("{found}{files}: {}, {}\n", counted(errors, "error"), counted(warnings, "warning")),
    }
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
