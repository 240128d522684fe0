//! The running daemon: its threads, and how they begin and end.
//!
//! ```text
//! consumer (usage, the group's)  ─┐                       ┌─ store writer
//! consumer (accounts)            ─┼─► shards ─► committer ┼─► shards, readers, metrics
//! recoveries (one partition each) ┘      ▲                └─ journal trim
//!                                        └─ ends (asks leaders), HTTP
//! ```
//! Any thread that meets a fault that only a person can end gives a [`Stop`]; the first one ends the daemon.

mod answers;
mod backend;
mod checkpoints;
pub mod clock;
mod ends;
pub mod group;
mod held_back;
pub mod inspect;
mod locator;
pub mod message;
pub mod owned;
mod queue;
mod recoveries;
pub mod settings;
pub mod shard;
pub mod sink;
mod startup;
pub mod store_writer;
mod topics;
mod trim;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::broadcast;

use crate::commit::Stop;
use crate::commit::batch::Names;
use crate::commit::committer::Committer;
use crate::commit::configuration::FoldConfiguration;
use crate::commit::ownership::Ownership;
use crate::commit::producer::{Instance, topic_name};
use crate::commit::reader::Reader;
use crate::commit::recovery::Recovery;
use crate::commit::share::{Pace, Share};
use crate::commit::ways_out::WaysOut;
use crate::config::{self, Config};
use crate::ingest::consumer::{Backlog, Context, Fetched, InputConsumer, Orders, Route};
use crate::ingest::raw::Input;
use crate::query::http::{self, Server};
use crate::query::{Backend, NoticeLine};
use crate::shard::Budget;
use crate::store::memory::MemoryStore;
use crate::store::sled::SledStore;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use backend::DaemonBackend;
use group::{Group, Shards};
use message::ToShard;
use recoveries::Recoveries;
use settings::Settings;
use shard::Shard;
use sink::Sink;
use startup::Found;
use store_writer::{StoreWriter, ToStore};

/// How long dirty accounts may take to be written when the daemon stops.
const DRAIN_AT_STOP: Duration = Duration::from_secs(5);
/// Partitions recovered at once.
const RECOVERIES: usize = 2;
/// Notices that a slow reader of the feed may fall behind.
const FEED: usize = 4_096;

/// How a daemon differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The broker is librdkafka's mock cluster: no ids of topics, no isolation, nothing on disk.
    pub mock: bool,
    pub ways_out: WaysOut,
    /// For `meterd bench daemon` alone: records that come again are charged again, to measure what identities cost.
    pub without_identities: bool,
}

/// A running daemon.
pub struct Daemon {
    pub http: SocketAddr,
    pub backend: Arc<dyn Backend>,
    pub metrics: Arc<Metrics>,
    server: Server,
    stops: Receiver<Stop>,
    stop: Sender<Stop>,
    stopping: Arc<AtomicBool>,
    ownership: Arc<Ownership>,
    shards: Shards,
    store: Sender<ToStore>,
    threads: Threads,
    config: Arc<Config>,
    configuration: Arc<ArcSwap<FoldConfiguration>>,
    partitions: i32,
}

/// Threads in the order in which they end.
#[derive(Default)]
struct Threads {
    consumers: Vec<JoinHandle<()>>,
    shards: Vec<JoinHandle<()>>,
    store: Option<JoinHandle<()>>,
}

/// Starts a daemon; what it needs is checked first.
pub fn start(config: Config, options: Options) -> Result<Daemon, Stop> {
    let config = Arc::new(config);
    let metrics = Metrics::new();
    let (catalog, warnings) =
        config::catalog::load(&config.catalog).map_err(|diagnostics| Stop::config(diagnostics.to_string()))?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let store = open_store(&config, options.mock, &metrics)?;
    let found = startup::look(&config, &settings::admin(&config), options.mock)?;
    let configuration = Arc::new(configuration(&config, &found)?);
    tracing::info!(
        catalog = &*catalog.name,
        partitions = found.partitions,
        group = config.kafka.group,
        instance = config.kafka.instance,
        "starting"
    );
    // What is left is for sled's cache and queues.
    let budget = Budget::new(usize::try_from(config.store.memory_bytes / 4 * 3).unwrap_or(usize::MAX));
    Parts { config, metrics, store, found, configuration, budget, options }.start()
}

