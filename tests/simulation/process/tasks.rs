//! The threads of a process that wait for others: committer, recoveries, store writer. Here each is a task that is stepped.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corosensei::Coroutine;
use crossbeam_channel::{Receiver, TryRecvError};
use meterd::commit::batch::Batch;
use meterd::commit::committer::Committer;
use meterd::commit::kafka::Machine;
use meterd::commit::reader::wait_out;
use meterd::commit::share::Pace;
use meterd::daemon::group::Assignment;
use meterd::daemon::message::ToShard;
use meterd::daemon::sink::Sink;
use meterd::daemon::store_writer::{StoreWriter, ToStore, Waiting};
use meterd::store::Store;

use super::{Process, Task};
use crate::producer::SimCluster;
use crate::reader::SimReader;
use crate::sim::Thread;

impl Process {
    pub(super) fn committer_task(
        &self,
        store: &Arc<dyn Store>,
        transactional_id: String,
        batches: Receiver<Vec<Batch>>,
        idle: Arc<AtomicBool>,
    ) -> Task {
        let (common, store, outside) = (self.common.clone(), Arc::clone(store), Rc::clone(&self.outside));
        let (ownership, member) = (Arc::clone(&self.ownership), Rc::clone(&self.member.identity));
        let (shards, to_store, needed) = (self.shards.clone(), self.to_store.clone(), Arc::clone(&self.needed));
        let (configuration, opened) = (Arc::clone(&self.configuration), Rc::clone(&self.opened));
        let (recoveries, pace) = (self.jobs.0.clone(), Pace::new(Arc::clone(&self.share)));
        Coroutine::new(move |yielder, ()| {
            let thread = Thread { yielder, sim: Rc::clone(&common.sim), outside };
            let sink = Sink {
                shards,
                store: to_store,
                metrics: Arc::clone(&common.metrics),
                feed: tokio::sync::broadcast::channel(1).0,
                needed,
                ownership: Arc::clone(&ownership),
                recoveries,
                recovery: common.recovery(thread.clone(), store, configuration),
            };
            let mut committer = Committer {
                cluster: SimCluster { thread: thread.clone(), transactional_id, member },
                topics: common.topics.clone(),
                events_partitions: common.events_partitions,
                dlq_partitions: 1,
                ownership,
                sink,
                metrics: Arc::clone(&common.metrics),
                idle: Arc::clone(&idle),
                pace,
                mock: false,
                producer: None,
                fenced: Vec::new(),
            };
            committer.open()?;
            opened.set(true);
            loop {
                idle.store(true, Ordering::Release);
                let mut taken = loop {
                    match batches.try_recv() {
                        Ok(taken) => break taken,
                        Err(TryRecvError::Empty) => thread.idle(),
                        Err(TryRecvError::Disconnected) => return Ok(()),
                    }
                };
                while let Ok(more) = batches.try_recv() {
                    taken.extend(more);
                }
                idle.store(false, Ordering::Release);
                committer.commit(taken)?;
            }
        })
    }

    pub(super) fn recovery_task(&self, store: &Arc<dyn Store>) -> Task {
        let (common, store, outside) = (self.common.clone(), Arc::clone(store), Rc::clone(&self.outside));
        let (ownership, shards, jobs) = (Arc::clone(&self.ownership), self.shards.clone(), self.jobs.1.clone());
        let configuration = Arc::clone(&self.configuration);
        Coroutine::new(move |yielder, ()| {
            let thread = Thread { yielder, sim: Rc::clone(&common.sim), outside };
            let recovery = common.recovery(thread.clone(), store, configuration);
            loop {
                let Ok(assignment) = jobs.try_recv() else {
                    thread.idle();
                    continue;
                };
                let Assignment { partition, epoch, .. } = assignment;
                let owned = || ownership.holds(partition, epoch);
                if !owned() {
                    continue;
                }
                match wait_out(&recovery.reader, owned, || recovery.recover(partition, &owned)) {
                    Ok(Some(_)) if !owned() => {}
                    Ok(Some(recovered)) => {
                        thread.step();
                        let recovered = Box::new(recovered);
                        shards.send(partition, ToShard::Recovered { assignment, recovered });
                    }
                    Ok(None) => {}
                    Err(_) if !owned() => {}
                    Err(stop) => return Err(stop),
                }
            }
        })
    }

    pub(super) fn writer_task(&self, store: &Arc<dyn Store>, inbox: Receiver<ToStore>) -> Task {
        let (common, store, outside) = (self.common.clone(), Arc::clone(store), Rc::clone(&self.outside));
        Coroutine::new(move |yielder, ()| {
            let thread = Thread { yielder, sim: Rc::clone(&common.sim), outside };
            let writer = StoreWriter {
                store,
                state_topic: common.place.topics.last().map(|(_, id)| id.clone()).unwrap_or_default(),
                every: common.store_every,
                metrics: Arc::clone(&common.metrics),
            };
            let log = SimReader(thread.clone());
            let mut waiting = Waiting::new(log.now());
            let mut looked = log.now();
            loop {
                let message = inbox.try_recv().ok();
                let closing = matches!(message, Some(ToStore::Close));
                if closing || log.now() - looked >= Duration::from_secs(1) {
                    looked = log.now();
                    writer.complete(&mut waiting, closing, &log, &common.topics.state, looked);
                }
                let idle = message.is_none();
                writer.take(&mut waiting, message, log.now());
                if closing {
                    return Ok(());
                }
                if idle { thread.idle() } else { thread.step() }
            }
        })
    }
}
