//! What `config::catalog` says to mistakes: `tests/hostile/catalogs/*.txt` hold snippets with what is found in each.
//!
//! A case begins with `# --- title`. Its text is read between the line `default_plan = "free"` and the tables
//! [`REST`], unless its title ends with `(whole)`; line 1 is that first line. What is found follows the text in lines
//! `#> line:column severity key: message | help`. `METERD_BLESS=1 cargo test --test catalogs` writes them anew.

use std::fmt::Write;
use std::path::Path;

use meterd::config::{Severity, catalog};

const FIRST: &str = "default_plan = \"free\"\n";
const REST: &str = "\n[plan.free]\n[unit.credit]\n[currency.usd]\n[[rate]]\nunit = \"credit\"\nprice = []\n";

#[test]
fn mistakes_are_told_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/catalogs");
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of mistakes").map(|entry| entry.expect("an entry")) {
        let recorded = std::fs::read_to_string(entry.path()).expect("a file of cases");
        let (seen, count) = told_anew(&recorded);
        cases += count;
        if std::env::var_os("METERD_BLESS").is_some() {
            std::fs::write(entry.path(), &seen).expect("a writable file");
        } else if seen != recorded {
            panic!("{}: {}", entry.path().display(), first_difference(&recorded, &seen));
        }
    }
    assert!(cases >= 60, "only {cases} mistakes are recorded");
}

/// The file with what is found now, and the number of its cases.
fn told_anew(recorded: &str) -> (String, usize) {
    let mut out = String::new();
    let mut cases = 0;
    for (at, case) in recorded.split("# --- ").enumerate() {
        if at == 0 {
            out.push_str(case);
            continue;
        }
        cases += 1;
        let text: String =
            case.lines().filter(|line| !line.starts_with("#>")).map(|line| format!("{line}\n")).collect();
        let (title, body) = text.split_once('\n').expect("a title");
        writeln!(out, "# --- {title}\n{}", body.trim_end()).expect("a string");
        let told = found_in(title, body.trim_end());
        assert!(!told.is_empty(), "{title}: nothing is found");
        writeln!(out, "{told}").expect("a string");
    }
    (out, cases)
}

fn found_in(title: &str, body: &str) -> String {
    let text = if title.ends_with("(whole)") { body.to_owned() } else { format!("{FIRST}{body}{REST}") };
    let list = match catalog::parse(&text, "catalog.toml") {
        Ok((_, warnings)) => warnings,
        Err(wrong) => wrong.list,
    };
    let mut out = String::new();
    for one in list {
        let severity = if one.severity == Severity::Error { "error" } else { "warning" };
        let help = one.help.unwrap_or_default();
        writeln!(out, "#> {}:{} {severity} {}: {} | {help}", one.line, one.column, one.key, one.message)
            .expect("a string");
    }
    out
}

fn first_difference(recorded: &str, seen: &str) -> String {
    let pair = recorded.lines().zip(seen.lines()).find(|(recorded, seen)| recorded != seen);
    let (recorded, seen) = pair.unwrap_or(("(the files differ in length)", ""));
    format!("\nrecorded {recorded}\nfound    {seen}\n(METERD_BLESS=1 cargo test --test catalogs writes it anew)")
}
