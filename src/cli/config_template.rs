//! `meterd init --config`: a configuration with every key, commented, to begin with.

use super::{Failure, Verdict};

/// The shipped configuration, which the tests parse.
pub const TEXT: &str = include_str!("../../config/meterd.toml");

pub fn run() -> Result<Verdict, Failure> {
    super::print(TEXT)?;
    Ok(Verdict::Clean)
}
