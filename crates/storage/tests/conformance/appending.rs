//! What an acknowledgement means.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use runnel_model::{EventBatch, TenantName};
use runnel_storage::{Admitted, AppendError, Request, Store};

use crate::events::{NOW, Random, admitted, batch, distinct, read, requested, shop};

pub(crate) async fn a_batch_is_read_back(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    assert_eq!(store.list(&shop(), 0).await.unwrap(), Default::default());
    let events = distinct(0, 100);
    let journaled = store.append(&shop(), admitted(&events), NOW).await.unwrap();
    assert_eq!((journaled.sequence(), journaled.repeated()), (1, false));
    let listing = store.list(&shop(), 0).await.unwrap();
    assert_eq!((listing.sequence, listing.journal.len(), listing.journal[0].events), (1, 1, 100));
    let (_, back) = store.fetch_journal(&shop(), &[1]).await.unwrap().remove(0);
    let sent = batch(&events);
    assert_eq!(back.times, sent.times);
    assert_eq!(runnel_model::content_hashes(&back), runnel_model::content_hashes(&sent));
    assert_eq!(store.list(&shop(), 1).await.unwrap().journal, []);
    assert_eq!(store.backlog().await.unwrap()[0].events, 100);
}

pub(crate) async fn a_repeat_gets_the_first_outcome(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let first = store.append(&shop(), requested(&distinct(0, 5), "r1", 9, "first"), NOW).await.unwrap();
    let second = store.append(&shop(), requested(&distinct(0, 5), "r1", 9, "second"), NOW + 1).await.unwrap();
    assert_eq!((second.sequence(), second.repeated()), (first.sequence(), true));
    assert_eq!(second.outcome(), "first");
    assert_eq!(read(store, &shop()).await.stored, 5);
    let receipt = store.receipt(&shop(), "r1").await.unwrap().unwrap();
    assert_eq!((receipt.content_hash, receipt.sequence, receipt.created_ms), (9, 1, NOW));
    assert_eq!(receipt.outcome, "first");
    // At the same time, in one commit or in several.
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            store.append(&shop(), requested(&distinct(50, 5), "r2", 8, "x"), NOW).await.unwrap()
        }));
    }
    let mut stored = 0;
    for task in tasks {
        let journaled = task.await.unwrap();
        assert_eq!(journaled.sequence(), 2);
        stored += usize::from(!journaled.repeated());
    }
    assert_eq!(stored, 1);
    assert_eq!(read(store, &shop()).await.stored, 10);
}

pub(crate) async fn a_reused_request_is_refused(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    store.append(&shop(), requested(&distinct(0, 5), "r", u128::MAX, "x"), NOW).await.unwrap();
    let reused = store.append(&shop(), requested(&distinct(5, 5), "r", 1, "x"), NOW).await;
    assert!(matches!(reused, Err(AppendError::RequestReused)), "{reused:?}");
    assert_eq!(read(store, &shop()).await.stored, 5);
}

pub(crate) async fn a_batch_without_events_leaves_a_receipt(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let journaled = store.append(&shop(), requested(&[], "r", 1, "all refused"), NOW).await.unwrap();
    assert_eq!((journaled.sequence(), journaled.repeated()), (0, false));
    let repeat = store.append(&shop(), requested(&[], "r", 1, "other"), NOW).await.unwrap();
    assert_eq!((repeat.sequence(), repeat.repeated(), &repeat.outcome()[..]), (0, true, &b"all refused"[..]));
    let nothing = store.append(&shop(), admitted(&[]), NOW).await.unwrap();
    assert_eq!(nothing.sequence(), 0);
    assert_eq!(store.list(&shop(), 0).await.unwrap().sequence, 0);
}

pub(crate) async fn an_unknown_tenant_is_refused(store: &Store) {
    let refused = store.append(&shop(), admitted(&distinct(0, 5)), NOW).await;
    assert!(matches!(refused, Err(AppendError::TenantUnknown(_))), "{refused:?}");
    assert_eq!(store.list(&shop(), 0).await.unwrap(), Default::default());
    assert_eq!(store.audit(&shop()).await.unwrap(), Default::default());
    store.compact(&shop(), Default::default(), NOW).await.unwrap();
}

