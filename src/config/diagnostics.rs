//! What is wrong with a file: where, what was found, and what would be right.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One finding, able to show itself without the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Where in the file's structure: `plan.pro.limit[0].cap`; empty where the text is not TOML.
    pub key: String,
    /// What was found.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    #[serde(skip)]
    pub(super) excerpt: String,
    #[serde(skip)]
    pub(super) marked: usize,
}

/// Everything found in one file, errors and warnings in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    pub list: Vec<Diagnostic>,
}

impl Diagnostic {
    /// The parts that follow from a line of the file and the bytes of it that are marked.
    pub(super) fn in_line(line: &str, span: Range<usize>) -> Diagnostic {
        let start = line.floor_char_boundary(span.start);
        let end = line.floor_char_boundary(span.end).max(start);
        // One column for each character, whatever stands in the file, so that the carets meet it.
        let shown: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Diagnostic {
            severity: Severity::Error,
            file: String::new(),
            line: 1,
            column: line[..start].chars().count() + 1,
            key: String::new(),
            message: String::new(),
            help: None,
            excerpt: shown.trim_end().to_owned(),
            marked: line[start..end].trim_end().chars().count().max(1),
        }
    }

    /// A finding about the file as a whole: it cannot be read.
    pub(super) fn of_file(file: &str, message: String, help: Option<String>) -> Diagnostic {
        Diagnostic { file: file.to_owned(), message, help, ..Diagnostic::in_line("", 0..0) }
    }

    /// Drops the line of the file.
    pub(super) fn conceal(&mut self) {
        self.excerpt.clear();
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Diagnostics {
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(Diagnostic::is_error)
    }
}

/// ```text
/// catalog.toml:12:8: error: plan.pro.unit: there is no unit `credits`
///    |
/// 12 | unit = "credits"
///    |        ^^^^^^^^^ did you mean `credit`?
/// ```
impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(out, "{}:{}:{}: {severity}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        writeln!(out, "{}", self.message)?;
        if self.excerpt.is_empty() {
            return match &self.help {
                Some(help) => writeln!(out, "  {help}"),
                None => Ok(()),
            };
        }
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(out, " {gutter} |")?;
        writeln!(out, " {number} | {}", self.excerpt)?;
        let indent = " ".repeat(self.column - 1);
        let carets = "^".repeat(self.marked);
        writeln!(out, " {gutter} | {indent}{carets} {}", self.help.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.iter().try_for_each(|diagnostic| diagnostic.fmt(out))
    }
}

impl std::error::Error for Diagnostics {}
