//! An instance that owns the partition.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use meterd::commit::batch::{Batch, Names};
use meterd::commit::committer::Places;
use meterd::commit::configuration::FoldConfiguration;
use meterd::commit::kafka::Log;
use meterd::commit::reader::Stretch;
use meterd::commit::recovery::{Place, Recovered, Recovery};
use meterd::daemon::clock::Now;
use meterd::daemon::group::Assignment;
use meterd::daemon::owned::{Owned, Phase, Turned};
use meterd::daemon::settings::Settings;
use meterd::engine::Ms;
use meterd::ingest::consumer::{Backlog, Fetched};
use meterd::ingest::raw::{Input, RawBatch};
use meterd::shard::Budget;
use meterd::store::Store;
use meterd::store::memory::MemoryStore;
use meterd::telemetry::Metrics;

use super::topics::{Broker, NAMES, Reader, name_of, names};

/// 2026-11-20T07:00:00Z
pub const START: Ms = 1_795_158_000_000;

const CATALOG: &str = r#"
catalog = "interleavings"
default_plan = "free"
late = "1s"
[unit.credit]
[[rate]]
unit = "credit"
price = [{ quantity = "tokens", rate = "1" }]
[plan.free]
unit = "credit"
"#;

/// So many milliseconds after the start, by all clocks.
pub fn at(ms: i64) -> Now {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let steady = *ORIGIN.get_or_init(Instant::now) + Duration::from_millis(ms as u64);
    Now { wall: START + ms, steady }
}

/// Records are accepted for so long after their time.
pub fn configuration(late: &str) -> FoldConfiguration {
    FoldConfiguration {
        catalog: CATALOG.replace("late = \"1s\"", &format!("late = \"{late}\"")),
        catalog_name: "interleavings.toml".into(),
        record_bytes_max: 65_536,
        accept_replayed: false,
        partitioner: "any".into(),
        partitions: 1,
        group: "meterd".into(),
        topics: ["accounts".into(), "usage".into()],
    }
}

pub fn recovery(broker: &Rc<RefCell<Broker>>, store: &Arc<dyn Store>) -> Recovery<Reader> {
    Recovery {
        reader: Reader { broker: Rc::clone(broker), meanwhile: RefCell::default() },
        topics: names(),
        store: Arc::clone(store),
        metrics: Metrics::new(),
        budget: Budget::new(usize::MAX),
        place: Place {
            cluster: "in memory".into(),
            topics: NAMES.map(|name| (name.to_owned(), format!("id of {name}"))).to_vec(),
            partitions: 1,
            group: "meterd".into(),
        },
        started_with: configuration("1s").hash(),
        configuration: Arc::new(ArcSwap::from_pointee(configuration("1s"))),
        mock: false,
        ways_out: Default::default(),
    }
}

pub fn recovered(recovery: &Recovery<Reader>) -> Recovered {
    match recovery.recover(0, &|| true) {
        Ok(Some(recovered)) => recovered,
        Ok(None) => panic!("nobody took the partition"),
        Err(stop) => panic!("{stop}"),
    }
}

pub fn batch_names() -> Names {
    Names { source: "meterd/meterd".into(), topics: ["accounts".into(), "usage".into()], dlq_bytes_max: 1 << 20 }
}

pub fn settings(instance: &str) -> Settings {
    Settings {
        group: "meterd".into(),
        instance: instance.into(),
        advertise: None,
        interval: Duration::ZERO,
        records_max: 50_000,
        checkpoint: Duration::ZERO,
        identities: true,
        witnessed: true,
    }
}

pub struct Owner {
    pub owned: Owned,
    pub settings: Settings,
    broker: Rc<RefCell<Broker>>,
    backlog: [Arc<Backlog>; 2],
    /// How far `fetch` has read, by `Input::index`.
    fetched: [i64; 2],
}

impl Owner {
    /// Recovers the partition; its claim is not committed yet.
    pub fn take(broker: &Rc<RefCell<Broker>>, instance: &str, epoch: u64, now: Now) -> Owner {
        let store: Arc<dyn Store> = Arc::<MemoryStore>::default();
        let recovered = recovered(&recovery(broker, &store));
        let owned =
            Owned::new(Assignment { partition: 0, epoch, at: now.steady }, recovered, Arc::new(batch_names()), now);
        Owner {
            owned,
            settings: settings(instance),
            broker: Rc::clone(broker),
            backlog: Default::default(),
            fetched: [0; 2],
        }
    }

