//! What a catalog declares and refers to by name.

use hashbrown::HashMap;

use super::super::reading::{Name, Place, Reading, Value, nearest};
use super::super::values::is_name;
use crate::engine::catalog::{Breakdown, DimensionId, QuantityId, Role};

/// The fields of a usage record that meterd itself reads (docs/reference.md 3); a catalog neither matches nor counts them.
const KNOWN_FIELDS: [&str; 6] = ["user", "status", "billing", "session", "phase", "requests"];

const NAME_FORM: &str = "names are 1 to 64 letters, digits, `_`, `.` and `-`, and begin with a letter or digit";

/// The names that one kind of table declares, in file order.
pub(super) struct Names<'r> {
    kind: &'static str,
    list: Vec<&'r str>,
    ids: HashMap<&'r str, usize>,
}

impl<'r> Names<'r> {
    pub(super) fn declare(
        reading: &Reading<'_>,
        kind: &'static str,
        section: &[(Name<'r>, Value<'r>)],
        most: usize,
    ) -> Names<'r> {
        for (name, _) in section.iter().filter(|(name, _)| !is_name(name.text)) {
            let message = format!("{:?} is no name for a {kind}", name.text);
            reading.error(&name.place, message, Some(NAME_FORM.to_owned()));
        }
        if let Some((name, _)) = section.get(most) {
            reading.error(&name.place, format!("too many: a catalog has at most {most} of `{kind}`"), None);
        }
        let list: Vec<&str> = section.iter().map(|(name, _)| name.text).collect();
        let ids = list.iter().enumerate().map(|(id, name)| (*name, id)).collect();
        Names { kind, list, ids }
    }

    pub(super) fn name(&self, id: u8) -> &'r str {
        self.list[usize::from(id)]
    }

    pub(super) fn id(&self, name: &str) -> Option<usize> {
        self.ids.get(name).copied()
    }

    /// What a value refers to.
    pub(super) fn find(&self, value: &Value<'_>) -> Option<usize> {
        let name = value.text()?;
        let id = self.id(name);
        if id.is_none() {
            let help = match nearest(name, self.list.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if self.list.is_empty() => format!("declare it with [{}.{name}]", self.kind),
                None => format!("declared are {}", self.list.join(", ")),
            };
            value.error(format!("there is no {} `{name}`", self.kind), help);
        }
        id
    }
}

/// The names of record fields that the catalog uses, each either as a quantity or as a dimension.
pub(super) struct Fields {
    quantities: Vec<Box<str>>,
    dimensions: Vec<Box<str>>,
    roles: HashMap<Box<str>, Role>,
    /// Line of the first use.
    lines: HashMap<Box<str>, u32>,
}

/// `requests` and `seconds` are always quantities; `model` always has its place among the dimensions.
impl Default for Fields {
    fn default() -> Fields {
        let quantities: Vec<Box<str>> = vec!["requests".into(), "seconds".into()];
        let roles = quantities.iter().enumerate().map(|(id, name)| (name.clone(), Role::Quantity(id as QuantityId)));
        Fields { roles: roles.collect(), quantities, dimensions: vec!["model".into()], lines: HashMap::new() }
    }
}

impl Fields {
    pub(super) fn quantity(&mut self, value: &Value<'_>) -> Option<QuantityId> {
        let name = value.text()?;
        if name != "requests" && !usable(value.reading(), name, &value.place) {
            return None;
        }
        match self.roles.get(name) {
            Some(Role::Quantity(id)) => return Some(*id),
            Some(Role::Dimension(_)) => {
                self.report_both(value.reading(), name, &value.place, "compared as a text");
                return None;
            }
            None => {}
        }
        let id = self.quantities.len() as QuantityId;
        self.quantities.push(name.into());
        self.learn(name, Role::Quantity(id), value.reading().line(&value.place));
        Some(id)
    }

    pub(super) fn dimension(&mut self, reading: &Reading<'_>, name: &str, place: &Place) -> Option<DimensionId> {
        if !usable(reading, name, place) {
            return None;
        }
        match self.roles.get(name) {
            Some(Role::Dimension(id)) => return Some(*id),
            Some(Role::Quantity(_)) => {
                self.report_both(reading, name, place, "counted as a quantity");
                return None;
            }
            None => {}
        }
        let id = match self.dimensions.iter().position(|known| **known == *name) {
            Some(id) => id as DimensionId,
            None => {
                self.dimensions.push(name.into());
                (self.dimensions.len() - 1) as DimensionId
            }
        };
        self.learn(name, Role::Dimension(id), reading.line(place));
        Some(id)
    }

    /// By model, where that is no quantity, and by user.
    pub(super) fn default_breakdowns(&mut self) -> Vec<Breakdown> {
        let mut by = Vec::new();
        let role = *self.roles.entry("model".into()).or_insert(Role::Dimension(crate::engine::catalog::MODEL));
        if let Role::Dimension(model) = role {
            by.push(Breakdown::Dimension(model));
        }
        by.push(Breakdown::User);
        by
    }

    pub(super) fn into_parts(mut self) -> (Vec<Box<str>>, Vec<Box<str>>, HashMap<Box<str>, Role>) {
        // Notices tell a record's model even where nothing is priced or broken down by it.
        self.roles.entry("model".into()).or_insert(Role::Dimension(crate::engine::catalog::MODEL));
        (self.quantities, self.dimensions, self.roles)
    }

    fn learn(&mut self, name: &str, role: Role, line: u32) {
        self.roles.insert(name.into(), role);
        self.lines.insert(name.into(), line);
    }

    fn report_both(&self, reading: &Reading<'_>, name: &str, place: &Place, other: &str) {
        let message = match self.lines.get(name) {
            Some(line) => format!("`{name}` is {other} in line {line}"),
            None => format!("`{name}` is always counted as a quantity"),
        };
        reading.error(place, message, Some("a field is either a quantity or matched, never both".to_owned()));
    }
}

fn usable(reading: &Reading<'_>, name: &str, place: &Place) -> bool {
    let (message, help) = if KNOWN_FIELDS.contains(&name) {
        (format!("`{name}` is a field that meterd itself reads"), "name another field of the record's data")
    } else if name.is_empty() || name.len() > 256 {
        (format!("{name:?} is no name of a field"), "field names have 1 to 256 bytes")
    } else {
        return true;
    };
    reading.error(place, message, Some(help.to_owned()));
    false
}

/// A name that a value declares, like that of a limit.
pub(super) fn declared_name<'r>(value: &Value<'r>, kind: &str) -> Option<&'r str> {
    let text = value.text()?;
    if is_name(text) {
        return Some(text);
    }
    value.error(format!("{text:?} is no name for a {kind}"), NAME_FORM);
    None
}
