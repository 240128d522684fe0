//! What one test works in: its topics and group on the shared broker, a directory with catalog and configs, and the
//! daemons that it starts.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::broker;
use crate::daemon::{self, Daemon};
use crate::log::{self, Record};

pub struct World {
    pub broker: String,
    /// Of the topics' names.
    pub prefix: String,
    pub group: String,
    pub directory: TempDir,
    /// Lines of the config besides the necessary ones, as in `("input", "record_bytes_max = 1000")`.
    pub settings: Vec<(&'static str, String)>,
}

impl World {
    /// With this catalog, on the shared broker; no topics yet.
    pub fn new(test: &str, catalog: &str) -> World {
        World::at(broker::shared(), test, catalog)
    }

    pub fn at(broker: &str, test: &str, catalog: &str) -> World {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("{test}-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        fs::write(directory.path().join("catalog.toml"), catalog).expect("the directory is ours");
        World { broker: broker.to_owned(), group: prefix.clone(), prefix, directory, settings: Vec::new() }
    }

    /// Adds a line to a section of the config (`""`: before the first section).
    pub fn with(mut self, section: &'static str, line: impl Into<String>) -> World {
        self.settings.push((section, line.into()));
        self
    }

    /// With the topics that `meterd init` makes.
    pub fn initialised(self, partitions: u32) -> World {
        let (code, said) = self.init(partitions);
        assert_eq!(code, 0, "{said}");
        self
    }

    /// Exit code and what was printed, of `meterd init`.
    pub fn init(&self, partitions: u32) -> (i32, String) {
        let config = self.config("init");
        let count = partitions.to_string();
        let arguments = ["--config", config.to_str().expect("paths are text"), "init", "--partitions", &count];
        let output = daemon::meterd(&arguments);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().expect("no signal ended it"), String::from_utf8_lossy(&said).into_owned())
    }

    pub fn usage(&self) -> String {
        format!("{}.usage", self.prefix)
    }

    pub fn accounts(&self) -> String {
        format!("{}.accounts", self.prefix)
    }

    pub fn events(&self) -> String {
        format!("{}.events", self.prefix)
    }

    pub fn dlq(&self) -> String {
        format!("{}.dlq", self.prefix)
    }

    pub fn journal(&self) -> String {
        format!("{}.journal", self.prefix)
    }

    pub fn state(&self) -> String {
        format!("{}.state", self.prefix)
    }

    pub fn topics(&self) -> [String; 6] {
        [self.usage(), self.accounts(), self.events(), self.dlq(), self.journal(), self.state()]
    }

    pub fn catalog(&self) -> PathBuf {
        self.directory.path().join("catalog.toml")
    }

    /// Where an instance keeps its store.
    pub fn store(&self, instance: &str) -> PathBuf {
        self.directory.path().join(format!("store-{instance}"))
    }

    pub fn delete_store(&self, instance: &str) {
        match fs::remove_dir_all(self.store(instance)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("cannot delete the store: {error}"),
            _ => {}
        }
    }

    /// Turns bits of the store over, as a bad disk would; gives the bytes of the files.
    pub fn damage_store(&self, instance: &str) -> usize {
        let mut damaged = 0;
        let mut folders = vec![self.store(instance)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("the directory can be read").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let mut bytes = fs::read(&path).expect("the file can be read");
                bytes.iter_mut().skip(64).step_by(97).for_each(|byte| *byte ^= 0x55);
                damaged += bytes.len();
                fs::write(&path, bytes).expect("the file can be written");
            }
        }
        damaged
    }

    /// Writes the config of an instance.
    pub fn config(&self, instance: &str) -> PathBuf {
        self.config_with(instance, &format!("store-{instance}"), &daemon::free_address().to_string())
    }

    fn config_with(&self, instance: &str, store: &str, listen: &str) -> PathBuf {
        let prefix = &self.prefix;
        let mut sections = [
            ("", "catalog = \"catalog.toml\"\n".to_owned()),
            (
                "kafka",
                format!(
                    "brokers = \"{}\"\ngroup = \"{}\"\ninstance = \"{instance}\"\n\
                     topics = {{ usage = \"{prefix}.usage\", accounts = \"{prefix}.accounts\", events = \"{prefix}.events\", \
                     dlq = \"{prefix}.dlq\", journal = \"{prefix}.journal\", state = \"{prefix}.state\" }}\n",
                    self.broker, self.group
                ),
            ),
            ("kafka.properties", String::new()),
            ("input", String::new()),
            ("commit", String::new()),
            ("checkpoint", String::new()),
            ("store", format!("path = \"{store}\"\n")),
            ("http", format!("listen = \"{listen}\"\n")),
        ];
        for (section, line) in &self.settings {
            let (_, text) = sections.iter_mut().find(|(name, _)| name == section).expect("a section of the config");
            text.push_str(line);
            text.push('\n');
        }
        if !self.settings.iter().any(|(section, _)| *section == "checkpoint") {
            let (_, text) = sections.iter_mut().find(|(name, _)| *name == "checkpoint").expect("it is in the list");
            text.push_str("interval = \"1s\"\n");
        }
        let text: String = sections
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| if name.is_empty() { text.clone() } else { format!("[{name}]\n{text}") })
            .collect();
        let path = self.directory.path().join(format!("{instance}-{store}.toml"));
        fs::write(&path, text).expect("the directory is ours");
        path
    }

    /// Starts an instance without waiting for it.
    pub fn spawn(&self, instance: &str) -> Daemon {
        self.spawn_with_store(instance, &format!("store-{instance}"))
    }

    /// Starts an instance whose store is in this directory.
    pub fn spawn_with_store(&self, instance: &str, store: &str) -> Daemon {
        let http = daemon::free_address();
        let config = self.config_with(instance, store, &http.to_string());
        Daemon::spawn(&config, &[], http, &config.with_extension("log"))
    }

    /// Starts instance `a` with these arguments of `run`.
    pub fn spawn_with(&self, arguments: &[&str]) -> Daemon {
        let http = daemon::free_address();
        let config = self.config_with("a", "store-a", &http.to_string());
        Daemon::spawn(&config, arguments, http, &config.with_extension("log"))
    }

    /// Starts an instance and waits until it is ready.
    pub fn start(&self, instance: &str) -> Daemon {
        let mut daemon = self.spawn(instance);
        daemon.await_ready();
        daemon
    }

    /// Exit code and stderr of a `meterd run` that must refuse to start, or stop by itself.
    pub fn refused(&self, instance: &str, limit: Duration) -> (i32, String) {
        let mut daemon = self.spawn(instance);
        let code = daemon.exit_code(limit);
        (code, daemon.said())
    }

    /// Waits until every record of both input topics has been folded and committed.
    pub fn await_consumed(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        for topic in [self.accounts(), self.usage()] {
            let ends = log::ends(&self.broker, &topic);
            loop {
                let committed = log::committed(&self.broker, &self.group, &topic);
                if std::iter::zip(&committed, &ends).all(|(committed, end)| committed.unwrap_or(0) >= *end) {
                    break;
                }
                assert!(Instant::now() < deadline, "{topic}: committed {committed:?} of {ends:?} after {limit:?}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// The notices that a read_committed reader finds.
    pub fn notices(&self) -> Vec<Record> {
        log::read_committed(&self.broker, &self.events())
    }

    pub fn quarantined(&self) -> Vec<Record> {
        log::read_committed(&self.broker, &self.dlq())
    }
}
