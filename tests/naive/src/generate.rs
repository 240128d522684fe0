//! Random catalogs that exercise all of section 5. Amounts are small so that caps and grants are often met exactly.

use fastrand::Rng;
use std::fmt::Write;

pub const MODELS: [&str; 6] = ["haiku", "opus", "opus-4.7", "openai/gpt-5", "openai/gpt-5-pro", "google/veo-3"];
pub const TYPES: [&str; 6] = ["llm.call", "image.gen", "image.edit", "audio.pcm", "free.ping", "call.live"];
pub const FEATURES: [&str; 4] = ["search", "diarization", "vision", "odd"];
pub const QUANTITIES: [&str; 4] = ["requests", "input_tokens", "output_tokens", "images"];
pub const USERS: [&str; 5] = ["ana", "ben", "cy", "dée", "Zoe"];
pub const CLASSES: [&str; 3] = ["standard", "partner", "odd class"];

#[derive(Clone)]
pub struct LimitInfo {
    pub name: String,
    pub by_user: bool,
}

#[derive(Clone)]
pub struct PlanInfo {
    pub name: String,
    pub limits: Vec<LimitInfo>,
}

/// What the stream needs to know of the catalog.
pub struct World {
    pub toml: String,
    pub units: Vec<(String, u32)>,
    pub plans: Vec<PlanInfo>,
    pub groups: Vec<String>,
    pub packs: Vec<String>,
    pub payg: bool,
    /// The usual distance of two inputs, in seconds.
    pub tick: i64,
    pub late: i64,
    pub future: i64,
    pub start: i64,
}

pub fn pick<'a, T>(r: &mut Rng, items: &'a [T]) -> &'a T {
    &items[r.usize(0..items.len())]
}

pub fn chance(r: &mut Rng, percent: u32) -> bool {
    r.u32(0..100) < percent
}

/// A small amount, mostly whole, of at most so many decimals.
pub fn amount(r: &mut Rng, scale: u32, to: u64) -> String {
    let whole = r.u64(1..=to);
    if scale == 0 || chance(r, 75) {
        return whole.to_string();
    }
    let decimals = r.u32(1..=scale.min(4));
    let part = r.u64(1..10u64.pow(decimals));
    format!("{whole}.{}", format!("{part:0width$}", width = decimals as usize).trim_end_matches('0'))
}

fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|i| format!("\"{i}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

struct Maker {
    r: Rng,
    out: String,
    units: Vec<(String, u32)>,
    groups: Vec<String>,
    payg: Option<String>,
    tick: i64,
    start: i64,
    horizon: i64,
}

/// Writes a whole catalog for a stream of so many steps.
pub fn world(seed: u64, steps: usize) -> World {
    let mut r = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6d65_7465_7264);
    let tick = *pick(&mut r, &[1, 60, 1200, 21_600]);
    // Late January, before a leap-less February; around changes of clocks; anywhere.
    let base = *pick(&mut r, &[1_769_817_600, 1_774_656_000, 1_792_800_000, 1_798_700_000, 1_788_556_000]);
    let start = base + r.i64(0..200_000);
    let horizon = tick * steps as i64 * 2;
    let mut m = Maker { r, out: String::new(), units: vec![], groups: vec![], payg: None, tick, start, horizon };
    m.write(seed)
}

impl Maker {
    fn chance(&mut self, percent: u32) -> bool {
        chance(&mut self.r, percent)
    }

    fn line(&mut self, text: String) {
        self.out.push_str(&text);
        self.out.push('\n');
    }

    fn scale(&self, unit: &str) -> u32 {
        self.units.iter().find(|u| u.0 == unit).map_or(9, |u| u.1)
    }

    fn unit(&mut self) -> String {
        pick(&mut self.r, &self.units).0.clone()
    }

    fn amount(&mut self, unit: &str, to: u64) -> String {
        let scale = self.scale(unit);
        amount(&mut self.r, scale, to)
    }

