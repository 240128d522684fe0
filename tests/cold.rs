//! Accounts that grow cold between inputs go on as if they had stayed warm: the same notices, the same checkpoints byte for
//! byte, the same views; and what is loaded from the checkpoints is the same again.

use std::sync::Arc;

use meterd::config::catalog;
use meterd::engine::{Catalogs, Ms, Notice, Outcome};
use meterd::ingest::decode::Raw;
use meterd::query::view::view;
use meterd::shard::{Budget, Gate, IdentityKey, Loading, Partition, Rules, Sink, StateWrites};
use meterd::store::StateRecord;
use meterd::store::record;

const CATALOG: &str = r#"
catalog = "cold"
default_plan = "free"
late = "1h"
[unit.credit]
[[rate]]
session_max = "20m"
type = "live"
unit = "credit"
price = [{ quantity = "seconds", rate = "0.01" }]
[[rate]]
unit = "credit"
price = [{ quantity = "tokens", rate = "0.5" }]
[plan.free]
unit = "credit"
period = "day"
grants = [{ name = "plan", amount = "40" }]
low = ["50%"]
[[plan.free.limit]]
name = "5m"
measure = { unit = "credit" }
scope = "user"
window = { sliding = "5m" }
cap = "3"
warn = ["50%"]
[[plan.free.limit]]
name = "hour"
measure = { unit = "credit" }
window = { first_use = "1h" }
cap = "20"
[totals]
by = ["model"]
"#;

const ACCOUNTS: u64 = 1_500;
const INPUTS: u64 = 24_000;
const START: Ms = 1_800_000_000_000;

#[derive(Default)]
struct Told(Vec<(String, Notice)>);

impl Sink for Told {
    fn told(&mut self, account: &str, _: Option<(&str, &str)>, notices: &[Notice]) {
        self.0.extend(notices.iter().map(|notice| (account.to_owned(), notice.clone())));
    }

    fn is_full(&self) -> bool {
        false
    }
}

#[derive(PartialEq)]
struct Said {
    notices: Vec<(String, Notice)>,
    outcomes: Vec<Outcome>,
    writes: StateWrites,
    views: Vec<String>,
}

fn partition() -> Partition {
    let (catalog, _) = catalog::parse(CATALOG, "cold.toml").unwrap_or_else(|error| panic!("{error}"));
    Partition::new(Catalogs::new(Arc::new(catalog)), Rules::of_one_partition(65_536), IdentityKey(1, 2))
}

