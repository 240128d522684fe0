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
    excerpt: String,
    #[serde(skip)]
    marked: usize,
}

/// Everything found in one file, errors and warnings in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    pub list: Vec<Diagnostic>,
}

impl Diagnostic {
    /// `span` is a range of bytes of `text`.
    pub(super) fn new(
        severity: Severity,
        file: &str,
        text: &str,
        span: Range<usize>,
        key: &str,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let start = floor_char_boundary(text, span.start);
        let end = floor_char_boundary(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let marked = text[start..end.min(line_end)].trim_end().chars().count().max(1);
        Diagnostic {
            severity,
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            key: key.to_owned(),
            message,
            help,
            // One column for each character, whatever stands in the file, so that the carets meet it.
            excerpt: text[line_start..line_end]
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect::<String>()
                .trim_end()
                .to_owned(),
            marked,
        }
    }

    /// A finding about the file as a whole: it cannot be read.
    pub(super) fn of_file(file: &str, message: String, help: Option<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, file, "", 0..0, "", message, help)
    }

    /// Drops the line of the file.
    pub(super) fn conceal(&mut self) {
        self.excerpt.clear();
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
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
