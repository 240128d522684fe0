//! What the parts of a record's way cost, on one core: decode, lookup and price, windows, totals, and the whole fold.
//!
//! `cargo bench --bench engine`, or a part: `cargo bench --bench engine -- price`. Catalog: config/catalogs/zenmux.toml.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use bumpalo::Bump;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use meterd::config;
use meterd::engine::calendar::{Span, month_of};
use meterd::engine::catalog::{MODEL, Role, Window};
use meterd::engine::input::{Billing, Change, Command, Dimension};
use meterd::engine::price::{exchange, price, quantities_used};
use meterd::engine::totals::{Applied, Names, Route, Totals};
use meterd::engine::window::Counter;
use meterd::engine::{Account, Amount, Catalog, Catalogs, Effects, Engine, Moment, Ms, Outcome, Usage, lookup};
use meterd::ingest::decode::{Decoder, Raw};
use meterd::shard::{GROUP, Gate, IdentityKey, Partition, Rules, Sink, StateWrites};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 2026-11-20T07:00:00Z
const START: Ms = 1_795_158_000_000;

const MODELS: [&str; 8] = [
    "anthropic/claude-opus-4.7",
    "anthropic/claude-haiku-4.5",
    "openai/gpt-5",
    "openai/gpt-5-mini",
    "google/gemini-2.5-pro",
    "google/gemini-2.5-flash",
    "deepseek/deepseek-chat",
    "z-ai/glm-4.7",
];

fn main() {
    divan::main();
}

fn catalog() -> Catalog {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalogs/zenmux.toml");
    match config::catalog::load(&path) {
        Ok((catalog, _)) => catalog,
        Err(wrong) => panic!("{wrong}"),
    }
}

/// A usual record of about 280 bytes.
fn record(n: u64) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"req-{n:016x}","source":"gateway/eu-1","type":"llm.call","subject":"account-{:06}","time":"2026-11-20T07:00:00.250Z","data":{{"user":"user-{}","model":"{}","requests":1,"input_tokens":{},"output_tokens":{}}}}}"#,
        n * 7_919 % 100_000,
        n % 10,
        MODELS[n as usize % MODELS.len()],
        200 + n % 4_000,
        20 + n % 900,
    )
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let catalog = catalog();
    let records: Vec<String> = (0..1_000).map(record).collect();
    let (mut decoder, mut arena) = (Decoder::default(), Bump::new());
    bencher.counter(ItemsCount::new(records.len())).bench_local(|| {
        for record in &records {
            let raw = Raw { key: None, value: Some(record.as_bytes()), headers: &[], timestamp: START };
            black_box(decoder.usage(&catalog, &raw, 65_536, &arena).expect("a valid record"));
            arena.reset();
        }
    });
}

/// The quantities of a call, in ids of the catalog.
fn tokens(catalog: &Catalog, input: i64, output: i64) -> Vec<(u16, Amount)> {
    let id = |name: &str| match catalog.roles.get(name) {
        Some(Role::Quantity(id)) => *id,
        _ => panic!("{name} is no quantity of the catalog"),
    };
    let mut quantities = vec![
        (id("requests"), Amount::whole(1)),
        (id("input_tokens"), Amount::whole(input)),
        (id("output_tokens"), Amount::whole(output)),
    ];
    quantities.sort_by_key(|(id, _)| *id);
    quantities
}

#[divan::bench]
fn find_rate(bencher: Bencher<'_, '_>) {
    let catalog = catalog();
    bencher.counter(ItemsCount::new(MODELS.len())).bench_local(|| {
        for model in MODELS {
            let dimensions = [(MODEL, Dimension::Text(black_box(model)))];
            black_box(lookup::find_rate(&catalog, "llm.call", &dimensions, START, false));
        }
    });
}

#[divan::bench]
fn group_fits(bencher: Bencher<'_, '_>) {
    let catalog = catalog();
    let groups = catalog.groups.len() as u16;
    bencher.counter(ItemsCount::new(MODELS.len() * usize::from(groups))).bench_local(|| {
        for model in MODELS {
            let dimensions = [(MODEL, Dimension::Text(black_box(model)))];
            for group in 0..groups {
                black_box(lookup::group_fits(&catalog, group, &dimensions));
            }
        }
    });
}

/// Price, quantities used, and exchange into flows.
#[divan::bench]
fn price_a_call(bencher: Bencher<'_, '_>) {
    let catalog = catalog();
    let dimensions = [(MODEL, Dimension::Text("openai/gpt-5"))];
    let rate = lookup::find_rate(&catalog, "llm.call", &dimensions, START, false).expect("a row for gpt-5");
    let flow = catalog.units.iter().position(|unit| &*unit.name == "flow").expect("flows") as u8;
    let from = catalog.rates[rate as usize].unit;
    let quantities = tokens(&catalog, 1_200, 300);
    let mut used = Vec::new();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        used.clear();
        let quantities = black_box(&quantities);
        let price = price(&catalog, rate, quantities, &dimensions).expect("a price");
        quantities_used(&catalog, rate, quantities, &dimensions, &mut used);
        exchange(&catalog, price, from, flow, "standard", START).expect("a row")
    });
}