    /// A duration of some ticks, in seconds that divide by three.
    fn duration(&mut self, from: i64, to: i64) -> String {
        let seconds = (self.r.i64(from..=to) * self.tick / 3).max(1) * 3;
        if seconds % 3600 == 0 && self.chance(60) {
            format!("{}h", seconds / 3600)
        } else if seconds % 60 == 0 && self.chance(60) {
            format!("{}m", seconds / 60)
        } else {
            format!("{seconds}s")
        }
    }

    fn instant(&mut self) -> String {
        let at = self.start + self.r.i64(0..self.horizon.max(2));
        crate::time::text(at * 1000)
    }

    fn pattern(&mut self) -> String {
        let model = *pick(&mut self.r, &MODELS);
        match self.r.u32(0..4) {
            0 => "openai/*".into(),
            1 => "opus*".into(),
            2 if self.chance(30) => "*".into(),
            _ => model.into(),
        }
    }

    fn patterns(&mut self) -> String {
        if self.chance(50) {
            return format!("\"{}\"", self.pattern());
        }
        let mut all: Vec<String> = (0..self.r.usize(1..4)).map(|_| self.pattern()).collect();
        all.sort();
        all.dedup();
        list(&all)
    }

    fn matches(&mut self) -> String {
        let mut fields = Vec::new();
        if self.chance(75) {
            let patterns = self.patterns();
            fields.push(format!("model = {patterns}"));
        }
        if self.chance(20) {
            fields.push(format!("features = \"{}\"", pick(&mut self.r, &FEATURES)));
        }
        if self.chance(15) {
            fields.push(format!("fast = \"{}\"", pick(&mut self.r, &["true", "false"])));
        }
        format!("{{ {} }}", fields.join(", "))
    }

    fn write(&mut self, seed: u64) -> World {
        let late = *pick(&mut self.r, &[1, 3, 20, 200]) * self.tick;
        let late = late.clamp(1, 35 * 86_400);
        let future = *pick(&mut self.r, &[0, 1, 30]) * self.tick + 5;
        self.line(format!(
            "catalog = \"seed-{seed}\"\ndefault_plan = \"free\"\nlate = \"{late}s\"\nfuture = \"{future}s\""
        ));
        if self.chance(10) {
            self.line("create_accounts = false".into());
        }
        if self.chance(8) {
            let most = self.r.u32(2..5);
            self.line(format!("users_max = {most}"));
        }
        let scale = *pick(&mut self.r, &[9, 9, 2, 0, 4]);
        self.units = vec![("credit".into(), scale), ("usd".into(), 9), ("flow".into(), *pick(&mut self.r, &[9, 3]))];
        for (name, scale) in self.units.clone() {
            let body = if scale == 9 { String::new() } else { format!("scale = {scale}\n") };
            self.line(format!("\n[unit.{name}]\n{body}"));
        }
        self.line("[currency.usd]\n\n[currency.jpy]\ndecimals = 0\n".into());
        if self.chance(85) {
            let unit = self.unit();
            self.line(format!("[payg]\nunit = \"{unit}\""));
            if self.chance(50) {
                let low = self.amount(&unit, 30);
                self.line(format!("low = [\"{low}\", \"-{low}\"]"));
            }
            self.payg = Some(unit);
        }
        if self.chance(40) {
            self.line("\n[topup]".into());
            if self.chance(50) {
                self.line("minimum = { amount = \"5\", currency = \"usd\" }".into());
            }
            if self.chance(60) {
                let after = self.duration(5, 100);
                self.line(format!("expires_after = \"{after}\""));
            }
        }
        let mut packs = Vec::new();
        for name in ["small", "large"] {
            if self.chance(60) {
                let unit = self.unit();
                let amount = self.amount(&unit, 60);
                self.line(format!("\n[pack.{name}]\nunit = \"{unit}\"\namount = \"{amount}\""));
                self.line("price = { amount = \"3\", currency = \"usd\" }".into());
                packs.push(name.to_owned());
            }
        }
        for name in ["premium", "basic", "tools"] {
            if self.chance(70) {
                let matches = self.matches();
                self.line(format!("\n[group.{name}]\nmatch = {matches}"));
                self.groups.push(name.into());
            }
        }
        self.rates();
        self.exchanges();
        let plans = self.plans();
        if self.chance(40) {
            let months = self.r.u32(1..4);
            self.line(format!("\n[totals]\nby = [\"model\", \"user\"]\nmonths = {months}"));
        }
        World {
            toml: std::mem::take(&mut self.out),
            units: self.units.clone(),
            plans,
            groups: self.groups.clone(),
            packs,
            payg: self.payg.is_some(),
            tick: self.tick,
            late,
            future,
            start: self.start,
        }
    }

