//! Answers to readers, made from a shard's memory; they leave when what they show is committed.

use std::collections::BinaryHeap;

use serde::Serialize;

use crate::engine::Ms;
use crate::query::{AccountLine, Ask, LIST_MAX, Reply, check, view};
use crate::shard::Partition;

/// Whether the account that is asked for is in this partition.
pub fn holds(fold: &Partition, ask: &Ask) -> bool {
    match ask {
        Ask::View { account } | Ask::Usage { account, .. } | Ask::Check { account, .. } => fold.holds(account),
        Ask::List { .. } => true,
    }
}

/// `wall` is what `check` looks from; a view is as of the partition's clock.
pub fn answer(fold: &Partition, ask: &Ask, wall: Ms) -> Reply {
    let (catalogs, clock) = (fold.catalogs(), fold.clock());
    match ask {
        Ask::View { account: id } => json(fold.find(id).and_then(|account| view::view(catalogs, id, &account, clock))),
        Ask::Usage { account: id, month, by } => {
            let Some(account) = fold.find(id) else { return Reply::NotFound };
            match view::usage(catalogs, id, &account, (*month, by.as_deref()), clock) {
                Ok(usage) => json(usage),
                Err(message) => Reply::Bad(message),
            }
        }
        // The wall clock may be behind a clock that a producer's timestamps moved.
        Ask::Check { account: id, request } => {
            let answer = fold.find(id).and_then(|account| check::check(catalogs, &account, request, wall.max(clock)));
            answer.map_or(Reply::NotFound, Reply::Check)
        }
        Ask::List { prefix, after, limit, .. } => Reply::Accounts(list(fold, prefix, after, *limit)),
    }
}

fn json(answer: Option<impl Serialize>) -> Reply {
    match answer {
        Some(answer) => Reply::Json(serde_json::to_vec(&answer).expect("a view has only text, numbers and names")),
        None => Reply::NotFound,
    }
}

/// One look at each account's id, whatever the order in which they came.
fn list(fold: &Partition, prefix: &str, after: &str, limit: usize) -> Vec<AccountLine> {
    let limit = limit.min(LIST_MAX + 1);
    // The greatest of those kept is on top, and goes when a smaller one comes.
    let mut least: BinaryHeap<&str> = BinaryHeap::with_capacity(limit + 1);
    for id in fold.accounts().ids() {
        let fits = id.starts_with(prefix) && (after.is_empty() || id > after);
        if fits && (least.len() < limit || least.peek().is_some_and(|greatest| id < *greatest)) {
            least.push(id);
            if least.len() > limit {
                least.pop();
            }
        }
    }
    let line = |id: &str| view::line(fold.catalogs(), id, &*fold.find(id)?, fold.clock());
    least.into_sorted_vec().into_iter().filter_map(line).collect()
}
