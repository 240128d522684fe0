//! Runs this model and `meterd simulate` over the same generated stream and compares what they say.

use crate::catalog::Catalog;
use crate::{generate, simulate, stream};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Compare {
    pub meterd: PathBuf,
    pub steps: usize,
    pub profile: stream::Profile,
    pub directory: PathBuf,
    pub shrink: bool,
    /// Compare no views of accounts and no summary.
    pub notices_only: bool,
}

/// What one side said, put in an order that does not depend on how accounts interleave.
#[derive(Default)]
struct Said {
    notices: BTreeMap<String, Vec<Value>>,
    quarantined: Vec<Value>,
    accounts: BTreeMap<String, Value>,
    summary: Value,
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn said(lines: impl Iterator<Item = Value>) -> Said {
    let mut said = Said::default();
    for mut line in lines {
        // Messages are for people: both sides write their own.
        for path in ["/notice/data/message", "/quarantined/message"] {
            if let Some(message) = line.pointer_mut(path) {
                *message = Value::Null;
            }
        }
        if let Some(notice) = line.get("notice") {
            said.notices.entry(text(notice, "/subject")).or_default().push(notice.clone());
        } else if let Some(record) = line.get("quarantined") {
            said.quarantined.push(record.clone());
        } else if let Some(account) = line.get("account") {
            said.accounts.insert(text(account, "/account"), account.clone());
        } else if let Some(summary) = line.get("summary") {
            said.summary = summary.clone();
        }
    }
    said
}

/// Writes each field that differs, with its path.
fn fields(path: &str, expected: &Value, found: &Value, out: &mut String) {
    match (expected, found) {
        (Value::Object(e), Value::Object(f)) => {
            for key in e.keys().chain(f.keys().filter(|k| !e.contains_key(*k))) {
                let null = Value::String("(absent)".into());
                fields(&format!("{path}.{key}"), e.get(key).unwrap_or(&null), f.get(key).unwrap_or(&null), out);
            }
        }
        (Value::Array(e), Value::Array(f)) if e.len() == f.len() => {
            for (i, (e, f)) in e.iter().zip(f).enumerate() {
                fields(&format!("{path}.{i}"), e, f, out);
            }
        }
        _ if expected != found => {
            let _ = writeln!(out, "  {path}: expected {expected}, found {found}");
        }
        _ => {}
    }
}

fn differ(what: &str, expected: Option<&Value>, found: Option<&Value>, lines: &[String]) -> Option<String> {
    if expected == found {
        return None;
    }
    let mut out = format!("{what}\n");
    let (none, either) = (Value::Null, expected.or(found).expect("one is there"));
    let topic = text(either, "/data/cause/topic").replace("meter.", "");
    let topic = if topic.is_empty() { text(either, "/topic") } else { topic };
    let offset = either.pointer("/data/cause/offset").or(either.get("offset")).and_then(Value::as_u64);
    if let Some(offset) = offset {
        let tag = format!("\"topic\":\"{topic}\"");
        let line = lines.iter().enumerate().filter(|l| l.1.contains(&tag)).nth(offset as usize);
        if let Some((number, line)) = line {
            let shown: String = line.chars().take(1500).collect();
            let _ = writeln!(out, "  line {}: {shown}", number + 1);
        }
    }
    let (e, f) = (expected.unwrap_or(&none), found.unwrap_or(&none));
    fields("", e, f, &mut out);
    let _ = writeln!(out, "  expected: {e}\n  found:    {f}");
    Some(out)
}

fn first_difference(naive: &Said, meterd: &Said, lines: &[String], notices_only: bool) -> Option<String> {
    let longest = naive.quarantined.len().max(meterd.quarantined.len());
    for i in 0..longest {
        let found = differ("quarantined", naive.quarantined.get(i), meterd.quarantined.get(i), lines);
        if found.is_some() {
            return found;
        }
    }
    let mut names: Vec<&String> = naive.notices.keys().chain(meterd.notices.keys()).collect();
    names.sort();
    names.dedup();
    let none = Vec::new();
    for name in names {
        let (e, f) = (naive.notices.get(name).unwrap_or(&none), meterd.notices.get(name).unwrap_or(&none));
        for i in 0..e.len().max(f.len()) {
            let found = differ(&format!("notice {} of {name}", i + 1), e.get(i), f.get(i), lines);
            if found.is_some() {
                return found;
            }
        }
    }
    if notices_only {
        return None;
    }
    let mut names: Vec<&String> = naive.accounts.keys().chain(meterd.accounts.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let found = differ(&format!("account {name}"), naive.accounts.get(name), meterd.accounts.get(name), lines);
        if found.is_some() {
            return found;
        }
    }
    differ("summary", Some(&naive.summary), Some(&meterd.summary), lines)
}

impl Compare {
    /// The first difference over these lines, if any.
    fn run(&self, name: &str, toml: &str, lines: &[String]) -> Option<String> {
        let input = lines.join("\n") + "\n";
        let directory = self.directory.join(name);
        let written = std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(directory.join("catalog.toml"), toml))
            .and_then(|()| std::fs::write(directory.join("input.jsonl"), &input));
        written.expect("a directory that can be written");
        let naive = std::panic::catch_unwind(|| simulate::simulate(Catalog::parse(toml), &input));
        let naive = match naive {
            Ok(Ok(lines)) => said(lines.into_iter()),
            Ok(Err(message)) => return Some(format!("naive stopped: {message}\n")),
            Err(_) => return Some("naive panicked\n".into()),
        };
        match self.meterd(&directory) {
            Ok(lines) => {
                first_difference(&naive, &said(lines.into_iter()), lines_of(&input).as_slice(), self.notices_only)
            }
            Err(message) => Some(format!("meterd stopped: {message}\n")),
        }
    }