    fn component(&mut self, seconds: bool) -> String {
        let quantity = if seconds && self.chance(70) { "seconds" } else { pick(&mut self.r, &QUANTITIES) };
        let rate = *pick(&mut self.r, &["1", "1", "1", "2", "0.5", "0.333333333333", "0.01", "3"]);
        let mut text = format!("quantity = \"{quantity}\", rate = \"{rate}\"");
        match self.r.u32(0..6) {
            0 => text += ", per = 1000",
            1 => text += ", per = \"7\"",
            2 => text += ", per = 60, step = \"15\"",
            3 if self.chance(50) => text += ", step = \"0.25\"",
            _ => {}
        }
        format!("{{ {text} }}")
    }

    fn components(&mut self, from: usize, to: usize, seconds: bool) -> String {
        let count = self.r.usize(from..=to);
        let all: Vec<String> = (0..count).map(|_| self.component(seconds)).collect();
        format!("[{}]", all.join(", "))
    }

    fn rates(&mut self) {
        let count = self.r.usize(2..7);
        for _ in 0..count {
            let type_ = match self.r.u32(0..5) {
                0 => "image.*".to_owned(),
                1 => String::new(),
                _ => (*pick(&mut self.r, &TYPES)).to_owned(),
            };
            let matches = self.chance(50).then(|| self.matches());
            self.rate(&type_, matches, false);
        }
        if self.chance(70) {
            self.rate("call.*", None, true);
        }
        if self.chance(80) {
            self.rate("", None, true);
        }
        if self.chance(92) {
            self.rate("", None, false);
        }
    }

    fn rate(&mut self, type_: &str, matches: Option<String>, session: bool) {
        let unit = self.unit();
        let mut text = String::from("\n[[rate]]\n");
        if !type_.is_empty() {
            let _ = writeln!(text, "type = \"{type_}\"");
        }
        if let Some(matches) = matches {
            let _ = writeln!(text, "match = {matches}");
        }
        let least = usize::from(!self.chance(10));
        let price = self.components(least, 3, session);
        let _ = writeln!(text, "unit = \"{unit}\"\nprice = {price}");
        if self.chance(25) {
            let otherwise = if self.chance(85) { ", otherwise = \"1\"" } else { "" };
            let zero = *pick(&mut self.r, &["0", "0.1", "2"]);
            let _ = writeln!(
                text,
                "multiply = {{ field = \"model\", values = {{ \"haiku\" = \"{zero}\", \"opus\" = \"2.5\" }}{otherwise} }}"
            );
        }
        if self.chance(25) {
            let (one, two) = (self.components(1, 2, session), self.components(0, 1, session));
            let otherwise = if self.chance(85) { ", otherwise = \"free\"" } else { "" };
            let _ = writeln!(
                text,
                "each = {{ field = \"features\", prices = {{ \"diarization\" = {one}, \"search\" = {two} }}{otherwise} }}"
            );
        }
        if self.chance(20) {
            let _ = writeln!(text, "minimum = \"{}\"", pick(&mut self.r, &["1", "2", "4"]));
        }
        if session {
            let max = self.duration(3, 30);
            let _ = writeln!(text, "session_max = \"{max}\"");
        }
        if self.chance(15) {
            let _ = writeln!(text, "from = \"{}\"", self.instant());
        } else if self.chance(15) {
            let _ = writeln!(text, "until = \"{}\"", self.instant());
        }
        self.line(text);
    }

