//! A random stream of usage records, commands and clock lines for a generated catalog.

use crate::generate::{FEATURES, MODELS, TYPES, USERS, World, chance, pick};
use crate::time;
use fastrand::Rng;
use serde_json::Value;

pub struct Stream<'a> {
    pub(crate) r: Rng,
    pub(crate) world: &'a World,
    /// Milliseconds; the newest timestamp given.
    pub(crate) clock: i64,
    pub(crate) accounts: Vec<String>,
    /// Percent of inputs that are spoilt.
    pub(crate) noise: u32,
    /// Percent of inputs that are commands.
    pub(crate) commands: u32,
    pub(crate) ids: u64,
    /// Some of the times of earlier inputs.
    pub(crate) times: Vec<i64>,
    /// Lines that were given, to be repeated.
    pub(crate) given: Vec<String>,
    pub(crate) sessions: Vec<(usize, String)>,
    pub(crate) references: Vec<(usize, String)>,
    pub(crate) plan_of: Vec<usize>,
}

pub(crate) fn quoted(text: impl AsRef<str>) -> String {
    Value::String(text.as_ref().to_owned()).to_string()
}

pub(crate) fn object(fields: &[(String, String)]) -> String {
    let all: Vec<String> = fields.iter().map(|(k, v)| format!("{}:{v}", quoted(k))).collect();
    format!("{{{}}}", all.join(","))
}

pub(crate) fn field(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// One record before its form is chosen.
pub(crate) struct Record {
    pub(crate) topic: &'static str,
    pub(crate) account: String,
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) type_: String,
    pub(crate) time: Option<String>,
    pub(crate) data: Vec<(String, String)>,
}

/// What kind of stream.
#[derive(Clone, Copy, PartialEq)]
pub enum Profile {
    /// Anything, by the seed.
    Any,
    /// Valid inputs, mostly usage.
    Calm,
    /// Much that is broken.
    Noisy,
    /// Many commands on one account.
    Commands,
}

impl Profile {
    pub fn of(name: Option<&str>) -> Option<Profile> {
        match name {
            None | Some("any") => Some(Profile::Any),
            Some("calm") => Some(Profile::Calm),
            Some("noisy") => Some(Profile::Noisy),
            Some("commands") => Some(Profile::Commands),
            Some(_) => None,
        }
    }
}

pub fn lines(world: &World, profile: Profile, seed: u64, steps: usize) -> Vec<String> {
    let mut r = Rng::with_seed(seed ^ 0x7374_7265_616d);
    let count = *pick(&mut r, &[1, 1, 2, 3, 8]);
    let (noise, commands) = (*pick(&mut r, &[0, 2, 8]), *pick(&mut r, &[6, 15, 30]));
    let (count, noise, commands) = match profile {
        Profile::Any => (count, noise, commands),
        Profile::Calm => (count, 0, 6),
        Profile::Noisy => (count, 30, 15),
        Profile::Commands => (1, 1, 60),
    };
    let accounts = (0..count).map(|n| ["acme", "böb", "c/d", "e5", "f", "g", "h", "i"][n].to_owned()).collect();
    let mut s = Stream {
        r,
        world,
        clock: world.start * 1000,
        accounts,
        noise,
        commands,
        ids: 0,
        times: Vec::new(),
        given: Vec::new(),
        sessions: Vec::new(),
        references: Vec::new(),
        plan_of: vec![0; count],
    };
    (0..steps).map(|_| s.line()).collect()
}