    fn meterd(&self, directory: &Path) -> Result<Vec<Value>, String> {
        let output = Command::new(&self.meterd)
            .arg("simulate")
            .arg("--catalog")
            .arg(directory.join("catalog.toml"))
            .arg(directory.join("input.jsonl"))
            .output()
            .map_err(|e| format!("{}: {e}", self.meterd.display()))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {}", output.status, errors.chars().take(2000).collect::<String>()));
        }
        let read = |line: &str| serde_json::from_str(line).map_err(|e| format!("{e}: {line}"));
        String::from_utf8_lossy(&output.stdout).lines().map(read).collect()
    }

    /// `None`: the two agree over this seed's stream.
    pub fn seed(&self, seed: u64) -> Option<String> {
        let world = generate::world(seed, self.steps);
        let lines = stream::lines(&world, self.profile, seed, self.steps);
        let name = format!("seed-{seed}");
        let first = self.run(&name, &world.toml, &lines);
        let Some(first) = first else {
            let _ = std::fs::remove_dir_all(self.directory.join(&name));
            return None;
        };
        let mut out = format!("seed {seed}: {first}");
        if self.shrink && !first.starts_with("meterd stopped: exit status: 78") {
            let small = self.small(&name, &world.toml, lines);
            let again = self.run(&name, &world.toml, &small).unwrap_or_default();
            let directory = self.directory.join(&name);
            let _ = writeln!(out, "shrunk to {} lines in {}: {again}", small.len(), directory.display());
            for line in small.iter().filter(|_| small.len() <= 25) {
                let _ = writeln!(out, "    {}", line.chars().take(800).collect::<String>());
            }
        }
        Some(out)
    }

    /// A shorter input that still differs: the shortest prefix found by halving, then chunks left out.
    fn small(&self, name: &str, toml: &str, lines: Vec<String>) -> Vec<String> {
        // What is left must differ in the same way: the first word says in what.
        let kind = |text: Option<String>| text.and_then(|t| t.split_whitespace().next().map(str::to_owned));
        let whole = kind(self.run(name, toml, &lines));
        let fails = |some: &[String]| kind(self.run(name, toml, some)) == whole;
        let (mut good, mut bad) = (0, lines.len());
        while bad - good > 1 {
            let middle = (good + bad) / 2;
            if fails(&lines[..middle]) { bad = middle } else { good = middle }
        }
        let mut kept = lines[..bad].to_vec();
        let mut chunk = kept.len().div_ceil(2);
        let mut budget = 400;
        while chunk > 0 && budget > 0 {
            let mut at = 0;
            while at < kept.len() && budget > 0 {
                let mut fewer = kept.clone();
                fewer.drain(at..(at + chunk).min(kept.len()));
                budget -= 1;
                if !fewer.is_empty() && fails(&fewer) { kept = fewer } else { at += chunk }
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
        kept
    }
}

fn lines_of(input: &str) -> Vec<String> {
    input.lines().map(str::to_owned).collect()
}
