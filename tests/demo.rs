//! `meterd demo` as a person runs it: usage flows within seconds, the dashboard is there, and it ends cleanly.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_secs(30);

struct Demo {
    child: Child,
    lines: mpsc::Receiver<String>,
    started: Instant,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_meterd"))
            .args(["demo", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let out = child.stdout.take().expect("a pipe");
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Demo { child, lines, started: Instant::now() }
    }

    /// The next line that has the text.
    fn wait_for(&self, text: &str) -> String {
        loop {
            let left = LONGEST.saturating_sub(self.started.elapsed());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line with {text:?} came"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn interrupt(&mut self) -> (i32, String) {
        let interrupt = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill");
        assert!(interrupt.success());
        let status = self.child.wait().expect("it ends");
        let mut errors = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut errors).expect("UTF-8");
        (status.code().unwrap_or(-1), errors)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended where the test went well.
        let _ = self.child.kill();
    }
}

#[test]
fn shows_a_business_at_work_and_ends_on_ctrl_c() {
    let mut demo = Demo::start(&["--rate", "300"]);
    assert!(demo.wait_for("for production").contains("nothing here is for production"));
    let address = demo.wait_for("dashboard").split_whitespace().last().expect("an address").to_owned();
    demo.wait_for("subscription.changed");
    demo.wait_for("grant.issued");
    let until_notice = demo.started.elapsed();
    demo.wait_for("cap.");
    let get = |path: &str| {
        let url = format!("{}{path}", address.trim_end_matches('/'));
        let client = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        client.get(url).call().expect(path).body_mut().read_to_string().expect("UTF-8")
    };
    assert!(get("/").contains("<title>meterd</title>"));
    assert!(get("/metrics").contains("meterd_conservation_violations_total 0"));
    let (code, errors) = demo.interrupt();
    assert_eq!(code, 0, "{errors}");
    let summary = demo.wait_for("conservation held");
    assert!(summary.contains("records"), "{summary}");
    assert!(until_notice < Duration::from_secs(15), "the first notice came after {until_notice:?}");
}
