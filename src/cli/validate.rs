//! `meterd validate`: checks config and catalogs, and shows everything that is wrong.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Failure, Globals, Output, Verdict};
use crate::config::{self, Diagnostics};

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

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    let mut found = Diagnostics::default();
    let checked = if arguments.catalog.is_empty() {
        check_config(&globals.config, &mut found)
    } else {
        arguments.catalog.iter().for_each(|catalog| check_catalog(catalog, &mut found));
        arguments.catalog
    };
    let errors = found.list.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = found.list.len() - errors;
    super::print(&match globals.output {
        Output::Text => text(&found, &checked, errors, warnings),
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
fn check_config(path: &Path, found: &mut Diagnostics) -> Vec<PathBuf> {
    let mut checked = vec![path.to_owned()];
    match config::load(path) {
        Ok(config) => {
            check_catalog(&config.catalog, found);
            checked.push(config.catalog);
        }
        Err(wrong) => {
            found.list.extend(wrong.list);
            // A mistake elsewhere in the config need not hide those of the catalog.
            if let Some(catalog) = config::daemon::catalog_of(path) {
                check_catalog(&catalog, found);
                checked.push(catalog);
            }
        }
    }
    checked
}

fn check_catalog(path: &Path, found: &mut Diagnostics) {
    match config::catalog::load(path) {
        Ok((_, warnings)) => found.list.extend(warnings),
        Err(wrong) => found.list.extend(wrong.list),
    }
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
