//! Errors of the HTTP server: problem details (RFC 9457).

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// The last part of the problem's `type`.
    code: &'static str,
    title: &'static str,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, code, title, detail: detail.into(), header: None }
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be understood", detail)
    }

    pub fn unauthorized(detail: impl Into<String>) -> Problem {
        let mut problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed", detail);
        problem.header = Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"meterd\"")));
        problem
    }

    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "The token does not allow this", detail)
    }

    /// A browser was led here under another name than the server's own.
    pub fn foreign_host(host: &str) -> Problem {
        Problem::new(
            StatusCode::FORBIDDEN,
            "foreign-host",
            "The host name is not this server's",
            format!(
                "expected localhost or a loopback address in Host, found {host:?}; to serve other names set \
                 http.tokens, or http.tls-terminated behind a proxy"
            ),
        )
    }

    pub fn no_account(account: &str) -> Problem {
        let detail = format!("no usage or command of {account:?} has been processed");
        Problem::new(StatusCode::NOT_FOUND, "no-account", "The account does not exist", detail)
    }

    pub fn no_page(path: &str) -> Problem {
        let detail = format!("nothing is at {path:?}; /openapi.json lists what is");
        Problem::new(StatusCode::NOT_FOUND, "no-page", "There is no such page", detail)
    }

    pub fn method(allowed: &'static str) -> Problem {
        let mut problem = Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            "The method is not allowed",
            "everything here is read with GET; changes are commands on Kafka (meterd account --help)",
        );
        problem.header = Some((header::ALLOW, HeaderValue::from_static(allowed)));
        problem
    }

    pub fn elsewhere() -> Problem {
        Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "elsewhere",
            "Another instance owns the account",
            "the account's partition is not assigned to this instance, and its owner's address is not known; set \
             http.advertise on every instance to be redirected",
        )
    }

    pub fn not_ready() -> Problem {
        let mut problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-ready",
            "The partition is not ready",
            "the account's partition is being recovered or moved; try again in a moment (/readyz?verbose tells more)",
        );
        problem.header = Some((header::RETRY_AFTER, HeaderValue::from_static("1")));
        problem
    }

    pub fn busy(detail: impl Into<String>) -> Problem {
        let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many requests at once", detail);
        problem.header = Some((header::RETRY_AFTER, HeaderValue::from_static("1")));
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("urn:meterd:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut response = (self.status, kind, body.to_string()).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
