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

/// Whatever stands in the file, it is answered with findings that can be shown, or with a catalog.
#[test]
fn broken_catalogs_are_never_more_than_findings() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalogs/zencoder.toml");
    let shipped = std::fs::read_to_string(shipped).expect("a catalog");
    let pieces = [
        "\"",
        "=",
        "[",
        "[[",
        "]]",
        "{",
        "}",
        "\n",
        "é\u{1}",
        "*",
        "9999999999999999999999",
        "-",
        "1e9",
        "#",
        "\t",
        "'''",
    ];
    let config = proptest::test_runner::Config { failure_persistence: None, ..Default::default() };
    let edits = proptest::collection::vec((0..shipped.len(), 0..40_usize, 0..pieces.len()), 1..4);
    proptest::proptest!(config, |(edits in edits)| {
        let mut text = shipped.clone();
        for (at, cut, piece) in edits {
            let start = text.floor_char_boundary(at);
            let end = text.floor_char_boundary((start + cut).min(text.len())).max(start);
            text.replace_range(start..end, pieces[piece]);
        }
        if let Err(wrong) = catalog::parse(&text, "catalog.toml") {
            assert!(wrong.has_errors());
            let lines = text.lines().count() + 1;
            assert!(wrong.list.iter().all(|one| (1..=lines).contains(&one.line)), "{wrong}");
        }
    });
}

/// Ten thousand models are a matter of a moment.
#[test]
fn large_catalogs_are_checked_quickly() {
    let mut text = String::from("default_plan = \"free\"\n[plan.free]\n[unit.usd]\n");
    for model in 0..10_000 {
        write!(
            text,
            "[[rate]]\ntype = \"llm.call\"\nmatch = {{ model = \"vendor/model-{model}\" }}\nunit = \"usd\"\n\
             price = [{{ quantity = \"input_tokens\", rate = \"0.25\", per = 1_000_000 }}]\n"
        )
        .expect("a string");
    }
    let begun = std::time::Instant::now();
    let (catalog, warnings) = catalog::parse(&text, "large.toml").unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!((catalog.rates.len(), warnings.len()), (10_000, 0));
    let took = begun.elapsed();
    assert!(took.as_secs() < 60, "{took:?}");
    println!("10,000 rows took {took:?}");
}