    /// Takes the partition, and is live with both inputs at their ends.
    pub fn live(broker: &Rc<RefCell<Broker>>, now: Now) -> Owner {
        let mut owner = Owner::take(broker, "a", 1, now);
        owner.commit(now);
        for input in Input::BOTH {
            owner.ended(input);
        }
        owner
    }

    pub fn turn(&mut self, now: Now) -> Turned {
        self.owned.turn(&self.settings, now, &self.backlog)
    }

    /// The consumer has read to the input's end.
    pub fn ended(&mut self, input: Input) {
        let offset = self.broker.borrow().high(name_of(input));
        self.owned.fetched(input, Fetched::End { offset }, &self.backlog[input.index()]);
    }

    /// Records are appended, fetched and folded, all at once.
    pub fn fold(&mut self, input: Input, values: &[String], now: Now) {
        let mut batch = RawBatch::default();
        for value in values {
            let offset = self.broker.borrow_mut().append(name_of(input), now.wall, None, value.as_bytes());
            batch.push(offset, now.wall, None, Some(value.as_bytes()));
        }
        self.hand(input, batch);
        self.ended(input);
        while self.turn(now).folded > 0 {}
    }

    /// What the topic holds from the next offset on is fetched, once the partition is live.
    pub fn fetch(&mut self, input: Input) {
        let from = self.owned.next_offsets()[input.index()];
        if self.owned.phase == Phase::Claiming || self.fetched[input.index()] > from {
            return;
        }
        let mut batch = RawBatch::default();
        let reader = Reader { broker: Rc::clone(&self.broker), meanwhile: RefCell::default() };
        let until = self.broker.borrow().high(name_of(input));
        let stretch = Stretch { topic: name_of(input), partition: 0, from, until };
        let read = reader.read(stretch, &mut |record| {
            record.copy_to(&mut batch);
            Ok(())
        });
        read.expect("the topic can be read");
        self.fetched[input.index()] = until;
        self.hand(input, batch);
        Input::BOTH.into_iter().for_each(|input| self.ended(input));
    }

    fn hand(&mut self, input: Input, batch: RawBatch) {
        let backlog = &self.backlog[input.index()];
        backlog.bytes.fetch_add(batch.bytes_len(), Ordering::Relaxed);
        self.owned.start(input).1.fetch_add(batch.bytes_len(), Ordering::Relaxed);
        self.owned.fetched(input, Fetched::Records(batch), backlog);
    }

    pub fn wants_commit(&self, now: Now) -> bool {
        self.owned.wants_commit(&self.settings, now)
    }

    pub fn close(&mut self, now: Now) -> Batch {
        assert!(self.wants_commit(now), "there is nothing to commit");
        self.owned.close(&self.settings, now, true)
    }

    /// Closes a batch and commits it; how many notices it had.
    pub fn commit(&mut self, now: Now) -> usize {
        let batch = self.close(now);
        self.committed(batch, now)
    }

    /// A batch is in the topics; how many notices it had.
    pub fn committed(&mut self, batch: Batch, now: Now) -> usize {
        let notices = batch.notices.len();
        let journal_offset = self.broker.borrow_mut().commit(&batch, now.wall);
        let places = Places { journal_offset, broker_time: Some(now.wall), ..Places::default() };
        self.owned.committed(batch, places, now);
        notices
    }
}

/// A command or a usage record of an account.
pub fn event(account: &str, id: &str, kind: &str, data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","source":"test","id":"{id}","type":"{kind}","subject":"{account}","data":{data}}}"#
    )
}

/// A grant that ends so many milliseconds after the start.
pub fn grant(account: &str, ends_ms: i64) -> String {
    let ends = meterd::engine::calendar::format_time(START + ends_ms);
    let data = format!(r#"{{"amount":"7","unit":"credit","expires_at":"{ends}"}}"#);
    event(account, &format!("grant {ends}"), "meterd.grant.issue", &data)
}
