//! Pages about accounts: the view, a month's usage, `check`, the list.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{FromRequestParts, Path, Query as UrlQuery, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::oneshot;

use super::http::{Site, json as json_answer};
use super::problem::Problem;
use super::{AccountLine, Ask, CheckAnswer, CheckRequest, LIST_MAX, Query, Reply, rate_limit};
use crate::config::Scope;
use crate::engine::input::Billing;
use crate::engine::{Amount, Ms};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const LIST_DEFAULT: usize = 100;
const ACCOUNT_BYTES_MAX: usize = 256;

/// The account of the path, well formed and within the token's scope.
pub struct Account(String);

/// The parameters after `?`; unknown ones are refused, so that a typo does not look like an answer.
pub struct Asked<T>(pub T);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageParameters {
    month: Option<String>,
    by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckParameters {
    user: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    model: Option<String>,
    billing: Option<String>,
    amount: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParameters {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

pub async fn view(State(site): State<Arc<Site>>, Account(account): Account, uri: Uri, headers: HeaderMap) -> Response {
    let reply = ask(&site, Ask::View { account: account.clone() }).await;
    respond(reply, &account, &uri, &headers)
}

pub async fn usage(
    State(site): State<Arc<Site>>,
    Account(account): Account,
    Asked(asked): Asked<UsageParameters>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let month = match asked.month.as_deref().map(parse_month).transpose() {
        Ok(month) => month,
        Err(problem) => return problem.into_response(),
    };
    let reply = ask(&site, Ask::Usage { account: account.clone(), month, by: asked.by }).await;
    respond(reply, &account, &uri, &headers)
}

pub async fn check(
    State(site): State<Arc<Site>>,
    Account(account): Account,
    Asked(asked): Asked<CheckParameters>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let request = match asked.request() {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let reply = ask(&site, Ask::Check { account: account.clone(), request }).await;
    respond(reply, &account, &uri, &headers)
}

/// Merges the lists of this instance's partitions; those of other instances are asked there.
pub async fn list(
    State(site): State<Arc<Site>>,
    Extension(scope): Extension<Scope>,
    Asked(asked): Asked<ListParameters>,
) -> Response {
    if !scope.reads_all() {
        return Problem::forbidden("the token is for one account; a list needs scope read or admin").into_response();
    }
    let limit = asked.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
    let mut waiting = Vec::new();
    for status in site.backend.partitions() {
        let (prefix, after) = (asked.prefix.clone(), asked.after.clone());
        // One more than asked for, to know whether there is a next page.
        let list = Ask::List { partition: status.partition, prefix, after, limit: limit + 1 };
        waiting.push(ask(&site, list));
    }
    let mut lines: Vec<AccountLine> = Vec::new();
    for reply in waiting {
        match reply.await {
            Some(Reply::Accounts(some)) => lines.extend(some),
            // A list with holes would look whole.
            _ => return Problem::not_ready().into_response(),
        }
    }
    lines.sort_unstable_by(|one, other| one.account.as_bytes().cmp(other.account.as_bytes()));
    let more = lines.len() > limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| more).map(|line| line.account.clone());
    Json(json!({ "accounts": lines, "next": next })).into_response()
}

/// Sends the question at once; the answer is awaited later. `None`: there is none in time.
fn ask(site: &Site, ask: Ask) -> impl Future<Output = Option<Reply>> + use<> {
    let (reply, answer) = oneshot::channel();
    site.backend.ask(Query { ask, reply });
    async { tokio::time::timeout(ANSWER_WITHIN, answer).await.ok().and_then(Result::ok) }
}

fn respond(reply: Option<Reply>, account: &str, uri: &Uri, headers: &HeaderMap) -> Response {
    match reply {
        Some(Reply::Json(body)) => tagged(body, headers),
        Some(Reply::Check(answer)) => checked(&answer, now_ms()),
        Some(Reply::NotFound) => Problem::no_account(account).into_response(),
        Some(Reply::Bad(detail)) => Problem::bad_request(detail).into_response(),
        Some(Reply::Elsewhere(Some(base))) => redirect(&base, uri),
        Some(Reply::Elsewhere(None)) => Problem::elsewhere().into_response(),
        Some(Reply::NotReady | Reply::Accounts(_)) | None => Problem::not_ready().into_response(),
    }
}

/// With an `ETag` of the whole answer, the account's sequence included; 304 where the client has it already.
fn tagged(body: Vec<u8>, headers: &HeaderMap) -> Response {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|one| one.trim().trim_start_matches("W/"));
    let same = known.any(|one| one == tag || one == "*");
    let mut response = if same { StatusCode::NOT_MODIFIED.into_response() } else { json_answer(body) };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn checked(answer: &CheckAnswer, now: Ms) -> Response {
    let mut response = Json(answer).into_response();
    if let Some((policy, left)) = rate_limit::fields(&answer.limits, now) {
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 307 to the same path of the instance that owns the account.
fn redirect(base: &str, uri: &Uri) -> Response {
    let path = uri.path_and_query().map_or(uri.path(), |path| path.as_str());
    match HeaderValue::try_from(format!("{}{path}", base.trim_end_matches('/'))) {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response(),
        Err(_) => Problem::elsewhere().into_response(),
    }
}

impl CheckParameters {
    fn request(self) -> Result<CheckRequest, Problem> {
        let billing = match self.billing.as_deref() {
            None => None,
            Some("plan") => Some(Billing::Plan),
            Some("payg") => Some(Billing::Payg),
            Some(other) => {
                return Err(Problem::bad_request(format!("billing is {other:?}; expected plan or payg")));
            }
        };
        let amount = match self.amount.as_deref() {
            None => None,
            Some(text) => match Amount::parse(text) {
                Ok(amount) if amount >= Amount::ZERO && amount < Amount::VALUE_LIMIT => Some(amount),
                _ => {
                    return Err(Problem::bad_request(format!(
                        "amount is {text:?}; expected a decimal from 0 to below 10^15 with at most 9 decimals"
                    )));
                }
            },
        };
        Ok(CheckRequest { user: self.user, kind: self.kind, model: self.model, billing, amount })
    }
}

/// `2026-11` as `year * 12 + month0`.
fn parse_month(text: &str) -> Result<i32, Problem> {
    let wrong = || Problem::bad_request(format!("month is {text:?}; expected one like 2026-11"));
    let (year, month) =
        text.split_once('-').filter(|(year, month)| year.len() == 4 && month.len() == 2).ok_or_else(wrong)?;
    let digits =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i32>().ok()).flatten();
    let year = digits(year).filter(|year| *year >= 1970).ok_or_else(wrong)?;
    let month = digits(month).filter(|month| (1..=12).contains(month)).ok_or_else(wrong)?;
    Ok(year * 12 + month - 1)
}

fn now_ms() -> Ms {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl FromRequestParts<Arc<Site>> for Account {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Account, Problem> {
        let path: Result<Path<String>, _> = Path::from_request_parts(parts, site).await;
        let Path(account) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
        let scope = parts.extensions.get::<Scope>();
        if !scope.is_some_and(|scope| scope.reads(&account)) {
            return Err(Problem::forbidden("the token is for another account"));
        }
        if account.len() > ACCOUNT_BYTES_MAX || account.chars().any(char::is_control) {
            return Err(Problem::bad_request("an account is 1 to 256 bytes of UTF-8 without control characters"));
        }
        Ok(Account(account))
    }
}

impl<T: DeserializeOwned> FromRequestParts<Arc<Site>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Site>) -> Result<Asked<T>, Problem> {
        match UrlQuery::try_from_uri(&parts.uri) {
            Ok(UrlQuery(asked)) => Ok(Asked(asked)),
            Err(error) => Err(Problem::bad_request(error.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_months() {
        assert_eq!(parse_month("2026-11").expect("a month"), 2026 * 12 + 10);
        for text in ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "+026-11", "2026-+1", "1969-12", "2026-11-01"]
        {
            assert!(parse_month(text).is_err(), "{text}");
        }
    }
}
