//! `/v1/notices`: the notices that this instance commits, as server-sent events (WHATWG HTML 9.2), by account and type.
//!
//! A reader that is too slow loses notices rather than holding up the daemon, and is told how many; the topic
//! `meter.events` has them all.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged;

use super::NoticeLine;
use super::accounts::Asked;
use super::http::Site;
use super::problem::Problem;
use crate::config::Scope;

/// Streams open at once.
pub const STREAMS_MAX: usize = 128;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Notices that `recent` can ask for.
const KEPT: usize = 2_000;
/// Notices that a reader may be behind.
const CHANNEL: usize = 4_096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    account: Option<String>,
    /// With or without `meterd.`; `cap.*` for all that begin so; several with commas.
    #[serde(rename = "type")]
    kinds: Option<String>,
    /// Begin with so many of the last ones that fit.
    #[serde(default)]
    recent: usize,
}

/// The notices heard so far, the newest `KEPT` of them, and whoever listens.
pub struct Feed {
    kept: Mutex<VecDeque<Arc<NoticeLine>>>,
    heard: broadcast::Sender<Heard>,
}

#[derive(Clone)]
enum Heard {
    Notice(Arc<NoticeLine>),
    /// So many went by unheard.
    Lost(u64),
}

impl Feed {
    pub fn new() -> Feed {
        Feed { kept: Mutex::default(), heard: broadcast::Sender::new(CHANNEL) }
    }

    /// Hears the daemon's notices until it ends.
    pub async fn listen(&self, mut notices: broadcast::Receiver<Arc<NoticeLine>>) {
        loop {
            let heard = match notices.recv().await {
                Ok(line) => Heard::Notice(line),
                Err(broadcast::error::RecvError::Lagged(count)) => Heard::Lost(count),
                Err(broadcast::error::RecvError::Closed) => return,
            };
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Heard::Notice(line) = &heard {
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back(line.clone());
            }
            // Sent under the lock, so that who subscribes under it misses nothing and hears nothing twice. An error is
            // that nobody listens.
            let _ = self.heard.send(heard);
        }
    }

    /// The last `recent` notices that fit, oldest first, and those that come after them.
    fn subscribe(&self, filter: &Filter) -> (Vec<Heard>, broadcast::Receiver<Heard>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = kept.iter().rev().filter(|line| filter.fits(line)).take(filter.recent);
        let mut recent: Vec<Heard> = newest.cloned().map(Heard::Notice).collect();
        recent.reverse();
        (recent, self.heard.subscribe())
    }
}

pub async fn notices(
    State(site): State<Arc<Site>>,
    Extension(scope): Extension<Scope>,
    Asked(filter): Asked<Filter>,
) -> Response {
    let allowed = match &filter.account {
        Some(account) => scope.reads(account),
        None => scope.reads_all(),
    };
    if !allowed {
        return Problem::forbidden("the token is for one account; ask for its notices with ?account=").into_response();
    }
    let Ok(permit) = site.streams.clone().try_acquire_owned() else {
        return Problem::busy(format!("{STREAMS_MAX} streams of notices are open; close one")).into_response();
    };
    let (recent, coming) = site.feed.subscribe(&filter);
    let coming = BroadcastStream::new(coming).map(|heard| heard.unwrap_or_else(|Lagged(count)| Heard::Lost(count)));
    let events = tokio_stream::iter(recent).chain(coming).filter_map(move |heard| {
        // The permit lives as long as the stream does.
        let _held = &permit;
        match heard {
            Heard::Notice(line) => filter.fits(&line).then(|| Ok::<Event, Infallible>(event(&line))),
            Heard::Lost(count) => Some(Ok(Event::default().event("lost").data(format!("{{\"count\":{count}}}")))),
        }
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn event(line: &NoticeLine) -> Event {
    let id = format!("{}/{}", line.account, line.sequence);
    Event::default().id(id).event("notice").data(String::from_utf8_lossy(&line.json))
}

impl Filter {
    fn fits(&self, line: &NoticeLine) -> bool {
        let account = self.account.as_deref().is_none_or(|account| account == &*line.account);
        let kind = self.kinds.as_deref().is_none_or(|kinds| kinds.split(',').any(|kind| kind_fits(kind, &line.kind)));
        account && kind
    }
}

fn kind_fits(asked: &str, kind: &str) -> bool {
    let asked = asked.trim();
    let asked = asked.strip_prefix("meterd.").unwrap_or(asked);
    match asked.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_by_account_and_type() {
        let line = |account: &str, kind: &str| NoticeLine {
            account: account.into(),
            kind: kind.into(),
            sequence: 1,
            json: Vec::new(),
        };
        let filter = |account: Option<&str>, kinds: Option<&str>| Filter {
            account: account.map(Into::into),
            kinds: kinds.map(Into::into),
            recent: 0,
        };
        let warning = line("acme", "cap.warning");
        for (asked, fits) in [
            (filter(None, None), true),
            (filter(Some("acme"), None), true),
            (filter(Some("acm"), None), false),
            (filter(None, Some("cap.*")), true),
            (filter(None, Some("meterd.cap.warning")), true),
            (filter(None, Some("balance.low, cap.warning")), true),
            (filter(None, Some("cap")), false),
            (filter(Some("acme"), Some("balance.*")), false),
        ] {
            assert_eq!(asked.fits(&warning), fits, "{:?} {:?}", asked.account, asked.kinds);
        }
    }
}
