//! Sections 3 and 16 "Forms": from bytes to an event, or the reason why not.

use crate::catalog::Catalog;
use crate::json::{self, Json};
use crate::num::{Amt, Decimal};
use crate::time::{self, Ms};
use std::collections::BTreeMap;

pub const RECORD_BYTES_MAX: usize = 65_536;

/// One line of the input, as a Kafka record.
pub struct Raw {
    pub timestamp: Ms,
    pub key: Option<String>,
    pub headers: Vec<(String, String)>,
    pub value: Vec<u8>,
}

/// The CloudEvent around the data.
#[derive(Clone)]
pub struct Event {
    pub account: String,
    pub id: String,
    pub source: String,
    pub type_: String,
    pub time: Option<String>,
    pub data: Option<Json>,
    pub data_base64: bool,
    pub content_is_json: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Dim {
    Text(String),
    Bool(bool),
    List(Vec<String>),
}

#[derive(Clone, PartialEq)]
pub enum Phase {
    Start,
    End,
}

/// A usage record whose form is right.
#[derive(Clone)]
pub struct Usage {
    pub account: String,
    pub id: String,
    pub source: String,
    pub type_: String,
    pub time: Ms,
    pub user: Option<String>,
    pub failed: bool,
    pub payg: bool,
    pub session: Option<(String, Phase)>,
    pub quantities: BTreeMap<String, Amt>,
    pub dims: BTreeMap<String, Dim>,
}

type Reason = &'static str;

fn control(text: &str) -> bool {
    text.chars().any(|c| matches!(c, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}'))
}

fn sized(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max
}

pub fn event(raw: &Raw) -> Result<Event, Reason> {
    if raw.value.len() > RECORD_BYTES_MAX {
        return Err("too_large");
    }
    let header = |name: &str| raw.headers.iter().rev().find(|h| h.0 == name).map(|h| h.1.clone());
    let content = header("content-type").unwrap_or_default().to_lowercase();
    let binary = !content.starts_with("application/cloudevents") && header("ce_specversion").is_some();
    let parsed = if binary && raw.value.is_empty() { Json::Null } else { json::parse(&raw.value).ok_or("bad_json")? };
    if content.starts_with("application/cloudevents-batch") {
        return Err("not_cloudevent");
    }
    if !binary && !matches!(parsed, Json::Object(_)) {
        return Err("not_cloudevent");
    }
    let attribute = |name: &str| -> Result<Option<String>, Reason> {
        if binary {
            return Ok(header(&format!("ce_{name}")));
        }
        match parsed.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err("not_cloudevent"),
        }
    };
    let needed = |name: &str| attribute(name)?.filter(|t| !t.is_empty()).ok_or("not_cloudevent");
    if needed("specversion")? != "1.0" {
        return Err("not_cloudevent");
    }
    let (id, source, type_) = (needed("id")?, needed("source")?, needed("type")?);
    let (time, subject) = (attribute("time")?, attribute("subject")?);
    let account = match (subject, raw.key.clone()) {
        (Some(subject), Some(key)) if subject != key => return Err("bad_key"),
        (Some(account), _) | (None, Some(account)) => account,
        (None, None) => return Err("bad_key"),
    };
    if !sized(&account, 256) || control(&account) {
        return Err("bad_key");
    }
    let content = if binary { header("content-type") } else { attribute("datacontenttype").ok().flatten() };
    let data = if binary { Some(parsed.clone()) } else { parsed.get("data").cloned() };
    Ok(Event {
        account,
        id,
        source,
        type_,
        time,
        data: data.filter(|d| *d != Json::Null),
        data_base64: !binary && parsed.get("data_base64").is_some(),
        content_is_json: content.is_none_or(|c| is_json(&c)),
    })
}

fn is_json(content: &str) -> bool {
    let kind = content.split(';').next().unwrap_or_default().trim().to_lowercase();
    kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
}

/// What usage records and commands have in common: the bounds of the attributes, and `data` as fields.
pub fn fields(event: &Event) -> Option<Vec<(String, Json)>> {
    let fine = sized(&event.id, 256)
        && sized(&event.source, 1024)
        && !control(&event.id)
        && !control(&event.source)
        && !control(&event.type_)
        && event.content_is_json
        && !event.data_base64
        && event.time.as_ref().is_none_or(|t| time::parse(t).is_some());
    if !fine {
        return None;
    }
    match &event.data {
        None => Some(Vec::new()),
        Some(Json::Object(fields)) => Some(fields.iter().filter(|f| f.1 != Json::Null).cloned().collect::<Vec<_>>()),
        Some(_) => None,
    }
}

pub fn quantity(value: &Json) -> Option<Amt> {
    let number = match value {
        Json::Number(text) => Decimal::of_number(text),
        Json::Text(text) => Decimal::of_string(text, false)?,
        _ => return None,
    };
    number.amount().filter(|a| *a >= 0)
}

pub fn usage(event: &Event, timestamp: Ms, catalog: &Catalog) -> Result<Usage, Reason> {
    const BAD: Reason = "bad_field";
    let fields = fields(event).ok_or(BAD)?;
    if event.type_.starts_with("meterd.") {
        return Err(BAD);
    }
    let mut out = Usage {
        account: event.account.clone(),
        id: event.id.clone(),
        source: event.source.clone(),
        type_: event.type_.clone(),
        time: event.time.as_ref().and_then(|t| time::parse(t)).unwrap_or(timestamp),
        user: None,
        failed: false,
        payg: false,
        session: None,
        quantities: BTreeMap::new(),
        dims: BTreeMap::new(),
    };
    let (mut session, mut phase, mut bad_quantity) = (None, None, false);
    for (name, value) in &fields {
        if !sized(name, 256) {
            return Err(BAD);
        }
        let text = match value {
            Json::Text(text) => Some(text.as_str()),
            _ => None,
        };
        match name.as_str() {
            "user" => out.user = Some(text.filter(|t| sized(t, 256) && !control(t)).ok_or(BAD)?.to_owned()),
            "status" => out.failed = choice(text, "ok", "failed").ok_or(BAD)?,
            "billing" => out.payg = choice(text, "plan", "payg").ok_or(BAD)?,
            "session" => session = Some(text.filter(|t| sized(t, 256)).ok_or(BAD)?.to_owned()),
            "phase" => phase = Some(choice(text, "start", "end").ok_or(BAD)?),
            // An empty string is no field, whatever its name.
            _ if text == Some("") => return Err(BAD),
            name if catalog.quantities.contains(name) => match quantity(value) {
                Some(amount) => {
                    out.quantities.insert(name.to_owned(), amount);
                }
                None => bad_quantity = true,
            },
            name => {
                if let Some(dim) = dimension(value).ok_or(BAD)? {
                    out.dims.insert(name.to_owned(), dim);
                }
            }
        }
    }
    out.session = match (session, phase) {
        (None, None) => None,
        (Some(session), Some(end)) => Some((session, if end { Phase::End } else { Phase::Start })),
        _ => return Err(BAD),
    };
    if bad_quantity { Err("bad_quantity") } else { Ok(out) }
}

fn choice(text: Option<&str>, no: &str, yes: &str) -> Option<bool> {
    let text = text?;
    (text == no || text == yes).then_some(text == yes)
}

/// `Some(None)` is a value that is ignored.
fn dimension(value: &Json) -> Option<Option<Dim>> {
    match value {
        Json::Number(_) => Some(None),
        Json::Bool(b) => Some(Some(Dim::Bool(*b))),
        Json::Text(text) => sized(text, 256).then(|| Some(Dim::Text(text.clone()))),
        Json::List(items) => {
            let mut texts = Vec::new();
            for item in items {
                match item {
                    Json::Text(text) if sized(text, 256) => texts.push(text.clone()),
                    _ => return None,
                }
            }
            if texts.len() > 64 {
                return None;
            }
            Some((!texts.is_empty()).then_some(Dim::List(texts)))
        }
        _ => None,
    }
}
