//! The examples of docs/ are read as meterd would read them, and what the sources cite is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bumpalo::Bump;
use meterd::cli::schema::Document;
use meterd::config::{Tokens, catalog, daemon};
use meterd::ingest::decode::{Decoder, Raw};
use serde_json::{Value, json};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn document(name: &str) -> String {
    fs::read_to_string(project("docs").join(name)).expect(name)
}

/// Blocks of code with the words after their fence: the language, and what they are an example of.
fn examples(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(label) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push((label.to_owned(), body.join("\n")));
        }
    }
    found
}

#[test]
fn examples_of_the_reference_are_valid() {
    let mut seen = BTreeSet::new();
    for (label, body) in examples(&document("reference.md")) {
        match label.as_str() {
            "toml catalog" => {
                let (_, warnings) =
                    catalog::parse(&body, "docs/reference.md").unwrap_or_else(|wrong| panic!("{wrong}"));
                assert_eq!(warnings, []);
            }
            "toml config" => {
                daemon::parse(&body, "docs/reference.md", Path::new("")).unwrap_or_else(|wrong| panic!("{wrong}"));
            }
            "toml tokens" => {
                let tokens = Tokens::parse(&body, "docs/reference.md").unwrap_or_else(|wrong| panic!("{wrong}"));
                assert!(tokens.scope_of("foo").is_some(), "the hash is of another token");
            }
            "json usage" => {
                let (catalog, _) = catalog::parse("default_plan = \"free\"\n[plan.free]", "").expect("a catalog");
                let raw = Raw { key: Some(b"acme"), value: Some(body.as_bytes()), headers: &[], timestamp: 0 };
                Decoder::default().usage(&catalog, &raw, 65_536, &Bump::new()).expect("a usage record");
            }
            other => panic!("nothing reads an example of {other:?}"),
        }
        seen.insert(label);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn examples_of_notices_fit_their_schema() {
    let schema: Value = serde_json::from_str(Document::Notice.schema()).expect("a schema");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let mut seen = BTreeSet::new();
    for (label, body) in examples(&document("notices.md")) {
        let example: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{label}: {error}"));
        let kind = label.strip_prefix("json ").expect("JSON");
        let notice = match kind {
            "notice" => example,
            _ => json!({
                "specversion": "1.0", "id": format!("acme/{}", example["sequence"]), "source": "meterd/meterd",
                "type": format!("meterd.{kind}"), "subject": "acme", "time": "2026-11-20T07:00:00.250Z",
                "datacontenttype": "application/json", "data": example,
            }),
        };
        let errors: Vec<String> = validator.iter_errors(&notice).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{kind}: {errors:?}");
        seen.insert(kind.to_owned());
    }
    let known = schema["properties"]["type"]["enum"].as_array().expect("the types");
    for kind in known.iter().filter_map(Value::as_str) {
        assert!(seen.contains(kind.trim_start_matches("meterd.")), "docs/notices.md shows no {kind}");
    }
}

#[test]
fn cited_rules_exist() {
    let reference = document("reference.md");
    // A rule is a section, a paragraph that begins with its number, or a point of the section's list.
    let exists = |rule: &str| {
        let (section, point) = rule.split_once('.').map_or((rule, None), |(section, point)| (section, Some(point)));
        let mut lines = reference.lines().skip_while(|line| !line.starts_with(&format!("## {section}. ")));
        let Some(_) = lines.next() else { return false };
        point.is_none_or(|point| {
            let begins = [format!("**{rule} "), format!("**{rule}**"), format!("{point}. ")];
            lines
                .take_while(|line| !line.starts_with('#'))
                .any(|line| begins.iter().any(|begin| line.starts_with(begin)))
        })
    };
    let mut cited = 0;
    let mut folders = vec![project("src"), project("tests"), project("benches")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for citation in text.split("docs/reference.md ").skip(1) {
                let end = citation.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(citation.len());
                let rule = citation[..end].trim_end_matches('.');
                if rule.is_empty() {
                    continue;
                }
                assert!(exists(rule), "{} cites {rule}, which docs/reference.md does not have", path.display());
                cited += 1;
            }
        }
    }
    assert!(cited > 20, "only {cited} citations were found");
}

/// Whether a test stands at `file::name`, the file below `folder`.
fn has_test(folder: &str, path: &str) -> bool {
    let Some((file, test)) = path.rsplit_once("::") else { return false };
    let file = project(&format!("{folder}/{}.rs", file.trim_end_matches("::tests").replace("::", "/")));
    fs::read_to_string(file).is_ok_and(|source| source.contains(&format!("fn {test}()")))
}

/// docs/reliability.md names a test for each promise: `kafka::file::name`, `interleavings::file::name`, `planted/name`.
#[test]
fn the_tests_that_reliability_names_exist() {
    let text = document("reliability.md");
    let mut checked = 0;
    for name in text.split('`').skip(1).step_by(2).filter(|name| !name.ends_with("file::name")) {
        let exists = match (name.split_once("::"), name.strip_prefix("planted/")) {
            (Some((suite @ ("kafka" | "interleavings"), path)), _) => has_test(&format!("tests/{suite}"), path),
            (_, Some(bug)) if bug != "name" => project(&format!("tests/planted/{bug}.patch")).exists(),
            _ => continue,
        };
        assert!(exists, "{name}");
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

/// The files that a patch is of, with the lines that each of its hunks must find there.
fn hunks(patch: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut file = "";
    for line in patch.lines() {
        if let Some(name) = line.strip_prefix("+++ b/") {
            file = name;
        } else if line.starts_with("--- ") {
            // What the next line names.
        } else if line.starts_with("@@ ") {
            found.push((file.to_owned(), String::new()));
        } else if let (Some((_, lines)), Some(line)) = (found.last_mut(), line.strip_prefix([' ', '-'])) {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    found
}

/// Each planted bug names the test that must catch it, see scripts/planted, and can be planted.
#[test]
fn the_tests_that_planted_bugs_name_exist() {
    let mut checked = 0;
    for entry in fs::read_dir(project("tests/planted")).expect("a directory of patches") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a patch");
        let head = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        assert!(!head("Rule: ").is_empty(), "{}", path.display());
        let exists = match head("Test: ").split_once(' ') {
            Some(("simulation", seeds)) => seeds.contains(".."),
            Some(("scenario", name)) => project(&format!("tests/scenarios/{name}.toml")).exists(),
            Some(("interleavings", name)) => has_test("tests/interleavings", name),
            Some(("lib", name)) => has_test("src", name),
            _ => false,
        };
        assert!(exists, "{} names {:?}", path.display(), head("Test: "));
        let (_, patch) = text.split_once("\n+++ ").expect("a patch of a file");
        for (file, lines) in hunks(&format!("+++ {patch}")) {
            let source = fs::read_to_string(project(&file)).expect("the file that is patched");
            assert!(source.contains(&lines), "{}: expected in {file}:\n{lines}", path.display());
        }
        checked += 1;
    }
    assert!(checked > 34, "{checked}");
}
