//! Threads that recover partitions, beside the shards and never inside the group's callback.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::group::{Assignment, Shards};
use super::message::ToShard;
use crate::commit::Stop;
use crate::commit::ownership::Ownership;
use crate::commit::reader::{Reader, wait_out};
use crate::commit::recovery::Recovery;

pub struct Recoveries {
    pub recovery: Recovery<Reader>,
    pub ownership: Arc<Ownership>,
    pub shards: Shards,
    pub jobs: Receiver<Assignment>,
}

impl Recoveries {
    /// Until the channel ends.
    pub fn run(self) -> Result<(), Stop> {
        for assignment in &self.jobs {
            let Assignment { partition, epoch, .. } = assignment;
            let owned = || self.ownership.holds(partition, epoch);
            if !owned() {
                continue;
            }
            match wait_out(&self.recovery.reader, owned, || self.recovery.recover(partition, &owned)) {
                Ok(Some(_)) if !owned() => {}
                Ok(Some(recovered)) => {
                    let recovered = Box::new(recovered);
                    self.shards.send(partition, ToShard::Recovered { assignment, recovered });
                }
                Ok(None) => {}
                // What another owner does meanwhile may look like a fault from here.
                Err(stop) if !owned() => tracing::info!(partition, epoch, "recovery given up: {stop}"),
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }
}
