//! A notice as a line for people: time, account, type, what happened.

use serde_json::Value;

use crate::telemetry::logs::escaped;

/// How serious a notice is to who reads along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Warning,
    Bad,
    Plain,
}

impl Tone {
    pub fn of(kind: &str) -> Tone {
        match kind {
            "cap.exceeded" | "balance.exhausted" | "access.denied" | "command.rejected" => Tone::Bad,
            "cap.warning" | "balance.low" | "overflow.started" | "autopay.requested" | "grace.started" => Tone::Warning,
            "cap.restored" | "balance.restored" | "overflow.ended" | "grant.issued" | "grace.ended" => Tone::Good,
            _ => Tone::Plain,
        }
    }

    /// The ANSI colour that begins the tone; `\x1b[0m` ends it.
    pub fn colour(self) -> &'static str {
        match self {
            Tone::Good => "\x1b[32m",
            Tone::Warning => "\x1b[33m",
            Tone::Bad => "\x1b[31m",
            Tone::Plain => "\x1b[36m",
        }
    }
}

/// The line of a notice (a CloudEvent), without an end of line.
pub fn line(notice: &Value, coloured: bool) -> String {
    let text = |name: &str| notice[name].as_str().unwrap_or("");
    let kind = text("type").strip_prefix("meterd.").unwrap_or(text("type"));
    let time = text("time").get(11..19).unwrap_or("");
    let (colour, end) = if coloured { (Tone::of(kind).colour(), "\x1b[0m") } else { ("", "") };
    let words = words(kind, &notice["data"]);
    format!("{time}  {:<12} {colour}{kind:<20}{end} {}", escaped(text("subject")).to_string(), escaped(&words))
}

/// What happened, in words.
fn words(kind: &str, data: &Value) -> String {
    let of = |name: &str| plain(&data[name]);
    let user = data["user"].as_str().map_or_else(String::new, |user| format!("{user} "));
    let used = || format!("{} of {} {}", of("used"), of("cap"), of("measure"));
    match kind {
        "cap.warning" => format!("{user}passed {} of limit {}: {}", of("threshold"), of("limit"), used()),
        "cap.exceeded" => format!("{user}used up limit {}: {} ({})", of("limit"), used(), of("action")),
        "cap.restored" => format!("{user}is under limit {} again: {}", of("limit"), used()),
        "balance.low" => format!("{} {} left, at or under {}", of("available"), of("unit"), of("threshold")),
        "balance.exhausted" => format!("{} {} left, {} owed", of("available"), of("unit"), of("debt")),
        "balance.restored" => format!("{} {} available again", of("available"), of("unit")),
        "overflow.started" => format!("usage past {} is charged in {} from now on", of("limit"), of("unit")),
        "overflow.ended" => format!("usage is within {} again", of("limit")),
        "access.denied" => {
            let what = data["model"].as_str().map_or_else(|| of("type"), str::to_owned);
            format!("{user}used {what}, against the rule {}", of("rule"))
        }
        "grant.issued" => {
            format!("{} {} granted as {}, {} paid debt", of("amount"), of("unit"), of("name"), of("debt_paid"))
        }
        "grant.expired" => {
            format!("{} closed with {} {} unused ({})", of("name"), of("unused"), of("unit"), of("reason"))
        }
        "subscription.changed" => {
            let from = data["from"].as_str().map_or_else(String::new, |from| format!("{from} to "));
            format!("{from}{} ({}), {} seats, by the {}", of("to"), of("reason"), of("seats"), of("billing"))
        }
        "subscription.pending" => match data["to"].as_str() {
            Some(to) => format!("moves to {to} at {}", of("effective_at")),
            None => "the pending change was dropped".to_owned(),
        },
        "period.closed" => {
            let statement = &data["statement"];
            format!("{} records, charged {}", plain(&statement["records"]), amounts(&statement["charged"]["plan"]))
        }
        "autopay.requested" => format!("{} {} left; asks for {}", of("available"), of("unit"), of("amount")),
        "session.closed" => {
            format!("session {} closed after {} s: {} {}", of("session"), of("seconds"), of("charged"), of("unit"))
        }
        "refund.quoted" => match data["eligible"].as_bool() {
            Some(true) => format!("{} {} could be refunded", of("amount"), of("currency")),
            _ => format!("no refund: {}", of("reason")),
        },
        "grace.started" => format!("a payment failed; grace until {}", of("until")),
        "grace.ended" => "grace is over".to_owned(),
        "command.rejected" => format!("{} rejected: {} ({})", of("command"), of("message"), of("reason")),
        _ => data.to_string(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn amounts(units: &Value) -> String {
    let units = units.as_object().into_iter().flatten();
    let told: Vec<String> = units.map(|(unit, amount)| format!("{} {unit}", plain(amount))).collect();
    if told.is_empty() { "nothing".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_tells_who_and_what() {
        let notice = json!({
            "type": "meterd.cap.exceeded", "subject": "acme\u{1b}", "time": "2026-11-20T07:00:00.250Z",
            "data": {"user": "ana", "limit": "user", "used": "10020.5", "cap": "10000", "measure": "credit", "action": "block"},
        });
        let expect =
            "07:00:00  acme\\u{1b}   cap.exceeded         ana used up limit user: 10020.5 of 10000 credit (block)";
        assert_eq!(line(&notice, false), expect);
        assert!(line(&notice, true).contains("\u{1b}[31mcap.exceeded"));
    }

    #[test]
    fn every_type_has_words_of_its_own() {
        for kind in crate::telemetry::tally::NOTICE_TYPES {
            assert_ne!(words(kind, &json!({})), "{}", "{kind}");
        }
    }
}
