//! The lease on a tenant's compaction, when steps are long and when somebody else has it.

use runnel_storage::CompactOptions;

use super::{ASLEEP, force, open, server, sql, until};
use crate::events::{NOW, admitted, distinct, shop};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lease_lasts_as_long_as_a_step_and_is_ended_by_its_holder_only() {
    let database = server().database().unwrap();
    let (store, other) = (open(&database).await, open(&database).await);
    store.create_tenant(&shop(), NOW).await.unwrap();
    store.append(&shop(), admitted(&distinct(0, 10)), NOW).await.unwrap();
    // The round cannot go on while its tenant's head is held.
    let holder = tokio::task::spawn_blocking({
        let database = database.clone();
        move || sql(&database, "BEGIN; SELECT sequence FROM heads FOR UPDATE; SELECT pg_sleep(8); COMMIT")
    });
    until(&database, ASLEEP, "t").await;
    let round = tokio::spawn({
        let store = store.clone();
        async move { store.compact(&shop(), force(), NOW).await.unwrap() }
    });
    until(&database, "SELECT leased_until_ms > 0 FROM chores", "t").await;
    let first = sql(&database, "SELECT leased_until_ms FROM chores");
    // Who does not want to wait is told at once, in another process and in this one.
    let at_once = CompactOptions { trigger_bytes: 0, ..CompactOptions::default() };
    for store in [&other, &store] {
        assert_eq!(store.compact(&shop(), at_once.clone(), NOW).await.unwrap().inputs, 0);
    }
    until(&database, &format!("SELECT leased_until_ms >= {first} + 4000 FROM chores"), "t").await;
    assert!(!round.is_finished());
    // As if it had been away for so long that another one came.
    let taken = "UPDATE chores SET lease_token = lease_token + 1, leased_until_ms = 9000000000000";
    sql(&database, taken);
    holder.await.unwrap();
    assert_eq!(round.await.unwrap().inputs, 1);
    assert_eq!(sql(&database, "SELECT leased_until_ms FROM chores"), "9000000000000");
    // One's own is over when the round is.
    sql(&database, "UPDATE chores SET leased_until_ms = 0");
    store.append(&shop(), admitted(&distinct(10, 10)), NOW).await.unwrap();
    let before = sql(&database, "SELECT lease_token FROM chores");
    assert_eq!(store.compact(&shop(), force(), NOW).await.unwrap().inputs, 1);
    let after = format!("SELECT leased_until_ms, lease_token > {before} FROM chores");
    assert_eq!(sql(&database, &after), "0|t");
}
