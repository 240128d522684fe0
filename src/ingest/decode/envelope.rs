//! The CloudEvents around a record's data, structured (one JSON object) or binary (headers).

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::super::json::{Fault, Invalid, Kind, Reader};
use super::record::Raw;
use super::{has_control, quote};
use crate::engine::effects::{Reason, Refusal};

/// Bytes of account, user, id, field names and dimension values.
pub(super) const TEXT_BYTES_MAX: usize = 256;
const SOURCE_BYTES_MAX: usize = 1_024;

/// What a record says of itself. The account is checked; of the others only that they are there.
pub(super) struct Envelope<'a> {
    pub id: &'a str,
    pub source: &'a str,
    pub kind: &'a str,
    pub account: &'a str,
    pub time: Option<&'a str>,
    content_type: Attribute<'a>,
    base64: bool,
    /// None of the texts has a control character, and more need not be looked for.
    plain: bool,
}

#[derive(Clone, Copy, Default)]
pub(super) enum Attribute<'a> {
    /// Or null.
    #[default]
    Absent,
    Text(&'a str),
    /// A header's value that is not UTF-8.
    Bytes,
    /// What else JSON gave.
    Other(&'static str),
}

/// The attributes that something is made of.
#[derive(Clone, Copy)]
pub(super) enum Named {
    Specversion,
    Id,
    Source,
    Kind,
    Subject,
    Time,
    ContentType,
}

#[derive(Default)]
pub(super) struct Attributes<'a> {
    specversion: Attribute<'a>,
    id: Attribute<'a>,
    source: Attribute<'a>,
    kind: Attribute<'a>,
    subject: Attribute<'a>,
    time: Attribute<'a>,
    content_type: Attribute<'a>,
    base64: bool,
}

impl<'a> Envelope<'a> {
    /// Reads a record, whose data is read by `data`: it is given the reader before the value of `data`, and must walk it.
    pub fn read(
        raw: &Raw<'a>,
        record_bytes_max: usize,
        arena: &'a Bump,
        data: impl FnMut(&mut Reader<'a>) -> Result<(), Invalid>,
    ) -> Result<Envelope<'a>, Refusal> {
        let value = sized(raw, record_bytes_max)?;
        let attributes = if is_binary(raw) {
            if !value.is_empty() {
                let mut reader = Reader::new(text_of(value)?, arena);
                whole(&mut reader, data).map_err(|Invalid| bad_json(value, reader.fault()))?;
            }
            of_headers(raw)
        } else {
            let mut reader = Reader::new(text_of(value)?, arena);
            let mut attributes = Attributes::default();
            let mut data = data;
            let mut found = Kind::Object;
            whole(&mut reader, |reader| {
                found = reader.kind()?;
                if found == Kind::Object { attributes.read(reader, arena, &mut data) } else { reader.skip() }
            })
            .map_err(|Invalid| bad_json(value, reader.fault()))?;
            if found != Kind::Object {
                let message = format!("expected a CloudEvent, an object with specversion, found {}", found.name());
                return Err(Refusal { reason: Reason::NotCloudevent, message });
            }
            attributes
        };
        attributes.envelope(raw.key, false)
    }

    /// What is `bad_field` in usage and `bad_command` in commands.
    #[inline]
    pub fn check_bounds(&self) -> Result<(), String> {
        let plain = self.plain;
        check_text("id", self.id, TEXT_BYTES_MAX, plain)?;
        check_text("source", self.source, SOURCE_BYTES_MAX, plain)?;
        check_text("type", self.kind, usize::MAX, plain)?;
        if self.base64 {
            return Err("data_base64: expected data as JSON, found bytes".to_owned());
        }
        match self.content_type {
            Attribute::Absent => Ok(()),
            Attribute::Text(text) if is_json_type(text) => Ok(()),
            Attribute::Text(text) => Err(format!("datacontenttype: expected application/json, found {}", quote(text))),
            other => Err(format!("datacontenttype: expected application/json, found {}", other.name())),
        }
    }
}

impl<'a> Attributes<'a> {
    fn read(
        &mut self,
        reader: &mut Reader<'a>,
        arena: &'a Bump,
        mut data: impl FnMut(&mut Reader<'a>) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        let mut seen = 0u16;
        let mut ignored = BumpVec::new_in(arena);
        reader.enter_object()?;
        let mut first = true;
        while let Some(name) = reader.name(&mut first)? {
            match (name, Named::of(name)) {
                (_, Some(named)) => {
                    not_seen(reader, &mut seen, 1 << named as u16)?;
                    *self.slot(named) = attribute(reader)?;
                }
                ("data", None) => {
                    not_seen(reader, &mut seen, 1 << 8)?;
                    data(reader)?;
                }
                ("data_base64", None) => {
                    not_seen(reader, &mut seen, 1 << 9)?;
                    self.base64 = reader.kind()? != Kind::Null;
                    reader.skip()?;
                }
                (other, None) => {
                    ignored.push(other);
                    reader.skip()?;
                }
            }
        }
        reader.no_repeated(&mut ignored)
    }

    #[inline]
    pub fn slot(&mut self, named: Named) -> &mut Attribute<'a> {
        match named {
            Named::Specversion => &mut self.specversion,
            Named::Id => &mut self.id,
            Named::Source => &mut self.source,
            Named::Kind => &mut self.kind,
            Named::Subject => &mut self.subject,
            Named::Time => &mut self.time,
            Named::ContentType => &mut self.content_type,
        }
    }

