//! The HTTP server against a backend in memory: answers, errors, tokens, streams, files (docs/reference.md 13).

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use meterd::config::Tokens;
use meterd::config::daemon::Http;
use meterd::engine::Amount;
use meterd::query::http::{Server, start};
use meterd::query::{
    AccountLine, Ask, Backend, CheckAnswer, CheckLimit, CheckReason, Health, HealthCheck, NoticeLine, PartitionStatus,
    Query, Reply, TopicStatus,
};
use meterd::telemetry::Metrics;
use serde_json::Value;
use tokio::sync::broadcast;

/// Two partitions with three accounts, and an account for each way in which there can be no answer.
struct Canned {
    notices: broadcast::Sender<Arc<NoticeLine>>,
}

impl Backend for Canned {
    fn ask(&self, query: Query) {
        let reply = match query.ask {
            Ask::View { account } => match account.as_str() {
                "acme" => Reply::Json(br#"{"account":"acme","sequence":3}"#.to_vec()),
                "a/b c" => Reply::Json(br#"{"account":"a/b c","sequence":1}"#.to_vec()),
                "away" => Reply::Elsewhere(Some("http://127.0.0.1:1/".into())),
                "lost" => Reply::Elsewhere(None),
                "moving" => Reply::NotReady,
                // The reply is dropped, as by a shard that ends.
                "dropped" => return,
                _ => Reply::NotFound,
            },
            Ask::Usage { month, by, .. } => match by.as_deref() {
                None | Some("model") => Reply::Json(format!("{{\"month\":{month:?},\"by\":{by:?}}}").into_bytes()),
                Some(_) => Reply::Bad("by: expected model or user".into()),
            },
            Ask::Check { request, .. } => {
                assert_eq!(request.kind.as_deref(), Some("llm.call"));
                assert_eq!(request.amount, Some(Amount::whole(5)));
                Reply::Check(refused())
            }
            Ask::List { partition, prefix, after, limit } => {
                let ids: &[&str] = if partition == 0 { &["acme", "zeta"] } else { &["beta"] };
                let fits = |id: &&&str| id.starts_with(&prefix) && ***id > *after;
                Reply::Accounts(ids.iter().filter(fits).take(limit).map(|id| account_line(id)).collect())
            }
        };
        let _ = query.reply.send(reply);
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        (0..2)
            .map(|partition| PartitionStatus {
                partition,
                state: "live",
                clock: Some("2026-11-20T07:00:00.000Z".into()),
                usage: TopicStatus { offset: 10, end: Some(12), lag: 2 },
                commands: TopicStatus::default(),
                lag_ms: 40,
                accounts: 2,
                identities: 10,
                timers_armed: 1,
                checkpoint_age_ms: 0,
                replay_left: 0,
            })
            .collect()
    }

    fn health(&self) -> Health {
        let checks = vec![HealthCheck { name: "recovered", ok: false, detail: "1 of 2 partitions".into() }];
        Health { live: true, ready: false, checks }
    }

    fn notices(&self) -> broadcast::Receiver<Arc<NoticeLine>> {
        self.notices.subscribe()
    }
}

fn refused() -> CheckAnswer {
    CheckAnswer {
        allowed: false,
        route: "plan",
        reasons: vec![CheckReason { code: "cap_exceeded", limit: Some("5h".into()), resets_at: None }],
        available: Some("12.5".into()),
        limits: vec![CheckLimit {
            name: "5h".into(),
            cap: Amount::whole(50),
            remaining: Amount::ZERO,
            window_ms: Some(18_000_000),
            resets_at: None,
        }],
    }
}

fn account_line(id: &str) -> AccountLine {
    AccountLine { account: id.into(), plan: "pro".into(), status: "active", sequence: 1 }
}

struct Site {
    server: Server,
    notices: broadcast::Sender<Arc<NoticeLine>>,
    client: ureq::Agent,
}

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: String,
}

impl Site {
    fn new(tokens: Option<Tokens>) -> Site {
        let (notices, _) = broadcast::channel(64);
        let listen = "127.0.0.1:0".parse().expect("an address");
        let settings = Http { listen, advertise: None, tokens, tls_terminated: false };
        let backend = Arc::new(Canned { notices: notices.clone() });
        let server = start(settings, backend, Metrics::new()).expect("a free port");
        let client = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().new_agent();
        Site { server, notices, client }
    }

    fn open() -> Site {
        Site::new(None)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.client.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.call().expect(path);
        let body = response.body_mut().read_to_string().expect("a body in UTF-8");
        Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
    }

    fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }
}

