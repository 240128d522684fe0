//! `meterd simulate` and `meterd test` as a user runs them. `INSTA_UPDATE=always cargo test --test offline` rewrites what
//! is expected.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn meterd(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("meterd starts");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    // A run that ends at the first line does not read the rest.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("meterd ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn simulate_tells_everything() {
    let ended = meterd(&["simulate", "--catalog", "config/catalogs/zenmux.toml", "tests/offline/small.jsonl"], "");
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    insta::assert_snapshot!(text(&ended.stdout));
    assert!(text(&ended.stderr).contains("12 records in"), "{}", text(&ended.stderr));
}

#[test]
fn simulate_leaves_out_what_is_not_asked_for() {
    let lines = include_str!("small.jsonl");
    let quiet = ["simulate", "--catalog", "config/catalogs/zenmux.toml", "--quiet-notices", "--no-accounts", "-"];
    let ended = meterd(&quiet, lines);
    let out = text(&ended.stdout);
    let kinds: Vec<&str> = out.lines().map(|line| line.split('"').nth(1).expect("a name")).collect();
    assert_eq!(kinds, [["quarantined"; 6].as_slice(), &["summary"]].concat(), "{out}");
    assert!(out.contains(r#""notices":8"#), "notices are counted: {out}");
}

#[test]
fn simulate_stops_at_what_is_no_line() {
    let good = r#"{"clock":"2026-04-01T10:00:00Z"}"#;
    for (line, expect) in [
        ("", "standard input:2: expected an object"),
        ("[]", "expected an object"),
        (r#"{"topic":"usage","timestamp":"2026-04-01T10:00:00Z"}"#, "expected topic, timestamp and value"),
        (r#"{"topic":"usage","timestamp":"2026-04-01T10:00:00Z","value":{"a":01}}"#, "a value that is no JSON"),
    ] {
        let catalog = "config/catalogs/zenmux.toml";
        let ended = meterd(&["simulate", "--catalog", catalog], &format!("{good}\n{line}\n{good}\n"));
        assert_eq!(ended.status.code(), Some(65), "{line}");
        assert!(text(&ended.stderr).contains(expect), "{line}: {}", text(&ended.stderr));
    }
    let ended = meterd(&["simulate", "--catalog", "config/catalogs/none.toml"], "");
    assert_eq!(ended.status.code(), Some(78));
    let ended = meterd(&["simulate", "--catalog", "config/catalogs/zenmux.toml", "/no/such/file"], "");
    assert_eq!(ended.status.code(), Some(74));
}

#[test]
fn test_shows_what_differs() {
    let ended = meterd(&["test", "tests/offline/differs.toml"], "");
    assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
    insta::assert_snapshot!(text(&ended.stdout));
}

#[test]
fn test_says_what_it_cannot_play() {
    let ended = meterd(&["test", "tests/offline/small.jsonl"], "");
    assert_eq!(ended.status.code(), Some(65), "{}", text(&ended.stdout));
    let ended = meterd(&["test", "no/such/file.toml", "-o", "json"], "");
    assert_eq!(ended.status.code(), Some(65));
    assert!(text(&ended.stdout).contains(r#""wrong":1"#), "{}", text(&ended.stdout));
}