    /// `plain`: none of the texts has a control character.
    #[inline]
    pub fn envelope(self, key: Option<&'a [u8]>, plain: bool) -> Result<Envelope<'a>, Refusal> {
        match self.specversion {
            Attribute::Text("1.0") => {}
            Attribute::Text(other) => {
                return Err(not_cloudevent(format!("specversion: expected \"1.0\", found {}", quote(other))));
            }
            other => {
                return Err(not_cloudevent(format!("specversion: expected \"1.0\", found {}", other.name())));
            }
        }
        if let Attribute::Bytes = self.content_type {
            return Err(not_cloudevent("content-type: expected a text, found bytes that are not UTF-8".to_owned()));
        }
        let id = self.id.required("id")?;
        let source = self.source.required("source")?;
        let kind = self.kind.required("type")?;
        let subject = self.subject.optional("subject")?;
        let time = self.time.optional("time")?;
        let account = account(subject, key, plain).map_err(|message| Refusal { reason: Reason::BadKey, message })?;
        let (content_type, base64) = (self.content_type, self.base64);
        Ok(Envelope { id, source, kind, account, time, content_type, base64, plain })
    }
}

impl Named {
    pub fn of(name: &str) -> Option<Named> {
        Some(match name {
            "specversion" => Named::Specversion,
            "id" => Named::Id,
            "source" => Named::Source,
            "type" => Named::Kind,
            "subject" => Named::Subject,
            "time" => Named::Time,
            "datacontenttype" => Named::ContentType,
            _ => return None,
        })
    }
}

/// The value of an attribute.
pub(super) fn attribute<'a>(reader: &mut Reader<'a>) -> Result<Attribute<'a>, Invalid> {
    Ok(match reader.kind()? {
        Kind::Text => Attribute::Text(reader.string()?),
        Kind::Null => {
            reader.null()?;
            Attribute::Absent
        }
        other => {
            reader.skip()?;
            Attribute::Other(other.name())
        }
    })
}

impl<'a> Attribute<'a> {
    #[inline]
    fn required(self, name: &str) -> Result<&'a str, Refusal> {
        match self {
            Attribute::Text(text) if !text.is_empty() => Ok(text),
            other => Err(other.refused(name, "a text")),
        }
    }

    #[inline]
    fn optional(self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self {
            Attribute::Text(text) => Ok(Some(text)),
            Attribute::Absent => Ok(None),
            other => Err(other.refused(name, "a text or nothing")),
        }
    }

    #[cold]
    fn refused(self, name: &str, expected: &str) -> Refusal {
        let found = match self {
            Attribute::Text("") => "an empty one",
            other => other.name(),
        };
        not_cloudevent(format!("{name}: expected {expected}, found {found}"))
    }

    fn name(self) -> &'static str {
        match self {
            Attribute::Absent => "nothing",
            Attribute::Text(_) => "a text",
            Attribute::Bytes => "bytes that are not UTF-8",
            Attribute::Other(found) => found,
        }
    }
}

#[cold]
fn not_cloudevent(message: String) -> Refusal {
    Refusal { reason: Reason::NotCloudevent, message }
}

/// The binary form: headers `ce_…` and `content-type`, of which the last of a name counts.
fn of_headers<'a>(raw: &Raw<'a>) -> Attributes<'a> {
    let mut attributes = Attributes::default();
    for header in raw.headers {
        let slot = match header.key {
            b"ce_specversion" => &mut attributes.specversion,
            b"ce_id" => &mut attributes.id,
            b"ce_source" => &mut attributes.source,
            b"ce_type" => &mut attributes.kind,
            b"ce_subject" => &mut attributes.subject,
            b"ce_time" => &mut attributes.time,
            b"content-type" => &mut attributes.content_type,
            _ => continue,
        };
        *slot = match header.value.map(std::str::from_utf8) {
            None => Attribute::Absent,
            Some(Ok(text)) => Attribute::Text(text),
            Some(Err(_)) => Attribute::Bytes,
        };
    }
    attributes
}

