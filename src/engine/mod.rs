//! The fold: one account's state, a catalog, an input with its clock in; the changed state and effects out.
//!
//! Pure: no I/O, no clock, no randomness, no logging, no floats. It cannot fail: a refused record is an [`Outcome`].

mod access;
pub mod account;
mod ahead;
mod alerts;
pub mod amount;
pub(crate) mod balance;
pub mod calendar;
pub mod catalog;
pub mod catalogs;
mod changes;
mod charge;
mod commands;
pub mod effects;
mod exact;
#[cfg(test)]
mod fixture;
pub(crate) mod grants;
pub(crate) mod identities;
pub mod input;
mod issue;
mod ledger;
pub(crate) mod limits;
pub mod lookup;
mod payment;
pub(crate) mod period;
mod plan_limits;
pub mod price;
mod profile;
mod record;
mod refund;
pub(crate) mod sessions;
mod settings;
mod slim;
mod step;
mod subscription;
pub mod take_up;
mod timers;
pub mod totals;
pub(crate) mod users;
pub mod window;

pub use account::Account;
pub use amount::{Amount, Factor};
pub use catalog::Catalog;
pub use catalogs::Catalogs;
pub(crate) use changes::ACCOUNT;
pub use effects::{Body, Cause, Effects, Notice, Outcome, Reason, Rejection, Timer};
pub use input::{Change, Command, Usage};
pub use step::{Engine, Moment};
pub use take_up::lacks;
pub(crate) use timers::as_of;

/// Milliseconds since 1970-01-01T00:00:00Z, UTC.
pub type Ms = i64;

/// Raised whenever any outcome changes: a journal is folded again only by the revision that wrote it.
pub const REVISION: u32 = 1;
