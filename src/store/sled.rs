//! The store on disk: one sled tree for each partition.
//!
//! sled is a beta store with known faults, so nothing is trusted to it that Kafka does not hold: values carry checksums,
//! a copy that was not closed is discarded after another boot (a flush of sled is no fsync), and what cannot be opened
//! is set aside and rebuilt. A lock file of our own is taken before sled is touched, so that a second process never
//! moves the first one's files away.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Complete, Records, Store, StoreError, Take, check_continues};

/// Position of a partition's tree; sorts before the keys of records, which begin with 1 or 2.
const POSITION: &[u8] = &[0];

/// A store that is older than this was flushed, and is missed if it is empty.
const KEPT_AFTER: Duration = Duration::from_secs(2);

pub struct SledStore {
    db: sled::Db,
    boot: String,
    /// Held from the look at a position to the write that moves it.
    writing: Mutex<()>,
    /// Says that the store holds something, and when that may be said.
    kept: PathBuf,
    opened: Instant,
    is_kept: AtomicBool,
    /// Held while the process lives.
    _lock: File,
}

/// What happened on opening, for logs and metrics.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Where a damaged store was set aside.
    pub set_aside: Option<PathBuf>,
}

impl SledStore {
    /// Opens or creates the store in `directory`. `cache_bytes` bounds sled's own cache.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<(SledStore, Opened), StoreError> {
        fs::create_dir_all(directory).map_err(|error| io(directory, &error))?;
        let lock = lock(directory)?;
        let files = directory.join("sled");
        let mut opened = Opened::default();
        let kept = directory.join("kept");
        let was_kept = kept.exists();
        let db = match open_db(&files, cache_bytes).and_then(|db| whole(db, was_kept)) {
            Ok(db) => db,
            Err(StoreError::Damaged(_)) => {
                opened.set_aside = Some(set_aside(&files)?);
                open_db(&files, cache_bytes)?
            }
            Err(error) => return Err(error),
        };
        if opened.set_aside.is_some() {
            fs::remove_file(&kept).or_else(unless_missing).map_err(|error| io(&kept, &error))?;
        }
        let is_kept = AtomicBool::new(was_kept && opened.set_aside.is_none());
        let store = SledStore {
            db,
            boot: boot_id(),
            writing: Mutex::default(),
            kept,
            opened: Instant::now(),
            is_kept,
            _lock: lock,
        };
        Ok((store, opened))
    }

    fn tree(&self, partition: i32) -> Result<sled::Tree, StoreError> {
        self.db.open_tree(format!("partition-{partition}")).map_err(classify)
    }
}

impl Store for SledStore {
    fn load(&self, partition: i32, take: Take<'_>) -> Result<Option<Complete>, StoreError> {
        let tree = self.tree(partition)?;
        let Some(complete) = position(&tree, partition)? else { return Ok(None) };
        if !complete.holds_in(&self.boot) {
            tree.clear().map_err(classify)?;
            return Ok(None);
        }
        for entry in tree.iter() {
            let (key, value) = entry.map_err(classify)?;
            if key != POSITION {
                take(&key, &value);
            }
        }
        Ok(Some(complete))
    }

