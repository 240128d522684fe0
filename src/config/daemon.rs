//! The daemon's configuration: text to a checked [`Config`] (docs/reference.md 15).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::kafka::{check_topics, properties};
use super::reading::{Reading, Table, Value};
use super::tokens::Tokens;
use crate::ingest::partition::Partitioner;

#[derive(Debug)]
pub struct Config {
    /// The catalog file, found from where the configuration stands.
    pub catalog: PathBuf,
    pub partitioner: Partitioner,
    pub kafka: Kafka,
    pub input: Input,
    pub commit: Commit,
    pub checkpoint: Checkpoint,
    pub store: Store,
    pub http: Http,
}

pub struct Kafka {
    pub brokers: String,
    pub group: String,
    /// This instance's name in the group; empty: a dynamic member.
    pub instance: String,
    pub topics: Topics,
    /// Of librdkafka, secrets already read; none of those that meterd decides.
    pub properties: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct Topics {
    pub usage: String,
    pub accounts: String,
    pub events: String,
    pub dlq: String,
    pub journal: String,
    pub state: String,
}

#[derive(Debug)]
pub struct Input {
    /// Of a record's value.
    pub record_bytes_max: usize,
    /// Honour `__meterd.accept-late`.
    pub accept_replayed: bool,
}

#[derive(Debug)]
pub struct Commit {
    /// How long to gather more before a commit; zero: commit as soon as anything is pending.
    pub interval: Duration,
    pub records_max: usize,
}

#[derive(Debug)]
pub struct Checkpoint {
    pub interval: Duration,
}

#[derive(Debug)]
pub struct Store {
    pub path: PathBuf,
    pub memory_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct Http {
    pub listen: SocketAddr,
    /// Where other instances send readers for this one's accounts: a base URL.
    pub advertise: Option<String>,
    pub tokens: Option<Tokens>,
    pub tls_terminated: bool,
}

/// Reads and checks a configuration file, and the files of secrets and tokens that it names.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| super::unreadable(&file, &error))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, &file, folder)
}

/// Checks the text of a configuration; paths in it are taken from `folder`.
pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Config, Diagnostics> {
    let (config, found) = Reading::run(file, text, |reading, root| check(reading, root, folder));
    match config {
        Some(config) if !found.has_errors() => Ok(config),
        _ => Err(found),
    }
}

/// The catalog that a configuration names, even where something else in it is wrong.
pub fn catalog_of(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let (catalog, _) = Reading::run("", &text, |_, root| root.peek_text("catalog").map(str::to_owned));
    Some(path.parent().unwrap_or(Path::new("")).join(catalog?))
}

fn check(reading: &Reading<'_>, mut root: Table<'_>, folder: &Path) -> Option<Config> {
    let catalog = root.require("catalog", "\"catalogs/mine.toml\"").and_then(|path| nonempty(&path));
    let partitioner = root.get("partitioner").and_then(|name| name.choose(&PARTITIONERS));
    let kafka = kafka(reading, section(&mut root, "kafka"), folder);
    let input = input(section(&mut root, "input"));
    let commit = commit(section(&mut root, "commit"));
    let checkpoint = checkpoint(section(&mut root, "checkpoint"));
    let store = store(section(&mut root, "store"), folder);
    let http = http(reading, section(&mut root, "http"), folder);
    root.finish();
    Some(Config {
        catalog: folder.join(catalog?),
        partitioner: partitioner.unwrap_or(Partitioner::Murmur2),
        kafka,
        input,
        commit,
        checkpoint,
        store,
        http,
    })
}

const PARTITIONERS: [(&str, Partitioner); 4] = [
    ("murmur2", Partitioner::Murmur2),
    ("crc32", Partitioner::Crc32),
    ("fnv1a", Partitioner::Fnv1a),
    ("any", Partitioner::Any),
];

fn section<'r>(root: &mut Table<'r>, key: &'static str) -> Option<Table<'r>> {
    root.get(key).and_then(|value| value.table())
}

fn kafka(reading: &Reading<'_>, table: Option<Table<'_>>, folder: &Path) -> Kafka {
    let mut kafka = Kafka {
        brokers: "127.0.0.1:9092".to_owned(),
        group: "meterd".to_owned(),
        instance: String::new(),
        topics: Topics::default(),
        properties: BTreeMap::new(),
    };
    let Some(mut table) = table else {
        kafka.instance = host_name();
        return kafka;
    };
    set(&mut kafka.brokers, table.get("brokers").and_then(|value| nonempty(&value)));
    set(&mut kafka.group, table.get("group").and_then(|value| nonempty(&value)));
    kafka.instance = match table.get("instance") {
        Some(value) => value.text().unwrap_or_default().to_owned(),
        None => host_name(),
    };
    if let Some(topics) = table.get("topics") {
        kafka.topics = topics_of(&topics);
        check_topics(&topics, &kafka.topics);
    }
    if let Some(given) = table.get("properties") {
        kafka.properties = properties(reading, &given, folder);
    }
    table.finish();
    kafka
}

fn topics_of(value: &Value<'_>) -> Topics {
    let mut topics = Topics::default();
    let Some(mut table) = value.table() else { return topics };
    let mut name = |key: &'static str, topic: &mut String| set(topic, table.get(key).and_then(|name| nonempty(&name)));
    name("usage", &mut topics.usage);
    name("accounts", &mut topics.accounts);
    name("events", &mut topics.events);
    name("dlq", &mut topics.dlq);
    name("journal", &mut topics.journal);
    name("state", &mut topics.state);
    table.finish();
    topics
}

fn input(table: Option<Table<'_>>) -> Input {
    let mut input = Input { record_bytes_max: 64 << 10, accept_replayed: false };
    let Some(mut table) = table else { return input };
    let most = table.get("record_bytes_max").and_then(|value| value.integer(256, 16 << 20));
    set(&mut input.record_bytes_max, most.map(|bytes| bytes as usize));
    set(&mut input.accept_replayed, table.get("accept_replayed").and_then(|value| value.boolean()));
    table.finish();
    input
}

fn commit(table: Option<Table<'_>>) -> Commit {
    let mut commit = Commit { interval: Duration::ZERO, records_max: 50_000 };
    let Some(mut table) = table else { return commit };
    set(&mut commit.interval, table.get("interval").and_then(|value| duration(&value, 0, 5_000)));
    let most = table.get("records_max").and_then(|value| value.integer(1, 1_000_000));
    set(&mut commit.records_max, most.map(|records| records as usize));
    table.finish();
    commit
}

fn checkpoint(table: Option<Table<'_>>) -> Checkpoint {
    let mut checkpoint = Checkpoint { interval: Duration::from_secs(10) };
    let Some(mut table) = table else { return checkpoint };
    set(&mut checkpoint.interval, table.get("interval").and_then(|value| duration(&value, 100, 3_600_000)));
    table.finish();
    checkpoint
}

fn store(table: Option<Table<'_>>, folder: &Path) -> Store {
    let mut store = Store { path: folder.join("data"), memory_bytes: 2 << 30 };
    let Some(mut table) = table else { return store };
    set(&mut store.path, table.get("path").and_then(|path| nonempty(&path)).map(|path| folder.join(path)));
    set(&mut store.memory_bytes, table.get("memory").and_then(|value| value.size(16 << 20)));
    table.finish();
    store
}

fn http(reading: &Reading<'_>, table: Option<Table<'_>>, folder: &Path) -> Http {
    let listen = SocketAddr::from(([127, 0, 0, 1], 9464));
    let mut http = Http { listen, advertise: None, tokens: None, tls_terminated: false };
    let Some(mut table) = table else { return http };
    let listen = table.get("listen");
    set(&mut http.listen, listen.as_ref().and_then(address));
    http.advertise = table.get("advertise").and_then(|url| base_url(&url));
    let tokens = table.get("tokens");
    http.tokens = tokens.as_ref().and_then(|value| tokens_of(reading, value, folder));
    let terminated = table.get("tls-terminated");
    set(&mut http.tls_terminated, terminated.and_then(|value| value.boolean()));
    table.finish();
    if let Some(listen) = listen
        && !http.listen.ip().is_loopback()
        && tokens.is_none()
        && !http.tls_terminated
    {
        listen.error(
            format!("{} can be reached from other machines, and everyone could read every account", http.listen),
            "set `tokens = { file = \"tokens.toml\" }`, or `tls-terminated = true` behind a proxy that checks who asks",
        );
    }
    http
}

fn tokens_of(reading: &Reading<'_>, value: &Value<'_>, folder: &Path) -> Option<Tokens> {
    let mut table = value.table()?;
    let file = table.require("file", "\"tokens.toml\"").and_then(|file| nonempty(&file));
    table.finish();
    match Tokens::load(&folder.join(file?)) {
        Ok(tokens) => Some(tokens),
        Err(wrong) => {
            reading.include(wrong);
            None
        }
    }
}

fn address(value: &Value<'_>) -> Option<SocketAddr> {
    let text = value.text()?;
    let address = text.parse().ok();
    if address.is_none() {
        value.error(format!("{text:?} is not an address"), "write an IP address and a port, like \"127.0.0.1:9464\"");
    }
    address
}

fn base_url(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.starts_with("http://") || text.starts_with("https://") {
        return Some(text.trim_end_matches('/').to_owned());
    }
    value.error(format!("{text:?} is not a base URL"), "write it like \"http://meterd-a.internal:9464\"");
    None
}

fn duration(value: &Value<'_>, least_ms: i64, most_ms: i64) -> Option<Duration> {
    value.duration_between(least_ms, most_ms).map(|ms| Duration::from_millis(ms as u64))
}

fn nonempty(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.is_empty() {
        value.error("an empty text", "write a text, or leave the key out");
    }
    (!text.is_empty()).then(|| text.to_owned())
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

impl Default for Topics {
    fn default() -> Topics {
        Topics {
            usage: "meter.usage".to_owned(),
            accounts: "meter.accounts".to_owned(),
            events: "meter.events".to_owned(),
            dlq: "meter.dlq".to_owned(),
            journal: "meterd.journal".to_owned(),
            state: "meterd.state".to_owned(),
        }
    }
}

/// Without the values of properties, which may be secrets.
impl fmt::Debug for Kafka {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("instance", &self.instance)
            .field("topics", &self.topics)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a configuration: each line with a part of its message.
    fn check(text: &str, expect: &[(usize, &str)]) {
        let found = parse(text, "meterd.toml", Path::new("/nowhere")).map_or_else(|wrong| wrong.list, |_| Vec::new());
        let seen: Vec<(usize, &str)> = found.iter().map(|one| (one.line, one.message.as_str())).collect();
        let fits = seen.len() == expect.len()
            && seen.iter().zip(expect).all(|(seen, expect)| seen.0 == expect.0 && seen.1.contains(expect.1));
        assert!(fits, "{text}\nexpected {expect:#?}\nfound {seen:#?}");
    }

    #[test]
    fn the_shipped_configuration_is_valid_and_shows_the_defaults() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let shipped = load(&folder.join("meterd.toml")).unwrap_or_else(|wrong| panic!("{wrong}"));
        let minimal = parse("catalog = \"catalogs/zencoder.toml\"", "", &folder).expect("defaults");
        assert_eq!(format!("{shipped:?}"), format!("{minimal:?}"));
        // Each commented line, but examples, says what the default is: with all of them it is the same once more.
        let text = std::fs::read_to_string(folder.join("meterd.toml")).expect("the file");
        let keys = [
            "partitioner",
            "brokers",
            "group",
            "topics",
            "record_bytes_max",
            "accept_replayed",
            "interval",
            "records_max",
            "path",
            "memory",
            "listen",
            "tls-terminated",
        ];
        let written: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if keys.iter().any(|key| rest.starts_with(&format!("{key} = "))) => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert_eq!(
            written.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count(),
            1 + keys.len() + 1
        );
        let written = parse(&written, "", &folder).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(format!("{shipped:?}"), format!("{written:?}"));
    }

    #[test]
    fn refuses_what_meterd_decides() {
        for name in [
            "isolation.level",
            "enable.auto.commit",
            "auto.offset.reset",
            "partition.assignment.strategy",
            "group.protocol",
            "group.id",
            "group.instance.id",
            "transactional.id",
            "acks",
            "enable.idempotence",
            "delivery.timeout.ms",
            "transaction.timeout.ms",
            "enable.auto.offset.store",
            "bootstrap.servers",
        ] {
            check(&format!("catalog = \"c\"\n[kafka.properties]\n{name} = \"x\""), &[(3, "is decided by meterd")]);
            check(&format!("catalog = \"c\"\n[kafka.properties]\n\"{name}\" = \"x\""), &[(3, "is decided by meterd")]);
        }
    }

    #[test]
    fn finds_every_mistake_with_its_line() {
        check("[kafka]\ngroup = \"\"", &[(1, "`catalog` is missing"), (2, "an empty text")]);
        check("catalog = 3\npartitioner = \"murmur\"", &[(1, "expected a string"), (2, "\"murmur\" is not known")]);
        check("catalog = \"c\"\ninput.record_bytes_max = 0", &[(2, "0 is out of range")]);
        check("catalog = \"c\"\ncommit.interval = \"1 s\"", &[(2, "is not a duration")]);
        check("catalog = \"c\"\ncommit.interval = \"1h\"", &[(2, "out of range")]);
        check("catalog = \"c\"\ncommit.records_max = 0", &[(2, "out of range")]);
        check("catalog = \"c\"\ncheckpoint.interval = 10", &[(2, "expected a duration")]);
        check("catalog = \"c\"\nstore.memory = \"1KiB\"", &[(2, "too few")]);
        check("catalog = \"c\"\nstore.memory = \"1GB\"", &[(2, "expected a size")]);
        check("catalog = \"c\"\nhttp.listen = \"localhost\"", &[(2, "is not an address")]);
        check("catalog = \"c\"\nhttp.listen = \"[::]:80\"", &[(2, "can be reached from other machines")]);
        check("catalog = \"c\"\nhttp.listen = \"[::]:80\"\nhttp.tls-terminated = true", &[]);
        check("catalog = \"c\"\nhttp.listen = \"127.1.2.3:80\"", &[]);
        check("catalog = \"c\"\nhttp.advertise = \"host:80\"", &[(2, "is not a base URL")]);
        check("catalog = \"c\"\nhttp.tokens = { file = \"t.toml\" }", &[(1, "cannot be read")]);
        check("catalog = \"c\"\nkafka.topics = { usage = \"x y\" }", &[(2, "is no name for a topic")]);
        check("catalog = \"c\"\nkafka.topics = { usage = \"x\", events = \"x\" }", &[(2, "two topics are named `x`")]);
        check("catalog = \"c\"\n[kafka.properties]\n\"no.such\" = 1", &[(3, "No such configuration property")]);
        check("catalog = \"c\"\n[kafka.properties]\nsasl.password = { file = \"p\" }", &[(3, "cannot be read")]);
        check(
            "catalog = \"c\"\n[kafka.properties]\nsasl.password = { file = \"p\", env = \"P\" }",
            &[(3, "one source")],
        );
        check("catalog = \"c\"\nhtpp = 1\ncatalogue = \"c\"", &[(2, "unknown key"), (3, "unknown key")]);
        check("catalog = \"c\"\ncatalog = \"c\"\n[", &[(2, "not TOML"), (3, "not TOML")]);
    }

    #[test]
    fn reads_secrets_and_tells_none() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("password"), "hunter2\n").expect("a file");
        let text = "catalog = \"c\"\nkafka.properties.sasl.password = { file = \"password\" }";
        let config = parse(text, "", folder.path()).expect("valid");
        assert_eq!(config.kafka.properties["sasl.password"], "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        let wrong = parse("catalog = \"c\"\nkafka.properties.\"ssl.key.pasword\" = \"hunter2\"", "", folder.path());
        assert!(!wrong.expect_err("unknown").to_string().contains("hunter2"));
    }
}
