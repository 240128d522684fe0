//! `meterd init`: what it creates, and what it leaves alone.

use crate::broker;
use crate::log::{self, Admin};
use crate::traffic::CATALOG;
use crate::world::World;
use std::time::Duration;

#[test]
fn topics_are_created_with_their_settings() {
    let world = World::new("init", CATALOG);
    let (code, said) = world.init(3);
    assert_eq!(code, 0, "{said}");
    let admin = Admin::new(broker::shared());
    for topic in world.topics() {
        assert!(said.contains(&topic), "init says nothing of {topic}:\n{said}");
        assert_eq!(log::partitions(broker::shared(), &topic), 3, "{topic}");
    }
    let expected = [
        (world.usage(), "message.timestamp.type", "LogAppendTime"),
        (world.accounts(), "message.timestamp.type", "LogAppendTime"),
        (world.usage(), "unclean.leader.election.enable", "false"),
        (world.events(), "unclean.leader.election.enable", "false"),
        (world.events(), "max.message.bytes", "8388608"),
        (world.journal(), "message.timestamp.type", "LogAppendTime"),
        (world.journal(), "cleanup.policy", "delete"),
        (world.journal(), "retention.ms", "-1"),
        (world.journal(), "retention.bytes", "-1"),
        (world.journal(), "max.message.bytes", "8388608"),
        (world.state(), "cleanup.policy", "compact"),
        (world.state(), "max.message.bytes", "8388608"),
        (world.state(), "segment.ms", "3600000"),
        (world.state(), "segment.bytes", "134217728"),
        (world.state(), "min.cleanable.dirty.ratio", "0.1"),
        (world.state(), "max.compaction.lag.ms", "86400000"),
        (world.dlq(), "max.message.bytes", "8388608"),
    ];
    for (topic, setting, value) in expected {
        assert_eq!(admin.settings(&topic)[setting], value, "{setting} of {topic}");
    }
}

#[test]
fn what_is_there_is_left_alone() {
    let world = World::new("init-again", CATALOG);
    let admin = Admin::new(broker::shared());
    admin.create(&world.usage(), 2, &[("message.timestamp.type", "LogAppendTime"), ("retention.ms", "604800001")]);
    let (code, said) = world.init(2);
    assert_eq!(code, 0, "{said}");
    assert_eq!(admin.settings(&world.usage())["retention.ms"], "604800001");
    let settings = || world.topics().map(|topic| admin.settings(&topic));
    let before = settings();
    let (code, said) = world.init(2);
    assert_eq!(code, 0, "{said}");
    assert_eq!(settings(), before);
}

#[test]
fn differing_partition_counts_are_refused_with_both_numbers() {
    let world = World::new("init-counts", CATALOG);
    let admin = Admin::new(broker::shared());
    admin.create(&world.usage(), 5, &[]);
    admin.create(&world.accounts(), 7, &[]);
    let names_both = |said: &str| said.contains('5') && said.contains('7') && said.contains(&world.accounts());
    let (code, said) = world.init(5);
    assert!(code == 78 && names_both(&said), "exit code {code}: {said}");
    assert_eq!(log::partitions(broker::shared(), &world.accounts()), 7);
    for topic in [world.events(), world.dlq(), world.journal(), world.state()] {
        admin.create(&topic, 5, &[]);
    }
    let (code, said) = world.refused("a", Duration::from_secs(60));
    assert!(code == 78 && names_both(&said), "exit code {code}: {said}");
}

/// Retention would delete the checkpoints of accounts that do not change.
#[test]
fn a_state_topic_that_is_not_compacted_stops_the_start() {
    let world = World::new("not-compacted", CATALOG);
    Admin::new(&world.broker).create(&world.state(), 1, &[]);
    let world = world.initialised(1);
    let (code, said) = world.refused("a", Duration::from_secs(60));
    let told = [
        format!("expected cleanup.policy=compact of topic {}, found delete", world.state()),
        format!("--entity-name {} --add-config cleanup.policy=compact`", world.state()),
    ];
    assert!(code == 78 && told.iter().all(|text| said.contains(text)), "exit code {code}: {said}");
    assert!(!said.contains(&format!("of topic {}", world.journal())), "what init makes is as it must be: {said}");
}

#[test]
fn a_daemon_without_its_topics_says_how_to_get_them() {
    let world = World::new("init-not", CATALOG);
    let (code, said) = world.refused("a", Duration::from_secs(60));
    assert!(code == 78 && said.contains("meterd init") && said.contains(&world.usage()), "exit code {code}: {said}");
}
