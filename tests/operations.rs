//! What operators load: alert rules, the Grafana dashboard, the systemd unit. All that they name must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use meterd::telemetry::Metrics;
use meterd::telemetry::families::Exposition;
use serde_json::Value;
use yaml_rust2::YamlLoader;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of the families that a scrape tells, with at least one partition assigned.
fn exposed() -> BTreeSet<String> {
    let metrics = Metrics::new();
    metrics.partition(0);
    let text = Exposition::new(metrics).render();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().expect("a name").to_owned()).collect()
}

/// Names of metrics in a PromQL expression: words that begin as exporters' do, without the suffixes of histograms.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let metrics = words.filter(|word| word.starts_with("meterd_") || word.starts_with("process_"));
    metrics
        .map(|name| ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name))
        .map(str::to_owned)
        .collect()
}

fn check(place: &str, expression: &str, exposed: &BTreeSet<String>) {
    let named = named(expression);
    assert!(!named.is_empty(), "{place}: no metric in {expression:?}");
    for name in named {
        assert!(exposed.contains(&name), "{place}: {name} is not exposed");
    }
}

#[test]
fn alert_rules_name_metrics_that_exist() {
    let exposed = exposed();
    let files = YamlLoader::load_from_str(&read("alerts/meterd.yml")).expect("YAML");
    let groups = files[0]["groups"].as_vec().expect("groups");
    let mut names = BTreeSet::new();
    for rule in groups.iter().flat_map(|group| group["rules"].as_vec().expect("rules")) {
        let name = rule["alert"].as_str().expect("a name");
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        check(name, rule["expr"].as_str().expect("an expression"), &exposed);
        for field in ["summary", "description"] {
            assert!(rule["annotations"][field].as_str().is_some(), "{name} has no {field}");
        }
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("warning" | "critical")), "{name}");
    }
}

#[test]
fn the_grafana_dashboard_shows_metrics_that_exist() {
    let exposed = exposed();
    let dashboard: Value = serde_json::from_str(&read("grafana/meterd.json")).expect("JSON");
    let mut ids = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is another's");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            check(title, expression, &exposed);
            shown.extend(named(expression));
        }
    }
    let own = exposed.iter().filter(|name| name.starts_with("meterd_"));
    // The build is in the variables; quantiles of the last minute are for the daemon's own dashboard.
    let elsewhere = ["meterd_build_info", "meterd_end_to_end_recent_seconds"];
    let missing: Vec<_> = own.filter(|name| !shown.contains(*name) && !elsewhere.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
fn the_reference_names_every_metric() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let reference = fs::read_to_string(path).expect("the reference");
    for name in meterd::telemetry::families::names() {
        assert!(reference.contains(&format!("| `{name}` |")), "docs/reference.md 14 does not list {name}");
    }
}

#[test]
fn the_unit_runs_verbs_that_exist() {
    let unit = read("systemd/meterd.service");
    for section in ["[Unit]", "[Service]", "[Install]"] {
        assert_eq!(unit.lines().filter(|line| *line == section).count(), 1, "{section}");
    }
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '['])) {
        assert!(line.contains('='), "{line}");
    }
    let verbs: Vec<&str> =
        unit.lines().filter_map(|line| line.split_once("/usr/bin/meterd ")).map(|(_, verb)| verb).collect();
    assert_eq!(verbs, ["validate", "run"]);
    let not_again = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).expect("the codes");
    assert_eq!(not_again, "64 65 70 78", "docs/reference.md 12: those that a restart cannot mend");
}