impl Stream<'_> {
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        chance(&mut self.r, percent)
    }

    pub(crate) fn tick_ms(&self) -> i64 {
        self.world.tick * 1000
    }

    /// Moves the clock on: mostly by about a tick, seldom far, sometimes not at all.
    fn advance(&mut self) {
        let tick = self.tick_ms();
        self.clock += match self.r.u32(0..100) {
            0..20 => 0,
            20..35 => tick,
            35..92 => self.r.i64(0..=2 * tick),
            92..98 => self.r.i64(0..=15 * tick),
            _ => self.r.i64(0..=150 * tick),
        };
        // Windows, periods and lateness are ticks long: an earlier time's phase meets their very ends.
        if self.chance(35) && !self.times.is_empty() {
            let earlier = *pick(&mut self.r, &self.times);
            self.clock += (earlier - self.clock).rem_euclid(tick);
        } else if self.chance(20) {
            self.clock += (-self.clock).rem_euclid(1000);
        }
        if self.times.len() < 12 {
            self.times.push(self.clock);
        } else if self.chance(10) {
            let at = self.r.usize(0..12);
            self.times[at] = self.clock;
        }
    }

    fn line(&mut self) -> String {
        self.advance();
        let mut timestamp = self.clock;
        if self.chance(6) {
            timestamp -= self.r.i64(0..=3 * self.tick_ms());
        }
        if self.chance(3) {
            return format!("{{\"clock\":{}}}", quoted(&time::text(timestamp)));
        }
        if self.chance(3) && !self.given.is_empty() {
            let line = pick(&mut self.r, &self.given).clone();
            return restamp(&line, timestamp);
        }
        let record = if self.chance(self.commands) { self.command() } else { self.usage() };
        let line = self.form(record, timestamp);
        if self.given.len() < 40 || self.chance(20) {
            if self.given.len() >= 40 {
                let at = self.r.usize(0..self.given.len());
                self.given.swap_remove(at);
            }
            self.given.push(line.clone());
        }
        line
    }

    pub(crate) fn id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}{}", self.ids)
    }

    /// Usage is at its timestamp, a little or much before it, or after it; sometimes at the very bounds.
    pub(crate) fn time(&mut self) -> Option<String> {
        let (late, future) = (self.world.late * 1000, self.world.future * 1000);
        let at = match self.r.u32(0..100) {
            0..10 => return None,
            10..60 => self.clock,
            60..80 => self.clock - self.r.i64(0..=self.tick_ms() * 3).min(late),
            80..92 => self.clock - self.r.i64(0..=late),
            92 | 93 => self.clock - late,
            94 => self.clock - late - self.r.i64(1..1000),
            95 | 96 => self.clock + self.r.i64(0..=future),
            97 => self.clock + future,
            98 if self.noise > 0 => self.clock + future + self.r.i64(1..1000),
            _ if self.noise > 0 => self.clock - self.r.i64(0..=late * 2),
            _ => self.clock,
        };
        Some(self.written(at))
    }

    pub(crate) fn written(&mut self, at: i64) -> String {
        let utc = time::text(at);
        match self.r.u32(0..12) {
            0 => utc.replace('Z', "+00:00"),
            1 => time::text(at + 2 * 3_600_000).replace('Z', "+02:00"),
            2 => time::text(at - 12_600_000).replace('Z', "-03:30"),
            3 => utc.replace('Z', "987Z"),
            4 if at % 1000 == 0 => utc.replace(".000Z", "Z"),
            _ => utc,
        }
    }

    fn number(&mut self) -> String {
        let whole = match self.r.u32(0..20) {
            0 => 0,
            1..12 => self.r.u32(1..6),
            12..18 => self.r.u32(1..20),
            _ => self.r.u32(1..500),
        };
        match self.r.u32(0..24) {
            0 => format!("\"{whole}.5\""),
            1 => format!("{whole}e0"),
            2 if whole > 0 => format!("{whole}00E-2"),
            3 => format!("{whole}.250"),
            4 => format!("\"{whole}\""),
            5 => format!("0.{whole}"),
            6 => format!("{whole}.123456789"),
            _ => whole.to_string(),
        }
    }

    fn extreme(&mut self) -> String {
        (*pick(
            &mut self.r,
            &[
                "-1",
                "1e15",
                "999999999999999.999999999",
                "1e-9",
                "1e-10",
                "\"1e3\"",
                "true",
                "\"abc\"",
                "1e400",
                "0e999999",
                "-0",
                "\"-3\"",
                "[\"a\"]",
                "\"\"",
                "9e14",
                "\".5\"",
                "\"5.\"",
                "1E14",
                "\"0000000000000007.50\"",
            ],
        ))
        .to_owned()
    }

    fn usage(&mut self) -> Record {
        let who = self.r.usize(0..self.accounts.len());
        let mut data = Vec::new();
        let mut type_ = (*pick(&mut self.r, &TYPES)).to_owned();
        let mut plain = true;
        if self.chance(12) {
            plain = false;
            let open = !self.sessions.is_empty() && self.chance(55);
            if open {
                let at = self.r.usize(0..self.sessions.len());
                let session = if self.chance(80) { self.sessions.remove(at) } else { self.sessions[at].clone() };
                let other = if self.chance(97) { session.0 } else { who };
                return self.used(
                    other,
                    type_,
                    vec![field("session", quoted(&session.1)), field("phase", "\"end\"")],
                    false,
                );
            }
            type_ = "call.live".into();
            let name = format!("s{}", self.r.u32(0..12));
            if self.chance(92) {
                self.sessions.push((who, name.clone()));
            }
            data.push(field("session", quoted(&name)));
            data.push(field("phase", "\"start\""));
        }
        self.used(who, type_, data, plain)
    }

    fn used(&mut self, who: usize, type_: String, mut data: Vec<(String, String)>, plain: bool) -> Record {
        if self.chance(75) {
            data.push(field("user", quoted(pick(&mut self.r, &USERS))));
        }
        if self.chance(80) {
            data.push(field("model", quoted(pick(&mut self.r, &MODELS))));
        }
        if self.chance(12) {
            let text = if self.chance(80) { "\"payg\"" } else { "\"plan\"" };
            data.push(field("billing", text));
        }
        if self.chance(if plain { 4 } else { 8 }) {
            data.push(field("status", if self.chance(85) { "\"failed\"" } else { "\"ok\"" }));
        }
        for name in ["requests", "input_tokens", "output_tokens", "images", "seconds"] {
            let often = if name == "requests" || name == "seconds" { 15 } else { 45 };
            if self.chance(often) {
                let number = if self.noise > 0 && self.chance(2) { self.extreme() } else { self.number() };
                data.push(field(name, number));
            }
        }
        if self.chance(30) {
            let features = match self.r.u32(0..6) {
                0 => quoted(pick(&mut self.r, &FEATURES)),
                1 => "[]".into(),
                2 => "null".into(),
                _ => {
                    let some: Vec<String> =
                        (0..self.r.usize(1..4)).map(|_| quoted(pick(&mut self.r, &FEATURES))).collect();
                    format!("[{}]", some.join(","))
                }
            };
            data.push(field("features", features));
        }
        if self.chance(15) {
            data.push(field("fast", *pick(&mut self.r, &["true", "false", "\"true\"", "null"])));
        }
        if self.chance(5) {
            data.push(field("note", *pick(&mut self.r, &["\"x\"", "17", "1e999", "true", "[\"a\",\"b\"]"])));
        }
        if self.chance(self.noise) {
            self.spoil_data(&mut data);
        }
        Record {
            topic: "usage",
            account: self.accounts[who].clone(),
            id: self.id("u"),
            source: (*pick(&mut self.r, &["gateway", "gateway", "gateway/é"])).into(),
            type_,
            time: self.time(),
            data,
        }
    }

    fn spoil_data(&mut self, data: &mut Vec<(String, String)>) {
        let long = quoted(&"x".repeat(257));
        let (name, value) = match self.r.u32(0..14) {
            0 => ("status", "\"maybe\"".to_owned()),
            1 => ("billing", "1".into()),
            2 => ("user", "\"\"".into()),
            3 => ("user", "\"a\\u0001b\"".into()),
            4 => ("user", long),
            5 => ("tool", long),
            6 => ("tool", "\"\"".into()),
            7 => ("tool", "{\"a\":1}".into()),
            8 => ("tool", "[1]".into()),
            9 => ("tool", format!("[{}]", vec!["\"a\""; 65].join(","))),
            10 => ("phase", "\"start\"".into()),
            11 => ("phase", "\"middle\"".into()),
            12 => ("user", "7".into()),
            _ => ("input_tokens", self.extreme()),
        };
        data.retain(|f| f.0 != name);
        data.push(field(name, value));
    }

    /// Structured or binary, with or without a key, sometimes broken.
    fn form(&mut self, mut record: Record, timestamp: i64) -> String {
        let mut line = vec![field("topic", quoted(record.topic)), field("timestamp", quoted(&time::text(timestamp)))];
        if self.chance(self.noise)
            && let Some(broken) = self.spoil(&mut record)
        {
            if self.chance(50) {
                line.push(field("key", quoted(&record.account)));
            }
            line.push(field("value", quoted(broken)));
            return object(&line);
        }
        let data = object(&record.data);
        let keyed = self.chance(25);
        if self.chance(20) {
            let mut headers = vec![
                field("ce_specversion", "\"1.0\""),
                field("ce_id", quoted(&record.id)),
                field("ce_source", quoted(&record.source)),
                field("ce_type", quoted(&record.type_)),
            ];
            if let Some(time) = &record.time {
                headers.push(field("ce_time", quoted(time)));
            }
            if self.chance(50) {
                headers.push(field(
                    "content-type",
                    *pick(&mut self.r, &["\"application/json\"", "\"application/json; charset=utf-8\""]),
                ));
            }
            if keyed {
                line.push(field("key", quoted(&record.account)));
            }
            if !keyed || self.chance(30) {
                headers.push(field("ce_subject", quoted(&record.account)));
            }
            if self.chance(self.noise / 2) {
                let (name, value) = *pick(
                    &mut self.r,
                    &[
                        ("ce_specversion", "\"0.3\""),
                        ("ce_id", "\"\""),
                        ("ce_type", "\"\""),
                        ("content-type", "\"text/plain\""),
                        ("ce_time", "\"yesterday\""),
                        ("ce_subject", "\"someone\""),
                        ("ce_other", "\"x\""),
                        ("content-type", "\"application/cloudevents-batch+json\""),
                        ("content-type", "\"application/problem+json\""),
                    ],
                );
                headers.retain(|h| h.0 != name);
                headers.push(field(name, value));
            }
            line.push(field("headers", object(&headers)));
            let value = if record.data.is_empty() && self.chance(50) { "\"\"".into() } else { self.raw(data) };
            line.push(field("value", value));
            return object(&line);
        }
        let mut event = vec![
            field("specversion", "\"1.0\""),
            field("id", quoted(&record.id)),
            field("source", quoted(&record.source)),
            field("type", quoted(&record.type_)),
        ];
        if keyed {
            line.push(field("key", quoted(&record.account)));
        }
        if !keyed || self.chance(50) {
            event.push(field("subject", quoted(&record.account)));
        }
        if let Some(time) = &record.time {
            event.push(field("time", quoted(time)));
        }
        if self.chance(10) {
            event.push(field("traceparent", "\"00-1\""));
        }
        if !record.data.is_empty() || self.chance(50) {
            event.push(field("data", data));
        }
        if self.chance(self.noise / 2) {
            let (name, value) = *pick(
                &mut self.r,
                &[
                    ("specversion", "1.0"),
                    ("specversion", "\"1.1\""),
                    ("id", "null"),
                    ("source", "\"\""),
                    ("type", "3"),
                    ("time", "7"),
                    ("subject", "[]"),
                    ("subject", "\"someone\""),
                    ("time", "null"),
                    ("subject", "null"),
                    ("datacontenttype", "\"text/plain\""),
                    ("datacontenttype", "\"application/json\""),
                    ("data_base64", "\"e30=\""),
                    ("data_base64", "null"),
                    ("data", "[1]"),
                    ("data", "\"x\""),
                    ("data", "null"),
                    ("data", "{}"),
                ],
            );
            event.retain(|f| f.0 != name);
            event.push(field(name, value));
        }
        if self.chance(8) {
            line.push(field("headers", "{\"content-type\":\"Application/CloudEvents+json; charset=UTF-8\"}"));
        }
        let value = self.raw(object(&event));
        line.push(field("value", value));
        object(&line)
    }

    /// The value as JSON, or as a string of its bytes.
    fn raw(&mut self, text: String) -> String {
        if self.chance(90) { text } else { quoted(&format!(" {text}\n")) }
    }

    /// Spoils a record, or gives the bytes that stand in its place.
    fn spoil(&mut self, record: &mut Record) -> Option<&'static str> {
        const BROKEN: [&str; 14] = [
            "",
            "{",
            "nul",
            "[]",
            "7",
            "{\"specversion\":\"1.0\"}",
            "{\"specversion\":\"0.3\",\"id\":\"a\"}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":1,\"a\":2}",
            "{\"specversion\":\"1.0\",\"id\":1}",
            "\u{feff}{}",
            "{} x",
            "{\"a\":01}",
            "{\"a\":\"\u{1}\"}",
        ];
        match self.r.u32(0..13) {
            0 => record.id = "x".repeat(257),
            1 => record.id = String::new(),
            2 => record.source = "s".repeat(1025),
            3 => record.account = format!("{}\u{85}", record.account),
            4 => record.account = "a".repeat(257),
            5 => record.account = String::new(),
            6 => record.time = Some("2026-13-01T00:00:00Z".into()),
            7 => record.time = Some("2026-01-01T00:00:60Z".into()),
            8 => record.type_ = "meterd.odd".into(),
            9 => record.data.push(field("model", "\"twice\"")),
            10 if self.chance(30) => record.data.push(field("pad", quoted(&"y".repeat(66_000)))),
            10 => record.time = Some("2026-01-01T00:00:00".into()),
            _ => return Some(*pick(&mut self.r, &BROKEN)),
        }
        None
    }
}

/// Gives a line again at another timestamp.
fn restamp(line: &str, timestamp: i64) -> String {
    match line.find("\"timestamp\":\"").map(|at| at + 13) {
        Some(from) => format!("{}{}{}", &line[..from], time::text(timestamp), &line[from + 24..]),
        None => line.to_owned(),
    }
}