pub(crate) async fn tenants_do_not_see_each_other(store: &Store) {
    let other = TenantName::parse("other").unwrap();
    for tenant in [shop(), other.clone()] {
        store.create_tenant(&tenant, NOW).await.unwrap();
    }
    store.append(&shop(), requested(&distinct(0, 5), "r", 1, "x"), NOW).await.unwrap();
    let journaled = store.append(&other, requested(&distinct(90, 7), "r", 2, "y"), NOW).await.unwrap();
    assert_eq!(
        (journaled.sequence(), journaled.repeated()),
        (1, false),
        "numbers and requests are the tenant's"
    );
    let force = runnel_storage::CompactOptions { force: true, ..Default::default() };
    store.compact(&shop(), force, NOW).await.unwrap();
    assert_eq!(read(store, &shop()).await.stored, 5);
    assert_eq!(read(store, &other).await.stored, 7);
    let block = store.list(&shop(), 0).await.unwrap().blocks[0].id;
    assert!(store.fetch_block(&other, block).await.is_err());
}

pub(crate) async fn commit_order_is_number_order(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let mut tasks = Vec::new();
    for sender in 0..8 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut before = 0;
            for at in 0..40 {
                let events = distinct(sender * 1_000 + at, 1);
                let number = store.append(&shop(), admitted(&events), NOW).await.unwrap().sequence();
                assert!(number > before, "a sender's batches keep their order");
                before = number;
                let listing = store.list(&shop(), 0).await.unwrap();
                assert!(listing.sequence >= number, "what is acknowledged is listed");
                let numbers: Vec<u64> = listing.journal.iter().map(|row| row.sequence).collect();
                assert_eq!(numbers, (1..=listing.sequence).collect::<Vec<_>>(), "and all numbers below");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.list(&shop(), 0).await.unwrap().sequence, 320);
}

pub(crate) async fn a_cancelled_append_is_whole_or_absent(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let mut random = Random(5);
    let mut acknowledged = BTreeSet::new();
    let mut tasks = Vec::new();
    for at in 0..400u32 {
        let store = store.clone();
        let patience = Duration::from_micros(random.below(3_000));
        tasks.push(tokio::spawn(async move {
            let (events, shop) = (distinct(at * 10, 10), shop());
            let append = store.append(&shop, requested(&events, &format!("r{at}"), 1, "x"), NOW);
            tokio::time::timeout(patience, append).await.ok().map(|done| (at, done.unwrap().sequence()))
        }));
        if at % 7 == 0 {
            tasks.swap_remove(random.below(tasks.len() as u64) as usize).abort();
        }
    }
    for task in tasks {
        if let Ok(Some(done)) = task.await {
            acknowledged.insert(done);
        }
    }
    // A write behind them: they are done or never will be.
    store.append(&shop(), admitted(&distinct(90_000, 1)), NOW).await.unwrap();
    let contents = read(store, &shop()).await;
    assert_eq!(contents.stored % 10, 1, "batches are whole");
    let numbers: BTreeSet<u64> = acknowledged.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers.len(), acknowledged.len());
    for (at, number) in acknowledged {
        let (_, batch) = store.fetch_journal(&shop(), &[number]).await.unwrap().remove(0);
        assert_eq!(batch.event_ids.get(0), format!("event-{}", at * 10).as_bytes());
    }
    // Everybody asks again: nothing is stored twice.
    for at in 0..400u32 {
        store
            .append(&shop(), requested(&distinct(at * 10, 10), &format!("r{at}"), 1, "x"), NOW)
            .await
            .unwrap();
    }
    assert_eq!(read(store, &shop()).await.stored, 4_001);
}

pub(crate) async fn followers_wake(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let follower = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut known = 0;
            while known < 30 {
                known = store.wait_beyond(&shop(), known).await.unwrap();
                assert!(store.list(&shop(), 0).await.unwrap().sequence >= known);
            }
            known
        })
    };
    for at in 0..30 {
        store.append(&shop(), admitted(&distinct(at, 1)), NOW).await.unwrap();
    }
    let woken = tokio::time::timeout(Duration::from_secs(20), follower).await;
    assert_eq!(woken.unwrap().unwrap(), 30);
    assert_eq!(store.wait_beyond(&shop(), 3).await.unwrap(), 30);
    let outcome = Request { id: "r".to_owned(), content_hash: 0 };
    let receipt = Admitted::new(EventBatch::default(), Some(outcome), Bytes::new()).unwrap();
    store.append(&shop(), receipt, NOW).await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(50), store.wait_beyond(&shop(), 30)).await;
    assert!(nothing.is_err(), "a receipt alone is no event");
}
