//! Every scenario passes `meterd test`, every shipped catalog passes `meterd validate --strict`, and
//! the table in `scenarios/README.md` names each scenario of the four schemes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCHEMES: [&str; 4] = ["zencoder", "zenmux", "studio", "assemblyai"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The TOML files of a folder, by name.
fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "expected TOML files in {}", folder.display());
    files
}

fn scenarios_of(scheme: &str) -> Vec<PathBuf> {
    toml_files(&root().join("tests/scenarios").join(scheme))
}

/// Runs meterd and shows what it printed if it fails.
fn succeeds(arguments: &[&str], files: &[PathBuf]) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_meterd")).args(arguments).args(files).output().expect("meterd starts");
    assert!(
        output.status.success(),
        "meterd {} on {} files: {}\n{}{}",
        arguments.join(" "),
        files.len(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

#[test]
fn zencoder_passes() {
    succeeds(&["test"], &scenarios_of("zencoder"));
}

#[test]
fn zenmux_passes() {
    succeeds(&["test"], &scenarios_of("zenmux"));
}

#[test]
fn studio_passes() {
    succeeds(&["test"], &scenarios_of("studio"));
}

#[test]
fn assemblyai_passes() {
    succeeds(&["test"], &scenarios_of("assemblyai"));
}

#[test]
fn rules_pass() {
    succeeds(&["test"], &scenarios_of("rules"));
}

#[test]
fn catalogs_are_valid_strictly() {
    let mut catalogs = toml_files(&root().join("config/catalogs"));
    catalogs.extend(toml_files(&root().join("tests/scenarios/rules/catalogs")));
    succeeds(&["validate", "--strict", "--catalog"], &catalogs);
}

/// The names in backquotes in the part of the README on each scheme, compared with the files there.
/// All scenarios have a hyphen in their name; other words in backquotes have none.
#[test]
fn the_table_names_every_scenario_of_the_schemes() {
    let path = root().join("tests/scenarios/README.md");
    let text = fs::read_to_string(&path).expect("the README of the scenarios");
    let parts: Vec<&str> = text.split("\n## ").skip(1).collect();
    assert_eq!(parts.len(), SCHEMES.len(), "expected one part for each scheme, found {}", parts.len());
    for (scheme, part) in SCHEMES.into_iter().zip(parts) {
        let named: BTreeSet<&str> = part.split('`').skip(1).step_by(2).filter(|word| word.contains('-')).collect();
        let files = scenarios_of(scheme);
        let present: BTreeSet<&str> =
            files.iter().filter_map(|file| file.file_stem().and_then(|stem| stem.to_str())).collect();
        let unnamed: Vec<_> = present.difference(&named).collect();
        let absent: Vec<_> = named.difference(&present).collect();
        assert!(
            unnamed.is_empty() && absent.is_empty(),
            "{scheme}: scenarios that the table does not name: {unnamed:?}; names without a file: {absent:?}"
        );
    }
}
