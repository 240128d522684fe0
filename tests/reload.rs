//! A changed catalog is taken up by each account before its next input or timer (docs/reference.md 7.6, 16 "Reload").

use std::sync::Arc;

use bumpalo::Bump;
use meterd::config::catalog;
use meterd::engine::take_up::lacks;
use meterd::engine::{Account, Body, Catalog, Catalogs, Cause, Effects, Engine, Moment, Ms, Notice, Outcome, Timer};
use meterd::ingest::decode::{Decoder, Raw};
use meterd::query::view::view;
use meterd::store::encoding::{PartKey, decode, encode};
use serde_json::Value;

/// 2026-11-20T07:00:00Z
const START: Ms = 1_795_158_000_000;
const HOUR: Ms = 3_600_000;

const BEFORE: &str = r#"
catalog = "before"
default_plan = "pro"
[unit.credit]
[unit.usd]
[currency.usd]
[payg]
unit = "usd"
[group.large]
match = { model = "opus*" }
[[rate]]
type = "live"
session_max = "2h"
unit = "credit"
price = [{ quantity = "seconds", rate = "1", per = 60 }]
[[rate]]
unit = "credit"
price = [{ quantity = "tokens", rate = "1" }, { quantity = "images", rate = "0" }]
[[exchange]]
from_unit = "credit"
to_unit = "usd"
value = "10"
[plan.pro]
unit = "credit"
grants = [{ name = "plan", amount = "100" }]
low = ["50%"]
overflow = ["day", "gone"]
[[plan.pro.limit]]
name = "gone"
measure = "records"
window = { calendar = "week" }
cap = "1"
[[plan.pro.limit]]
name = "day"
measure = { unit = "credit" }
window = { calendar = "day" }
cap = "10"
group = "large"
warn = ["50%", "90%"]
[[plan.pro.limit]]
name = "member"
measure = { quantity = "tokens" }
scope = "user"
window = "period"
cap = "20"
"#;

/// Everything has another place; `images` and the limit `gone` are no more, the cap of `day` and the threshold are other.
const AFTER: &str = r#"
catalog = "after"
default_plan = "basic"
[unit.usd]
[unit.credit]
[currency.eur]
[currency.usd]
[payg]
unit = "usd"
[group.any]
match = {}
[group.large]
match = { model = "opus*" }
[[rate]]
unit = "credit"
price = [{ quantity = "pages", rate = "1" }, { quantity = "tokens", rate = "2" }]
[[rate]]
type = "live"
session_max = "1h"
unit = "credit"
price = [{ quantity = "seconds", rate = "1" }]
[[exchange]]
from_unit = "credit"
to_unit = "usd"
value = "10"
[plan.basic]
[plan.pro]
unit = "credit"
grants = [{ name = "plan", amount = "100" }]
low = ["90%"]
overflow = ["day"]
[[plan.pro.limit]]
name = "member"
measure = { quantity = "tokens" }
scope = "user"
window = "period"
cap = "20"
[[plan.pro.limit]]
name = "day"
measure = { unit = "credit" }
window = { calendar = "day" }
cap = "25"
group = "large"
warn = ["90%", "50%", "20%"]
"#;

struct World {
    engine: Engine,
    decoder: Decoder,
    account: Account,
    clock: Ms,
}

impl World {
    fn new(text: &str) -> World {
        let engine = Engine::new(Catalogs::new(parsed(text)));
        World { engine, decoder: Decoder::default(), account: Account::default(), clock: START }
    }

    fn reload(&mut self, text: &str) {
        self.engine.catalogs.push(parsed(text));
    }

    fn usage(&mut self, id: &str, kind: &str, data: &str) -> Vec<Notice> {
        let value = event(id, kind, data);
        let raw = Raw { key: None, value: Some(value.as_bytes()), headers: &[], timestamp: self.clock };
        let catalog = self.engine.catalogs.current().clone();
        let arena = Bump::new();
        let usage = self.decoder.usage(&catalog, &raw, 65_536, &arena).expect("a usage record");
        let mut fx = Effects::default();
        let at = Moment { clock: self.clock, oldest: Ms::MIN };
        assert_eq!(self.engine.usage(&mut self.account, usage, at, &mut fx), Outcome::Applied, "{id}");
        assert_eq!(fx.conservation_violations, 0, "{id}");
        fx.notices
    }

    fn command(&mut self, id: &str, kind: &str, data: &str) -> Vec<Notice> {
        let value = event(id, kind, data);
        let raw = Raw { key: None, value: Some(value.as_bytes()), headers: &[], timestamp: self.clock };
        let command = self.decoder.command(&raw, 65_536, &Bump::new()).expect("a command");
        let mut fx = Effects::default();
        let at = Moment { clock: self.clock, oldest: Ms::MIN };
        assert_eq!(self.engine.command(&mut self.account, &command, at, &mut fx), Outcome::Applied, "{id}");
        assert_eq!(fx.conservation_violations, 0, "{id}");
        fx.notices
    }

    fn advance(&mut self, clock: Ms) -> Vec<Notice> {
        self.clock = clock;
        let mut fx = Effects::default();
        self.engine.advance(&mut self.account, clock, &mut fx);
        assert_eq!(fx.conservation_violations, 0);
        fx.notices
    }

