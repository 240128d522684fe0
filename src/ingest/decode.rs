//! Raw records become usage records and commands, or refusals with the first reason that applies (docs/reference.md 3,
//! 4, 6.2 and 16 "Forms"): `too_large`, `bad_json`, `not_cloudevent`, `bad_key`, then `bad_field` and `bad_quantity` of
//! usage or `bad_command` of commands.
//!
//! Pure. A record is walked once, mostly by the form of the one before. What cannot be lent from the record itself (strings
//! with escapes, lists) stands in the caller's arena, so that a usual record allocates nothing.

mod command;
mod decimal;
mod envelope;
mod fields;
mod form;
mod instant;
mod record;

use bumpalo::Bump;

use crate::engine::effects::{Reason, Refusal};
use crate::engine::input::{Command, Usage};
use crate::engine::{Catalog, calendar};
use envelope::{Attributes, Envelope, structured_text};
use fields::Fields;
use form::{Forms, is_plain};
pub use instant::Instants;
pub use record::{Header, Raw};

/// Reads records one after the other. It learns how producers write: what it gives does not depend on that.
#[derive(Default)]
pub struct Decoder {
    forms: Forms,
    instants: Instants,
}

impl Decoder {
    /// A usage record, its fields resolved by the catalog, or why it is none. It stands in `arena`, so that records of a
    /// group are not moved about; so does what cannot be lent from the raw one.
    pub fn usage<'a>(
        &mut self,
        catalog: &Catalog,
        raw: &Raw<'a>,
        record_bytes_max: usize,
        arena: &'a Bump,
    ) -> Result<&'a Usage<'a>, Refusal> {
        let structured = structured_text(raw, record_bytes_max)?;
        let plain = structured.is_some_and(|text| is_plain(text.as_bytes()));
        let mut fields = Fields::new(arena, plain);
        let mut attributes = Attributes::default();
        let by_form =
            structured.is_some_and(|text| self.forms.read(text, catalog, arena, &mut attributes, &mut fields));
        let envelope = if by_form {
            attributes.envelope(raw.key, plain)?
        } else {
            let envelope = Envelope::read(raw, record_bytes_max, arena, |reader| fields.read(catalog, reader))?;
            structured.into_iter().for_each(|text| self.forms.learn(text, catalog, arena));
            envelope
        };
        let bad_field = |message| Refusal { reason: Reason::BadField, message };
        envelope.check_bounds().map_err(bad_field)?;
        if envelope.kind.starts_with("meterd.") {
            let message = format!(
                "type: expected one of usage, found {}; commands have a topic of their own",
                quote(envelope.kind)
            );
            return Err(bad_field(message));
        }
        let time = match envelope.time {
            Some(text) => self.instants.read(text).ok_or_else(|| bad_field(expected_time("time", text)))?,
            None => raw.timestamp,
        };
        let fields = fields.finish()?;
        Ok(arena.alloc_with(|| Usage {
            account: envelope.account,
            id: envelope.id,
            source: envelope.source,
            kind: envelope.kind,
            time,
            user: fields.user,
            failed: fields.failed,
            billing: fields.billing,
            session: fields.session,
            quantities: fields.quantities,
            requests_given: fields.requests_given,
            dimensions: fields.dimensions,
        }))
    }

    /// A command, or why it is none.
    pub fn command(&mut self, raw: &Raw<'_>, record_bytes_max: usize, arena: &Bump) -> Result<Command, Refusal> {
        let mut data = None;
        let envelope = Envelope::read(raw, record_bytes_max, arena, |reader| {
            reader.kind()?;
            let start = reader.at();
            reader.skip()?;
            data = Some(reader.since(start));
            Ok(())
        })?;
        let bad_command = |message| Refusal { reason: Reason::BadCommand, message };
        envelope.check_bounds().map_err(bad_command)?;
        if let Some(text) = envelope.time
            && calendar::parse_time(text).is_none()
        {
            return Err(bad_command(expected_time("time", text)));
        }
        let change = command::read(envelope.kind, data.unwrap_or("null"), arena).map_err(bad_command)?;
        Ok(Command {
            account: envelope.account.to_owned(),
            id: envelope.id.to_owned(),
            source: envelope.source.to_owned(),
            kind: envelope.kind.to_owned(),
            change,
        })
    }
}

/// Of messages: a text in quotes, control characters escaped, at most 80 characters of it.
fn quote(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?} and {} bytes more", &text[..end], text.len() - end),
        None => format!("{text:?}"),
    }
}

fn expected_time(name: &str, found: &str) -> String {
    format!("{name}: expected an RFC 3339 time with a zone, as 2026-11-20T07:00:00Z, found {}", quote(found))
}

/// Whether a text has U+0000–1F or U+007F–9F.
fn has_control(text: &str) -> bool {
    let bytes = text.as_bytes();
    let suspect = match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().chain([last]).any(|word| is_suspect(u64::from_le_bytes(*word))),
        None => bytes.iter().any(|byte| matches!(byte, 0..=0x1F | 0x7F | 0xC2)),
    };
    suspect && text.chars().any(char::is_control)
}

/// Whether one of eight bytes may belong to a control character. 0xC2 begins U+0080–BF.
fn is_suspect(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    let (delete, latin) = (word ^ (ONES * 0x7F), word ^ (ONES * 0xC2));
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
    (below(word, 0x20) | below(delete, 1) | below(latin, 1)) & (ONES << 7) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn control_characters_are_found(text in "[a\u{0}\u{1f}\u{20}\u{7e}\u{7f}\u{80}\u{9f}\u{a0}\u{bf}é😀]{0,3}.{0,20}[b\u{80}]{0,2}") {
            prop_assert_eq!(has_control(&text), text.chars().any(char::is_control));
        }
    }
}