#[test]
fn a_view_has_a_tag_that_saves_its_body() {
    let site = Site::open();
    let view = site.get("/v1/accounts/acme");
    assert_eq!((view.status, view.header("content-type")), (200, "application/json"));
    assert_eq!(view.body, r#"{"account":"acme","sequence":3}"#);
    let tag = view.header("etag").to_owned();
    let again = site.get_with("/v1/accounts/acme", &[("if-none-match", &tag)]);
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(site.get_with("/v1/accounts/acme", &[("if-none-match", "\"other\"")]).status, 200);
    assert_eq!(site.get("/v1/accounts/a%2Fb%20c").json()["account"], "a/b c");
}

#[test]
fn errors_are_problem_details() {
    let site = Site::open();
    for (path, status, code) in [
        ("/v1/accounts/nobody", 404, "no-account"),
        ("/v1/accounts/lost", 421, "elsewhere"),
        ("/v1/accounts/moving", 503, "not-ready"),
        ("/v1/accounts/dropped", 503, "not-ready"),
        ("/v1/accounts/%0A", 400, "bad-request"),
        ("/v1/accounts/%FF", 400, "bad-request"),
        ("/v1/accounts/acme/usage?month=november", 400, "bad-request"),
        ("/v1/accounts/acme/usage?by=shoe", 400, "bad-request"),
        ("/v1/accounts/acme/usage?months=1", 400, "bad-request"),
        ("/v1/accounts/acme/check?amount=-1", 400, "bad-request"),
        ("/v1/accounts/acme/check?amount=1e3", 400, "bad-request"),
        ("/v1/accounts/acme/check?billing=card", 400, "bad-request"),
        ("/v1/accounts?limit=many", 400, "bad-request"),
        ("/v1/nothing", 404, "no-page"),
        ("/dashboard/../http.rs", 404, "no-page"),
    ] {
        let answer = site.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        let problem = answer.json();
        assert_eq!(problem["type"], format!("urn:meterd:problem:{code}"), "{path}");
        assert_eq!(problem["status"], status, "{path}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{path}");
    }
    let away = site.get("/v1/accounts/away?x=1");
    assert_eq!((away.status, away.header("location")), (307, "http://127.0.0.1:1/v1/accounts/away?x=1"));
    let posted = site.client.post(site.url("/v1/accounts/acme")).send_empty().expect("an answer");
    assert_eq!((posted.status().as_u16(), posted.headers()["allow"].as_bytes()), (405, &b"GET, HEAD"[..]));
}

#[test]
fn check_tells_its_limits_in_ratelimit_fields() {
    let answer = Site::open().get("/v1/accounts/acme/check?user=ana&type=llm.call&model=opus&amount=5");
    assert_eq!(answer.header("ratelimit-policy"), "\"5h\";q=50;w=18000");
    assert_eq!(answer.header("ratelimit"), "\"5h\";r=0");
    let expect = serde_json::json!({
        "allowed": false,
        "route": "plan",
        "reasons": [{ "code": "cap_exceeded", "limit": "5h", "resets_at": null }],
        "available": "12.5",
    });
    assert_eq!(answer.json(), expect);
}

#[test]
fn lists_are_merged_by_bytes_and_paged() {
    let site = Site::open();
    let ids = |path: &str| -> (Vec<String>, Value) {
        let list = site.get(path).json();
        let lines = list["accounts"].as_array().expect("a list").clone();
        (lines.iter().map(|line| line["account"].as_str().expect("an id").to_owned()).collect(), list["next"].clone())
    };
    assert_eq!(ids("/v1/accounts"), (vec!["acme".into(), "beta".into(), "zeta".into()], Value::Null));
    assert_eq!(ids("/v1/accounts?limit=2"), (vec!["acme".into(), "beta".into()], "beta".into()));
    assert_eq!(ids("/v1/accounts?limit=2&after=beta"), (vec!["zeta".into()], Value::Null));
    assert_eq!(ids("/v1/accounts?prefix=b").0, ["beta"]);
}

#[test]
fn tells_its_own_state() {
    let site = Site::open();
    assert_eq!(site.get("/livez").body, "livez: ok\n");
    let ready = site.get("/readyz?verbose");
    assert_eq!((ready.status, ready.body.as_str()), (503, "[-] recovered: 1 of 2 partitions\nreadyz: failed\n"));
    assert_eq!(site.get("/v1/partitions").json()["partitions"][1]["usage"]["lag"], 2);
    assert_eq!(site.get("/version").json()["version"], env!("CARGO_PKG_VERSION"));
    assert!(site.get("/metrics").body.contains("meterd_conservation_violations_total 0"));
    assert_eq!(site.get("/v1/overview").json()["outcomes"]["applied"], 0);
}

#[test]
fn tokens_open_what_their_scope_allows() {
    let tokens = "
        [[token]]
        sha256 = \"3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30\"  # reader
        scope = \"read\"
        [[token]]
        sha256 = \"8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918\"  # admin
        scope = \"admin\"
        [[token]]
        sha256 = \"6e45386daeb0b86da1ac4c609001d1e973f90314f0b709175264865c42dc6ba7\"  # holder
        scope = { account = \"acme\" }
    ";
    let site = Site::new(Some(Tokens::parse(tokens, "tokens.toml").expect("tokens")));
    let status = |path: &str, token: &str| {
        let value = format!("Bearer {token}");
        site.get_with(path, &[("authorization", &value)]).status
    };
    let closed =
        ["/v1/accounts/acme", "/v1/accounts/acme/usage", "/v1/accounts", "/v1/partitions", "/v1/overview", "/metrics"];
    for path in closed {
        let refused = site.get(path);
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer realm=\"meterd\""), "{path}");
        assert_eq!(status(path, "wrong"), 401, "{path}");
        assert_eq!(status(path, "reader"), 200, "{path}");
        assert_eq!(status(path, "admin"), 200, "{path}");
        let own = if path.starts_with("/v1/accounts/acme") { 200 } else { 403 };
        assert_eq!(status(path, "holder"), own, "{path}");
    }
    assert_eq!(site.get("/v1/notices").status, 401);
    assert_eq!(status("/v1/notices", "holder"), 403);
    assert_eq!(status("/v1/notices?account=other", "holder"), 403);
    assert_eq!(status("/v1/accounts/nobody", "holder"), 403, "whether another account exists is not told");
    for path in ["/", "/livez", "/version", "/openapi.json", "/dashboard/app.js"] {
        assert_eq!(site.get(path).status, 200, "{path}");
    }
}

