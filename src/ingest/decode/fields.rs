//! The data of a usage record: known fields, quantities and dimensions, by the catalog's roles of names.

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::super::json::{Invalid, Kind, Reader};
use super::envelope::{TEXT_BYTES_MAX, check_length, check_text};
use super::{decimal, quote};
use crate::engine::amount::DecimalError;
use crate::engine::catalog::{DimensionId, QuantityId, REQUESTS, Role};
use crate::engine::effects::{Reason, Refusal};
use crate::engine::input::{Billing, Dimension, Phase};
use crate::engine::{Amount, Catalog};

/// Elements of an array.
const ELEMENTS_MAX: usize = 64;

/// What was read so far. Faults are kept, the first of each kind, until the whole record is known to be JSON.
pub(super) struct Fields<'a> {
    arena: &'a Bump,
    /// No text has a control character.
    plain: bool,
    user: Option<&'a str>,
    failed: bool,
    billing: Billing,
    session: Option<&'a str>,
    phase: Option<Phase>,
    quantities: BumpVec<'a, (QuantityId, Amount)>,
    requests_given: bool,
    dimensions: BumpVec<'a, (DimensionId, Dimension<'a>)>,
    seen: Seen<'a>,
    bad_field: Option<String>,
    bad_quantity: Option<String>,
}

/// The names met: those that are known by a bit each, all others as they are.
struct Seen<'a> {
    known: u64,
    quantities: u64,
    dimensions: u64,
    others: BumpVec<'a, &'a str>,
}

pub(super) struct Data<'a> {
    pub user: Option<&'a str>,
    pub failed: bool,
    pub billing: Billing,
    pub session: Option<(&'a str, Phase)>,
    pub quantities: &'a [(QuantityId, Amount)],
    pub requests_given: bool,
    pub dimensions: &'a [(DimensionId, Dimension<'a>)],
}

#[derive(Clone, Copy)]
pub(super) enum Known {
    User,
    Status,
    Billing,
    Session,
    Phase,
}

/// What a field's name says.
#[derive(Clone, Copy)]
pub(super) enum Meaning {
    Known(Known),
    /// A name of the catalog's, or one that it does not use.
    Catalog(Option<Role>),
}

/// What a field of this name is.
pub(super) fn meaning(catalog: &Catalog, name: &str) -> Meaning {
    match Known::of(name) {
        Some(known) => Meaning::Known(known),
        None => Meaning::Catalog(catalog.roles.get(name).copied()),
    }
}

