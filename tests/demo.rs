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
    let config = demo.wait_for("take part").split_whitespace().last().expect("a path").to_owned();
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
    let json = |path: &str| serde_json::from_str::<serde_json::Value>(&get(path)).expect("JSON");
    let view = json("/v1/accounts/acme");
    assert_eq!((&view["account"], &view["seats"]), (&"acme".into(), &3.into()));
    let ids: Vec<String> = json("/v1/accounts")["accounts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| line["account"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids, ["acme", "globex", "hooli", "initech", "northwind", "stark", "umbrella", "wayne"]);
    let usage = json("/v1/accounts/acme/usage?by=model");
    assert!(usage["values"].as_array().is_some_and(|values| !values.is_empty()), "{usage}");
    assert_eq!(json("/v1/accounts/acme/usage?by=shoe")["status"], 400);
    let check = json("/v1/accounts/acme/check?user=chloe&type=llm.call&model=haiku-4.5&amount=1");
    assert_eq!(check["route"], "plan", "{check}");
    assert_eq!(json("/v1/partitions")["partitions"].as_array().map(Vec::len), Some(4));
    assert_eq!(json("/v1/accounts/nobody")["status"], 404);
    assert!(get("/metrics").contains("meterd_conservation_violations_total 0"));
    let sent = Command::new(env!("CARGO_BIN_EXE_meterd"))
        .args(["account", "grant-issue", "acme", "--unit", "credit", "--amount", "777", "--name", "thanks"])
        .args(["--config", &config])
        .output()
        .expect("the program runs");
    let told = String::from_utf8_lossy(&sent.stdout).into_owned();
    assert!(sent.status.success() && told.contains("meter.accounts partition "), "{sent:?}");
    demo.wait_for("777 credit granted as thanks");
    let (code, errors) = demo.interrupt();
    assert_eq!(code, 0, "{errors}");
    let summary = demo.wait_for("conservation held");
    assert!(summary.contains("records"), "{summary}");
    assert!(until_notice < Duration::from_secs(15), "the first notice came after {until_notice:?}");
}
