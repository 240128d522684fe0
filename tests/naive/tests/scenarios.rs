//! The project's scenario files, run by the naive model: two readings of the reference that must agree.

use std::path::{Path, PathBuf};

fn files(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the scenarios").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "catalogs") {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "toml") {
            out.push(path);
        }
    }
}

#[test]
fn scenarios_agree_with_the_naive_model() {
    let mut all = Vec::new();
    files(Path::new("../scenarios"), &mut all);
    assert!(!all.is_empty(), "expected scenarios in tests/scenarios");
    let mut wrong = Vec::new();
    for file in all {
        let differences = naive::scenario::test(&file).unwrap_or_else(|e| vec![e]);
        wrong.extend(differences.into_iter().map(|d| format!("{}: {d}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
