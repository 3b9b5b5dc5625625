//! A server whose commits wait for a standby: what is acknowledged is on both, whoever gives up waiting and whichever is lost.

use std::{collections::BTreeSet, time::Duration};

use runnel_harness::Postgres;
use runnel_storage::{AppendError, PostgresOptions, Store, Unavailable};

use crate::events::{NOW, admitted, distinct, read, requested, shop};

/// A server, its standby, the name of a database and a store over it with a tenant.
async fn pair() -> (Postgres, Postgres, String, Store) {
    let server = Postgres::start("").unwrap();
    let (database, standby) = (server.database().unwrap(), server.standby().unwrap());
    let store = open(&server, &database).await;
    store.create_tenant(&shop(), NOW).await.unwrap();
    (server, standby, database, store)
}

async fn open(server: &Postgres, database: &str) -> Store {
    let url = |user| Some(server.url(database, user));
    let options = PostgresOptions {
        ingest_url: url("ingest"),
        admin_url: url("admin"),
        ..PostgresOptions::new(server.url(database, "owner"))
    };
    Store::open_postgres(&options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_cancels_the_wait_for_a_standby_makes_nothing_acknowledged() {
    let (server, standby, _, store) = pair().await;
    store.append(&shop(), admitted(&distinct(0, 1)), NOW).await.unwrap();
    standby.receive(false).unwrap();
    let request = || requested(&distinct(1, 10), "request", 1, "");
    // The second time the batch is there already; that it is on the standby is not known either.
    for time in ["first", "again"] {
        let append = tokio::spawn({
            let (store, request) = (store.clone(), request());
            async move { store.append(&shop(), request, NOW).await }
        });
        let mut cancelled = String::new();
        for _ in 0..250 {
            cancelled = server
                .sql(
                    "postgres",
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'ingest' AND wait_event = 'SyncRep'",
                )
                .unwrap();
            if !cancelled.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(cancelled, "t", "{time}: the commit does not wait");
        let outcome = append.await.unwrap();
        assert!(
            matches!(outcome, Err(AppendError::Unavailable(Unavailable::OutcomeUnknown(_)))),
            "{time}: {outcome:?}"
        );
    }
    standby.receive(true).unwrap();
    store.append(&shop(), request(), NOW).await.unwrap();
    let contents = read(&store, &shop()).await;
    assert_eq!((contents.counted.len(), contents.stored, contents.sequence), (11, 11, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_standby_takes_over_with_all_that_was_acknowledged() {
    let (server, standby, database, store) = pair().await;
    let senders: Vec<_> = (0..4u32)
        .map(|sender| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut acknowledged = 0;
                for batch in 0.. {
                    let events = distinct(sender * 1_000_000 + batch * 10, 10);
                    let request = requested(&events, &format!("{sender}-{batch}"), 1, "");
                    if store.append(&shop(), request, NOW).await.is_err() {
                        break;
                    }
                    acknowledged += 1;
                }
                acknowledged
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.stop_at_once().unwrap();
    standby.promote().unwrap();
    let mut acknowledged = Vec::new();
    for sender in senders {
        acknowledged.push(sender.await.unwrap());
    }
    assert!(acknowledged.iter().all(|batches| *batches > 0), "{acknowledged:?}");
    let store = open(&standby, &database).await;
    let ids: BTreeSet<String> =
        read(&store, &shop()).await.counted.into_keys().map(|(_, _, id)| id).collect();
    for (sender, batches) in acknowledged.iter().enumerate() {
        let first = sender as u32 * 1_000_000;
        let lost = (first..first + batches * 10).filter(|id| !ids.contains(&format!("event-{id}"))).count();
        assert_eq!(lost, 0, "of sender {sender}");
        // The batch whose outcome is not known, and one more.
        for batch in *batches..*batches + 2 {
            let events = distinct(first + batch * 10, 10);
            let request = requested(&events, &format!("{sender}-{batch}"), 1, "");
            store.append(&shop(), request, NOW).await.unwrap();
        }
    }
    let batches: u32 = acknowledged.iter().map(|batches| batches + 2).sum();
    let contents = read(&store, &shop()).await;
    assert_eq!((contents.counted.len() as u32, contents.stored as u32), (batches * 10, batches * 10));
    assert_eq!(contents.sequence, u64::from(batches));
    assert_eq!(store.audit(&shop()).await.unwrap().accepted, u64::from(batches) * 10);
}
