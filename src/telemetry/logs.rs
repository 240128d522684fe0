//! Logs on stderr, as text or JSON. Payloads, keys and tokens are never logged; what comes from outside (names, broker
//! messages) is written without control characters, so that no input can forge a line or move a terminal's cursor.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// `METERD_LOG_FORMAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Why the logs could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error("METERD_LOG_FORMAT is {0:?}; expected text or json")]
    Format(String),
    #[error(
        "METERD_LOG is {value:?}: {problem}; expected a level (error, warn, info, debug, trace) or target=level, ..."
    )]
    Level { value: String, problem: String },
}

/// Starts the logs of the process by `METERD_LOG` (a level, or levels by target; `info` unless set) and
/// `METERD_LOG_FORMAT` (`text` unless set). A second call changes nothing.
pub fn start() -> Result<(), LogsError> {
    start_at("info")
}

/// Like [`start`], with another level where `METERD_LOG` is not set.
pub fn start_at(level: &str) -> Result<(), LogsError> {
    let level = std::env::var("METERD_LOG").unwrap_or_else(|_| level.into());
    let format = Format::parse(&std::env::var("METERD_LOG_FORMAT").unwrap_or_default())?;
    let filter = EnvFilter::try_new(&level)
        .map_err(|problem| LogsError::Level { value: level, problem: problem.to_string() })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second subscriber is refused: the first one stays, which is what is wanted.
    let _already_started = match format {
        Format::Text => logs.with_target(false).fmt_fields(EscapedFields).try_init(),
        Format::Json => logs.json().flatten_event(true).try_init(),
    };
    Ok(())
}

impl Format {
    fn parse(text: &str) -> Result<Format, LogsError> {
        match text {
            "" | "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            other => Err(LogsError::Format(other.into())),
        }
    }
}

/// Writes at most one line in each interval, and counts what it held back.
///
/// ```
/// # use std::time::{Duration, Instant};
/// let seldom = meterd::telemetry::logs::Seldom::new(Duration::from_secs(10));
/// if let Some(held_back) = seldom.now(Instant::now()) {
///     tracing::warn!(held_back, "the broker does not answer");
/// }
/// ```
pub struct Seldom {
    interval: Duration,
    state: Mutex<SeldomState>,
}

#[derive(Default)]
struct SeldomState {
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    pub const fn new(interval: Duration) -> Seldom {
        Seldom { interval, state: Mutex::new(SeldomState { last: None, held_back: 0 }) }
    }

    /// `Some` when a line may be written, with the number of those held back since the last.
    pub fn now(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

/// `text` with control characters written as `\u{…}`.
pub fn escaped(text: &str) -> impl fmt::Display + '_ {
    Escaped(text)
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(char::is_control) {
            match part.char_indices().next_back() {
                Some((end, last)) if last.is_control() => write!(out, "{}{}", &part[..end], last.escape_unicode())?,
                _ => out.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// The fields of a text line: the message, then `name=value`.
struct EscapedFields;

struct EscapedVisitor<'a> {
    out: Writer<'a>,
    first: bool,
    result: fmt::Result,
}

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, out: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = EscapedVisitor { out, first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

impl Visit for EscapedVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.write(field, &escaped(value));
        } else {
            self.write(field, &format_args!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.write(field, &escaped(&text));
    }
}

impl EscapedVisitor<'_> {
    fn write(&mut self, field: &Field, value: &dyn fmt::Display) {
        if self.result.is_err() {
            return;
        }
        let space = if self.first { "" } else { " " };
        self.first = false;
        self.result = match field.name() {
            "message" => write!(self.out, "{space}{value}"),
            name => write!(self.out, "{space}{name}={value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no other thread").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_input_forges_a_line() {
        let memory = Memory::default();
        let writer = memory.clone();
        let logs = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(EscapedFields)
            .finish();
        tracing::subscriber::with_default(logs, || {
            let broker = "down\nERROR forged \u{1b}[2J";
            tracing::warn!(broker, partition = 3, shown = %broker, "lost {broker}");
        });
        let text = String::from_utf8(memory.0.lock().expect("no other thread").clone()).expect("UTF-8");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(r"lost down\u{a}ERROR forged \u{1b}[2J"), "{text}");
        assert!(text.contains("partition=3"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn tells_one_line_in_an_interval_and_what_it_held_back() {
        let start = Instant::now();
        let seldom = Seldom::new(Duration::from_secs(10));
        assert_eq!(seldom.now(start), Some(0));
        assert_eq!(seldom.now(start + Duration::from_secs(1)), None);
        assert_eq!(seldom.now(start + Duration::from_secs(9)), None);
        assert_eq!(seldom.now(start + Duration::from_secs(11)), Some(2));
    }

    #[test]
    fn knows_two_formats() {
        assert_eq!(Format::parse("").expect("the default"), Format::Text);
        assert_eq!(Format::parse("json").expect("a format"), Format::Json);
        assert!(Format::parse("xml").is_err());
    }
}
