//! The random commands of a stream: valid ones, ones that are rejected, and malformed ones.

use crate::generate::{CLASSES, USERS, pick};
use crate::stream::{Record, Stream, field, object, quoted};
use crate::time;

impl Stream<'_> {
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

    pub(crate) fn command(&mut self) -> Record {
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
}