/// A field's value as far as fields may have one.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// null or an empty array.
    Absent,
    Text(&'a str),
    Bool(bool),
    /// A number without fraction and exponent, of at most 15 digits.
    Whole(i64),
    Number(&'a str),
    List(&'a [&'a str]),
    /// What no field may be, and why; in the arena.
    Other(&'a str),
}

impl<'a> Fields<'a> {
    /// `plain`: no text of the record has a control character.
    pub fn new(arena: &'a Bump, plain: bool) -> Fields<'a> {
        let mut quantities = BumpVec::with_capacity_in(12, arena);
        quantities.push((REQUESTS, Amount::whole(1)));
        Fields {
            arena,
            plain,
            user: None,
            failed: false,
            billing: Billing::Plan,
            session: None,
            phase: None,
            quantities,
            requests_given: false,
            dimensions: BumpVec::with_capacity_in(12, arena),
            seen: Seen { known: 0, quantities: 0, dimensions: 0, others: BumpVec::new_in(arena) },
            bad_field: None,
            bad_quantity: None,
        }
    }

    /// Forgets what was read.
    pub fn clear(&mut self) {
        *self = Fields::new(self.arena, self.plain);
    }

    /// Reads the value of `data`, whatever it is.
    pub fn read(&mut self, catalog: &Catalog, reader: &mut Reader<'a>) -> Result<(), Invalid> {
        match reader.kind()? {
            Kind::Object => {}
            Kind::Null => return reader.null(),
            other => {
                self.bad_field(format!("data: expected an object, found {}", other.name()));
                return reader.skip();
            }
        }
        reader.enter_object()?;
        let mut first = true;
        while let Some(name) = reader.name(&mut first)? {
            let meaning = meaning(catalog, name);
            if self.seen.repeats(meaning, name) {
                return reader.refuse("no repeated name in an object");
            }
            let value = value(reader, self.arena)?;
            self.take(meaning, name, value);
        }
        reader.no_repeated(&mut self.seen.others)
    }

    /// Takes up a field.
    #[inline]
    pub fn take(&mut self, meaning: Meaning, name: &str, value: Value<'a>) {
        match (meaning, value) {
            (_, Value::Absent) => {}
            (Meaning::Known(known), Value::Text(text)) => {
                if let Err(message) = self.set_known(known, name, text) {
                    self.bad_field(message);
                }
            }
            (Meaning::Known(_), other) => {
                self.bad_field(format!("{name}: expected a string, found {}", other.name()));
            }
            (Meaning::Catalog(_), _) if name.is_empty() || name.len() > TEXT_BYTES_MAX => {
                self.bad_field(format!("a field's name: expected 1 to {TEXT_BYTES_MAX} bytes, found {}", name.len()));
            }
            (Meaning::Catalog(Some(Role::Quantity(id))), value) => self.quantity(id, name, value),
            (Meaning::Catalog(Some(Role::Dimension(id))), value) => self.dimension(Some(id), name, value),
            (Meaning::Catalog(None), value) => self.dimension(None, name, value),
        }
    }

    fn set_known(&mut self, known: Known, name: &str, text: &'a str) -> Result<(), String> {
        let unknown = |expected: &str| Err(format!("{name}: expected {expected}, found {}", quote(text)));
        match known {
            Known::User => {
                check_text(name, text, TEXT_BYTES_MAX, self.plain)?;
                self.user = Some(text);
            }
            Known::Session => {
                check_length(name, text, TEXT_BYTES_MAX)?;
                self.session = Some(text);
            }
            Known::Status => match text {
                "ok" => self.failed = false,
                "failed" => self.failed = true,
                _ => return unknown("ok or failed"),
            },
            Known::Billing => match text {
                "plan" => self.billing = Billing::Plan,
                "payg" => self.billing = Billing::Payg,
                _ => return unknown("plan or payg"),
            },
            Known::Phase => match text {
                "start" => self.phase = Some(Phase::Start),
                "end" => self.phase = Some(Phase::End),
                _ => return unknown("start or end"),
            },
        }
        Ok(())
    }

    #[inline]
    fn quantity(&mut self, id: QuantityId, name: &str, value: Value<'a>) {
        let read = match value {
            Value::Whole(number) => Ok(Amount::whole(number)),
            Value::Number(text) => decimal::of_number(text),
            Value::Text("") => return self.bad_field(format!("{name}: expected a quantity, found an empty string")),
            Value::Text(text) => decimal::of_string(text, false),
            Value::Other(message) => return self.bad_field(format!("{name}: {message}")),
            other => {
                return self
                    .bad_quantity(format!("{name}: expected a number or a decimal string, found {}", other.name()));
            }
        };
        let expected = "a quantity from 0 to under 10^15 with at most 9 decimals";
        match read {
            Ok(amount) if amount >= Amount::ZERO && amount < Amount::VALUE_LIMIT => {
                if id == REQUESTS {
                    self.quantities[0].1 = amount;
                    self.requests_given = true;
                } else {
                    self.quantities.push((id, amount));
                }
            }
            Ok(amount) => self.bad_quantity(format!("{name}: expected {expected}, found {amount}")),
            Err(error) => {
                let found = match error {
                    DecimalError::Form => "another form",
                    DecimalError::Decimals => "more decimals",
                    DecimalError::Range => "more than can be held",
                };
                self.bad_quantity(format!("{name}: expected {expected}, found {found}"));
            }
        }
    }

    /// Of dimensions that the catalog does not use (`None`) only the form is looked at.
    #[inline]
    fn dimension(&mut self, id: Option<DimensionId>, name: &str, value: Value<'a>) {
        let dimension = match value {
            Value::Text(text) => match check_length(name, text, TEXT_BYTES_MAX) {
                Ok(()) => Dimension::Text(text),
                Err(message) => return self.bad_field(message),
            },
            Value::Bool(true) => Dimension::Text("true"),
            Value::Bool(false) => Dimension::Text("false"),
            Value::List(elements) => {
                match elements.iter().try_for_each(|element| check_length(name, element, TEXT_BYTES_MAX)) {
                    Ok(()) => Dimension::List(elements),
                    Err(message) => return self.bad_field(message),
                }
            }
            Value::Other(message) => return self.bad_field(format!("{name}: {message}")),
            Value::Number(_) | Value::Whole(_) | Value::Absent => return,
        };
        if let Some(id) = id {
            self.dimensions.push((id, dimension));
        }
    }

    /// The fields in order of their ids, or the first fault.
    pub fn finish(mut self) -> Result<Data<'a>, Refusal> {
        if self.session.is_some() != self.phase.is_some() {
            self.bad_field("session and phase: expected both or neither, found one".to_owned());
        }
        if let Some(message) = self.bad_field {
            return Err(Refusal { reason: Reason::BadField, message });
        }
        if let Some(message) = self.bad_quantity {
            return Err(Refusal { reason: Reason::BadQuantity, message });
        }
        self.quantities.sort_unstable_by_key(|(id, _)| *id);
        self.dimensions.sort_unstable_by_key(|(id, _)| *id);
        Ok(Data {
            user: self.user,
            failed: self.failed,
            billing: self.billing,
            session: self.session.zip(self.phase),
            quantities: self.quantities.into_bump_slice(),
            requests_given: self.requests_given,
            dimensions: self.dimensions.into_bump_slice(),
        })
    }

    #[cold]
    fn bad_field(&mut self, message: String) {
        self.bad_field.get_or_insert(message);
    }

    #[cold]
    fn bad_quantity(&mut self, message: String) {
        self.bad_quantity.get_or_insert(message);
    }
}

impl Known {
    fn of(name: &str) -> Option<Known> {
        Some(match name {
            "user" => Known::User,
            "status" => Known::Status,
            "billing" => Known::Billing,
            "session" => Known::Session,
            "phase" => Known::Phase,
            _ => return None,
        })
    }
}

impl<'a> Seen<'a> {
    /// Whether a name of this meaning was met before. Names without a bit are looked at in the end.
    #[inline]
    fn repeats(&mut self, meaning: Meaning, name: &'a str) -> bool {
        let (bits, id) = match meaning {
            Meaning::Known(known) => (&mut self.known, known as u16),
            Meaning::Catalog(Some(Role::Quantity(id))) => (&mut self.quantities, id),
            Meaning::Catalog(Some(Role::Dimension(id))) => (&mut self.dimensions, id),
            Meaning::Catalog(None) => (&mut self.quantities, u16::MAX),
        };
        if id >= 64 {
            self.others.push(name);
            return false;
        }
        let before = *bits;
        *bits |= 1 << id;
        before == *bits
    }
}

impl Value<'_> {
    fn name(&self) -> &'static str {
        match self {
            Value::Absent => "nothing",
            Value::Text(_) => "a string",
            Value::Bool(_) => "a boolean",
            Value::Number(_) | Value::Whole(_) => "a number",
            Value::List(_) => "an array",
            Value::Other(_) => "what no field may be",
        }
    }
}

