//! A store on a disk that is full: a copy that cannot be written is no fault of the fold.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::random::Random;
use crate::simulated::{assert_same_notices, simulate};
use crate::traffic::{CATALOG, Traffic};
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

/// A file system of 2 MiB, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing where mounting is not allowed.
    fn mount(at: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).expect("the directory is ours");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "meterd-test"]).arg(at);
        mount.output().ok().filter(|output| output.status.success()).map(|_| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_does_not_show() {
    let world = World::new("full-disk", CATALOG).initialised(2);
    let store = world.store("a");
    let disk = SmallDisk::mount(&store);
    if disk.is_none() {
        println!("mounting is not allowed here: a file in the place of the directory stands for the full disk");
        std::fs::remove_dir_all(&store).expect("the directory is ours");
        std::fs::write(&store, b"no directory").expect("the directory is ours");
    }
    let mut traffic = Traffic::new(Random::seeded("full-disk"), 4_000);
    let producer = world.producer();
    let mut failures = 0;
    for _ in 0..2 {
        let daemon = world.start("a");
        for _ in 0..6 {
            (0..3_000).for_each(|_| traffic.send_usage(&producer, &world));
            producer.flush();
            world.await_consumed(LIMIT);
            std::thread::sleep(Duration::from_millis(1_500));
        }
        failures += daemon.metric("meterd_store_failures_total", &[]);
        daemon.kill();
    }
    let mut daemon = world.start("a");
    assert_same_notices(&world.notices(), &simulate(&world, None).notices);
    daemon.await_ready();
    assert_eq!(daemon.stop(), 0);
    world.assert_verified();
    assert!(failures > 0, "the disk did not get full");
}
