//! Files to checked values: the daemon's configuration and the catalog.
//!
//! [`reading`] turns TOML into tables that know their places, [`values`] reads what fits on a line, and the checks of
//! [`catalog`] are one small function for each section. Every mistake is collected, with its place and what would be
//! right ([`diagnostics`]); only a file without errors becomes a value.

pub mod catalog;
pub mod daemon;
pub mod diagnostics;
mod kafka;
mod reading;
pub mod tokens;
mod values;

pub use daemon::{Config, load};
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use tokens::{Scope, Tokens};
pub use values::parse_duration;

fn unreadable(file: &str, error: &std::io::Error) -> Diagnostics {
    let help = "check that the file exists and that meterd may read it";
    Diagnostics { list: vec![Diagnostic::of_file(file, format!("cannot be read: {error}"), Some(help.to_owned()))] }
}
