//! The HTTP server (docs/reference.md 13): where it listens, who is let in, and which page is where.
//!
//! It runs on a small runtime of its own, so that a flood of readers takes no time from the fold. Everything is GET.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{future, io};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::MissedTickBehavior;

use super::feed::{self, Feed};
use super::problem::Problem;
use super::{Backend, accounts, assets, status};
use crate::config::daemon::Http;
use crate::config::{Scope, Tokens};
use crate::telemetry::Metrics;
use crate::telemetry::families::Exposition;
use crate::telemetry::history::History;

/// Requests being answered at once, streams of notices aside.
const REQUESTS_MAX: usize = 256;
/// How long requests under way may take when the server stops.
const STOP_GRACE: Duration = Duration::from_millis(300);

/// A running server. Dropped, it ends at once; [`Server::stop`] lets requests under way finish.
pub struct Server {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<tokio::task::JoinHandle<io::Result<()>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// What the pages read.
pub(super) struct Site {
    pub backend: Arc<dyn Backend>,
    pub metrics: Arc<Metrics>,
    pub exposition: Exposition,
    pub history: Mutex<History>,
    pub started: Instant,
    pub feed: Feed,
    pub streams: Arc<Semaphore>,
    requests: Semaphore,
    tokens: Option<Tokens>,
    any_host: bool,
}

/// Binds and serves. An error is that of binding: the address is taken, or not ours.
pub fn start(http: Http, backend: Arc<dyn Backend>, metrics: Arc<Metrics>) -> io::Result<Server> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .thread_name("http")
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind(http.listen))?;
    let address = listener.local_addr()?;
    let site = Arc::new(Site {
        backend,
        exposition: Exposition::new(metrics.clone()),
        metrics,
        history: Mutex::default(),
        started: Instant::now(),
        feed: Feed::new(),
        streams: Arc::new(Semaphore::new(feed::STREAMS_MAX)),
        requests: Semaphore::new(REQUESTS_MAX),
        any_host: http.tls_terminated || http.tokens.is_some() || !http.listen.ip().is_loopback(),
        tokens: http.tokens,
    });
    let (stop, stopped) = oneshot::channel();
    runtime.spawn(keep_history(site.clone()));
    let (listening, notices) = (site.clone(), site.backend.notices());
    runtime.spawn(async move { listening.feed.listen(notices).await });
    let serve = axum::serve(listener, routes(site)).with_graceful_shutdown(async {
        // An error is the server dropped without stop: the runtime ends with it.
        let _ = stopped.await;
    });
    let serving = runtime.spawn(future::IntoFuture::into_future(serve));
    Ok(Server { address, stop: Some(stop), serving: Some(serving), runtime: Some(runtime) })
}

impl Server {
    pub fn stop(mut self) {
        if let (Some(stop), Some(serving), Some(runtime)) = (self.stop.take(), self.serving.take(), &self.runtime) {
            // Streams of notices never end by themselves: they are cut when the grace is over.
            let _ = stop.send(());
            let _ = runtime.block_on(async { tokio::time::timeout(STOP_GRACE, serving).await });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) fn routes(site: Arc<Site>) -> Router {
    Router::new()
        .route("/v1/accounts", get(accounts::list))
        .route("/v1/accounts/{account}", get(accounts::view))
        .route("/v1/accounts/{account}/usage", get(accounts::usage))
        .route("/v1/accounts/{account}/check", get(accounts::check))
        .route("/v1/partitions", get(status::partitions))
        .route("/v1/overview", get(status::overview))
        .route("/v1/notices", get(feed::notices))
        .route("/metrics", get(status::metrics))
        .route("/livez", get(status::livez))
        .route("/readyz", get(status::readyz))
        .route("/version", get(status::version))
        .route("/openapi.json", get(assets::openapi))
        .route("/", get(assets::dashboard))
        .route("/dashboard/{*file}", get(assets::file))
        .fallback(|uri: Uri| async move { Problem::no_page(uri.path()) })
        .method_not_allowed_fallback(|| async { Problem::method("GET, HEAD") })
        .layer(middleware::from_fn_with_state(site.clone(), admit))
        .with_state(site)
}

/// Pages that tell nothing about any account, open without a token.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/livez" | "/readyz" | "/version" | "/openapi.json") || path.starts_with("/dashboard/")
}

/// Lets a request in, with its [`Scope`], or says why not.
async fn admit(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    let Ok(_permit) = site.requests.try_acquire() else {
        return Problem::busy(format!("{REQUESTS_MAX} requests are being answered; try again in a moment"))
            .into_response();
    };
    match scope_of(&site, &request) {
        Ok(scope) => request.extensions_mut().insert(scope),
        Err(problem) => return problem.into_response(),
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

fn scope_of(site: &Site, request: &Request) -> Result<Scope, Problem> {
    if !site.any_host {
        let host = request.headers().get(header::HOST).map_or("", |host| host.to_str().unwrap_or("?"));
        if !is_own_host(host) {
            return Err(Problem::foreign_host(host));
        }
    }
    let Some(tokens) = &site.tokens else { return Ok(Scope::Read) };
    let presented = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented =
        presented.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    match presented.map(|(_, token)| tokens.scope_of(token.trim())) {
        Some(Some(scope)) => Ok(scope.clone()),
        // What is open needs no scope, and a wrong token there is no reason to fail a health check.
        _ if is_open(request.uri().path()) => Ok(Scope::Account(String::new())),
        Some(None) => Err(Problem::unauthorized("the token is not one of those in the file of http.tokens")),
        None => Err(Problem::unauthorized("send one as \"Authorization: Bearer <token>\"")),
    }
}

/// Without tokens only who names this machine itself is let in: a web page elsewhere can make a browser resolve the
/// page's own name to 127.0.0.1, but not send another Host.
fn is_own_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A sample each second, for the charts of the dashboard.
async fn keep_history(site: Arc<Site>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        site.metrics.set_ready(site.backend.health().ready);
        site.history.lock().unwrap_or_else(PoisonError::into_inner).sample(&site.metrics, Instant::now());
    }
}

/// Answers JSON that is already text.
pub(super) fn json(body: Vec<u8>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "127.0.0.2", "[::1]:80", "[::1]"] {
            assert!(is_own_host(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:9464", "127.0.0.1.evil.example", "10.0.0.1:80", "localhost.evil"]
        {
            assert!(!is_own_host(host), "{host}");
        }
    }
}
