//! `account show`, `account list`: asks a daemon over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::super::{Failure, Globals, Output, Verdict, print};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub struct Daemon {
    /// Where the daemon listens
    #[arg(long, env = "METERD_URL", default_value = "http://127.0.0.1:9464")]
    url: String,
    /// A file with the token, where the daemon asks for one
    #[arg(long, env = "METERD_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  meterd account show acme --url http://127.0.0.1:9464")]
pub struct Show {
    /// The account
    account: String,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  meterd account list --prefix ac --limit 20")]
pub struct List {
    /// Only ids that begin so
    #[arg(long, default_value = "")]
    prefix: String,
    /// Only ids after this one
    #[arg(long, default_value = "")]
    after: String,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn show(arguments: &Show, globals: &Globals) -> Result<Verdict, Failure> {
    let path = format!("/v1/accounts/{}", escape(&arguments.account));
    let view = arguments.daemon.get(&path)?;
    print(&match globals.output {
        Output::Json => format!("{view:#}\n"),
        Output::Text => account_text(&view),
    })?;
    Ok(Verdict::Clean)
}

pub fn list(arguments: &List, globals: &Globals) -> Result<Verdict, Failure> {
    let List { prefix, after, limit, daemon } = arguments;
    let path = format!("/v1/accounts?prefix={}&after={}&limit={limit}", escape(prefix), escape(after));
    let found = daemon.get(&path)?;
    print(&match globals.output {
        Output::Json => format!("{found:#}\n"),
        Output::Text => list_text(&found),
    })?;
    Ok(Verdict::Clean)
}

impl Daemon {
    fn get(&self, path: &str) -> Result<Value, Failure> {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_WITHIN))
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .build()
            .new_agent();
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let mut request = agent.get(&url);
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file)
                .map_err(|error| Failure::io(format!("cannot read the token in {}: {error}", file.display())))?;
            request = request.header("authorization", format!("Bearer {}", token.trim()));
        }
        let unreachable = |error: ureq::Error| {
            Failure::unavailable(format!("{}: {error}; expected a running meterd there (see --url)", self.url))
        };
        let mut response = request.call().map_err(unreachable)?;
        let status = response.status();
        let body = response.body_mut().read_to_string().map_err(unreachable)?;
        let answer: Value = serde_json::from_str(&body).map_err(|_| {
            Failure::unavailable(format!("{url} answered {status} without JSON; expected a meterd there (see --url)"))
        })?;
        if status.is_success() {
            return Ok(answer);
        }
        let detail = answer["detail"].as_str().unwrap_or("it did not say why");
        match status.as_u16() {
            400..=404 | 421 => Err(Failure::usage(format!("the daemon answered {status}: {detail}"))),
            _ => Err(Failure::unavailable(format!("the daemon answered {status}: {detail}"))),
        }
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn account_text(view: &Value) -> String {
    let mut text = format!("{}: plan {}, {}\n", word(&view["account"]), word(&view["plan"]), word(&view["status"]));
    let period = &view["period"];
    text += &format!(
        "billed by the {}, {} seats, class {}, extra usage {}\nperiod {} to {}\n",
        word(&view["billing"]),
        word(&view["seats"]),
        word(&view["class"]),
        if view["extra_usage"] == true { "on" } else { "off" },
        word(&period["start"]),
        word(&period["end"]),
    );
    if let Value::Object(pending) = &view["pending"] {
        let of = |name: &str| pending.get(name).map_or_else(String::new, word);
        text += &format!("moves to {} with {} seats at {}\n", of("plan"), of("seats"), of("effective_at"));
    }
    for (unit, balance) in view["balances"].as_object().into_iter().flatten() {
        text += &format!("\n{} {unit} available, {} owed\n", word(&balance["available"]), word(&balance["debt"]));
        let fields = ["grant", "name", "remaining", "amount", "priority", "group", "effective_at", "expires_at"];
        text += &table(&fields, &fields, items(&balance["grants"]));
    }
    if items(&view["limits"]).next().is_some() {
        text.push('\n');
        let titles = ["limit", "user", "used", "cap", "remaining", "exceeded", "resets_at"];
        let fields = ["limit", "user", "used", "cap", "remaining", "exceeded", "window.resets_at"];
        text += &table(&titles, &fields, items(&view["limits"]));
    }
    if items(&view["sessions"]).next().is_some() {
        text.push('\n');
        let fields = ["session", "user", "started_at", "closes_at"];
        text += &table(&fields, &fields, items(&view["sessions"]));
    }
    for (month, totals) in view["totals"].as_object().into_iter().flatten() {
        text += &format!("\n{month}: {} records, {} failed\n", word(&totals["records"]), word(&totals["failed"]));
        for (route, units) in totals["charged"].as_object().into_iter().flatten() {
            for (unit, amount) in units.as_object().into_iter().flatten() {
                text += &format!("  {route}: {} {unit}\n", word(amount));
            }
        }
    }
    text
}

