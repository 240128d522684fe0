//! The whole: clock, identities, accounts, and what one record or clock line does.

use crate::account::Account;
use crate::catalog::Catalog;
use crate::commands::{self, Command};
use crate::decode::{self, Event, Raw, Usage};
use crate::orders;
use crate::periods::{self, Begin};
use crate::step::{LAST, Step};
use crate::time::{self, Ms};
use crate::timers;
use crate::usage;
use crate::view;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Topic {
    Usage,
    Accounts,
}

#[derive(Debug)]
pub enum Output {
    /// The account, and the notice.
    Notice(String, Value),
    Quarantined(Value),
}

#[derive(Default)]
pub struct Summary {
    pub applied: u64,
    pub duplicate: u64,
    pub failed: u64,
    pub commands: u64,
    pub rejected: u64,
    pub quarantined: BTreeMap<String, u64>,
    pub notices: u64,
}

pub struct Model {
    pub catalog: Catalog,
    pub clock: Ms,
    pub accounts: BTreeMap<String, Account>,
    sequences: BTreeMap<String, u64>,
    /// Until when an identity is remembered, that instant included.
    identities: HashMap<(bool, String, String, String), Ms>,
    offsets: [u64; 2],
    pub summary: Summary,
    pub outputs: Vec<Output>,
}

const COMMANDS_REMEMBERED: Ms = 35 * time::DAY;

impl Model {
    pub fn new(catalog: Catalog) -> Model {
        Model {
            catalog,
            clock: Ms::MIN,
            accounts: BTreeMap::new(),
            sequences: BTreeMap::new(),
            identities: HashMap::new(),
            offsets: [0, 0],
            summary: Summary::default(),
            outputs: Vec::new(),
        }
    }

    /// A clock line: every account's timers fire up to it.
    pub fn clock(&mut self, to: Ms) {
        self.clock = self.clock.max(to);
        self.settle();
    }

    /// Fires what is due of all accounts at the clock.
    pub fn settle(&mut self) {
        for id in self.accounts.keys().cloned().collect::<Vec<_>>() {
            let mut account = self.accounts.remove(&id).expect("it is there");
            self.timers(&mut account, self.clock);
            self.accounts.insert(id, account);
        }
    }

    /// A line of an input: offsets count by topic, and its timestamp moves the clock.
    pub fn record(&mut self, topic: Topic, raw: &Raw) {
        let offset = self.offsets[topic as usize];
        self.offsets[topic as usize] += 1;
        self.record_at(topic, raw, offset, raw.timestamp);
    }

    /// A record at an offset, whose timestamp was taken for `clock`.
    pub fn record_at(&mut self, topic: Topic, raw: &Raw, offset: u64, clock: Ms) {
        self.clock = self.clock.max(clock);
        let applied = match decode::event(raw) {
            Err(reason) => Err(reason),
            Ok(event) => {
                let cause = json!({
                    "topic": if topic == Topic::Usage { "meter.usage" } else { "meter.accounts" },
                    "partition": 0, "offset": offset, "id": event.id, "source": event.source,
                });
                match topic {
                    Topic::Usage => self.usage(&event, raw.timestamp, cause),
                    Topic::Accounts => self.command(&event, cause),
                }
            }
        };
        if let Err(reason) = applied {
            // In commands everything but the key that cannot be read is one reason.
            let kept = ["too_large", "bad_json", "not_cloudevent", "bad_key", "unknown_account"];
            let reason = if topic == Topic::Accounts && !kept.contains(&reason) { "bad_command" } else { reason };
            *self.summary.quarantined.entry(reason.to_owned()).or_default() += 1;
            let topic = if topic == Topic::Usage { "usage" } else { "accounts" };
            self.outputs
                .push(Output::Quarantined(json!({"topic": topic, "offset": offset, "reason": reason, "message": ""})));
        }
    }

    fn timers(&mut self, account: &mut Account, until: Ms) {
        while let Some(due) = timers::next(&self.catalog, account).filter(|d| *d <= until) {
            let mut step = Step::begin(account, &self.catalog, due);
            let kind = timers::fire(&self.catalog, account, &mut step);
            self.finish(account, step, json!({"timer": kind}));
        }
    }

    /// Evaluates the edges and writes the notices of a step.
    fn finish(&mut self, account: &mut Account, mut step: Step, cause: Value) {
        step.evaluate(account, &self.catalog);
        let plan = account.plan.clone();
        self.write(&account.id, Some(&plan), step, cause);
    }

    fn write(&mut self, account: &str, plan: Option<&str>, mut step: Step, cause: Value) {
        step.notices.sort_by_key(|n| n.place);
        for notice in step.notices {
            let sequence = self.sequences.entry(account.to_owned()).or_default();
            *sequence += 1;
            let mut data: Map<String, Value> = match notice.data {
                Value::Object(fields) => fields,
                _ => Map::new(),
            };
            data.insert("sequence".into(), json!(sequence));
            data.insert("plan".into(), json!(plan));
            data.insert("cause".into(), cause.clone());
            let value = json!({
                "specversion": "1.0", "id": format!("{account}/{sequence}"), "source": "meterd/simulate",
                "type": format!("meterd.{}", notice.type_), "subject": account, "time": time::text(step.clock),
                "datacontenttype": "application/json", "data": data,
            });
            self.summary.notices += 1;
            self.outputs.push(Output::Notice(account.to_owned(), value));
        }
    }

