//! A random stream of usage records, commands and clock lines for a generated catalog.

use crate::generate::{CLASSES, FEATURES, MODELS, TYPES, USERS, World, chance, pick};
use crate::time;
use fastrand::Rng;
use serde_json::Value;

pub struct Stream<'a> {
    r: Rng,
    world: &'a World,
    /// Milliseconds; the newest timestamp given.
    clock: i64,
    accounts: Vec<String>,
    /// Percent of inputs that are spoilt.
    noise: u32,
    /// Percent of inputs that are commands.
    commands: u32,
    ids: u64,
    /// Lines that were given, to be repeated.
    given: Vec<String>,
    sessions: Vec<(usize, String)>,
    references: Vec<(usize, String)>,
    plan_of: Vec<usize>,
}

fn quoted(text: impl AsRef<str>) -> String {
    Value::String(text.as_ref().to_owned()).to_string()
}

fn object(fields: &[(String, String)]) -> String {
    let all: Vec<String> = fields.iter().map(|(k, v)| format!("{}:{v}", quoted(k))).collect();
    format!("{{{}}}", all.join(","))
}

fn field(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// One record before its form is chosen.
struct Record {
    topic: &'static str,
    account: String,
    id: String,
    source: String,
    type_: String,
    time: Option<String>,
    data: Vec<(String, String)>,
}

pub fn lines(world: &World, seed: u64, steps: usize) -> Vec<String> {
    let mut r = Rng::with_seed(seed ^ 0x7374_7265_616d);
    let count = *pick(&mut r, &[1, 1, 2, 3, 8]);
    let noise = *pick(&mut r, &[0, 2, 8]);
    let commands = *pick(&mut r, &[6, 15, 30]);
    let accounts = (0..count).map(|n| ["acme", "böb", "c/d", "e5", "f", "g", "h", "i"][n].to_owned()).collect();
    let mut s = Stream {
        r,
        world,
        clock: world.start * 1000,
        accounts,
        noise,
        commands,
        ids: 0,
        given: Vec::new(),
        sessions: Vec::new(),
        references: Vec::new(),
        plan_of: vec![0; count],
    };
    (0..steps).map(|_| s.line()).collect()
}

impl Stream<'_> {
    fn chance(&mut self, percent: u32) -> bool {
        chance(&mut self.r, percent)
    }

    fn tick_ms(&self) -> i64 {
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
        if self.chance(25) {
            self.clock -= self.clock.rem_euclid(1000);
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

    fn id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}{}", self.ids)
    }

    /// Usage is at its timestamp, a little or much before it, or after it; sometimes at the very bounds.
    fn time(&mut self) -> Option<String> {
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

    fn written(&mut self, at: i64) -> String {
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

    fn unit(&mut self) -> (String, u32) {
        if self.noise > 0 && self.chance(3) { ("gold".into(), 2) } else { pick(&mut self.r, &self.world.units).clone() }
    }

    /// An amount as a decimal string or a JSON number; seldom one with too many decimals, zero, or too large.
    fn money(&mut self, scale: u32, to: u64) -> String {
        if self.noise > 0 && self.chance(5) {
            return (*pick(
                &mut self.r,
                &[
                    "\"0\"",
                    "0",
                    "\"1.00000001\"",
                    "1e15",
                    "\"-1\"",
                    "\"abc\"",
                    "\"1.0000000001\"",
                    "true",
                    "\"1e2\"",
                    "\"2.50\"",
                    "1e1",
                ],
            ))
            .into();
        }
        let text = crate::generate::amount(&mut self.r, scale, to);
        if self.chance(70) { quoted(&text) } else { text }
    }

    fn instants(&mut self, data: &mut Vec<(String, String)>) {
        let tick = self.tick_ms();
        if self.chance(20) {
            let at = match self.r.u32(0..8) {
                0 => self.clock + self.world.future * 1000 + self.r.i64(0..2000),
                1 => self.clock + self.r.i64(0..=self.world.future * 1000),
                2 => self.clock,
                _ => self.clock - self.r.i64(0..=40 * tick),
            };
            let at = self.written(at);
            data.push(field("at", quoted(&at)));
        }
        if self.chance(45) {
            let expires = match self.r.u32(0..10) {
                0 => "null".into(),
                1 => quoted(&time::text(self.clock - self.r.i64(0..=5 * tick))),
                _ => quoted(&time::text(self.clock + self.r.i64(1..=80 * tick))),
            };
            data.push(field("expires_at", expires));
        }
    }

    fn command(&mut self) -> Record {
        let who = self.r.usize(0..self.accounts.len());
        let id = self.id("c");
        let mut data = Vec::new();
        let type_ = match self.r.u32(0..100) {
            0..6 => self.start(who, &mut data),
            6..27 => self.change(who, &mut data),
            27..31 => {
                if self.chance(60) {
                    data.push(field("when", *pick(&mut self.r, &["\"now\"", "\"period_end\""])));
                }
                "subscription.cancel"
            }
            31..36 => "payment.succeeded",
            36..40 => "payment.failed",
            40..49 => self.topup(&mut data),
            49..59 => self.issue(&mut data),
            59..63 => {
                let own: Vec<String> = self.references.iter().filter(|r| r.0 == who).map(|r| r.1.clone()).collect();
                let name = if own.is_empty() || self.chance(50) {
                    format!("g{}", self.r.u32(1..12))
                } else {
                    pick(&mut self.r, &own).clone()
                };
                data.push(field("grant", quoted(&name)));
                "grant.void"
            }
            63..69 => {
                let (unit, scale) = self.unit();
                let amount = self.money(scale, 30);
                let amount = match amount.strip_prefix('"') {
                    _ if self.chance(40) => amount,
                    Some(rest) if !rest.starts_with('-') => format!("\"-{rest}"),
                    None if amount != "true" => format!("-{amount}"),
                    _ => amount,
                };
                data.extend([field("unit", quoted(&unit)), field("amount", amount), field("reason", "\"goodwill\"")]);
                "balance.adjust"
            }
            69..77 => self.member(who, &mut data),
            77..84 => self.limit(who, &mut data),
            84..92 => self.set(&mut data),
            92..96 => "refund.request",
            96 | 97 => {
                let amount = self.money(2, 20);
                data.push(field("amount", amount));
                "refund.completed"
            }
            98 => "account.delete",
            _ => "payment.unknown",
        };
        if self.noise > 0 && self.chance(self.noise / 2) {
            data.push(field("surprise", "1"));
        }
        self.references.push((who, id.clone()));
        let time = if self.chance(60) { self.time() } else { None };
        Record {
            topic: "accounts",
            account: self.accounts[who].clone(),
            id,
            source: "billing".into(),
            type_: format!("meterd.{type_}"),
            time,
            data,
        }
    }

    fn plan(&mut self) -> (usize, String) {
        let at = self.r.usize(0..self.world.plans.len());
        if self.noise > 0 && self.chance(2) {
            return (at, "gold".into());
        }
        (at, self.world.plans[at].name.clone())
    }

    fn terms(&mut self, data: &mut Vec<(String, String)>) {
        if self.chance(35) {
            data.push(field("billing", *pick(&mut self.r, &["\"month\"", "\"year\"", "null"])));
        }
        if self.chance(35) {
            let seats = if self.noise > 0 && self.chance(5) { "0".into() } else { self.r.u32(1..6).to_string() };
            data.push(field("seats", seats));
        }
    }

    fn start(&mut self, who: usize, data: &mut Vec<(String, String)>) -> &'static str {
        let (at, plan) = self.plan();
        self.plan_of[who] = at;
        data.push(field("plan", quoted(&plan)));
        self.terms(data);
        let mut instants = Vec::new();
        self.instants(&mut instants);
        data.extend(instants.into_iter().filter(|f| f.0 == "at"));
        if self.chance(20) {
            data.push(field("paid", *pick(&mut self.r, &["false", "true"])));
        }
        "subscription.start"
    }

    fn change(&mut self, who: usize, data: &mut Vec<(String, String)>) -> &'static str {
        if self.chance(75) {
            let (at, plan) = self.plan();
            self.plan_of[who] = at;
            data.push(field("plan", quoted(&plan)));
        }
        self.terms(data);
        if self.chance(35) {
            data.push(field("when", *pick(&mut self.r, &["\"now\"", "\"period_end\"", "null"])));
        }
        "subscription.change"
    }

    fn topup(&mut self, data: &mut Vec<(String, String)>) -> &'static str {
        if self.chance(50) {
            let name = if self.world.packs.is_empty() {
                "small".to_owned()
            } else {
                pick(&mut self.r, &self.world.packs).clone()
            };
            data.push(field("pack", quoted(&name)));
        } else {
            let (unit, scale) = self.unit();
            let amount = self.money(scale, 60);
            data.extend([field("unit", quoted(&unit)), field("amount", amount)]);
            if self.chance(75) {
                let price = self.money(0, 12);
                let currency = if self.chance(90) { "\"usd\"" } else { "\"jpy\"" };
                data.extend([field("price", price), field("currency", currency)]);
            }
        }
        self.instants(data);
        "topup"
    }

    fn issue(&mut self, data: &mut Vec<(String, String)>) -> &'static str {
        let (unit, scale) = self.unit();
        let amount = self.money(scale, 60);
        data.extend([field("unit", quoted(&unit)), field("amount", amount)]);
        if self.chance(40) {
            data.push(field("name", *pick(&mut self.r, &["\"promo\"", "\"plan\"", "\"goodwill\""])));
        }
        if self.chance(50) {
            data.push(field("priority", *pick(&mut self.r, &["0", "5", "10", "10", "50", "1000"])));
        }
        if self.chance(30) && !self.world.groups.is_empty() {
            data.push(field("group", quoted(pick(&mut self.r, &self.world.groups))));
        }
        self.instants(data);
        "grant.issue"
    }

    fn cap(&mut self) -> String {
        match self.r.u32(0..12) {
            0 => "null".into(),
            1 => "\"0\"".into(),
            2..6 => quoted(&format!("{}%", pick(&mut self.r, &["10", "25", "100", "12.5"]))),
            6 if self.noise > 0 => {
                (*pick(&mut self.r, &["\"0%\"", "\"101%\"", "\"-1\"", "true", "\"1.0000000001\"", "\"%\""])).into()
            }
            7 => self.r.u32(0..30).to_string(),
            _ => quoted(&self.r.u32(1..30).to_string()),
        }
    }

    fn limit_name(&mut self, who: usize, by_user: Option<bool>) -> String {
        let plan = if self.chance(80) { self.plan_of[who] } else { self.r.usize(0..self.world.plans.len()) };
        let limits = &self.world.plans[plan].limits;
        let fit: Vec<String> =
            limits.iter().filter(|l| by_user.is_none_or(|b| b == l.by_user)).map(|l| l.name.clone()).collect();
        if fit.is_empty() { "5h".into() } else { pick(&mut self.r, &fit).clone() }
    }

    fn member(&mut self, who: usize, data: &mut Vec<(String, String)>) -> &'static str {
        data.push(field("user", quoted(pick(&mut self.r, &USERS))));
        if self.chance(70) {
            if self.chance(12) {
                data.push(field("caps", "null"));
            } else {
                let (name, cap) = (self.limit_name(who, Some(true)), self.cap());
                data.push(field("caps", object(&[(name, cap)])));
            }
        }
        if self.chance(45) {
            let deny = if self.chance(15) || self.world.groups.is_empty() {
                (*pick(&mut self.r, &["null", "[]"])).to_owned()
            } else {
                format!("[{}]", quoted(pick(&mut self.r, &self.world.groups)))
            };
            data.push(field("deny", deny));
        }
        "member.set"
    }

    fn limit(&mut self, who: usize, data: &mut Vec<(String, String)>) -> &'static str {
        let (name, mut cap) = (self.limit_name(who, None), self.cap());
        if cap.contains('%') && (self.noise == 0 || self.chance(80)) {
            cap = "\"7\"".into();
        }
        data.extend([field("limit", quoted(&name)), field("cap", cap)]);
        "limit.set"
    }

    fn set(&mut self, data: &mut Vec<(String, String)>) -> &'static str {
        if self.chance(65) {
            data.push(field("extra_usage", *pick(&mut self.r, &["true", "true", "true", "false", "null"])));
        }
        if self.chance(25) {
            let class = pick(&mut self.r, &CLASSES);
            let class = if self.chance(10) { "null".into() } else { quoted(class) };
            data.push(field("class", class));
        }
        if self.chance(35) {
            let (unit, scale) = self.unit();
            let autopay = if self.chance(10) {
                "null".into()
            } else {
                let (below, amount) = (self.money(scale, 30), self.money(scale, 30));
                object(&[field("unit", quoted(&unit)), field("below", below), field("amount", amount)])
            };
            data.push(field("autopay", autopay));
        }
        "account.set"
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
