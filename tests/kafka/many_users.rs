//! An account with as many users as one may have.

use std::time::Duration;

use serde_json::json;

use crate::traffic::{command, event};
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(240);
const USERS: usize = 100_000;
const CATALOG: &str = r#"
catalog = "users"
default_plan = "free"

[unit.credit]

[[rate]]
unit = "credit"
price = [{ quantity = "requests", rate = "1" }]

[plan.free]
unit = "credit"

[[plan.free.limit]]
name = "each"
measure = "records"
scope = "user"
window = "lifetime"
cap = "1"

[plan.pro]
unit = "credit"
"#;

/// Each of its users is told something by one command: that is one input, which no batch can cut, and goes out in the time
/// of one transaction.
#[test]
fn a_command_that_tells_every_user_something_is_one_transaction() {
    let world = World::new("many-users", CATALOG).with("checkpoint", "interval = \"1h\"").initialised(1);
    let daemon = world.start("a");
    let producer = world.producer();
    let start = |id: &str, plan: &str| {
        let start = command(id, "subscription.start", "acme", &json!({ "plan": plan }));
        producer.send_json(&world.accounts(), "acme", &start);
        producer.flush();
        world.await_consumed(LIMIT);
    };
    start("begin", "free");
    for number in 0..USERS {
        let usage =
            event(&format!("call-{number}"), "tests", "call", "acme", &json!({"user": format!("user-{number}")}));
        producer.send_json(&world.usage(), "acme", &usage);
    }
    producer.flush();
    world.await_consumed(LIMIT);
    let told = |kind: &str| daemon.metric("meterd_notices_total", &[&format!("type=\"{kind}\"")]);
    assert_eq!(told("cap.exceeded"), USERS as u64);
    start("change", "pro");
    assert_eq!(told("cap.restored"), USERS as u64);
    assert_eq!(daemon.metric("meterd_transactions_aborted_total", &[]), 0);
    daemon.kill();
    let kind = |value: &[u8]| String::from_utf8_lossy(value).contains("\"meterd.cap.restored\"");
    let restored = world.notices().iter().filter(|notice| notice.value.as_deref().is_some_and(kind)).count();
    assert_eq!(restored, USERS);
    world.delete_store("a");
    let daemon = world.start("a");
    assert_eq!(daemon.metric("meterd_accounts", &[]), 1);
    assert_eq!(daemon.stop(), 0);
}