fn input(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // Some accounts are used much, and some grow too large for one part.
    let account = if mixed >> 61 == 0 { (mixed >> 20) % 4 } else { (mixed >> 20) % ACCOUNTS };
    let user = if account < 4 { (mixed >> 8) % 400 } else { (mixed >> 8) % 3 };
    let envelope = format!(r#""specversion":"1.0","source":"test","id":"r{number}","subject":"account-{account}""#);
    match mixed % 23 {
        0 => format!(r#"{{{envelope},"type":"live","data":{{"user":"u{user}","session":"s{user}","phase":"start"}}}}"#),
        1 => format!(
            r#"{{{envelope},"type":"live","data":{{"user":"u{user}","session":"s{user}","phase":"end","seconds":{}}}}}"#,
            mixed % 900
        ),
        _ => {
            let (model, tokens) = ((mixed >> 12) % 7, mixed % 5);
            format!(r#"{{{envelope},"type":"use","data":{{"user":"u{user}","model":"m{model}","tokens":{tokens}}}}}"#)
        }
    }
}

fn play(budget: Option<&Arc<Budget>>) -> Said {
    let mut fold = partition();
    if let Some(budget) = budget {
        fold.use_budget(budget.share());
    }
    let mut told = Told::default();
    let (mut writes, mut outcomes) = (StateWrites::default(), Vec::new());
    let mut batch = 1;
    for number in 0..INPUTS {
        let clock = START + number as Ms * 400;
        fold.pass_time(clock);
        fold.fire_due(&Gate::Live, usize::MAX, &mut told);
        let value = input(number);
        let raw = Raw { key: None, value: Some(value.as_bytes()), headers: &[], timestamp: clock };
        outcomes.push(fold.usage(&raw, clock, &mut Gate::Live, &mut told));
        if number % 200 == 199 {
            fold.slice(batch.max(20) - 20, 20_000, &mut writes);
            batch += 1;
            fold.begin_batch(batch);
        }
    }
    if budget.is_some() {
        let warm = fold.accounts().warm_len();
        assert!(warm < ACCOUNTS as usize / 2, "{warm} of {} accounts are warm", fold.accounts_len());
    }
    assert_eq!(fold.take_violations(), 0);
    fold.slice(u64::MAX, usize::MAX, &mut writes);
    assert_eq!(fold.dirty_len(), 0);
    let views = views(&fold);
    Said { notices: told.0, outcomes, writes, views }
}

fn views(fold: &Partition) -> Vec<String> {
    let mut ids: Vec<&str> = fold.accounts().ids().collect();
    ids.sort_unstable();
    let text = |id: &&str| {
        let account = fold.find(id).expect("an account that is listed");
        serde_json::to_string(&view(fold.catalogs(), id, &account, fold.clock())).expect("a view")
    };
    ids.iter().map(text).collect()
}

#[test]
fn cold_accounts_go_on_as_warm_ones() {
    let warm = play(None);
    let cold = play(Some(&Budget::new(0)));
    assert!(warm.notices.len() > 5_000, "{} notices", warm.notices.len());
    assert!(warm.notices == cold.notices, "other notices");
    assert!(warm.outcomes == cold.outcomes, "other outcomes");
    assert!(warm.views == cold.views, "other views");
    assert!(warm.writes == cold.writes, "other checkpoints");

    let mut loading = Loading::default();
    for (key, value) in cold.writes.iter() {
        match record::read(key, value).expect("a record that was just written") {
            StateRecord::Part { account, key, as_of, bytes } => loading.take(account, key, as_of, bytes),
            other => panic!("{other:?}"),
        }
    }
    let mut loaded = partition();
    let kinds: usize = cold.writes.iter().filter(|(key, _)| key[1] != 0).count();
    assert!(kinds > 100, "expected accounts of many parts, found {kinds} parts");
    loaded.load(loading).expect("what was written is read");
    loaded.pass_time(START + (INPUTS - 1) as Ms * 400);
    assert!(views(&loaded) == cold.views, "other views after loading");
}

/// Identities are of the same memory, and cannot be given up: accounts make room for them.
#[test]
fn accounts_grow_cold_where_identities_need_the_memory() {
    let touch = |fold: &mut Partition, account: u64, id: u64| {
        let value = format!(
            r#"{{"specversion":"1.0","source":"test","id":"r{id}","subject":"account-{account}","type":"use","data":{{"tokens":1}}}}"#
        );
        let raw = Raw { key: None, value: Some(value.as_bytes()), headers: &[], timestamp: START };
        assert_eq!(fold.usage(&raw, START, &mut Gate::Live, &mut Told::default()), Outcome::Applied);
    };
    let mut alone = partition();
    (0..ACCOUNTS).for_each(|account| touch(&mut alone, account, account));
    let mut fold = partition();
    // Room for all accounts and the identities of their first records.
    fold.use_budget(Budget::new(alone.accounts().bytes() + (512 << 10)).share());
    (0..ACCOUNTS).for_each(|account| touch(&mut fold, account, account));
    assert_eq!(fold.accounts().warm_len(), ACCOUNTS as usize);
    (ACCOUNTS..ACCOUNTS * 60).for_each(|id| touch(&mut fold, 0, id));
    let warm = fold.accounts().warm_len();
    assert!(warm < ACCOUNTS as usize / 2, "{warm} of {ACCOUNTS} accounts are warm");
}
