//! `meterd demo`: everything in one process, to look at. Broker (librdkafka's mock cluster), daemon, dashboard, a gateway
//! that sends invented usage, and a billing side that answers notices with commands.
//!
//! The mock cluster neither isolates transactions nor keeps anything: what holds here proves nothing about exactly-once.

mod cast;
mod dice;
mod world;

use std::fs;
use std::io::{IsTerminal, stdout};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rdkafka::mocking::MockCluster;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use super::run::failure;
use super::{Failure, Globals, Output, Verdict, complain, notice_text, print};
use crate::config::{self, Config};
use crate::daemon::{self, Daemon, Options};
use crate::telemetry::logs;
use world::World;

const CATALOG: &str = include_str!("../../config/catalogs/zencoder.toml");
const PARTITIONS: i32 = 4;
const CONFIG: &str = "meterd.toml";
const LISTEN: &str = "127.0.0.1:9464";

/// Run everything in one process with invented usage, to look at; not for production
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  meterd demo\n  meterd demo --seconds 30 --rate 1000")]
pub struct Arguments {
    /// Usage records a second
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    rate: u32,
    /// End by itself after so long
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Where the dashboard is served [default: 127.0.0.1:9464, or a free port where it is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    logs::start_at("warn").map_err(Failure::config)?;
    let broker = MockCluster::new(1)
        .map_err(|error| Failure::unavailable(format!("the embedded broker did not start: {error}")))?;
    let folder = Folder::create()?;
    let config = config(&folder, &broker.bootstrap_servers(), listen_at(arguments.listen))?;
    let topics = &config.kafka.topics;
    for topic in [&topics.usage, &topics.accounts, &topics.events, &topics.dlq, &topics.journal, &topics.state] {
        broker
            .create_topic(topic, PARTITIONS, 1)
            .map_err(|error| Failure::unavailable(format!("the embedded broker made no topic {topic}: {error}")))?;
    }
    let brokers = config.kafka.brokers.clone();
    let topics = topics.clone();
    let daemon = daemon::start(config, Options { mock: true, ..Options::default() }).map_err(failure)?;
    if globals.output == Output::Text {
        introduce(&daemon, arguments.rate, &folder)?;
    }
    let world = World::start(&brokers, &topics, arguments.rate, daemon.backend.clone())
        .map_err(|error| Failure::unavailable(format!("the embedded broker took no producer: {error}")))?;
    let end = follow(&daemon, arguments.seconds.map(Duration::from_secs), globals.output);
    world.stop();
    let summary = summary(&daemon);
    daemon.stop();
    end?;
    if globals.output == Output::Text {
        print(&summary)?;
    }
    Ok(Verdict::Clean)
}

fn introduce(daemon: &Daemon, rate: u32, folder: &Folder) -> Result<(), Failure> {
    print(&format!(
        "meterd demo: an embedded broker, {rate} invented records a second, catalog zencoder. Nothing is kept, and \
         nothing here is for production.\n\n  \
         dashboard  http://{0}/\n  \
         an account http://{0}/#/account/acme\n  \
         the same   meterd account show acme --url http://{0}\n  \
         take part  meterd account topup acme --amount 5000 --unit credit --price 20 --currency usd --config {1}\n  \
         end        Ctrl-C\n\n",
        daemon.http,
        folder.path.join(CONFIG).display()
    ))
}

/// Prints notices until Ctrl-C, SIGTERM, the time is over, or the daemon ends by itself, which is a failure.
fn follow(daemon: &Daemon, time: Option<Duration>, output: Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io(format!("no event loop: {error}")))?;
    let mut notices = daemon.backend.notices();
    runtime.block_on(async {
        let over = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let interrupted = interrupted();
        tokio::pin!(over, interrupted);
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                () = &mut over => return Ok(()),
                caught = &mut interrupted => return caught,
                _ = look.tick() => {
                    if let Ok(stop) = daemon.stops().try_recv() {
                        return Err(failure(stop));
                    }
                }
                heard = notices.recv() => match heard {
                    Ok(notice) => tell(&notice.json, output)?,
                    Err(RecvError::Lagged(count)) => complain(&format!("{count} notices came too fast to be shown")),
                    Err(RecvError::Closed) => return Ok(()),
                },
            }
        }
    })
}

async fn interrupted() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let cannot = |error| Failure::io(format!("signals cannot be heard: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

fn tell(json: &[u8], output: Output) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(json);
    match (output, serde_json::from_str::<Value>(&text)) {
        (Output::Text, Ok(notice)) => print(&format!("{}\n", notice_text::line(&notice, stdout().is_terminal()))),
        _ => print(&format!("{text}\n")),
    }
}

fn summary(daemon: &Daemon) -> String {
    let totals = daemon.metrics.totals();
    let latency = daemon.metrics.latency_minute();
    let conservation = match totals.conservation_violations {
        0 => "conservation held".to_owned(),
        count => format!("conservation was violated {count} times"),
    };
    format!(
        "\n{} records, {} notices, {} commits; from record to committed notice p50 {} ms, p99 {} ms; {conservation}.\n",
        totals.records, totals.notices, totals.commits, latency.p50_ms, latency.p99_ms
    )
}

/// The usual address, or any free port where another process has it.
fn listen_at(asked: Option<SocketAddr>) -> String {
    match asked {
        Some(address) => address.to_string(),
        None if TcpListener::bind(LISTEN).is_ok() => LISTEN.to_owned(),
        None => "127.0.0.1:0".to_owned(),
    }
}

fn config(folder: &Folder, brokers: &str, listen: String) -> Result<Config, Failure> {
    let catalog = folder.write("zencoder.toml", CATALOG)?;
    // A real broker answers a waiting fetch as soon as something comes; the mock one only when the wait is over.
    let text = format!(
        "catalog = {:?}\n\n[kafka]\nbrokers = {brokers:?}\ngroup = \"demo\"\ninstance = \"demo\"\n\n\
         [kafka.properties]\n\"fetch.wait.max.ms\" = 5\n\n\
         [store]\npath = {:?}\n\n[http]\nlisten = {listen:?}\n",
        catalog.display().to_string(),
        folder.path.join("data").display().to_string(),
    );
    let file = folder.write(CONFIG, &text)?;
    config::load(&file).map_err(Failure::config)
}

/// A folder of its own that goes away with the demo.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create() -> Result<Folder, Failure> {
        let path = std::env::temp_dir().join(format!("meterd-demo-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| Failure::io(format!("{}: {error}", path.display())))?;
        Ok(Folder { path })
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|error| Failure::io(format!("{}: {error}", path.display())))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies where temporary things lie: one that stays harms nobody.
        let _ = fs::remove_dir_all(&self.path);
    }
}
