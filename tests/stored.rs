//! Accounts that are stored and read back after every input go on as if they had not been: the scenarios are played twice,
//! once with every account encoded and decoded whenever it changed, and both must say the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bumpalo::Bump;
use meterd::config::catalog;
use meterd::engine::{Account, Catalog, Catalogs, Effects, Engine, Moment, Ms, Notice};
use meterd::ingest::decode::{Decoder, Raw};
use meterd::offline::scenario::{self, Input, Scenario};
use meterd::query::view::view;
use meterd::store::encoding::{Part, PartKey, decode, encode};

/// Repetitions of a step beyond this add nothing here.
const TIMES_MAX: u32 = 40;

#[test]
fn scenarios_go_on_from_what_is_stored() {
    let mut played = 0;
    for path in scenarios(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")) {
        let scenario = scenario::load(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (catalog, _) = catalog::load(&scenario.catalog).unwrap_or_else(|error| panic!("{error}"));
        let catalog = Arc::new(catalog);
        let kept = Player::new(&catalog, false).play(&scenario);
        let stored = Player::new(&catalog, true).play(&scenario);
        assert_eq!(kept, stored, "{}", path.display());
        played += 1;
    }
    assert!(played > 100, "expected the scenarios, found {played}");
}

fn scenarios(directory: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of scenarios") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            paths.extend(scenarios(&path));
        } else if path.extension().is_some_and(|extension| extension == "toml") && !scenario::is_other(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

/// Everything that was said: notices by account, and the views at the end.
#[derive(Debug, Default, PartialEq)]
struct Said {
    notices: Vec<(String, Notice)>,
    views: Vec<String>,
}

struct Player {
    engine: Engine,
    decoder: Decoder,
    catalog: Arc<Catalog>,
    accounts: BTreeMap<String, Account>,
    stores: bool,
    said: Said,
}

impl Player {
    fn new(catalog: &Arc<Catalog>, stores: bool) -> Player {
        Player {
            engine: Engine::new(Catalogs::new(catalog.clone())),
            decoder: Decoder::default(),
            catalog: catalog.clone(),
            accounts: BTreeMap::new(),
            stores,
            said: Said::default(),
        }
    }

    fn play(mut self, scenario: &Scenario) -> Said {
        let mut clock = scenario.start;
        for step in &scenario.steps {
            for time in 1..=step.times.min(TIMES_MAX) {
                clock = clock.max(step.clock.unwrap_or(clock));
                let id = format!("step-{}-{time}", step.number);
                if let Some(input) = &step.usage {
                    self.usage(input, &id, clock);
                }
                if let Some(input) = &step.command {
                    self.command(input, &id, clock);
                }
                self.pass_time(clock);
            }
        }
        for (id, account) in &self.accounts {
            let view = view(&self.engine.catalogs, id, account, clock);
            self.said.views.push(serde_json::to_string(&view).expect("a view"));
        }
        self.said
    }

    fn usage(&mut self, input: &Input, id: &str, clock: Ms) {
        let value = input.value(id, clock);
        let raw = Raw { key: None, value: Some(&value), headers: &[], timestamp: clock };
        let arena = Bump::new();
        let Ok(usage) = self.decoder.usage(&self.catalog, &raw, 65_536, &arena) else { return };
        let mut fx = Effects::default();
        let account = self.accounts.entry(usage.account.to_owned()).or_default();
        self.engine.usage(account, usage, Moment { clock, oldest: Ms::MIN }, &mut fx);
        let id = usage.account.to_owned();
        self.settle(&id, fx);
    }

    fn command(&mut self, input: &Input, id: &str, clock: Ms) {
        let value = input.value(id, clock);
        let raw = Raw { key: None, value: Some(&value), headers: &[], timestamp: clock };
        let Ok(command) = self.decoder.command(&raw, 65_536, &Bump::new()) else { return };
        let mut fx = Effects::default();
        let account = self.accounts.entry(command.account.clone()).or_default();
        self.engine.command(account, &command, Moment { clock, oldest: Ms::MIN }, &mut fx);
        self.settle(&command.account, fx);
    }

    fn pass_time(&mut self, clock: Ms) {
        let due = |account: &Account| account.next_due().is_some_and(|due| due <= clock);
        let ids: Vec<String> =
            self.accounts.iter().filter(|(_, account)| due(account)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let mut fx = Effects::default();
            let account = self.accounts.get_mut(&id).expect("an account that is due");
            self.engine.advance(account, clock, &mut fx);
            self.settle(&id, fx);
        }
    }

    fn settle(&mut self, id: &str, fx: Effects) {
        assert_eq!(fx.conservation_violations, 0);
        self.said.notices.extend(fx.notices.into_iter().map(|notice| (id.to_owned(), notice)));
        let account = self.accounts.get_mut(id).expect("the account just folded");
        if self.stores {
            let parts = encoded(account, &self.engine.catalogs);
            let borrowed: Vec<(PartKey, &[u8])> = parts.iter().map(|part| (part.key, &*part.bytes)).collect();
            let read = decode(&borrowed, &self.engine.catalogs).expect("what was just encoded");
            assert_eq!(parts, encoded(&read, &self.engine.catalogs), "{id}: other bytes for the same state");
            assert_eq!(account.next_due(), read.next_due(), "{id}: another due time");
            assert_eq!(account.is_blank(), read.is_blank(), "{id}");
            *account = read;
        }
    }
}

fn encoded(account: &Account, catalogs: &Catalogs) -> Vec<Part> {
    let mut parts = Vec::new();
    encode(account, catalogs, &mut parts);
    parts
}

const MANY: &str = r#"
catalog = "many"
default_plan = "free"
late = "1h"
[unit.credit]
[[rate]]
session_max = "1h"
unit = "credit"
price = [{ quantity = "seconds", rate = "1" }]
[[rate]]
unit = "credit"
price = [{ quantity = "tokens", rate = "0.5" }]
[plan.free]
unit = "credit"
[[plan.free.limit]]
name = "5h"
measure = { unit = "credit" }
scope = "user"
window = { sliding = "5h" }
cap = "3"
"#;

/// A large account is stored in parts of at most 64 KiB, and a record rewrites only those that it changed.
#[test]
fn a_record_changes_few_parts() {
    let (catalog, _) = catalog::parse(MANY, "many.toml").unwrap_or_else(|error| panic!("{error}"));
    let mut player = Player::new(&Arc::new(catalog), false);
    let clock = 1_800_000_000_000;
    for n in 0..2_000 {
        player.send(
            &format!(r#""type":"use","id":"u{n}","data":{{"user":"user-{n}","model":"m{n}","tokens":{n}}}"#),
            clock,
        );
        let session =
            format!(r#""type":"live","id":"s{n}","data":{{"user":"user-{n}","session":"s{n}","phase":"start"}}"#);
        player.send(&session, clock);
        let grant = r#"{"unit":"credit","amount":"1","expires_at":"2031-01-01T00:00:00Z"}"#;
        player.order(&format!(r#""type":"meterd.grant.issue","id":"c{n}","data":{grant}"#), clock);
    }
    let before = encoded(&player.accounts["acme"], &player.engine.catalogs);
    assert!(before.len() > 100, "expected many parts, found {}", before.len());
    assert!(before.iter().all(|part| part.bytes.len() <= 65_536));
    player.stores = true;
    player.send(r#""type":"use","id":"more","data":{"user":"user-1234","model":"m7","tokens":1}"#, clock + 1);
    let after = encoded(&player.accounts["acme"], &player.engine.catalogs);
    let changed: Vec<PartKey> = after.iter().filter(|part| !before.contains(part)).map(|part| part.key).collect();
    // The head, a page of users, of grants, of the month's head, user and model, and of the period.
    assert!(changed.len() <= 7, "expected at most 7 changed parts, found {changed:?}");
}

/// The older panes of a sliding window are parts of their own, which a record leaves as they are.
#[test]
fn a_record_leaves_older_panes_as_they_were_stored() {
    let text = MANY.replace("scope = \"user\"\n", "").replace("late = \"1h\"", "late = \"5h\"");
    let (catalog, _) = catalog::parse(&text, "many.toml").unwrap_or_else(|error| panic!("{error}"));
    let mut player = Player::new(&Arc::new(catalog), true);
    let (pane, begin) = (60_000, 1_800_000_000_000);
    let mut written = Vec::new();
    let mut before = Vec::new();
    for n in 0..1_000 {
        player.send(&format!(r#""type":"use","id":"r{n}","data":{{"tokens":{}}}"#, n + 1), begin + n * pane);
        let after = encoded(&player.accounts["acme"], &player.engine.catalogs);
        let changed = after.iter().filter(|part| !before.contains(*part));
        written.push(changed.map(|part| part.bytes.len()).sum::<usize>());
        before = after;
    }
    // With 300 panes in use: the head with up to 30 of them, and the group of which one has left.
    let most = written[300..].iter().max().expect("records");
    let whole: usize = before.iter().map(|part| part.bytes.len()).sum();
    assert!(before.len() >= 10 && most * 2 < whole, "expected under half of {whole} bytes to be written, found {most}");
}

impl Player {
    fn send(&mut self, members: &str, clock: Ms) {
        let value = format!(r#"{{"specversion":"1.0","source":"test","subject":"acme",{members}}}"#);
        let raw = Raw { key: None, value: Some(value.as_bytes()), headers: &[], timestamp: clock };
        let arena = Bump::new();
        let usage = self.decoder.usage(&self.catalog, &raw, 65_536, &arena).expect("a usage record");
        let mut fx = Effects::default();
        let account = self.accounts.entry("acme".to_owned()).or_default();
        self.engine.usage(account, usage, Moment { clock, oldest: Ms::MIN }, &mut fx);
        self.settle("acme", fx);
    }

    fn order(&mut self, members: &str, clock: Ms) {
        let value = format!(r#"{{"specversion":"1.0","source":"test","subject":"acme",{members}}}"#);
        let raw = Raw { key: None, value: Some(value.as_bytes()), headers: &[], timestamp: clock };
        let command = self.decoder.command(&raw, 65_536, &Bump::new()).expect("a command");
        let mut fx = Effects::default();
        let account = self.accounts.entry("acme".to_owned()).or_default();
        self.engine.command(account, &command, Moment { clock, oldest: Ms::MIN }, &mut fx);
        self.settle("acme", fx);
    }
}
