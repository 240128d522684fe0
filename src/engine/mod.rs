//! The fold: one account's state, a catalog, an input with its clock in; the changed state and effects out.
//!
//! Pure: no I/O, no clock, no randomness, no logging, no floats. It cannot fail: a refused record is an [`Outcome`].

pub mod amount;
pub mod calendar;
pub mod catalog;
pub mod effects;
#[cfg(test)]
mod fixture;
pub mod input;
pub mod lookup;
pub mod price;
pub mod totals;
pub mod window;

pub use amount::{Amount, Factor};
pub use catalog::Catalog;
pub use effects::{Body, Cause, Effects, Notice, Outcome, Reason, Rejection, Timer};
pub use input::{Change, Command, Usage};

/// Milliseconds since 1970-01-01T00:00:00Z, UTC.
pub type Ms = i64;
