//! The form that a producer's records share: the names in their order, and all bytes between the values.
//!
//! Producers write one record like the other, so that the form of the last one is tried first: what stands before each
//! value is compared as a whole, and only the values are read. It is learnt from a record that was read the long way, whose
//! names were found to be distinct; a record that differs in a single byte between its values is read the long way too. Both
//! ways give the same.

use bumpalo::Bump;

use super::super::json::{Invalid, Kind, Reader, plain_end};
use super::envelope::{Attribute, Attributes, Named, attribute};
use super::fields::{Fields, Meaning, value};
use super::{Catalog, fields};

/// Forms kept, the last one used first.
const FORMS_MAX: usize = 8;
/// Records read the long way of which one is learnt from, where there is no room for another form or nothing was to be
/// learnt.
const LEARN_EACH: u32 = 16;
/// Larger forms are not kept.
const FORM_BYTES_MAX: usize = 4_096;
const STEPS_MAX: usize = 64;

/// The forms met lately, under one catalog.
#[derive(Default)]
pub(super) struct Forms {
    /// The hash of the catalog, which gave the fields their meaning.
    catalog: [u8; 16],
    kept: Vec<Form>,
    /// Records read the long way that are not learnt from.
    pass_over: u32,
}

struct Form {
    steps: Vec<Step>,
    /// After the last value.
    rest: Box<[u8]>,
}

/// A value, and what stands before it.
struct Step {
    before: Box<[u8]>,
    name: Box<str>,
    of: Of,
}

#[derive(Clone, Copy)]
enum Of {
    /// An attribute of the event.
    Event(Named),
    /// An attribute that nothing is made of.
    Ignored,
    Data(Meaning),
}

impl Forms {
    /// Reads a record by one of the forms, if one fits; else what was begun is of no use.
    #[inline]
    pub fn read<'a>(
        &mut self,
        text: &'a str,
        catalog: &Catalog,
        arena: &'a Bump,
        attributes: &mut Attributes<'a>,
        fields: &mut Fields<'a>,
    ) -> bool {
        if self.catalog != catalog.hash {
            *self = Forms { catalog: catalog.hash, ..Forms::default() };
        }
        for place in 0..self.kept.len() {
            if self.kept[place].read(text, arena, attributes, fields).is_some() {
                if place > 0 {
                    self.kept.swap(place, place - 1);
                }
                return true;
            }
            *attributes = Attributes::default();
            fields.clear();
        }
        false
    }

    /// Takes up the form of a record that was read the long way, under the same catalog, and is valid.
    #[cold]
    pub fn learn(&mut self, text: &str, catalog: &Catalog, arena: &Bump) {
        if self.pass_over > 0 {
            self.pass_over -= 1;
            return;
        }
        let learnt = Form::of(text, catalog, arena).ok().flatten();
        if learnt.is_none() || self.kept.len() >= FORMS_MAX - 1 {
            self.pass_over = LEARN_EACH - 1;
        }
        if let Some(form) = learnt {
            self.kept.truncate(FORMS_MAX - 1);
            self.kept.insert(0, form);
        }
    }
}