#[test]
fn without_tokens_only_this_machine_is_served() {
    let site = Site::open();
    let rebound = site.get_with("/v1/accounts/acme", &[("host", "evil.example")]);
    assert_eq!((rebound.status, rebound.json()["type"].clone()), (403, "urn:meterd:problem:foreign-host".into()));
    assert_eq!(site.get_with("/v1/accounts/acme", &[("host", "localhost:9464")]).status, 200);
}

#[test]
fn notices_stream_by_account_and_type() {
    let site = Site::open();
    let listen = |path: &str| {
        let response = site.client.get(site.url(path)).call().expect("a stream");
        assert_eq!(response.headers()["content-type"].as_bytes(), b"text/event-stream");
        BufReader::new(response.into_body().into_reader()).lines().map(|line| line.expect("a line"))
    };
    let send = |account: &str, kind: &str, sequence| {
        let json = format!("{{\"id\":\"{account}/{sequence}\"}}").into_bytes();
        let line = NoticeLine { account: account.into(), kind: kind.into(), sequence, json };
        site.notices.send(Arc::new(line)).expect("the server listens");
    };
    let mut now = listen("/v1/notices?account=acme&type=cap.*");
    send("beta", "cap.warning", 1);
    send("acme", "grace.ended", 1);
    send("acme", "cap.exceeded", 2);
    let event: Vec<String> = now.by_ref().take_while(|line| !line.is_empty()).collect();
    assert_eq!(event, ["id: acme/2", "event: notice", "data: {\"id\":\"acme/2\"}"]);

    let ids = listen("/v1/notices?recent=2").filter(|line| line.starts_with("id: "));
    assert_eq!(ids.take(2).collect::<Vec<_>>(), ["id: acme/1", "id: acme/2"]);
    let mut later = listen("/v1/notices?account=acme&recent=1").filter(|line| line.starts_with("id: "));
    send("acme", "cap.restored", 3);
    assert_eq!(later.by_ref().take(2).collect::<Vec<_>>(), ["id: acme/2", "id: acme/3"]);
}

#[test]
fn the_dashboard_is_served_with_types_and_a_policy() {
    let site = Site::open();
    let page = site.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let links = page.body.split(['"', '\'']).filter(|text| text.starts_with("/dashboard/"));
    let mut seen = 0;
    for link in links {
        let file = site.get(link);
        let kind = match link.rsplit_once('.').expect("an extension").1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{link}: {other} is not served"),
        };
        assert_eq!((file.status, file.header("content-type")), (200, kind), "{link}");
        assert_eq!(file.header("x-content-type-options"), "nosniff", "{link}");
        let again = site.get_with(link, &[("if-none-match", file.header("etag"))]);
        assert_eq!(again.status, 304, "{link}");
        seen += 1;
    }
    assert!(seen >= 3, "the page names its script, style and icon");
}

#[test]
fn the_description_lists_every_page() {
    let document = Site::open().get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    for path in [
        "/v1/accounts",
        "/v1/accounts/{account}",
        "/v1/accounts/{account}/usage",
        "/v1/accounts/{account}/check",
        "/v1/partitions",
        "/v1/overview",
        "/v1/notices",
        "/metrics",
        "/livez",
        "/readyz",
        "/version",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let text = document.to_string();
    for name in text.split("#/components/").skip(1).map(|rest| rest.split('"').next().unwrap_or("")) {
        let (group, name) = name.split_once('/').expect("group/name");
        assert!(document["components"][group].get(name).is_some(), "{group}/{name} is referred to and missing");
    }
}
