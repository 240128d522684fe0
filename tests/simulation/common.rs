//! What all processes of a run are started with.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use meterd::commit::batch::Names;
use meterd::commit::configuration::FoldConfiguration;
use meterd::commit::recovery::{Place, Recovery};
use meterd::config::daemon::Topics;
use meterd::daemon::settings::Settings;
use meterd::shard::Budget;
use meterd::store::Store;
use meterd::telemetry::Metrics;

use super::reader::SimReader;
use super::sim::{Shared, Thread};

#[derive(Clone)]
pub struct Common {
    pub sim: Shared,
    pub topics: Topics,
    pub events_partitions: i32,
    pub place: Place,
    pub settings: Settings,
    /// How long committed state may wait for the store.
    pub store_every: Duration,
    pub metrics: Arc<Metrics>,
    /// Members are static.
    pub is_static: bool,
}

impl Common {
    pub fn recovery<'y>(
        &self,
        thread: Thread<'y>,
        store: Arc<dyn Store>,
        configuration: Arc<ArcSwap<FoldConfiguration>>,
    ) -> Recovery<SimReader<'y>> {
        Recovery {
            reader: SimReader(thread),
            topics: self.topics.clone(),
            store,
            metrics: Arc::clone(&self.metrics),
            place: self.place.clone(),
            started_with: configuration.load().hash(),
            configuration,
            mock: false,
            ways_out: Default::default(),
            budget: Budget::new(usize::MAX),
        }
    }

    pub fn names(&self) -> Names {
        Names {
            source: format!("meterd/{}", self.settings.group),
            topics: [self.topics.accounts.clone(), self.topics.usage.clone()],
            dlq_bytes_max: 1 << 20,
        }
    }
}