    fn exchanges(&mut self) {
        for (from, _) in self.units.clone() {
            for (to, _) in self.units.clone() {
                if from == to || !self.chance(85) {
                    continue;
                }
                self.exchange(&from, &to, "*", false);
                if self.chance(30) {
                    self.exchange(&from, &to, "*", true);
                }
                if self.chance(40) {
                    let dated = self.chance(50);
                    self.exchange(&from, &to, "partner", dated);
                }
                if self.chance(20) {
                    self.exchange(&from, &to, "standard", true);
                }
            }
        }
    }

    fn exchange(&mut self, from: &str, to: &str, class: &str, dated: bool) {
        let value = *pick(&mut self.r, &["1", "2", "0.5", "0.03283", "3", "7", "1.1"]);
        let at = if dated { self.instant() } else { "2020-01-01T00:00:00Z".into() };
        self.line(format!(
            "\n[[exchange]]\nfrom_unit = \"{from}\"\nto_unit = \"{to}\"\nvalue = \"{value}\"\nclass = \"{class}\"\nfrom = \"{at}\""
        ));
    }

    fn plans(&mut self) -> Vec<PlanInfo> {
        let names: Vec<&str> = match self.r.u32(0..4) {
            0 => vec!["free", "pro"],
            1 => vec!["free", "pro", "max"],
            2 => vec!["free", "pro", "max", "trial"],
            _ => vec!["free", "pro", "max", "team", "trial"],
        };
        let shared_unit = self.unit();
        let shared_period = self.period();
        // Limits that several plans write alike keep their counters over a change.
        let mut shared = Vec::new();
        for name in ["a", "b", "c"] {
            let limit = self.limit(name, Some(&shared_unit));
            shared.push(limit);
        }
        names.iter().map(|name| self.plan(name, &names, &shared_unit, &shared_period, &shared)).collect()
    }

    fn period(&mut self) -> String {
        match self.r.u32(0..9) {
            0 => "calendar_month".into(),
            1 | 2 => "month".into(),
            3 => "week".into(),
            4 => "day".into(),
            5 => "none".into(),
            _ => self.duration(20, 200),
        }
    }

    fn plan(
        &mut self,
        name: &str,
        all: &[&str],
        unit: &str,
        period: &str,
        shared: &[(String, LimitInfo, bool)],
    ) -> PlanInfo {
        let unit = if self.chance(75) { unit.to_owned() } else { self.unit() };
        let unit = (!self.chance(8)).then_some(unit);
        let mut text = format!("\n[plan.{name}]\n");
        let trial = name == "trial";
        let priced = if name == "free" { self.chance(8) } else { !trial && self.chance(80) };
        if priced {
            let month = self.r.u32(1..60);
            let currency = if self.chance(90) { "usd" } else { "jpy" };
            let year = if self.chance(75) { format!(", year = \"{}\"", month * 10) } else { String::new() };
            let _ = writeln!(text, "price = {{ currency = \"{currency}\", month = \"{month}\"{year} }}");
        }
        let period = if self.chance(80) { period.to_owned() } else { self.period() };
        if trial {
            let ends = self.duration(20, 200);
            let _ = writeln!(text, "ends_after = \"{ends}\"");
            if self.chance(50) {
                let _ = writeln!(text, "then = \"{}\"", pick(&mut self.r, &all[..all.len() - 1]));
            }
        } else {
            let _ = writeln!(text, "period = \"{period}\"");
        }
        if self.chance(50) {
            let _ = writeln!(text, "seats = {}", self.r.u32(1..4));
        }
        for flag in ["strict_seats", "per_seat"] {
            if self.chance(30) {
                let _ = writeln!(text, "{flag} = true");
            }
        }
        if let Some(unit) = &unit {
            self.drawn(&mut text, unit);
        }
        if !self.groups.is_empty() && self.chance(30) {
            let groups = self.groups[..self.r.usize(1..=self.groups.len())].to_vec();
            let _ = writeln!(text, "allow = {}", list(&groups));
        }
        if priced && self.chance(70) {
            let grace = self.duration(10, 100);
            let _ = writeln!(text, "grace = \"{grace}\"");
        }
        if priced && self.chance(60) {
            let (within, fee) = (self.duration(10, 400), *pick(&mut self.r, &["5%", "12.5%", "100%"]));
            let fee = if self.chance(60) { format!("fee = \"{fee}\", ") } else { String::new() };
            let then = if self.chance(80) { "free" } else { "pro" };
            let _ = writeln!(text, "refund = {{ within = \"{within}\", {fee}then = \"{then}\" }}");
        }
        let (limits, infos) = self.limits(unit.as_deref(), shared);
        self.overflow(&mut text, unit.is_some(), &infos);
        self.line(text);
        for limit in &limits {
            self.line(format!("[[plan.{name}.limit]]\n{limit}"));
        }
        PlanInfo { name: name.to_owned(), limits: infos }
    }

