//! A TOML file read with places: every table asks for the keys it knows, every value says what it found and where, and
//! nothing stops at the first mistake.
//!
//! A reader gives `None` for what it has already reported, so that callers go on and report the rest.

use std::cell::RefCell;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostic, Diagnostics, Severity};

/// One file and what was found in it so far.
pub struct Reading<'t> {
    file: &'t str,
    text: &'t str,
    /// Where the lines begin, so that places cost no walk through the text.
    line_starts: Vec<usize>,
    found: RefCell<Vec<Diagnostic>>,
}

/// Where something stands: its path of keys, and its bytes.
#[derive(Clone, Debug)]
pub struct Place {
    pub path: String,
    pub span: Range<usize>,
}

/// A table whose keys are known in advance; [`Table::finish`] reports the others.
pub struct Table<'r> {
    reading: &'r Reading<'r>,
    place: Place,
    entries: &'r DeTable<'r>,
    known: Vec<&'static str>,
}

pub struct Value<'r> {
    reading: &'r Reading<'r>,
    pub place: Place,
    pub item: &'r DeValue<'r>,
}

/// A key that the file chose: the name of a plan, a model, a field.
#[derive(Clone, Debug)]
pub struct Name<'r> {
    pub text: &'r str,
    pub place: Place,
}

impl<'t> Reading<'t> {
    /// Parses the text as TOML and hands its root to `check`. Gives what that gives, and the findings in file order.
    pub fn run<T>(
        file: &str,
        text: &str,
        check: impl FnOnce(&Reading<'_>, Table<'_>) -> Option<T>,
    ) -> (Option<T>, Diagnostics) {
        let (document, mistakes) = DeTable::parse_recoverable(text);
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(after_breaks).collect();
        let reading = Reading { file, text, line_starts, found: RefCell::default() };
        for mistake in &mistakes {
            let place = Place { path: String::new(), span: mistake.span().unwrap_or(0..0) };
            reading.error(&place, format!("this is not TOML: {}", mistake.message()), None);
        }
        // After a syntax error the rest would be judged by what the parser guessed.
        let checked = mistakes.is_empty().then(|| {
            let place = Place { path: String::new(), span: 0..0 };
            let root = Table { reading: &reading, place, entries: document.get_ref(), known: Vec::new() };
            check(&reading, root)
        });
        let mut list = reading.found.into_inner();
        list.sort_by_key(|found| (found.file != file, found.line, found.column));
        (checked.flatten(), Diagnostics { list })
    }

    pub fn error(&self, place: &Place, message: impl Into<String>, help: Option<String>) {
        self.report(Severity::Error, place, message.into(), help);
    }

    pub fn warning(&self, place: &Place, message: impl Into<String>, help: Option<String>) {
        self.report(Severity::Warning, place, message.into(), help);
    }

    pub fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(Diagnostic::is_error)
    }

    /// Takes over what was found in a file that this one names.
    pub fn include(&self, other: Diagnostics) {
        self.found.borrow_mut().extend(other.list);
    }

    fn report(&self, severity: Severity, place: &Place, message: String, help: Option<String>) {
        let line = self.line(place) as usize;
        let line_start = self.line_starts[line - 1];
        let line_end = self.line_starts.get(line).map_or(self.text.len(), |next| next - 1);
        let of_line = place.span.start.saturating_sub(line_start)..place.span.end.saturating_sub(line_start);
        let found = Diagnostic {
            severity,
            file: self.file.to_owned(),
            line,
            key: place.path.clone(),
            message,
            help,
            ..Diagnostic::in_line(&self.text[line_start..line_end], of_line)
        };
        self.found.borrow_mut().push(found);
    }

    /// The line of a place, from 1.
    pub fn line(&self, place: &Place) -> u32 {
        let start = place.span.start.min(self.text.len());
        self.line_starts.partition_point(|line_start| *line_start <= start) as u32
    }
}

impl<'r> Table<'r> {
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The value of a key that may be absent.
    pub fn get(&mut self, key: &'static str) -> Option<Value<'r>> {
        self.known.push(key);
        let (name, item) = self.entries.get_key_value(key)?;
        Some(self.value(name.get_ref(), name.span(), item))
    }

    /// The value of a key that must be there.
    pub fn require(&mut self, key: &'static str, example: &str) -> Option<Value<'r>> {
        let value = self.get(key);
        if value.is_none() {
            self.reading.error(&self.place, format!("`{key}` is missing"), Some(format!("write `{key} = {example}`")));
        }
        value
    }

    /// A text, without asking for it: what is wrong with it is told where it is read.
    pub fn peek_text(&self, key: &str) -> Option<&'r str> {
        match self.entries.get(key)?.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where a key stands; the table, if it has none.
    pub fn place_of(&self, key: &str) -> Place {
        match self.entries.get_key_value(key) {
            Some((name, _)) => Place { path: format!("{}.{key}", self.place.path), span: name.span() },
            None => self.place.clone(),
        }
    }

    /// Every entry of a table whose keys are the file's own choice, in file order.
    pub fn entries(&self) -> Vec<(Name<'r>, Value<'r>)> {
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .map(|(name, item)| {
                let value = self.value(name.get_ref(), name.span(), item);
                let place = Place { path: value.place.path.clone(), span: name.span() };
                (Name { text: name.get_ref().as_ref(), place }, value)
            })
            .collect();
        entries.sort_by_key(|(name, _)| name.place.span.start);
        entries
    }

    /// Reports the keys that were not asked for.
    pub fn finish(self) {
        for (name, _) in self.entries() {
            if self.known.contains(&name.text) {
                continue;
            }
            let help = match nearest(name.text, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.reading.error(&name.place, "unknown key", Some(help));
        }
    }

    fn value(&self, key: &str, key_span: Range<usize>, item: &'r toml::Spanned<DeValue<'r>>) -> Value<'r> {
        let path = if self.place.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.path) };
        // A table's own span may be that of a header far away; its key is where it is known by.
        let span = if item.get_ref().is_table() { key_span } else { item.span() };
        Value { reading: self.reading, place: Place { path, span }, item: item.get_ref() }
    }
}