    fn view(&self) -> Value {
        let view = view(&self.engine.catalogs, "acme", &self.account, self.clock).expect("an account");
        serde_json::to_value(view).expect("a view")
    }
}

fn parsed(text: &str) -> Arc<Catalog> {
    match catalog::parse(text, "catalog.toml") {
        Ok((catalog, _)) => Arc::new(catalog),
        Err(wrong) => panic!("{wrong}"),
    }
}

fn event(id: &str, kind: &str, data: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"{id}","source":"test","type":"{kind}","subject":"acme","data":{data}}}"#)
}

/// An account with something of everything that is held by an id.
fn used() -> World {
    let mut world = World::new(BEFORE);
    world.usage("u1", "use", r#"{"user":"ana","model":"opus","tokens":6,"images":3}"#);
    world.command(
        "c1",
        "meterd.account.set",
        r#"{"extra_usage":true,"autopay":{"unit":"usd","below":"1","amount":"9"}}"#,
    );
    world.command("c2", "meterd.member.set", r#"{"user":"ana","caps":{"member":"30"},"deny":["large"]}"#);
    world.command("c3", "meterd.grant.issue", r#"{"unit":"usd","amount":"7","group":"large"}"#);
    world.usage("u2", "use", r#"{"user":"ana","model":"opus","tokens":10}"#);
    world.usage("s1", "live", r#"{"user":"ben","session":"s","phase":"start"}"#);
    world
}

#[test]
fn everything_is_found_again_by_name() {
    let mut world = used();
    let before = world.view();
    assert_eq!(before["overflow"][0], "gone");
    world.reload(AFTER);
    assert_eq!(lacks(&world.account, &world.engine.catalogs, world.engine.catalogs.current()), None);
    let seen = world.view();
    let due = world.account.next_due().expect("a session is open");
    let notices = world.advance(due - 1);
    assert_eq!(notices, [], "nothing is due yet");
    let notices = world.usage("u3", "use", r#"{"user":"ben","tokens":1}"#);
    let told: Vec<(&Cause, &Body)> = notices.iter().map(|notice| (&notice.cause, &notice.body)).collect();
    assert!(
        matches!(
            told[..],
            [
                (Cause::Timer(Timer::Catalog), Body::CapRestored(_)),
                (Cause::Timer(Timer::Catalog), Body::CapWarning(_)),
                (Cause::Timer(Timer::Catalog), Body::OverflowEnded { .. }),
            ]
        ),
        "expected the lost limit, a warning at the new 20 % and the end of its overflow, found {told:?}"
    );
    let after = world.view();
    for (what, view) in [("as a view has it", &seen), ("as taken up", &after)] {
        assert_eq!(view["balances"]["usd"]["grants"][0]["group"], "large", "{what}");
        assert_eq!(view["limits"][0]["limit"], "member", "{what}");
        assert_eq!(view["limits"][0]["cap"], "30", "{what}");
        assert_eq!(view["limits"][2]["limit"], "day", "{what}");
        assert_eq!(view["limits"][2]["used"], "6", "{what}");
        assert_eq!(view["limits"][2]["cap"], "25", "{what}");
        assert_eq!(view["totals"]["2026-11"]["quantities"]["use"]["images"], "3", "{what}: a quantity that is no more");
    }
    assert_eq!(after["totals"]["2026-11"]["quantities"]["use"]["tokens"], "17");
    assert_eq!(after["totals"]["2026-11"]["charged"]["overflow"]["usd"], "1");
    assert_eq!(after["balances"]["credit"]["available"], "92", "the new price is 2 for each token");
}

#[test]
fn an_open_session_keeps_its_row() {
    let mut world = used();
    world.reload(AFTER);
    let mut stored = Vec::new();
    let notices = world.advance(START + 2 * HOUR);
    encode(&world.account, &world.engine.catalogs, &mut stored);
    let parts: Vec<(PartKey, &[u8])> = stored.iter().map(|part| (part.key, &*part.bytes)).collect();
    let read = decode(&parts, &world.engine.catalogs).expect("what was just encoded");
    assert_eq!(read.sequence(), world.account.sequence());
    let closed = notices.iter().find_map(|notice| match &notice.body {
        Body::SessionClosed { seconds, charged, .. } => Some((seconds.to_string(), charged.to_string())),
        _ => None,
    });
    assert_eq!(closed, Some(("7200".to_owned(), "120".to_owned())), "two hours at the row of its start");
    assert_eq!(notices[0].cause, Cause::Timer(Timer::Catalog), "the catalog is taken up before the timer");
    assert_eq!(notices[0].time, START + 2 * HOUR);
}

#[test]
fn a_catalog_that_lacks_what_is_in_use_is_refused() {
    let world = used();
    for (from, to, lacking) in [
        ("[plan.pro]", "[plan.other]", "plan pro"),
        ("[group.large]", "[group.other]", "group large"),
        ("\"tokens\"", "\"words\"", "limit measure tokens"),
    ] {
        let text = AFTER.replace(from, to);
        let text = text.replace("plan.pro.", if from == "[plan.pro]" { "plan.other." } else { "plan.pro." });
        let text = text.replace(
            "group = \"large\"",
            if from == "[group.large]" { "group = \"any\"" } else { "group = \"large\"" },
        );
        let new = parsed(&text);
        assert_eq!(lacks(&world.account, &world.engine.catalogs, &new).as_deref(), Some(lacking));
    }
}