#[inline]
pub(super) fn value<'a>(reader: &mut Reader<'a>, arena: &'a Bump) -> Result<Value<'a>, Invalid> {
    Ok(match reader.kind()? {
        Kind::Text => Value::Text(reader.string()?),
        Kind::Number => Value::Number(reader.number()?),
        Kind::Bool => Value::Bool(reader.boolean()?),
        Kind::Null => {
            reader.null()?;
            Value::Absent
        }
        Kind::Array => list(reader, arena)?,
        Kind::Object => {
            reader.skip()?;
            Value::Other("expected a string, a number, a boolean or an array of strings, found an object")
        }
    })
}

fn list<'a>(reader: &mut Reader<'a>, arena: &'a Bump) -> Result<Value<'a>, Invalid> {
    let mut elements = BumpVec::new_in(arena);
    let mut other = None;
    reader.enter_array()?;
    let mut first = true;
    while reader.element(&mut first)? {
        match reader.kind()? {
            Kind::Text => elements.push(reader.string()?),
            kind => {
                other = Some(kind);
                reader.skip()?;
            }
        }
    }
    Ok(if let Some(kind) = other {
        Value::Other(arena.alloc_str(&format!("expected only strings in the array, found {}", kind.name())))
    } else if elements.len() > ELEMENTS_MAX {
        Value::Other(arena.alloc_str(&format!("expected at most {ELEMENTS_MAX} elements, found {}", elements.len())))
    } else if elements.is_empty() {
        Value::Absent
    } else {
        Value::List(elements.into_bump_slice())
    })
}
