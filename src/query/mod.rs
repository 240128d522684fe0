//! Reading: views of accounts, `check`, partitions, notices as they come, over HTTP (docs/reference.md 13).
//!
//! Readers see committed state only. The shards own it; the HTTP server asks them through [`Backend`] and never touches
//! an account itself. A question takes a shard as long as it takes to write an answer, so lists are bounded and answers
//! that cost more than a look-up (merging, filtering, formats) are made on this side.

mod accounts;
mod assets;
pub mod check;
mod feed;
pub mod http;
mod problem;
mod rate_limit;
mod status;
pub mod view;

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{broadcast, oneshot};

use crate::engine::input::Billing;
use crate::engine::{Amount, Ms};

/// Accounts of one answer to `/v1/accounts`, at most.
pub const LIST_MAX: usize = 1_000;

/// What the HTTP server asks: the daemon, or an engine in memory.
pub trait Backend: Send + Sync + 'static {
    /// Answers through `query.reply`, from committed state, without blocking the caller. A dropped reply is told as
    /// "not ready".
    fn ask(&self, query: Query);
    /// Of the partitions that this instance owns, in order.
    fn partitions(&self) -> Vec<PartitionStatus>;
    fn health(&self) -> Health;
    /// The notices committed by this instance from now on.
    fn notices(&self) -> broadcast::Receiver<Arc<NoticeLine>>;
}

#[derive(Debug)]
pub struct Query {
    pub ask: Ask,
    pub reply: oneshot::Sender<Reply>,
}

#[derive(Clone, Debug)]
pub enum Ask {
    /// The view of an account, as of its partition's clock.
    View { account: String },
    /// Totals of one month (`year * 12 + month0`, UTC; absent: the clock's), broken down by a field of `[totals] by`.
    ///
    /// `{"account","month":"2026-11","records","failed","charged":{"plan","payg","overflow"},"quantities","by":"model",
    /// "values":[{"value":"opus-4.7","records","charged"}]}`, values by bytes; without `by` it is null and `values` empty.
    Usage { account: String, month: Option<i32>, by: Option<String> },
    /// Whether the account may use something, as of the wall clock.
    Check { account: String, request: CheckRequest },
    /// Accounts of one partition by bytes of id: those that begin with `prefix` and come after `after`, up to `limit`.
    List { partition: i32, prefix: String, after: String, limit: usize },
}

/// `/v1/accounts/{id}/check`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckRequest {
    pub user: Option<String>,
    /// The record's `type`.
    pub kind: Option<String>,
    pub model: Option<String>,
    pub billing: Option<Billing>,
    /// In the unit of the route.
    pub amount: Option<Amount>,
}

#[derive(Debug)]
pub enum Reply {
    /// A view or a month's usage.
    Json(Vec<u8>),
    Check(CheckAnswer),
    Accounts(Vec<AccountLine>),
    /// The account does not exist.
    NotFound,
    /// Something of the request is not known: a field that is not in `[totals] by`, ...
    Bad(String),
    /// The account's partition belongs to another instance; its base URL, if known.
    Elsewhere(Option<String>),
    /// The partition is being recovered or moved.
    NotReady,
}

/// Whether a record would be allowed, and why not (docs/reference.md 13, 16).
#[derive(Clone, Debug, Serialize)]
pub struct CheckAnswer {
    pub allowed: bool,
    pub route: &'static str,
    pub reasons: Vec<CheckReason>,
    /// Of the route's unit; null where the route has none.
    pub available: Option<String>,
    /// The limits that the record would count in, in catalog order, for the `RateLimit` header fields.
    #[serde(skip)]
    pub limits: Vec<CheckLimit>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckReason {
    pub code: &'static str,
    pub limit: Option<String>,
    pub resets_at: Option<String>,
}

#[derive(Clone, Debug)]
pub struct CheckLimit {
    pub name: Box<str>,
    pub cap: Amount,
    pub remaining: Amount,
    /// Length of the window; `None`: lifetime, or an endless period.
    pub window_ms: Option<i64>,
    pub resets_at: Option<Ms>,
}

/// An account in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccountLine {
    pub account: String,
    pub plan: String,
    /// `active` or `grace`.
    pub status: &'static str,
    pub sequence: u64,
}

/// A committed notice, as it stands in `meter.events`.
#[derive(Clone, Debug)]
pub struct NoticeLine {
    pub account: Box<str>,
    /// The type without `meterd.`.
    pub kind: Box<str>,
    pub sequence: u64,
    /// The whole CloudEvent, one line of JSON.
    pub json: Vec<u8>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    pub partition: i32,
    /// `recovering`, `live`, `paused` or `revoked`.
    pub state: &'static str,
    /// RFC 3339; null before the first input.
    pub clock: Option<String>,
    pub usage: TopicStatus,
    pub commands: TopicStatus,
    /// Age of the oldest usage record not folded yet.
    pub lag_ms: i64,
    pub accounts: u64,
    pub identities: u64,
    pub timers_armed: u64,
    /// Age of the oldest change that no checkpoint holds yet.
    pub checkpoint_age_ms: i64,
    /// Journaled inputs that recovery has still to fold.
    pub replay_left: i64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TopicStatus {
    /// The next offset to be folded.
    pub offset: i64,
    /// The topic's end, where known.
    pub end: Option<i64>,
    pub lag: i64,
}

/// What `/livez` and `/readyz` tell.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// False when a partition with input makes no progress, or a thread died.
    pub live: bool,
    /// Recovered, assigned, and caught up to the committed mark.
    pub ready: bool,
    /// What was looked at, for `?verbose`.
    pub checks: Vec<HealthCheck>,
}

#[derive(Clone, Debug, Serialize)]
pub struct HealthCheck {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
}
