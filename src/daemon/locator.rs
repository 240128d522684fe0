//! Finds where the accounts of another instance's partitions can be read: the journal names its last writer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use tokio::sync::oneshot;

use crate::commit::reader::Reader;
use crate::commit::recovery::Recovery;
use crate::query::Reply;

/// How long what was found is taken as true: a partition that moved is looked for again after it.
const REMEMBERED: Duration = Duration::from_secs(5);

/// A reader that asked for an account of a partition that is not ours.
pub struct Astray {
    pub partition: i32,
    pub reply: oneshot::Sender<Reply>,
}

pub struct Locator {
    pub recovery: Recovery<Reader>,
}

impl Locator {
    /// Until the channel ends.
    pub fn run(self, inbox: &Receiver<Astray>) {
        let mut known: HashMap<i32, (Instant, Option<String>)> = HashMap::new();
        for Astray { partition, reply } in inbox {
            let fresh = known.get(&partition).filter(|(at, _)| at.elapsed() < REMEMBERED);
            let owner = match fresh {
                Some((_, owner)) => owner.clone(),
                None => {
                    let owner = self.recovery.writer(partition).ok().flatten().and_then(|writer| writer.advertise);
                    known.insert(partition, (Instant::now(), owner.clone()));
                    owner
                }
            };
            // A reader that left needs no answer.
            let _left = reply.send(Reply::Elsewhere(owner));
        }
    }
}