/// Who the record is of: its subject, else the Kafka key; both must agree.
fn account<'a>(subject: Option<&'a str>, key: Option<&'a [u8]>, plain: bool) -> Result<&'a str, String> {
    let account = match (subject, key) {
        (Some(subject), Some(key)) if subject.as_bytes() != key => {
            let key = String::from_utf8_lossy(key);
            return Err(format!("expected the Kafka key to be the subject {}, found {}", quote(subject), quote(&key)));
        }
        (Some(subject), _) => subject,
        (None, Some(key)) => std::str::from_utf8(key)
            .map_err(|_| "expected the Kafka key, an account, in UTF-8, found other bytes".to_owned())?,
        (None, None) => return Err("expected an account as subject or Kafka key, found neither".to_owned()),
    };
    check_text("account", account, TEXT_BYTES_MAX, plain && subject.is_some())?;
    Ok(account)
}

/// 1 to `bytes_max` bytes without control characters, which `plain` says are not there.
#[inline]
pub(super) fn check_text(name: &str, text: &str, bytes_max: usize, plain: bool) -> Result<(), String> {
    check_length(name, text, bytes_max)?;
    if plain || !has_control(text) { Ok(()) } else { Err(has_control_message(name, text)) }
}

/// 1 to `bytes_max` bytes.
#[inline]
pub(super) fn check_length(name: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > bytes_max { Err(length_message(name, text, bytes_max)) } else { Ok(()) }
}

#[cold]
fn length_message(name: &str, text: &str, bytes_max: usize) -> String {
    format!("{name}: expected 1 to {bytes_max} bytes, found {}", text.len())
}

#[cold]
fn has_control_message(name: &str, text: &str) -> String {
    format!("{name}: expected no control characters, found {}", quote(text))
}

fn not_seen(reader: &mut Reader<'_>, seen: &mut u16, bit: u16) -> Result<(), Invalid> {
    if *seen & bit != 0 {
        return reader.refuse("no repeated name in an object");
    }
    *seen |= bit;
    Ok(())
}

/// One value and nothing after it.
fn whole<'a>(
    reader: &mut Reader<'a>,
    mut value: impl FnMut(&mut Reader<'a>) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    value(reader)?;
    reader.end()
}

/// The text of a record that is one JSON value; `None`: it is in the binary form.
pub(super) fn structured_text<'a>(raw: &Raw<'a>, record_bytes_max: usize) -> Result<Option<&'a str>, Refusal> {
    let value = sized(raw, record_bytes_max)?;
    if is_binary(raw) { Ok(None) } else { text_of(value).map(Some) }
}

fn sized<'a>(raw: &Raw<'a>, record_bytes_max: usize) -> Result<&'a [u8], Refusal> {
    let value = raw.value.unwrap_or_default();
    if value.len() > record_bytes_max {
        let message = format!("expected a value of at most {record_bytes_max} bytes, found {}", value.len());
        return Err(Refusal { reason: Reason::TooLarge, message });
    }
    Ok(value)
}

fn is_binary(raw: &Raw<'_>) -> bool {
    let content_type = || raw.header("content-type").flatten();
    raw.header("ce_specversion").is_some()
        && !content_type().is_some_and(|found| begins_like(found, "application/cloudevents"))
}

#[inline]
fn text_of(value: &[u8]) -> Result<&str, Refusal> {
    simdutf8::basic::from_utf8(value).map_err(|_| {
        let at = std::str::from_utf8(value).err().map_or(0, |error| error.valid_up_to());
        bad_json(value, Fault { at, expected: "UTF-8" })
    })
}

fn bad_json(value: &[u8], fault: Fault) -> Refusal {
    let message = match value {
        [] => "expected a JSON value, found nothing".to_owned(),
        [0, a, b, c, d, ..] => format!(
            "expected JSON, found the prefix of a schema registry (0x00 and schema id {}): produce plain JSON",
            u32::from_be_bytes([*a, *b, *c, *d])
        ),
        [0xEF, 0xBB, 0xBF, ..] => "expected JSON without a byte order mark, found one".to_owned(),
        _ if fault.expected.starts_with("no ") => format!("byte {}: expected {}, found one", fault.at, fault.expected),
        _ => match value.get(fault.at) {
            Some(byte @ 0x20..=0x7E) => {
                format!("byte {}: expected {}, found {:?}", fault.at, fault.expected, char::from(*byte))
            }
            Some(byte) => format!("byte {}: expected {}, found 0x{byte:02X}", fault.at, fault.expected),
            None => format!("byte {}: expected {}, found the end", fault.at, fault.expected),
        },
    };
    Refusal { reason: Reason::BadJson, message }
}

/// `application/json`, any type with the suffix `+json` or the subtype `json`; parameters do not matter.
fn is_json_type(text: &str) -> bool {
    let media = text.split(';').next().unwrap_or_default().trim();
    let Some((_, subtype)) = media.split_once('/') else { return false };
    let tail = subtype.rsplit('+').next().unwrap_or_default();
    tail.eq_ignore_ascii_case("json")
}

fn begins_like(found: &[u8], expected: &str) -> bool {
    found.get(..expected.len()).is_some_and(|head| head.eq_ignore_ascii_case(expected.as_bytes()))
}