    fn apply(
        &self,
        partition: i32,
        after: Option<i64>,
        records: Records<'_>,
        complete: &Complete,
    ) -> Result<(), StoreError> {
        let tree = self.tree(partition)?;
        // It guards no data of its own.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = position(&tree, partition)?;
        check_continues(before.as_ref(), after)?;
        let position = |complete: &Complete| postcard::to_stdvec(complete).expect("encoding into memory succeeds");
        if let Some(before) = before.filter(|before| before.closed) {
            tree.insert(POSITION, position(&Complete { closed: false, boot: self.boot(), ..before }))
                .map_err(classify)?;
        }
        // Not as one sled batch: that keeps all garbage of its pages until its end, at several times the cost. sled's log
        // keeps the order, so that a position is never there without the records before it.
        for (key, value) in records {
            tree.insert(key, value).map_err(classify)?;
        }
        tree.insert(POSITION, position(complete)).map_err(classify)?;
        if !self.is_kept.load(Ordering::Relaxed) && self.opened.elapsed() > KEPT_AFTER {
            self.db.flush().map_err(classify)?;
            fs::write(&self.kept, b"").map_err(|error| io(&self.kept, &error))?;
            self.is_kept.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn clear(&self, partition: i32) -> Result<(), StoreError> {
        self.tree(partition)?.clear().map_err(classify)
    }

    fn keep_damaged(&self, partition: i32) -> Result<(), StoreError> {
        let kept = self.db.open_tree(format!("damaged-{partition}")).map_err(classify)?;
        kept.clear().map_err(classify)?;
        for entry in self.tree(partition)?.iter() {
            let (key, value) = entry.map_err(classify)?;
            kept.insert(key, value).map_err(classify)?;
        }
        Ok(())
    }

    fn boot(&self) -> String {
        self.boot.clone()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map(|_| ()).map_err(classify)
    }
}

fn position(tree: &sled::Tree, partition: i32) -> Result<Option<Complete>, StoreError> {
    let Some(position) = tree.get(POSITION).map_err(classify)? else { return Ok(None) };
    postcard::from_bytes(&position)
        .map(Some)
        .map_err(|error| StoreError::Damaged(format!("position of partition {partition}: {error}")))
}

fn open_db(files: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    // sled leaves a half-written snapshot behind when it is killed, and then refuses to open: it is of no use.
    if let Ok(entries) = fs::read_dir(files) {
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().ends_with(".generating") {
                fs::remove_file(entry.path()).map_err(|error| io(&entry.path(), &error))?;
            }
        }
    }
    let config = sled::Config::default().path(files).cache_capacity(cache_bytes).flush_every_ms(Some(500));
    config.open().map_err(classify)
}

/// sled takes a log that is damaged at its beginning for an empty one: that is damage where something was kept.
fn whole(db: sled::Db, was_kept: bool) -> Result<sled::Db, StoreError> {
    let holds = |name: &sled::IVec| db.open_tree(name).and_then(|tree| tree.contains_key(POSITION));
    for name in db.tree_names() {
        if holds(&name).map_err(classify)? {
            return Ok(db);
        }
    }
    if was_kept {
        return Err(StoreError::Damaged("its files are there and hold nothing".into()));
    }
    Ok(db)
}

fn unless_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn set_aside(files: &Path) -> Result<PathBuf, StoreError> {
    for number in 1.. {
        let aside = files.with_file_name(format!("sled.damaged-{number}"));
        if !aside.exists() {
            fs::rename(files, &aside).map_err(|error| io(files, &error))?;
            return Ok(aside);
        }
    }
    unreachable!("the numbers do not end")
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(&path)
        .map_err(|error| io(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = fs::read_to_string(&path).unwrap_or_default();
            return Err(StoreError::Held(format!(
                "expected the store {} to be free, found it held by process {}: give each instance its own store.path",
                directory.display(),
                owner.trim()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(io(&path, &error)),
    }
    // The number is only for the message above; a store on a full disk opens without it.
    let _told = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn classify(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                StoreError::Damaged(error.to_string())
            }
            _ => StoreError::Io(error.to_string()),
        },
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) | sled::Error::Unsupported(_) => {
            StoreError::Damaged(error.to_string())
        }
        sled::Error::CollectionNotFound(_) => StoreError::Damaged(error.to_string()),
    }
}

fn io(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Io(format!("{}: {error}", path.display()))
}

/// Identifies the running kernel; empty where the system does not tell, which then never equals a stored one.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_string())
        .unwrap_or_else(|_| format!("process-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(store: &SledStore, offset: i64) -> Complete {
        Complete { state_offset: offset, state_topic: "id".into(), boot: store.boot(), closed: false }
    }

    fn load(store: &SledStore, partition: i32) -> (Option<Complete>, Vec<(Vec<u8>, Vec<u8>)>) {
        let mut records = Vec::new();
        let complete = store.load(partition, &mut |key, value| records.push((key.to_vec(), value.to_vec())));
        (complete.expect("loads"), records)
    }

    #[test]
    fn keeps_records_and_position_over_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let records = [(vec![1, 2], vec![3]), (vec![1, 4], vec![5])];
        {
            let (store, _) = SledStore::open(directory.path(), 1 << 20).expect("opens");
            let mut slices = records.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
            store.apply(3, None, &mut slices, &complete(&store, 17)).expect("applies");
            store.flush().expect("flushes");
        }
        let (store, opened) = SledStore::open(directory.path(), 1 << 20).expect("opens again");
        assert_eq!(opened, Opened::default());
        let (complete, found) = load(&store, 3);
        assert_eq!(found, records);
        assert_eq!(complete.map(|complete| complete.state_offset), Some(17));
        assert!(load(&store, 4).0.is_none());
    }

    #[test]
    fn a_second_process_is_told_who_holds_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let _first = SledStore::open(directory.path(), 1 << 20).expect("opens");
        let Err(StoreError::Held(message)) = SledStore::open(directory.path(), 1 << 20) else {
            panic!("a second store on one directory was opened")
        };
        assert!(message.contains(&std::process::id().to_string()), "{message}");
    }

    #[test]
    fn a_copy_of_another_boot_that_was_not_closed_is_discarded() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) = SledStore::open(directory.path(), 1 << 20).expect("opens");
        let mut position = complete(&store, 5);
        position.boot = "another".into();
        let records: [(&[u8], &[u8]); 1] = [(&[1], &[1])];
        store.apply(0, None, &mut records.iter().copied(), &position).expect("applies");
        assert!(load(&store, 0).0.is_none());
        position.closed = true;
        store.apply(0, None, &mut records.iter().copied(), &position).expect("applies");
        assert_eq!(load(&store, 0).1.len(), 1);
    }

    #[test]
    fn a_damaged_store_is_set_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(directory.path().join("sled")).expect("a directory");
        fs::write(directory.path().join("sled/conf"), b"not a configuration of sled").expect("written");
        let (store, opened) = SledStore::open(directory.path(), 1 << 20).expect("opens");
        assert!(opened.set_aside.expect("set aside").exists());
        assert!(load(&store, 0).0.is_none());
    }

    #[test]
    fn a_damaged_copy_is_kept_beside_the_new_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) = SledStore::open(directory.path(), 1 << 20).expect("opens");
        let records: [(&[u8], &[u8]); 1] = [(&[1], &[7])];
        store.apply(3, None, &mut records.iter().copied(), &complete(&store, 5)).expect("applies");
        store.keep_damaged(3).expect("keeps");
        store.clear(3).expect("clears");
        let kept = store.db.open_tree("damaged-3").expect("a tree");
        assert_eq!(kept.get([1]).expect("reads").as_deref(), Some(&[7][..]));
        assert!(load(&store, 3).0.is_none());
    }
}