/// A sliding window whose 300 panes are all in use.
#[divan::bench]
fn window_sliding(bencher: Bencher<'_, '_>) {
    window_add(bencher, Window::Sliding(5 * 3_600_000), 7_919);
}

#[divan::bench]
fn window_first_use(bencher: Bencher<'_, '_>) {
    window_add(bencher, Window::FirstUse(5 * 3_600_000), 7_919);
}

/// Adds records `apart_ms` from each other, each tenth of them late.
fn window_add(bencher: Bencher<'_, '_>, window: Window, apart_ms: Ms) {
    let period = Span { start: 0, end: None };
    let mut counter = Counter::new(&window);
    let mut clock = START;
    bencher.counter(ItemsCount::new(1_000u32)).bench_local(|| {
        for n in 0..1_000 {
            clock += apart_ms;
            let at = if n % 10 == 0 { clock - 1_800_000 } else { clock };
            counter.advance(&window, clock);
            black_box(counter.add(&window, Amount::from_nanos(2_056_046_299), at, clock, &period));
        }
        counter.used()
    });
}

/// The next of a fixed sequence of scattered numbers.
struct Scatter(u64);

impl Scatter {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Totals of so many accounts of ten users, by model and user, in random order.
#[divan::bench(args = [1, 100_000])]
fn totals(bencher: Bencher<'_, '_>, accounts: u64) {
    let catalog = catalog();
    let quantities = tokens(&catalog, 1_200, 300);
    let mut accounts: Vec<Totals> = (0..accounts).map(|_| Totals::default()).collect();
    let (mut names, mut scatter) = (Names::default(), Scatter(0));
    let kind = names.name("llm.call");
    let models = MODELS.map(|model| [(MODEL, names.name(model))]);
    bencher.counter(ItemsCount::new(10_000u32)).bench_local(|| {
        for _ in 0..10_000 {
            let random = scatter.next();
            let applied = Applied {
                month: month_of(START),
                kind: &kind,
                user: Some(random as u32 / 8 % 10),
                values: &models[random as usize % MODELS.len()],
                route: Route::Plan,
                unit: 0,
                charged: Amount::from_nanos(2_056_046_299),
                quantities: &quantities,
            };
            let place = random as usize / 128 % accounts.len();
            accounts[place].applied(&applied);
        }
    });
}

/// The fold alone: so many accounts of ten users on the plan `pro` (four limits), totals by model and user, in random
/// order, a record for each 1.8 ms. Every account has counted some twenty records before.
#[divan::bench(args = [1, 1_000, 100_000])]
fn engine(bencher: Bencher<'_, '_>, accounts: usize) {
    let mut fold = Fold::new(accounts);
    (0..20 * accounts).for_each(|_| fold.record());
    bencher.counter(ItemsCount::new(1_000u32)).bench_local(|| (0..1_000).for_each(|_| fold.record()));
}

/// A shard's way: records of about 280 bytes decoded in groups, all identities distinct and held, folded as above, of so many
/// accounts of ten users. Every account has counted some twenty records before.
#[divan::bench(args = [1, 1_000, 100_000])]
fn shard(bencher: Bencher<'_, '_>, accounts: usize) {
    let mut way = Way::new(accounts);
    for _ in 0..20 * accounts.max(GROUP) / GROUP {
        let group = way.group();
        way.fold(&group);
    }
    let way = RefCell::new(way);
    bencher
        .counter(ItemsCount::new(16 * GROUP))
        .with_inputs(|| -> Vec<Vec<String>> { (0..16).map(|_| way.borrow_mut().group()).collect() })
        .bench_local_refs(|groups| groups.iter().for_each(|group| way.borrow_mut().fold(group)));
}

/// What checkpoints of such accounts cost: 1,000 that changed are encoded, of 1,000 or of 100,000.
#[divan::bench(args = [1_000, 100_000])]
fn checkpoint(bencher: Bencher<'_, '_>, accounts: usize) {
    let mut way = Way::new(accounts);
    let mut writes = StateWrites::default();
    for _ in 0..20 * accounts / GROUP {
        let group = way.group();
        way.fold(&group);
    }
    way.partition.slice(u64::MAX, usize::MAX, &mut writes);
    let way = RefCell::new(way);
    bencher
        .counter(ItemsCount::new(1_000u32))
        .with_inputs(|| {
            let mut way = way.borrow_mut();
            while way.partition.dirty_len() < 1_000 {
                let group = way.group();
                way.fold(&group);
            }
        })
        .bench_local_values(|()| {
            let mut writes = StateWrites::default();
            let mut way = way.borrow_mut();
            while writes.len() < 1_000 {
                way.partition.slice(u64::MAX, 1, &mut writes);
            }
            writes
        });
}

struct Way {
    partition: Partition,
    arena: Bump,
    accounts: usize,
    scatter: Scatter,
    records: u64,
    time_us: i64,
}

/// Nobody listens.
struct Unheard;

impl Sink for Unheard {
    fn told(&mut self, _account: &str, _input: Option<(&str, &str)>, _notices: &[meterd::engine::Notice]) {}

