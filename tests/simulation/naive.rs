//! The naive model as a second judge. It was written from the reference alone, and takes the inputs one by one in the
//! journaled order: what it tells of each account must be what the engine told.

use std::collections::BTreeMap;

use meterd::commit::configuration::FoldConfiguration;
use meterd::engine::{Ms, Outcome, Reason};
use meterd::ingest::raw::Input;
use meterd::shard::Partition;
use naive::catalog::Catalog;
use naive::decode::Raw;
use naive::model::{Model, Output, Topic};
use serde_json::Value;

use super::log::Entry;

pub struct Naive {
    model: Model,
    /// A record in another partition than its account's: the model knows no partitions.
    misplaced: u64,
}

impl Naive {
    pub fn new(configuration: &FoldConfiguration) -> Naive {
        Naive { model: Model::new(Catalog::parse(&configuration.catalog)), misplaced: 0 }
    }

    pub fn record(&mut self, input: Input, entry: &Entry, clock: Ms, outcome: &Outcome) {
        if matches!(outcome, Outcome::Refused(refusal) if refusal.reason == Reason::WrongPartition) {
            self.model.clock = self.model.clock.max(clock);
            self.misplaced += 1;
            return;
        }
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let headers = entry.content.headers.iter();
        let raw = Raw {
            timestamp: entry.time,
            key: entry.content.key.as_ref().map(text),
            headers: headers.map(|(name, value)| (text(name), value.as_ref().map(text).unwrap_or_default())).collect(),
            value: entry.content.value.clone().unwrap_or_default(),
        };
        let topic = if input == Input::Usage { Topic::Usage } else { Topic::Accounts };
        self.model.record_at(topic, &raw, entry.offset as u64, clock);
    }

    pub fn pass_time(&mut self, clock: Ms) {
        self.model.clock = self.model.clock.max(clock);
    }

    /// Compares the notices of each account, what was quarantined, and the accounts as they are seen.
    pub fn compare(
        mut self,
        fold: &Partition,
        notices: &BTreeMap<String, Vec<String>>,
        quarantined: &[(Input, i64, &'static str)],
    ) -> Result<(), String> {
        self.model.settle();
        let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut refused = Vec::new();
        for output in self.model.outputs.drain(..) {
            match output {
                Output::Notice(account, notice) => expected.entry(account).or_default().push(notice),
                Output::Quarantined(record) => refused.push(record),
            }
        }
        for (account, found) in notices {
            let expected = expected.remove(account).unwrap_or_default();
            for place in 0..found.len().max(expected.len()) {
                let expected = expected.get(place).map(plain);
                let found = found.get(place).and_then(|text| serde_json::from_str(text).ok()).as_ref().map(plain);
                if found != expected {
                    return Err(differ(&format!("notice {} of {account}", place + 1), found, expected));
                }
            }
        }
        if let Some((account, notices)) = expected.into_iter().next() {
            return Err(differ(&format!("notice 1 of {account}"), None, notices.first().map(plain)));
        }
        let found = quarantined.iter().filter(|(.., reason)| *reason != Reason::WrongPartition.name());
        let found: Vec<(bool, u64, &str)> =
            found.map(|(input, offset, reason)| (*input == Input::Usage, *offset as u64, *reason)).collect();
        let expected = refused.iter().map(|record| {
            let offset = record["offset"].as_u64().unwrap_or_default();
            (record["topic"] == "usage", offset, record["reason"].as_str().unwrap_or_default())
        });
        if let Some(odd) = expected.clone().find(|one| !found.contains(one)) {
            return Err(format!("the naive model quarantines {odd:?}, the engine does not"));
        }
        if found.len() != expected.len() {
            return Err(format!("{} records in quarantine, the naive model has {}", found.len(), expected.len()));
        }
        for view in self.model.views() {
            let id = view["account"].as_str().unwrap_or_default();
            let found = fold.find(id).and_then(|account| {
                let view = meterd::query::view::view(fold.catalogs(), id, &account, fold.clock())?;
                serde_json::to_value(&view).ok()
            });
            if found.as_ref() != Some(&view) {
                return Err(differ(&format!("account {id}"), found, Some(view)));
            }
        }
        Ok(())
    }
}

/// A notice without what depends on the deployment, and without texts for people.
fn plain(notice: &Value) -> Value {
    let mut notice = notice.clone();
    for path in ["/source", "/data/message", "/data/cause/topic", "/data/cause/partition"] {
        if let Some(value) = notice.pointer_mut(path) {
            *value = Value::Null;
        }
    }
    notice
}

fn differ(what: &str, found: Option<Value>, expected: Option<Value>) -> String {
    let text = |value: Option<Value>| value.map_or("nothing".to_owned(), |value| value.to_string());
    format!("{what}:\n  the engine      {}\n  the naive model {}", text(found), text(expected))
}
