//! The data of a usage record: known fields, quantities and dimensions, by the catalog's roles of names.

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::super::json::{Invalid, Kind, Reader};
use super::envelope::{TEXT_BYTES_MAX, check_text};
use super::{decimal, quote};
use crate::engine::amount::DecimalError;
use crate::engine::catalog::{DimensionId, QuantityId, REQUESTS, Role};
use crate::engine::effects::{Reason, Refusal};
use crate::engine::input::{Billing, Dimension, Phase};
use crate::engine::{Amount, Catalog};

/// Elements of an array.
const ELEMENTS_MAX: usize = 64;

/// What was read so far. Faults are kept, the first of each kind, until the whole record is known to be JSON.
pub(super) struct Fields<'a, 'c> {
    catalog: &'c Catalog,
    arena: &'a Bump,
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
    known: u8,
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
enum Known {
    User,
    Status,
    Billing,
    Session,
    Phase,
}

/// A field's value as far as fields may have one.
enum Value<'a> {
    /// null or an empty array.
    Absent,
    Text(&'a str),
    Bool(bool),
    Number(&'a str),
    List(&'a [&'a str]),
    /// What no field may be.
    Other(String),
}

impl<'a, 'c> Fields<'a, 'c> {
    pub fn new(catalog: &'c Catalog, arena: &'a Bump) -> Fields<'a, 'c> {
        let mut quantities = BumpVec::with_capacity_in(12, arena);
        quantities.push((REQUESTS, Amount::whole(1)));
        Fields {
            catalog,
            arena,
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

    /// Reads the value of `data`, whatever it is.
    pub fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), Invalid> {
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
            self.field(name, reader)?;
        }
        reader.no_repeated(&mut self.seen.others)
    }

    #[inline]
    fn field(&mut self, name: &'a str, reader: &mut Reader<'a>) -> Result<(), Invalid> {
        let known = match name {
            "user" => Known::User,
            "status" => Known::Status,
            "billing" => Known::Billing,
            "session" => Known::Session,
            "phase" => Known::Phase,
            _ => return self.catalog_field(name, reader),
        };
        if self.seen.known & (1 << known as u8) != 0 {
            return reader.refuse("no repeated name in an object");
        }
        self.seen.known |= 1 << known as u8;
        match value(reader, self.arena)? {
            Value::Absent => {}
            Value::Text(text) => {
                if let Err(message) = self.set_known(known, name, text) {
                    self.bad_field(message);
                }
            }
            other => self.bad_field(format!("{name}: expected a string, found {}", other.name())),
        }
        Ok(())
    }

    fn set_known(&mut self, known: Known, name: &str, text: &'a str) -> Result<(), String> {
        let unknown = |expected: &str| Err(format!("{name}: expected {expected}, found {}", quote(text)));
        match known {
            Known::User => {
                check_text(name, text, TEXT_BYTES_MAX)?;
                self.user = Some(text);
            }
            Known::Session => {
                check_length(name, text)?;
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

    /// A field that means what the catalog makes of it, if anything.
    #[inline]
    fn catalog_field(&mut self, name: &'a str, reader: &mut Reader<'a>) -> Result<(), Invalid> {
        let role = self.catalog.roles.get(name).copied();
        if self.seen.repeats(role, name) {
            return reader.refuse("no repeated name in an object");
        }
        let value = value(reader, self.arena)?;
        if let Value::Absent = value {
            return Ok(());
        }
        if name.is_empty() || name.len() > TEXT_BYTES_MAX {
            let message = format!("a field's name: expected 1 to {TEXT_BYTES_MAX} bytes, found {}", name.len());
            self.bad_field(message);
            return Ok(());
        }
        match role {
            Some(Role::Quantity(id)) => self.quantity(id, name, value),
            Some(Role::Dimension(id)) => self.dimension(Some(id), name, value),
            None => self.dimension(None, name, value),
        }
        Ok(())
    }

    #[inline]
    fn quantity(&mut self, id: QuantityId, name: &str, value: Value<'a>) {
        let read = match value {
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
            Value::Text(text) => match check_length(name, text) {
                Ok(()) => Dimension::Text(text),
                Err(message) => return self.bad_field(message),
            },
            Value::Bool(true) => Dimension::Text("true"),
            Value::Bool(false) => Dimension::Text("false"),
            Value::List(elements) => match elements.iter().try_for_each(|element| check_length(name, element)) {
                Ok(()) => Dimension::List(elements),
                Err(message) => return self.bad_field(message),
            },
            Value::Other(message) => return self.bad_field(format!("{name}: {message}")),
            Value::Number(_) | Value::Absent => return,
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

impl<'a> Seen<'a> {
    /// Whether a name the catalog has this role for was met before. Names without a bit are looked at in the end.
    #[inline]
    fn repeats(&mut self, role: Option<Role>, name: &'a str) -> bool {
        let (bits, id) = match role {
            Some(Role::Quantity(id)) => (&mut self.quantities, id),
            Some(Role::Dimension(id)) => (&mut self.dimensions, id),
            None => (&mut self.quantities, u16::MAX),
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
            Value::Number(_) => "a number",
            Value::List(_) => "an array",
            Value::Other(_) => "what no field may be",
        }
    }
}

#[inline]
fn value<'a>(reader: &mut Reader<'a>, arena: &'a Bump) -> Result<Value<'a>, Invalid> {
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
            Value::Other("expected a string, a number, a boolean or an array of strings, found an object".to_owned())
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
        Value::Other(format!("expected only strings in the array, found {}", kind.name()))
    } else if elements.len() > ELEMENTS_MAX {
        Value::Other(format!("expected at most {ELEMENTS_MAX} elements, found {}", elements.len()))
    } else if elements.is_empty() {
        Value::Absent
    } else {
        Value::List(elements.into_bump_slice())
    })
}

fn check_length(name: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(format!("{name}: expected 1 to {TEXT_BYTES_MAX} bytes, found {}", text.len()));
    }
    Ok(())
}