impl<'r> Value<'r> {
    pub fn reading(&self) -> &'r Reading<'r> {
        self.reading
    }

    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.reading.error(&self.place, message, Some(help.into()));
    }

    pub fn warning(&self, message: impl Into<String>, help: impl Into<String>) {
        self.reading.warning(&self.place, message, Some(help.into()));
    }

    /// Reports without showing the line, which may hold a secret.
    pub fn conceal(&self, message: impl Into<String>, help: impl Into<String>) {
        self.error(message, help);
        if let Some(found) = self.reading.found.borrow_mut().last_mut() {
            found.conceal();
        }
    }

    /// Reports that this is of another form than expected.
    pub fn expected(&self, what: &str) {
        self.error(format!("expected {what}, found {}", self.describe()), format!("write {what}"));
    }

    /// What stands there, in words.
    pub fn describe(&self) -> String {
        match self.item {
            DeValue::String(text) => format!("the string {text:?}"),
            DeValue::Integer(number) => format!("the integer {number}"),
            DeValue::Float(number) => format!("the float {number}"),
            DeValue::Boolean(value) => format!("{value}"),
            DeValue::Datetime(time) => format!("the time {time}"),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }

    pub fn text(&self) -> Option<&'r str> {
        match self.item {
            DeValue::String(text) => Some(text),
            _ => {
                self.expected("a string in quotes");
                None
            }
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match self.item {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    pub fn table(&self) -> Option<Table<'r>> {
        match self.item {
            DeValue::Table(entries) => {
                Some(Table { reading: self.reading, place: self.place.clone(), entries, known: Vec::new() })
            }
            _ => {
                self.expected("a table");
                None
            }
        }
    }

    /// A table, or nothing: what is wrong is told where it is read.
    pub fn quiet_table(&self) -> Option<Table<'r>> {
        if self.item.is_table() { self.table() } else { None }
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<Vec<Value<'r>>> {
        let DeValue::Array(items) = self.item else {
            self.expected("a list in [ ]");
            return None;
        };
        Some(items.iter().enumerate().map(|(index, item)| self.element(index, item)).collect())
    }

    /// The tables of `[[key]]`.
    pub fn tables(&self) -> Option<Vec<Table<'r>>> {
        if self.item.is_table() {
            let header = format!("write `[[{}]]`, in double brackets", self.place.path);
            self.error("expected a list of tables, found one table", header);
            return None;
        }
        Some(self.list()?.iter().filter_map(Value::table).collect())
    }

    /// A list, or a single value that stands for a list of one.
    pub fn list_or_one(&self) -> Option<Vec<Value<'r>>> {
        match self.item {
            DeValue::Array(_) => self.list(),
            item => Some(vec![Value { reading: self.reading, place: self.place.clone(), item }]),
        }
    }

    /// One of a few words.
    pub fn choose<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        self.choose_or(choices, "")
    }

    /// One of a few words, where something else would have been right too.
    pub fn choose_or<T: Copy>(&self, choices: &[(&str, T)], other: &str) -> Option<T> {
        let words = choices.iter().map(|(word, _)| format!("\"{word}\""));
        let forms = words.chain((!other.is_empty()).then(|| other.to_owned())).collect::<Vec<_>>().join(", ");
        let DeValue::String(text) = self.item else {
            self.expected(&format!("one of {forms}"));
            return None;
        };
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if chosen.is_none() {
            let help = match nearest(text, choices.iter().map(|(word, _)| *word)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write one of {forms}"),
            };
            self.error(format!("{text:?} is not known here"), help);
        }
        chosen
    }

    fn element(&self, index: usize, item: &'r toml::Spanned<DeValue<'r>>) -> Value<'r> {
        let place = Place { path: format!("{}[{index}]", self.place.path), span: item.span() };
        Value { reading: self.reading, place, item: item.get_ref() }
    }
}

/// The known word that was probably meant: a third of it may be mistyped.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(length) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
