//! The binary as a shell sees it: exit codes, streams, help (docs/reference.md 12).

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn meterd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command.env_remove("METERD_CONFIG").env_remove("METERD_OUTPUT");
    command
}

fn run(arguments: &[&str]) -> Output {
    meterd(arguments).output().expect("the binary")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The exit code and a part of what each stream must hold.
fn check(arguments: &[&str], code: i32, on_stdout: &str, on_stderr: &str) -> Output {
    let output = run(arguments);
    let (out, err) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(code), "meterd {}\n{out}\n{err}", arguments.join(" "));
    assert!(out.contains(on_stdout), "meterd {}: no {on_stdout:?} in {out}", arguments.join(" "));
    assert!(err.contains(on_stderr), "meterd {}: no {on_stderr:?} in {err}", arguments.join(" "));
    output
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

const CATALOG: &str = "default_plan = \"free\"\n[plan.free]\n[unit.usd]\n[[rate]]\nunit = \"usd\"\nprice = []\n";

#[test]
fn wrong_arguments_end_with_64() {
    check(&[], 64, "", "Usage");
    check(&["frobnicate"], 64, "", "unrecognized subcommand");
    check(&["validate", "--strictly"], 64, "", "--strict");
    check(&["schema", "invoice"], 64, "", "possible values: catalog, config, usage, command, notice");
    check(&["man", "frobnicate"], 64, "", "meterd: no verb `frobnicate`");
    check(&["validate", "--config"], 64, "", "--config needs a file here");
    check(&["validate", "-o", "yaml"], 64, "", "possible values: text, json");
}

#[test]
fn every_verb_explains_itself_with_an_example() {
    let help = stdout(&check(&["--help"], 0, "Commands:", ""));
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<&str> =
        verbs.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' ')).collect();
    assert!(verbs.len() > 8, "{help}");
    for verb in verbs {
        let verb = verb.split_whitespace().next().expect("a name");
        check(&[verb, "--help"], 0, "Example", "");
        check(&["man", verb], 0, ".TH", "");
    }
}

#[test]
fn validate_tells_everything_and_ends_with_78() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    file(folder, "good.toml", CATALOG);
    let good = file(folder, "meterd.toml", "catalog = \"good.toml\"\n");
    check(&["validate", "--config", &good], 0, "good.toml: valid", "");
    check(&["validate", "--config", "config/meterd.toml", "--strict"], 0, "valid", "");

    file(folder, "odd.toml", &format!("{CATALOG}[[rate]]\nunit = \"usd\"\nprice = []\n"));
    let odd = file(folder, "odd-config.toml", "catalog = \"odd.toml\"\n");
    check(&["validate", "--config", &odd], 0, "odd.toml:7:1: warning: rate[1]: this row is never reached", "");
    check(
        &["validate", "--config", &odd, "--strict"],
        78,
        "warning",
        "meterd: 1 warning, which --strict takes for an error",
    );

    file(folder, "bad.toml", &format!("lat = \"1h\"\n{CATALOG}[plan.pro]\nunit = \"usdd\"\n"));
    let bad = file(folder, "bad-config.toml", "catalog = \"bad.toml\"\n[kafka.properties]\nacks = 1\n");
    let output = check(
        &["validate", "--config", &bad],
        78,
        "bad.toml:9:8: error: plan.pro.unit: there is no unit `usdd`",
        "3 errors",
    );
    let told = stdout(&output);
    assert!(told.contains("9 | unit = \"usdd\"\n   |        ^^^^^^ did you mean `usd`?"), "{told}");
    assert!(
        told.contains("bad.toml:1:1: error: lat: unknown key") && told.contains("`acks` is decided by meterd"),
        "{told}"
    );
    check(&["validate", "--config", "nowhere.toml"], 78, "nowhere.toml:1:1: error: cannot be read", "1 error");
    check(&["run", "--config", &bad], 78, "", "`acks` is decided by meterd");
}

#[test]
fn validate_speaks_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = file(folder.path(), "bad.toml", &format!("lat = \"1h\"\n{CATALOG}"));
    let output =
        check(&["validate", "-o", "json", "--catalog", &bad, "config/catalogs/zenmux.toml"], 78, "", "1 error");
    let told: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(
        (told["valid"].as_bool(), told["errors"].as_u64(), told["warnings"].as_u64()),
        (Some(false), Some(1), Some(0))
    );
    let one = &told["diagnostics"][0];
    assert_eq!(
        (&one["severity"], &one["line"], &one["column"], &one["key"]),
        (&"error".into(), &1.into(), &1.into(), &"lat".into())
    );
    assert_eq!(one["help"], "did you mean `late`?");
}

#[test]
fn the_configuration_may_be_named_by_the_environment() {
    let output = meterd(&["validate"]).env("METERD_CONFIG", "config/meterd.toml").output().expect("the binary");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = meterd(&["version"]).env("METERD_OUTPUT", "json").output().expect("the binary");
    let told: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(told["meterd"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn init_prints_the_shipped_configuration() {
    let shipped = std::fs::read_to_string("config/meterd.toml").expect("the configuration");
    assert_eq!(stdout(&check(&["init", "--config"], 0, "", "")), shipped);
}

/// `meterd schema catalog | head -1`
#[cfg(unix)]
#[test]
fn a_reader_that_went_away_is_no_failure() {
    let mut child =
        meterd(&["schema", "notice"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("its end");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}
