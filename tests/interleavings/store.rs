//! The local store and who writes to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meterd::daemon::store_writer::{StoreWriter, ToStore, Waiting};
use meterd::shard::StateWrites;
use meterd::store::memory::MemoryStore;
use meterd::store::{Complete, Store};
use meterd::telemetry::Metrics;

fn complete(state_offset: i64) -> Complete {
    Complete { state_offset, state_topic: "id".into(), boot: String::new(), closed: false }
}

/// The partition went to another instance and came back before what was left of it here was written.
#[test]
fn what_was_left_of_an_earlier_ownership_leaves_no_hole_in_the_copy() {
    let store = Arc::<MemoryStore>::default();
    let writer = StoreWriter {
        store: Arc::clone(&store) as Arc<dyn Store>,
        state_topic: "id".into(),
        every: Duration::from_secs(20),
        metrics: Metrics::new(),
    };
    let now = Instant::now();
    let mut waiting = Waiting::new(now);
    let mut hear = |message| writer.take(&mut waiting, Some(message), now);
    let committed = |key: &[u8], value: &[u8], state_end: i64| {
        let mut writes = StateWrites::default();
        writes.push(key, value);
        ToStore::Committed { partition: 0, writes, state_end }
    };
    store.apply(0, None, &mut std::iter::empty(), &complete(50)).expect("it is in memory");
    hear(ToStore::Follow { partition: 0, stored: Some(50), state_end: 50 });
    hear(committed(b"acme", b"at 59", 60));
    // The other instance wrote up to 200, and the recovery of the second ownership completes the copy.
    let mut others = std::iter::once((b"acme".as_slice(), b"at 180".as_slice()));
    store.apply(0, Some(50), &mut others, &complete(200)).expect("it continues the copy");
    hear(ToStore::Released { partition: 0 });
    hear(ToStore::Follow { partition: 0, stored: Some(200), state_end: 200 });
    hear(committed(b"brix", b"at 249", 250));
    hear(ToStore::Close);

    let mut records = Vec::new();
    let found = store.load(0, &mut |key, value| records.push((key.to_vec(), value.to_vec()))).expect("it is in memory");
    assert_eq!(found.map(|complete| complete.state_offset), Some(250));
    let expected = [(b"acme".to_vec(), b"at 180".to_vec()), (b"brix".to_vec(), b"at 249".to_vec())];
    assert_eq!(records, expected, "the copy says that it is complete, and is not");
}
