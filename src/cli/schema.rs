//! `meterd schema`: JSON Schemas (2020-12) of what meterd reads and writes, for editors and for other programs' tests.

use clap::{Args, ValueEnum};

use super::{Failure, Verdict};

/// Print a JSON Schema of what meterd reads or writes
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    meterd schema catalog > catalog.schema.json\n\n\
    An editor then checks a catalog that begins with the line `#:schema catalog.schema.json`.")]
pub struct Arguments {
    #[arg(value_enum)]
    of: Document,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// The catalog file
    Catalog,
    /// The daemon's configuration file
    Config,
    /// Usage records of meter.usage
    Usage,
    /// Commands of meter.accounts
    Command,
    /// Notices of meter.events
    Notice,
}

impl Document {
    /// The committed schema, which the tests hold against what the checks accept.
    pub fn schema(self) -> &'static str {
        match self {
            Document::Catalog => include_str!("../../config/schema/catalog.schema.json"),
            Document::Config => include_str!("../../config/schema/config.schema.json"),
            Document::Usage => include_str!("../../config/schema/usage.schema.json"),
            Document::Command => include_str!("../../config/schema/command.schema.json"),
            Document::Notice => include_str!("../../config/schema/notice.schema.json"),
        }
    }
}

pub fn run(arguments: Arguments) -> Result<Verdict, Failure> {
    super::print(arguments.of.schema())?;
    Ok(Verdict::Clean)
}