struct Parts {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    store: Arc<dyn Store>,
    found: Found,
    configuration: Arc<FoldConfiguration>,
    budget: Arc<Budget>,
    options: Options,
}

impl Parts {
    fn start(self) -> Result<Daemon, Stop> {
        let (stop, stops) = unbounded();
        let stopping = Arc::new(AtomicBool::new(false));
        let ownership = Arc::new(Ownership::default());
        let current = Arc::new(ArcSwap::from(Arc::clone(&self.configuration)));
        let backlog: [Arc<Backlog>; 2] = Default::default();
        let board = shard::Board::default();
        let known_ends = Arc::new(Mutex::default());
        let needed = sink::Needed::default();
        let (feed, _) = broadcast::channel::<Arc<NoticeLine>>(FEED);
        let mut threads = Threads::default();

        let (accounts_orders, accounts_inbox) = unbounded();
        let (usage_orders, usage_inbox) = unbounded();
        let orders: [Orders; 2] = [accounts_orders.clone(), usage_orders];
        let (to_committer, committer_inbox) = unbounded();
        let (to_store, store_inbox) = unbounded();
        let (to_ends, ends_inbox) = unbounded();
        let (jobs, jobs_inbox) = unbounded();
        let idle = Arc::new(AtomicBool::new(false));
        let share = Arc::<Share>::default();

        let group_consumer = Arc::new(self.consumer(&settings::group_consumer(&self.config))?);
        let free_consumer = Arc::new(self.consumer(&settings::free_consumer(&self.config))?);

        let mut senders = Vec::new();
        for number in 0..self.shard_count() {
            let (sender, inbox) = unbounded();
            senders.push(sender);
            let shard = Shard {
                inbox,
                committer: to_committer.clone(),
                committer_idle: Arc::clone(&idle),
                share: Arc::clone(&share),
                orders: orders.clone(),
                backlog: backlog.clone(),
                ends: to_ends.clone(),
                names: Arc::new(Names::new(&self.config.kafka, self.found.limits.dlq_bytes)),
                settings: self.settings(),
                metrics: Arc::clone(&self.metrics),
                board: Arc::clone(&board),
                known_ends: Arc::clone(&known_ends),
            };
            threads.shards.push(spawn(&format!("shard-{number}"), &stop, move || shard.run())?);
        }
        drop(to_committer);
        let shards = Shards(senders);

        let sink = Sink {
            shards: shards.clone(),
            store: to_store.clone(),
            metrics: Arc::clone(&self.metrics),
            feed: feed.clone(),
            needed: Arc::clone(&needed),
            ownership: Arc::clone(&ownership),
            recoveries: jobs.clone(),
            recovery: self.recovery(&current)?,
        };
        let topics = self.config.kafka.topics.clone();
        let mut committer = Committer {
            cluster: Instance {
                config: settings::producer(&self.config, self.found.limits.batch_bytes),
                consumer: Arc::clone(&group_consumer),
                watched: [topics.journal.clone(), topics.state.clone()],
            },
            topics,
            events_partitions: self.found.events_partitions,
            dlq_partitions: self.found.dlq_partitions,
            ownership: Arc::clone(&ownership),
            sink,
            metrics: Arc::clone(&self.metrics),
            idle,
            pace: Pace::new(share),
            mock: self.options.mock,
            producer: None,
            fenced: Vec::new(),
        };
        // Initialising ends what a predecessor of this instance left open, before anything is read.
        committer.open()?;
        threads.shards.push(spawn("committer", &stop, move || committer.run(&committer_inbox))?);

        let writer = StoreWriter {
            store: Arc::clone(&self.store),
            state_topic: self.found.place.topics.last().map(|(_, id)| id.clone()).unwrap_or_default(),
            every: store_writer::WRITE_EVERY,
            metrics: Arc::clone(&self.metrics),
        };
        let log = Reader::open(&settings::free_consumer(&self.config))?;
        let state_topic = self.config.kafka.topics.state.clone();
        threads.store = Some(spawn("store", &stop, move || {
            writer.run(&store_inbox, &log, &state_topic);
            Ok(())
        })?);

        for number in 0..RECOVERIES {
            let recoveries = Recoveries {
                recovery: self.recovery(&current)?,
                ownership: Arc::clone(&ownership),
                shards: shards.clone(),
                jobs: jobs_inbox.clone(),
            };
            spawn(&format!("recovery-{number}"), &stop, move || recoveries.run())?;
        }

        let ends = ends::Ends {
            reader: Reader::open(&settings::free_consumer(&self.config))?,
            topics: self.config.kafka.topics.clone(),
            shards: shards.clone(),
            ownership: Arc::clone(&ownership),
            known: known_ends,
            metrics: Arc::clone(&self.metrics),
        };
        spawn("ends", &stop, move || {
            ends.run(&ends_inbox);
            Ok(())
        })?;
        if !self.options.mock {
            self.trim(&stop, needed)?;
        }

        let member = Arc::clone(&group_consumer);
        let group = Group {
            ownership: Arc::clone(&ownership),
            partitions: self.found.partitions,
            recoveries: jobs,
            shards: shards.clone(),
            accounts: accounts_orders,
            store: to_store.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let topics = &self.config.kafka.topics;
        group_consumer
            .subscribe(&[&topics.usage])
            .map_err(|error| Stop::config(format!("subscribing to {}: {error}", topics.usage)))?;
        let usage = InputConsumer {
            input: Input::Usage,
            topic: topics.usage.clone(),
            topic_name: topic_name(&topics.usage),
            consumer: group_consumer,
            orders: usage_inbox,
            backlog: Arc::clone(&backlog[Input::Usage.index()]),
            route: ToShards(shards.clone()),
            rebalance: Some(Box::new(group)),
            ownership: Arc::clone(&ownership),
            stopping: Arc::clone(&stopping),
        };
        let accounts = InputConsumer {
            input: Input::Accounts,
            topic: topics.accounts.clone(),
            topic_name: topic_name(&topics.accounts),
            consumer: free_consumer,
            orders: accounts_inbox,
            backlog: Arc::clone(&backlog[Input::Accounts.index()]),
            route: ToShards(shards.clone()),
            rebalance: None,
            ownership: Arc::clone(&ownership),
            stopping: Arc::clone(&stopping),
        };
        threads.consumers.push(spawn("usage", &stop, move || usage.run())?);
        threads.consumers.push(spawn("accounts", &stop, move || accounts.run())?);

        let (astray, astray_inbox) = unbounded();
        let locator = locator::Locator { recovery: self.recovery(&current)? };
        spawn("locator", &stop, move || {
            locator.run(&astray_inbox);
            Ok(())
        })?;
        let backend: Arc<dyn Backend> = Arc::new(DaemonBackend {
            astray,
            shards: shards.clone(),
            ownership: Arc::clone(&ownership),
            board,
            partitioner: self.config.partitioner,
            partitions: self.found.partitions,
            feed,
            member,
            stopping: Arc::clone(&stopping),
            metrics: Arc::clone(&self.metrics),
            progress: backend::Progress::default(),
            member_since: Mutex::default(),
        });
        let server = self.serve(&backend)?;
        tracing::info!(address = %server.address, "serving HTTP");
        Ok(Daemon {
            http: server.address,
            backend,
            metrics: self.metrics,
            server,
            stops,
            stop,
            stopping,
            ownership,
            shards,
            store: to_store,
            threads,
            config: self.config,
            configuration: current,
            partitions: self.found.partitions,
        })
    }

    /// Fold threads: a core is left for the Kafka client. With keys placed by unknown rules an account is looked for in
    /// all partitions, so one thread holds them.
    fn shard_count(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        match self.config.partitioner {
            crate::ingest::partition::Partitioner::Any => 1,
            _ => cores.clamp(1, self.found.partitions.max(1) as usize),
        }
    }

    fn consumer(&self, config: &rdkafka::ClientConfig) -> Result<BaseConsumer<Context>, Stop> {
        BaseConsumer::from_config_and_context(config, Context).map_err(|error| {
            Stop::config(format!("expected a Kafka consumer, found {error}: check [kafka] and [kafka.properties]"))
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            group: self.config.kafka.group.clone(),
            instance: self.config.kafka.instance.clone(),
            advertise: self.config.http.advertise.clone(),
            interval: self.config.commit.interval,
            records_max: self.config.commit.records_max,
            checkpoint: self.config.checkpoint.interval,
            identities: !self.options.without_identities,
            witnessed: !self.options.mock,
        }
    }

    fn recovery(&self, configuration: &Arc<ArcSwap<FoldConfiguration>>) -> Result<Recovery<Reader>, Stop> {
        Ok(Recovery {
            reader: Reader::open(&settings::free_consumer(&self.config))?,
            topics: self.config.kafka.topics.clone(),
            store: Arc::clone(&self.store),
            metrics: Arc::clone(&self.metrics),
            budget: Arc::clone(&self.budget),
            place: self.found.place.clone(),
            started_with: configuration.load().hash(),
            configuration: Arc::clone(configuration),
            mock: self.options.mock,
            ways_out: WaysOut { events_partitions: self.found.events_partitions, ..self.options.ways_out.clone() },
        })
    }

    fn trim(&self, stop: &Sender<Stop>, needed: sink::Needed) -> Result<(), Stop> {
        let admin: AdminClient<DefaultClientContext> = settings::admin(&self.config)
            .create()
            .map_err(|error| Stop::config(format!("expected a Kafka client, found {error}")))?;
        let trim = trim::Trim { admin, journal: self.config.kafka.topics.journal.clone(), needed };
        // The thread ends with the process: trimming is never waited for.
        let (keep, ended) = bounded(1);
        spawn("trim", stop, move || {
            let _held = keep;
            trim.run(&ended);
            Ok(())
        })?;
        Ok(())
    }

    fn serve(&self, backend: &Arc<dyn Backend>) -> Result<Server, Stop> {
        let http = &self.config.http;
        http::start(http.clone(), Arc::clone(backend), Arc::clone(&self.metrics)).map_err(|error| {
            Stop::config(format!(
                "expected to listen on {}, found {error}: another process listens there; set [http] listen to a free \
                 address",
                http.listen
            ))
        })
    }
}

impl Daemon {
    /// Gives the fault that ends the daemon.
    pub fn stops(&self) -> &Receiver<Stop> {
        &self.stops
    }

    /// A sender that ends the daemon when it is given a reason.
    pub fn stopper(&self) -> Sender<Stop> {
        self.stop.clone()
    }

    /// Loads the catalog again. What is wrong with it is said, and the old one stays.
    pub fn reload(&self) -> Result<(), Stop> {
        let (catalog, warnings) =
            config::catalog::load(&self.config.catalog).map_err(|error| Stop::config(error.to_string()))?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let before = self.configuration.load();
        let text = read_catalog(&self.config.catalog)?;
        let configuration = Arc::new(FoldConfiguration { catalog: text, ..FoldConfiguration::clone(&before) });
        let catalog = Arc::new(catalog);
        self.configuration.store(Arc::clone(&configuration));
        self.shards
            .send_all(|| ToShard::Reload { catalog: Arc::clone(&catalog), configuration: Arc::clone(&configuration) });
        tracing::info!(partitions = self.partitions, "the catalog was loaded again");
        Ok(())
    }

    /// Finishes the batch, commits, writes what is dirty, leaves.
    pub fn stop(mut self) {
        self.stopping.store(true, Ordering::Release);
        for consumer in self.threads.consumers.drain(..) {
            // A thread that panicked has said so.
            let _said = consumer.join();
        }
        let partitions = self.ownership.partitions();
        let left = Group::drain(&self.ownership, &self.shards, &partitions, DRAIN_AT_STOP);
        if left > 0 {
            tracing::warn!(left, "partitions are left with dirty accounts; the next start folds some batches again");
        }
        // A batch that does not commit at once is given up: nobody polls any more, so a membership that ends now is not
        // renewed, and the committer would try for minutes.
        partitions.iter().for_each(|partition| self.ownership.revoke(*partition));
        self.server.stop();
        self.shards.send_all(|| ToShard::Stop);
        for thread in self.threads.shards.drain(..) {
            let _said = thread.join();
        }
        let _stopping = self.store.send(ToStore::Close);
        if let Some(store) = self.threads.store.take() {
            let _said = store.join();
        }
        tracing::info!("stopped");
    }
}

/// Hands what a consumer fetched to the shard of its partition.
struct ToShards(Shards);

impl Route for ToShards {
    fn fetched(&self, input: Input, partition: i32, epoch: u64, fetched: Fetched) {
        self.0.send(partition, ToShard::Fetched { input, partition, epoch, fetched });
    }
}

fn open_store(config: &Config, mock: bool, metrics: &Metrics) -> Result<Arc<dyn Store>, Stop> {
    if mock {
        return Ok(Arc::new(MemoryStore::default()));
    }
    // sled's own cache is a small part of the budget: the accounts themselves are held in memory.
    match SledStore::open(&config.store.path, config.store.memory_bytes / 16) {
        Ok((store, opened)) => {
            if let Some(aside) = opened.set_aside {
                metrics.store_failed();
                tracing::warn!(aside = %aside.display(), "the store was damaged and set aside; rebuilding it from Kafka");
            }
            Ok(Arc::new(store))
        }
        Err(StoreError::Held(message)) => Err(Stop::config(message)),
        Err(error) => {
            metrics.store_failed();
            tracing::warn!(%error, "the store does not serve; running from memory");
            Ok(Arc::new(MemoryStore::default()))
        }
    }
}

fn configuration(config: &Config, found: &Found) -> Result<FoldConfiguration, Stop> {
    let topics = &config.kafka.topics;
    Ok(FoldConfiguration {
        catalog: read_catalog(&config.catalog)?,
        catalog_name: config.catalog.display().to_string(),
        record_bytes_max: config.input.record_bytes_max as u64,
        accept_replayed: config.input.accept_replayed,
        partitioner: config.partitioner.name().to_string(),
        partitions: found.partitions,
        group: config.kafka.group.clone(),
        topics: [topics.accounts.clone(), topics.usage.clone()],
    })
}

fn read_catalog(path: &Path) -> Result<String, Stop> {
    std::fs::read_to_string(path)
        .map_err(|error| Stop::config(format!("expected a catalog at {}, found {error}", path.display())))
}

/// A named thread whose fault, or panic, ends the daemon.
fn spawn(
    name: &str,
    stop: &Sender<Stop>,
    work: impl FnOnce() -> Result<(), Stop> + Send + 'static,
) -> Result<JoinHandle<()>, Stop> {
    let (stop, told) = (stop.clone(), name.to_string());
    std::thread::Builder::new()
        .name(name.to_string())
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                Err(Stop::bug(format!(
                    "thread {told} met a bug: {text}. Nothing wrong was committed; start meterd again, and report this"
                )))
            });
            if let Err(fault) = result {
                // The daemon is ending already where nobody listens.
                let _ending = stop.send(fault);
            }
        })
        .map_err(|error| Stop::io(format!("expected a new thread, found {error}")))
}