    fn drawn(&mut self, text: &mut String, unit: &str) {
        let _ = writeln!(text, "unit = \"{unit}\"");
        if self.chance(75) {
            let mut grants = Vec::new();
            for (i, name) in ["plan", "bonus"].into_iter().enumerate() {
                if i == 1 && !self.chance(30) {
                    continue;
                }
                let amount = self.amount(unit, 60);
                let priority =
                    if self.chance(30) { format!(", priority = {}", self.r.u32(0..60)) } else { String::new() };
                let rollover = if self.chance(40) {
                    format!(", rollover = {{ max = \"{}\" }}", self.amount(unit, 20))
                } else {
                    String::new()
                };
                grants.push(format!("{{ name = \"{name}\", amount = \"{amount}\"{priority}{rollover} }}"));
            }
            let _ = writeln!(text, "grants = [{}]", grants.join(", "));
            if self.chance(60) {
                let _ =
                    writeln!(text, "upgrade_credits = \"{}\"", pick(&mut self.r, &["prorated", "difference", "none"]));
            }
        }
        if self.chance(25) {
            text.push_str("overdraft = \"forgive\"\n");
        }
        if self.chance(60) {
            let low = self.amount(unit, 25);
            let _ = writeln!(
                text,
                "low = {}",
                pick(
                    &mut self.r,
                    &[
                        "[\"20%\"]".to_owned(),
                        format!("[\"{low}\"]"),
                        format!("[\"50%\", \"{low}\", \"10%\"]"),
                        format!("[\"-{low}\", \"100%\"]"),
                    ]
                )
            );
        }
        if self.chance(30) {
            let below = self.amount(unit, 5);
            let sign = if self.chance(40) { "-" } else { "" };
            let _ = writeln!(text, "exhausted_below = \"{sign}{below}\"");
        }
    }

    fn overflow(&mut self, text: &mut String, balance: bool, infos: &[LimitInfo]) {
        let mut names: Vec<String> = infos.iter().filter(|l| !l.by_user).map(|l| l.name.clone()).collect();
        if balance {
            names.push("balance".into());
        }
        if self.payg.is_none() || names.is_empty() || !self.chance(60) {
            return;
        }
        self.r.shuffle(&mut names);
        let count = self.r.usize(1..=names.len());
        let _ = writeln!(text, "overflow = {}", list(&names[..count]));
    }