    fn is_full(&self) -> bool {
        false
    }
}

impl Way {
    fn new(accounts: usize) -> Way {
        let rules = Rules::of_one_partition(65_536);
        let mut partition = Partition::new(Catalogs::new(Arc::new(catalog())), rules, IdentityKey(1, 2));
        for place in 0..accounts {
            let command = format!(
                r#"{{"specversion":"1.0","id":"s","source":"b","type":"meterd.subscription.start","subject":"account-{place:06}","data":{{"plan":"pro"}}}}"#
            );
            let raw = Raw { key: None, value: Some(command.as_bytes()), headers: &[], timestamp: START };
            assert_eq!(partition.command(&raw, START, &Gate::Live, &mut Unheard), Outcome::Applied);
        }
        let time_us = START * 1_000;
        Way { partition, arena: Bump::new(), accounts, scatter: Scatter(0), records: 0, time_us }
    }

    fn group(&mut self) -> Vec<String> {
        (0..GROUP).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> String {
        let random = self.scatter.next() as usize;
        self.records += 1;
        format!(
            r#"{{"specversion":"1.0","id":"req-{:016x}","source":"gateway/eu-1","type":"llm.call","subject":"account-{:06}","data":{{"user":"user-{}","model":"{}","requests":1,"input_tokens":{},"output_tokens":{}}}}}"#,
            self.records,
            random / 128 % self.accounts,
            random / 8 % 10,
            MODELS[random % MODELS.len()],
            200 + random % 4_000,
            20 + random % 900,
        )
    }

    fn fold(&mut self, group: &[String]) {
        self.arena.reset();
        self.time_us += 1_800 * group.len() as i64;

        let timestamp = self.time_us / 1_000;
        let partition = &mut self.partition;
        let mut reads = Vec::with_capacity(group.len());
        for record in group {
            let raw = Raw { key: None, value: Some(record.as_bytes()), headers: &[], timestamp };
            reads.push(partition.read(&raw, &self.arena));
        }
        partition.fetch(reads.iter().flatten());
        for read in &reads {
            partition.fire_due(&Gate::Live, usize::MAX, &mut Unheard);
            assert_eq!(partition.fold(read, timestamp, &mut Gate::Live, &mut Unheard), Outcome::Applied);
        }
        partition.release_accepted();
    }
}

struct Fold {
    engine: Engine,
    accounts: Vec<Account>,
    users: Vec<String>,
    quantities: Vec<(u16, Amount)>,
    scatter: Scatter,
    clock_us: i64,
    fx: Effects,
}

impl Fold {
    fn new(accounts: usize) -> Fold {
        let catalog = Arc::new(catalog());
        let quantities = tokens(&catalog, 120, 30);
        let mut engine = Engine::new(Catalogs::new(catalog));
        let mut fx = Effects::default();
        let accounts =
            (0..accounts).map(|place| subscribed(&mut engine, &format!("account-{place:06}"), &mut fx)).collect();
        let users = (0..10).map(|user| format!("user-{user}")).collect();
        Fold { engine, accounts, users, quantities, scatter: Scatter(0), clock_us: START * 1_000, fx }
    }

    fn record(&mut self) {
        let random = self.scatter.next() as usize;
        self.clock_us += 1_800;
        let clock = self.clock_us / 1_000;
        let dimensions = [(MODEL, Dimension::Text(MODELS[random % MODELS.len()]))];
        let usage = Usage {
            account: "",
            id: "",
            source: "gateway/eu-1",
            kind: "llm.call",
            time: clock,
            user: Some(&self.users[random / 8 % self.users.len()]),
            failed: false,
            requests_given: true,
            billing: Billing::Plan,
            session: None,
            quantities: &self.quantities,
            dimensions: &dimensions,
        };
        let place = random / 128 % self.accounts.len();
        let at = Moment { clock, oldest: 0 };
        let outcome = self.engine.usage(&mut self.accounts[place], &usage, at, &mut self.fx);
        assert_eq!(outcome, Outcome::Applied);
        self.fx.notices.clear();
    }
}

fn subscribed(engine: &mut Engine, name: &str, fx: &mut Effects) -> Account {
    let mut account = Account::default();
    let change = Change::SubscriptionStart { plan: "pro".to_owned(), billing: None, seats: None, at: None, paid: true };
    let command = Command {
        account: name.to_owned(),
        id: "start".to_owned(),
        source: "billing".to_owned(),
        kind: "meterd.subscription.start".to_owned(),
        change,
    };
    let outcome = engine.command(&mut account, &command, Moment { clock: START, oldest: 0 }, fx);
    assert_eq!(outcome, Outcome::Applied);
    fx.notices.clear();
    account
}
