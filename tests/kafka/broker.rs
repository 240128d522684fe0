//! Real brokers for the tests, through `scripts/kafka`: one that all tests of the process share (each with topics and a
//! group of its own), and clusters of their own for tests that stop brokers. All end with this process, however it ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The address of the broker that all tests share.
pub fn shared() -> &'static str {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    &SHARED.get_or_init(|| Cluster::start(1)).address
}

/// A cluster under a name of its own.
pub struct Cluster {
    name: String,
    pub address: String,
}

impl Cluster {
    pub fn start(brokers: u32) -> Cluster {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        // The name tells scripts/test which clusters were its own.
        let run = std::env::var("METERD_TEST_RUN").unwrap_or_else(|_| "alone".to_owned());
        let process = std::process::id();
        let name = format!("test-{run}-{process}-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let (brokers, process) = (brokers.to_string(), process.to_string());
        let address =
            scripts_kafka(&["start", "--fresh", "--name", &name, "--brokers", &brokers, "--stop-with", &process]);
        Cluster { name, address: address.trim().to_owned() }
    }

    /// Ends the `number`-th broker (from 1) in an orderly way.
    pub fn stop_broker(&self, number: u32) {
        scripts_kafka(&["stop", "--name", &self.name, "--broker", &number.to_string()]);
    }

    /// Kills the `number`-th broker (from 1).
    pub fn kill_broker(&self, number: u32) {
        let pid = self.pid_of(number).expect("the broker runs");
        let sent = Command::new("kill").args(["-KILL", &pid]).status().expect("kill starts");
        assert!(sent.success(), "the process is ours");
        // Until it is gone a start would take it for one that runs.
        while self.pid_of(number).is_some() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where the `number`-th broker keeps a partition.
    pub fn log_of(&self, number: u32, topic: &str, partition: i32) -> PathBuf {
        let data = repository().join("target/kafka").join(&self.name);
        data.join(number.to_string()).join("kafka").join(format!("{topic}-{partition}"))
    }

    fn pid_of(&self, number: u32) -> Option<String> {
        let status = Command::new(repository().join("scripts/kafka")).args(["status", "--name", &self.name]).output();
        let status = String::from_utf8(status.expect("scripts/kafka starts").stdout).expect("a status is text");
        let of_broker = status.lines().find(|line| line.contains(&format!("broker {number} runs")))?;
        Some(of_broker.split_once("(pid ")?.1.split_once(')')?.0.to_owned())
    }

    /// Starts the brokers that were stopped, at the addresses they had.
    pub fn start_stopped(&self) {
        scripts_kafka(&["start", "--name", &self.name]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        scripts_kafka(&["stop", "--delete", "--name", &self.name]);
    }
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn scripts_kafka(arguments: &[&str]) -> String {
    let output =
        Command::new(repository().join("scripts/kafka")).args(arguments).output().expect("scripts/kafka starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/kafka {}: {}\n{said}", arguments.join(" "), output.status);
    String::from_utf8(output.stdout).expect("an address is text")
}