    fn usage(&mut self, event: &Event, timestamp: Ms, cause: Value) -> Result<(), &'static str> {
        let record = decode::usage(event, timestamp, &self.catalog)?;
        let mut known = self.accounts.remove(&record.account);
        if let Some(account) = &mut known {
            self.timers(account, self.clock);
        }
        let result = self.usage_of(&record, &mut known, cause);
        if let Some(mut account) = known {
            self.timers(&mut account, self.clock);
            self.accounts.insert(record.account, account);
        }
        result
    }

    fn usage_of(&mut self, record: &Usage, known: &mut Option<Account>, cause: Value) -> Result<(), &'static str> {
        let clock = self.clock;
        let identity = (true, record.account.clone(), record.source.clone(), record.id.clone());
        if self.identities.get(&identity).is_some_and(|until| clock <= *until) {
            self.summary.duplicate += 1;
            return Ok(());
        }
        if record.time < clock - self.catalog.late {
            return Err("too_late");
        }
        if record.time > clock + self.catalog.future {
            return Err("too_early");
        }
        if known.is_none() && !self.catalog.create_accounts {
            return Err("unknown_account");
        }
        let c = &self.catalog;
        let created = known.is_none();
        let fresh = || Account::new(&record.account, c.plan(&c.default_plan), record.time.min(clock), clock);
        let mut account = known.take().unwrap_or_else(fresh);
        let plan = match usage::decide(c, &account, record, clock) {
            Ok(plan) => plan,
            Err(reason) => {
                *known = (!created).then_some(account);
                return Err(reason);
            }
        };
        self.identities.insert(identity, record.time + c.late);
        let mut step = Step::begin(&mut account, c, clock);
        if created {
            first_period(c, &mut account, &mut step);
        }
        match plan {
            usage::Plan::Failed(..) => self.summary.failed += 1,
            _ => self.summary.applied += 1,
        }
        usage::apply(c, &mut account, &mut step, record, plan);
        self.finish(&mut account, step, cause);
        *known = Some(account);
        Ok(())
    }

    fn command(&mut self, event: &Event, cause: Value) -> Result<(), &'static str> {
        let command = commands::parse(event).ok_or("bad_command")?;
        let mut known = self.accounts.remove(&event.account);
        if let Some(account) = &mut known {
            self.timers(account, self.clock);
        }
        let result = self.command_of(event, &command, &mut known, cause);
        if let Some(mut account) = known {
            self.timers(&mut account, self.clock);
            self.accounts.insert(event.account.clone(), account);
        }
        result
    }

    fn command_of(
        &mut self,
        event: &Event,
        command: &Command,
        known: &mut Option<Account>,
        cause: Value,
    ) -> Result<(), &'static str> {
        let clock = self.clock;
        let identity = (false, event.account.clone(), event.source.clone(), event.id.clone());
        if self.identities.get(&identity).is_some_and(|until| clock <= *until) {
            self.summary.duplicate += 1;
            return Ok(());
        }
        let c = &self.catalog;
        let created = known.is_none();
        if created && !creates(command) {
            return Err("unknown_account");
        }
        self.identities.insert(identity, clock + COMMANDS_REMEMBERED - 1);
        let fresh = || Account::new(&event.account, c.plan(&c.default_plan), clock, clock);
        let mut account = known.take().unwrap_or_else(fresh);
        if let Err(reason) = orders::check(c, &account, command, clock) {
            self.summary.rejected += 1;
            let mut step = Step::begin(&mut account, c, clock);
            let data = json!({"command": event.type_, "id": event.id, "reason": reason, "message": ""});
            step.tell(LAST, "command.rejected", data);
            let plan = (!created).then(|| account.plan.clone());
            self.write(&event.account, plan.as_deref(), step, cause);
            *known = (!created).then_some(account);
            return Ok(());
        }
        self.summary.commands += 1;
        let mut step = Step::begin(&mut account, c, clock);
        let starts = matches!(command, Command::Start { .. });
        if created && !starts {
            first_period(c, &mut account, &mut step);
        }
        orders::apply(c, &mut account, &mut step, command, &event.id, created);
        if matches!(command, Command::Delete) {
            let plan = account.plan.clone();
            self.write(&event.account, Some(&plan), step, cause);
        } else {
            self.finish(&mut account, step, cause);
            *known = Some(account);
        }
        Ok(())
    }

    pub fn sequence(&self, account: &str) -> u64 {
        self.sequences.get(account).copied().unwrap_or(0)
    }

    /// The view of every account, as of the clock.
    pub fn views(&self) -> Vec<Value> {
        self.accounts.iter().map(|(id, a)| view::view(&self.catalog, a, self.clock, self.sequence(id))).collect()
    }

    pub fn summary(&self) -> Value {
        let s = &self.summary;
        json!({
            "applied": s.applied, "duplicate": s.duplicate, "failed": s.failed, "commands": s.commands,
            "rejected": s.rejected, "quarantined": s.quarantined, "accounts": self.accounts.len(),
            "notices": s.notices,
        })
    }
}

/// An account that was not started begins on the default plan with its first period.
fn first_period(c: &Catalog, account: &mut Account, step: &mut Step) {
    let (start, end) = periods::period_at(account.plan(c), account.anchor, account.anchor);
    let begin = Begin { start, end, rollover_of: None, turn: false, carried: None, proration: 0 };
    periods::begin(account, c, step, begin);
}

fn creates(command: &Command) -> bool {
    matches!(
        command,
        Command::Start { .. }
            | Command::Pack { .. }
            | Command::Topup { .. }
            | Command::Issue { .. }
            | Command::Adjust { .. }
            | Command::Set { .. }
            | Command::Member { .. }
            | Command::Limit { .. }
    )
}
