//! Taking up a changed catalog (docs/reference.md 7.6, 16 "Reload"), before an account's next input or timer.

use super::account::Account;
use super::catalogs::Catalogs;
use super::changes::Changes;
use super::{Effects, Ms};

pub(super) fn take_up(_account: &mut Account, _catalogs: &Catalogs, _changes: &mut Changes, _clock: Ms, _fx: &mut Effects) {}
