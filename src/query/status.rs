//! Pages about the daemon: partitions, health, metrics, version, and the overview that the dashboard draws.

use std::sync::{Arc, PoisonError};

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::HealthCheck;
use super::http::Site;
use super::problem::Problem;
use crate::config::Scope;
use crate::telemetry::history::Sample;

pub async fn partitions(State(site): State<Arc<Site>>, Extension(scope): Extension<Scope>) -> Response {
    match about_all(&scope) {
        Ok(()) => Json(json!({ "partitions": site.backend.partitions() })).into_response(),
        Err(problem) => problem.into_response(),
    }
}

pub async fn metrics(State(site): State<Arc<Site>>, Extension(scope): Extension<Scope>) -> Response {
    match about_all(&scope) {
        Ok(()) => ([(header::CONTENT_TYPE, site.exposition.content_type())], site.exposition.render()).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Totals since the start, latency of the last minute, and the last five minutes by the second.
pub async fn overview(State(site): State<Arc<Site>>, Extension(scope): Extension<Scope>) -> Response {
    if let Err(problem) = about_all(&scope) {
        return problem.into_response();
    }
    let totals = site.metrics.totals();
    let latency = site.metrics.latency_minute();
    let samples: Vec<Sample> = {
        let history = site.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.samples().copied().collect()
    };
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": site.started.elapsed().as_secs(),
        "ready": site.backend.health().ready,
        "totals": {
            "records": totals.records,
            "bytes": totals.bytes,
            "notices": totals.notices,
            "commits": totals.commits,
            "aborts": totals.aborts,
            "conservation_violations": totals.conservation_violations,
            "accounts": totals.accounts,
            "timers_armed": totals.timers_armed,
            "lag_records": totals.lag_records,
            "lag_ms": totals.lag_ms,
        },
        "outcomes": by_name(site.metrics.outcomes()),
        "quarantined": by_name(site.metrics.quarantine_reasons()),
        "notices": by_name(site.metrics.notice_types()),
        "latency": { "count": latency.count, "p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms },
        "history": samples,
    }))
    .into_response()
}

pub async fn version() -> Response {
    Json(json!({ "name": "meterd", "version": env!("CARGO_PKG_VERSION") })).into_response()
}

pub async fn livez(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Response {
    let health = site.backend.health();
    told("livez", health.live, &health.checks, query.as_deref())
}

pub async fn readyz(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Response {
    let health = site.backend.health();
    told("readyz", health.live && health.ready, &health.checks, query.as_deref())
}

/// Names of partitions and lags are all that a health check tells, so it is open to everyone.
fn told(name: &str, fine: bool, checks: &[HealthCheck], query: Option<&str>) -> Response {
    let verdict = if fine { "ok" } else { "failed" };
    let mut text = String::new();
    if query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="))) {
        for check in checks {
            let mark = if check.ok { '+' } else { '-' };
            text.push_str(&format!("[{mark}] {}: {}\n", check.name, check.detail));
        }
    }
    text.push_str(&format!("{name}: {verdict}\n"));
    let status = if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

fn about_all(scope: &Scope) -> Result<(), Problem> {
    if scope.reads_all() {
        return Ok(());
    }
    Err(Problem::forbidden("the token is for one account; this page tells of all and needs scope read or admin"))
}

fn by_name(counts: Vec<(&'static str, u64)>) -> Value {
    Value::Object(counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect::<Map<_, _>>())
}
