//! Notices as CloudEvents in JSON (docs/reference.md 9). Members stand in the order of the reference; what does not apply
//! is null, never left out.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Time, body};
use crate::engine::{Cause, Notice};

/// The content type of the records in `meter.events`.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// What a notice says beside what the fold told.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub account: &'a str,
    /// `meterd/<group>`.
    pub source: &'a str,
    /// The input being folded; `None` where timers fire by themselves.
    pub cause: Option<CauseInput<'a>>,
}

/// An input, as the notices name it that it caused.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CauseInput<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub id: &'a str,
    pub source: &'a str,
}

/// Appends a notice as one JSON object.
pub fn write_notice(out: &mut Vec<u8>, envelope: &Envelope<'_>, notice: &Notice) {
    let event = Event {
        specversion: "1.0",
        id: Id { account: envelope.account, sequence: notice.sequence },
        source: envelope.source,
        kind: body::kind(&notice.body),
        subject: envelope.account,
        time: Time(notice.time),
        datacontenttype: "application/json",
        data: Data { envelope, notice },
    };
    serde_json::to_writer(out, &event).expect("a Vec takes everything and all names are strings");
}

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: Id<'a>,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: &'a str,
    time: Time,
    datacontenttype: &'static str,
    data: Data<'a>,
}

/// `<account>/<sequence>`
struct Id<'a> {
    account: &'a str,
    sequence: u64,
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.account, self.sequence))
    }
}

struct Data<'a> {
    envelope: &'a Envelope<'a>,
    notice: &'a Notice,
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut data = serializer.serialize_map(None)?;
        data.serialize_entry("sequence", &self.notice.sequence)?;
        data.serialize_entry("plan", &self.notice.plan)?;
        match self.notice.cause {
            Cause::Input => data.serialize_entry("cause", &self.envelope.cause)?,
            Cause::Timer(timer) => data.serialize_entry("cause", &TimerCause { timer: timer.name() })?,
        }
        body::members(&mut data, &self.notice.body)?;
        data.end()
    }
}

#[derive(Serialize)]
struct TimerCause {
    timer: &'static str,
}