impl Form {
    /// The form of a record, if it is an object whose data is one.
    fn of(text: &str, catalog: &Catalog, arena: &Bump) -> Result<Option<Form>, Invalid> {
        let mut reader = Reader::new(text, arena);
        let mut steps = Vec::new();
        let mut last = 0;
        let mut push = |reader: &mut Reader<'_>, name: &str, of: Of| {
            reader.kind()?;
            steps.push(Step { before: text.as_bytes()[last..reader.at()].into(), name: name.into(), of });
            reader.skip()?;
            last = reader.at();
            Ok(())
        };
        reader.enter_object()?;
        let mut first = true;
        while let Some(name) = reader.name(&mut first)? {
            match name {
                "data" if reader.kind()? == Kind::Object => {
                    reader.enter_object()?;
                    let mut first = true;
                    while let Some(name) = reader.name(&mut first)? {
                        push(&mut reader, name, Of::Data(fields::meaning(catalog, name)))?;
                    }
                }
                "data" | "data_base64" => return Ok(None),
                _ => push(&mut reader, name, Named::of(name).map_or(Of::Ignored, Of::Event))?,
            }
        }
        let rest: Box<[u8]> = text.as_bytes()[last..].into();
        let bytes = steps.iter().map(|step: &Step| step.before.len()).sum::<usize>() + rest.len();
        let small = bytes <= FORM_BYTES_MAX && steps.len() <= STEPS_MAX;
        Ok(small.then_some(Form { steps, rest }))
    }

    fn read<'a>(
        &self,
        text: &'a str,
        arena: &'a Bump,
        attributes: &mut Attributes<'a>,
        fields: &mut Fields<'a>,
    ) -> Option<()> {
        let bytes = text.as_bytes();
        let mut at = 0;
        for step in &self.steps {
            if !begins(bytes.get(at..)?, &step.before) {
                return None;
            }
            at += step.before.len();
            match step.of {
                Of::Event(named) => *attributes.slot(named) = event_value(text, &mut at, arena)?,
                Of::Ignored => {
                    event_value(text, &mut at, arena)?;
                }
                Of::Data(meaning) => {
                    let value = data_value(text, &mut at, arena)?;
                    fields.take(meaning, &step.name, value);
                }
            }
        }
        (bytes[at..] == *self.rest).then_some(())
    }
}

/// Whether no text of a record can have a control character: it has neither DEL, nor escapes, nor anything but ASCII.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let (highest, escapes) = bytes
        .iter()
        .fold((0, false), |(highest, escapes), byte| (byte.max(&highest).to_owned(), escapes | (*byte == b'\\')));
    highest < 0x7F && !escapes
}

#[inline]
fn begins(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.get(..expected.len()).is_some_and(|head| head == expected)
}

#[inline]
fn event_value<'a>(text: &'a str, at: &mut usize, arena: &'a Bump) -> Option<Attribute<'a>> {
    if let Some(plain) = plain_text(text, at) {
        return Some(Attribute::Text(plain));
    }
    general(text, at, 1, arena, attribute)
}

#[inline]
fn data_value<'a>(text: &'a str, at: &mut usize, arena: &'a Bump) -> Option<fields::Value<'a>> {
    if let Some(plain) = plain_text(text, at) {
        return Some(fields::Value::Text(plain));
    }
    if let Some(number) = whole(text.as_bytes(), at) {
        return Some(fields::Value::Whole(number));
    }
    general(text, at, 2, arena, |reader| value(reader, arena))
}

/// A string without escapes.
#[inline]
fn plain_text<'a>(text: &'a str, at: &mut usize) -> Option<&'a str> {
    let bytes = text.as_bytes();
    if bytes.get(*at) != Some(&b'"') {
        return None;
    }
    let start = *at + 1;
    let end = plain_end(bytes, start);
    if bytes.get(end) != Some(&b'"') {
        return None;
    }
    *at = end + 1;
    Some(&text[start..end])
}

/// A number of at most 15 digits, without sign, fraction and exponent.
#[inline]
fn whole(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let rest = bytes.get(*at..)?;
    let mut value = 0i64;
    let mut length = 0;
    while let Some(digit @ b'0'..=b'9') = rest.get(length) {
        value = value * 10 + i64::from(digit - b'0');
        length += 1;
        if length > 15 {
            return None;
        }
    }
    let goes_on = matches!(rest.get(length), Some(b'.' | b'e' | b'E'));
    if length == 0 || goes_on || (length > 1 && rest[0] == b'0') {
        return None;
    }
    *at += length;
    Some(value)
}

/// Any value at `at`, inside `depth` objects.
#[inline]
fn general<'a, T>(
    text: &'a str,
    at: &mut usize,
    depth: u32,
    arena: &'a Bump,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Invalid>,
) -> Option<T> {
    let mut reader = Reader::within(text, *at, depth, arena);
    let found = read(&mut reader).ok()?;
    *at = reader.at();
    Some(found)
}
