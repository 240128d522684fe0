//! The least of an HTTP client: GET, one connection for each request.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("expected JSON, found {error} in {self:?}"))
    }
}

/// Nothing if nobody listens there or the connection breaks.
pub fn get(server: SocketAddr, path: &str) -> Option<Answer> {
    let limit = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&server, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    // An answer to HTTP/1.0 ends where the connection does and is never chunked.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\nAccept: */*\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).expect("answers are text");
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Answer { status, headers, body: body.to_owned() })
}

/// The sum of a counter's or gauge's samples whose labels contain every one of `labels` (as in `topic="usage"`).
pub fn metric(server: SocketAddr, name: &str, labels: &[&str]) -> u64 {
    let answer = get(server, "/metrics").expect("the daemon answers /metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    sum_of(&answer.body, name, labels)
}

fn sum_of(exposition: &str, name: &str, labels: &[&str]) -> u64 {
    exposition
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter(|rest| labels.iter().all(|label| rest.contains(label)))
        .map(|rest| {
            rest.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a sample ends in a count")
        })
        .sum()
}

#[test]
fn samples_of_a_metric_are_added_up() {
    let text =
        "# HELP a_total x\na_total{topic=\"usage\",x=\"1\"} 3\na_total{topic=\"accounts\"} 4\na_total_more 9\nb 2\n";
    assert_eq!(sum_of(text, "a_total", &[]), 7);
    assert_eq!(sum_of(text, "a_total", &["topic=\"usage\""]), 3);
    assert_eq!(sum_of(text, "b", &[]), 2);
    assert_eq!(sum_of(text, "c", &[]), 0);
}
