//! The built binary: one-off verbs, and `meterd run` as a process that is watched, asked and killed.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::http;

/// `meterd` with these arguments, to its end.
pub fn meterd(arguments: &[&str]) -> Output {
    let limit = Duration::from_secs(600);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (out, err) = (directory.path().join("stdout"), directory.path().join("stderr"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_meterd"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("a file can be made"))
        .stderr(File::create(&err).expect("a file can be made"))
        .spawn()
        .expect("the binary starts");
    let status = await_exit(&mut child, limit);
    let output = |path: &Path| fs::read(path).expect("the file is there");
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("meterd {arguments:?} did not end within {limit:?}:\n{}", String::from_utf8_lossy(&output(&err)));
    };
    Output { status, stdout: output(&out), stderr: output(&err) }
}

fn await_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An address on which nobody listens now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it has an address")
}

/// A running `meterd run`. Killed when dropped; what it wrote to stderr is shown if the test is failing.
pub struct Daemon {
    child: Child,
    pub http: SocketAddr,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; it need not be ready yet. What it writes goes to the end of `log`.
    pub fn spawn(config: &Path, arguments: &[&str], http: SocketAddr, log: &Path) -> Daemon {
        let open = || fs::OpenOptions::new().create(true).append(true).open(log).expect("the log can be opened");
        let child = Command::new(env!("CARGO_BIN_EXE_meterd"))
            .arg("--config")
            .arg(config)
            .arg("run")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .expect("the binary starts");
        Daemon { child, http, log: log.to_path_buf() }
    }

    pub fn is_ready(&self) -> bool {
        http::get(self.http, "/readyz").is_some_and(|answer| answer.status == 200)
    }

    pub fn await_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.is_ready() {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!("meterd run ended ({status}) instead of getting ready:\n{}", self.said());
            }
            assert!(Instant::now() < deadline, "meterd run did not get ready within 60 s:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and the exit code after the orderly end.
    pub fn stop(mut self) -> i32 {
        self.signal("TERM");
        self.exit_code(Duration::from_secs(30))
    }

    /// As `stop`, also where brokers are away and the end takes long.
    pub fn end(mut self) -> i32 {
        self.signal("TERM");
        self.exit_code(Duration::from_secs(300))
    }

    /// The exit code, if it has ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("a child can be waited for")?;
        Some(status.code().expect("no signal ended it"))
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill starts").success(), "the process is ours");
    }

    /// The code with which it ends by itself.
    pub fn exit_code(&mut self, limit: Duration) -> i32 {
        let Some(status) = await_exit(&mut self.child, limit) else {
            panic!("meterd run did not end within {limit:?}:\n{}", self.said());
        };
        status.code().expect("no signal ended it")
    }

    /// Everything that it, and those before it with the same log, wrote.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is text")
    }

    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        http::metric(self.http, name, labels)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let tail = said.lines().count().saturating_sub(60);
            eprintln!("--- {} (its end)", self.log.display());
            said.lines().skip(tail).for_each(|line| eprintln!("{line}"));
        }
    }
}