fn list_text(found: &Value) -> String {
    let fields = ["account", "plan", "status", "sequence"];
    let mut text = table(&["account", "plan", "status", "notices"], &fields, items(&found["accounts"]));
    if let Some(next) = found["next"].as_str() {
        text += &format!("more: --after {next}\n");
    }
    text
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Columns as wide as their widest cell. A field may be a path with a dot.
fn table<'v>(titles: &[&str], fields: &[&str], rows: impl Iterator<Item = &'v Value>) -> String {
    let mut lines: Vec<Vec<String>> = vec![titles.iter().map(|title| title.to_uppercase()).collect()];
    for row in rows {
        let cell = |field: &&str| word(field.split('.').fold(row, |value, name| &value[name]));
        lines.push(fields.iter().map(cell).collect());
    }
    let widest = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..titles.len()).map(widest).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A value as a person writes it. Names come from records: nothing in them may move the cursor.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => crate::telemetry::logs::escaped(text).to_string(),
        Value::Bool(yes) => (if *yes { "yes" } else { "no" }).to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_account_is_told_as_tables() {
        let view = json!({
            "account": "acme", "plan": "pro", "billing": "month", "seats": 3, "class": "standard", "status": "active",
            "extra_usage": false, "overflow": [],
            "period": {"start": "2026-11-01T00:00:00.000Z", "end": "2026-12-01T00:00:00.000Z"},
            "pending": {"plan": "free", "seats": 1, "billing": "month", "effective_at": "2026-12-01T00:00:00.000Z"},
            "balances": {"credit": {"available": "29880", "debt": "0", "grants": [
                {"grant": "g1", "reference": null, "name": "plan", "amount": "30000", "remaining": "29880",
                 "priority": 10, "group": null, "effective_at": "2026-11-01T00:00:00.000Z", "expires_at": null}]}},
            "limits": [{"limit": "5h", "user": "ana\u{1b}", "used": "0.4", "cap": "50", "remaining": "49.6",
                "exceeded": false, "window": {"kind": "first_use", "start": null, "resets_at": null}}],
            "sessions": [],
            "totals": {"2026-11": {"records": 12, "failed": 0,
                "charged": {"plan": {"credit": "120"}, "payg": {}, "overflow": {}}, "quantities": {}}},
            "sequence": 3
        });
        let expect = "\
acme: plan pro, active
billed by the month, 3 seats, class standard, extra usage off
period 2026-11-01T00:00:00.000Z to 2026-12-01T00:00:00.000Z
moves to free with 1 seats at 2026-12-01T00:00:00.000Z

29880 credit available, 0 owed
GRANT  NAME  REMAINING  AMOUNT  PRIORITY  GROUP  EFFECTIVE_AT              EXPIRES_AT
g1     plan  29880      30000   10        -      2026-11-01T00:00:00.000Z  -

LIMIT  USER       USED  CAP  REMAINING  EXCEEDED  RESETS_AT
5h     ana\\u{1b}  0.4   50   49.6       no        -

2026-11: 12 records, 0 failed
  plan: 120 credit
";
        assert_eq!(account_text(&view), expect);
    }

    #[test]
    fn ids_are_escaped_in_addresses() {
        assert_eq!(escape("a/b c?ü-1"), "a%2Fb%20c%3F%C3%BC-1");
    }
}