    fn limits(&mut self, unit: Option<&str>, shared: &[(String, LimitInfo, bool)]) -> (Vec<String>, Vec<LimitInfo>) {
        let (mut texts, mut infos) = (Vec::new(), Vec::new());
        for (text, info, of_unit) in shared {
            // A shared limit may have a share cap of the shared unit only.
            if self.chance(55) && !of_unit {
                texts.push(text.clone());
                infos.push(info.clone());
            }
        }
        let names = ["5h", "weekly", "x"];
        let own = self.r.usize(0..=names.len());
        for name in &names[..own] {
            let (text, info, _) = self.limit(name, unit);
            texts.push(text);
            infos.push(info);
        }
        (texts, infos)
    }

    /// A limit's table, what is to know of it, and whether its cap is a share.
    fn limit(&mut self, name: &str, unit: Option<&str>) -> (String, LimitInfo, bool) {
        let by_user = self.chance(40);
        let (mut measure, mut share) = ("\"records\"".to_owned(), false);
        let mut measured = String::from("flow");
        match self.r.u32(0..10) {
            0 | 1 => {}
            2 | 3 => {
                measure =
                    format!("{{ quantity = \"{}\" }}", pick(&mut self.r, &["input_tokens", "requests", "seconds"]))
            }
            4 => {
                measured = self.unit();
                measure = format!("{{ unit = \"{measured}\" }}");
            }
            _ => {
                if let Some(unit) = unit {
                    measured = unit.to_owned();
                    measure = format!("{{ unit = \"{unit}\" }}");
                    share = self.chance(35);
                }
            }
        }
        let window = self.window();
        let cap = match (share, self.r.u32(0..20)) {
            (true, 0..8) => "{ share = \"equal\" }".to_owned(),
            (true, _) => format!("{{ share = \"{}\" }}", pick(&mut self.r, &["25%", "50%", "100%", "12.5%"])),
            (false, 0) => "\"0\"".to_owned(),
            _ if measure == "\"records\"" => format!("\"{}\"", self.r.u32(1..12)),
            _ => format!("\"{}\"", self.amount(&measured, 40)),
        };
        let mut text = format!("name = \"{name}\"\nmeasure = {measure}\nwindow = {window}\ncap = {cap}\n");
        if by_user {
            text += "scope = \"user\"\n";
        }
        if !self.groups.is_empty() && self.chance(20) {
            let _ = writeln!(text, "group = \"{}\"", pick(&mut self.r, &self.groups));
        }
        if self.chance(20) {
            let _ = writeln!(text, "type = \"{}\"", pick(&mut self.r, &["image.*", "llm.call", "call.*"]));
        }
        if self.chance(40) {
            let _ = writeln!(text, "on_exceed = \"{}\"", pick(&mut self.r, &["block", "notify", "overflow"]));
        }
        if self.chance(60) {
            let _ = writeln!(
                text,
                "warn = {}",
                pick(&mut self.r, &["[\"80%\"]", "[\"50%\", \"80%\", \"100%\"]", "[\"150%\", \"33%\"]"])
            );
        }
        (text, LimitInfo { name: name.to_owned(), by_user }, share)
    }

    fn window(&mut self) -> String {
        const ZONES: [&str; 7] = [
            "Europe/Rome",
            "America/New_York",
            "Asia/Kolkata",
            "America/Santiago",
            "Africa/Cairo",
            "Australia/Lord_Howe",
            "UTC",
        ];
        match self.r.u32(0..10) {
            0..3 => format!("{{ sliding = \"{}\" }}", self.duration(6, 60)),
            3..6 => format!("{{ first_use = \"{}\" }}", self.duration(3, 40)),
            6 | 7 => {
                let kind = *pick(&mut self.r, &["day", "day", "week", "month"]);
                let tz =
                    if self.chance(70) { format!(", tz = \"{}\"", pick(&mut self.r, &ZONES)) } else { String::new() };
                format!("{{ calendar = \"{kind}\"{tz} }}")
            }
            8 => "\"period\"".into(),
            _ => "\"lifetime\"".into(),
        }
    }
}
