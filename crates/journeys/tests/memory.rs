//! What journeys take in memory: no more than the budget over all tenants, also while they grow.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::{collections::BTreeSet, path::Path};

use bytes::Bytes;
use runnel_journeys::{Journeys, JourneysOptions};
use runnel_model::{EventBatch, EventRef, Selector, TenantName, ValueRef};
use runnel_storage::{Admitted, EmbeddedOptions, Store};

const START: i64 = 1_767_225_600_000;

async fn open(folder: &Path) -> Store {
    Store::open_embedded(folder, EmbeddedOptions::default()).await.unwrap()
}

fn journeys(store: &Store, budget_bytes: usize) -> Journeys {
    Journeys::new(store.clone(), JourneysOptions { budget_bytes, threads: 2, ..JourneysOptions::default() })
        .unwrap()
}

/// Appends events from a number on, each of a visitor of its own and with an order number of its own.
async fn append(store: &Store, tenant: &TenantName, from: usize, events: usize) {
    let mut batch = EventBatch::default();
    for number in from..from + events {
        let (visitor, id) = (format!("visitor-{number}"), format!("event-{number}"));
        let order = format!("order-{number:060}");
        batch.push(&EventRef {
            visitor: &visitor,
            time_ms: START + number as i64,
            name: "purchase",
            event_id: &id,
            sequence: 0,
            fields: &[],
            properties: &[("order", ValueRef::String(&order))],
        });
    }
    store.append(tenant, Admitted::new(batch, None, Bytes::new()).unwrap(), START).await.unwrap();
}

async fn tenant(store: &Store, name: &str) -> TenantName {
    let tenant = TenantName::parse(name).unwrap();
    store.create_tenant(&tenant, START).await.unwrap();
    tenant
}

#[tokio::test]
async fn tenants_that_grow_while_they_are_in_memory_stay_within_the_budget() {
    const BUDGET: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("data")).await;
    let journeys = journeys(&store, BUDGET);
    let columns = BTreeSet::from([Selector::property("order")]);
    let (first, second) = (tenant(&store, "first").await, tenant(&store, "second").await);
    for name in [&first, &second] {
        append(&store, name, 0, 1_000).await;
        journeys.at(name, &columns).await.unwrap();
    }
    assert_eq!(journeys.loads(), 2, "both fit");
    // Values alone are more than half of the budget for each.
    append(&store, &first, 1_000, 3_000).await;
    append(&store, &second, 1_000, 3_000).await;
    for name in [&first, &second] {
        assert_eq!(journeys.at(name, &columns).await.unwrap().events(), 4_000);
    }
    assert!(journeys.resident_bytes() <= BUDGET as u64, "{} bytes", journeys.resident_bytes());
    // What was let go comes back whole.
    assert_eq!(journeys.at(&first, &columns).await.unwrap().events(), 4_000);
}

#[tokio::test]
async fn journeys_that_are_watched_count_though_they_were_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("data")).await;
    let columns = BTreeSet::from([Selector::property("order")]);
    let mut names = Vec::new();
    for name in ["first", "second", "third"] {
        names.push(tenant(&store, name).await);
        append(&store, &names[names.len() - 1], 0, 1_000).await;
    }
    let one = journeys(&store, usize::MAX).at(&names[0], &columns).await.unwrap().memory();
    let budget = one * 5 / 2;
    let journeys = journeys(&store, budget);
    let watched = journeys.at(&names[0], &columns).await.unwrap();
    for name in &names[1..] {
        journeys.at(name, &columns).await.unwrap();
    }
    // The first was asked for longest ago, but letting it go freed nothing: so the second went.
    assert!(journeys.resident_bytes() > one as u64 * 3 / 2, "{} bytes", journeys.resident_bytes());
    assert!(journeys.resident_bytes() <= budget as u64, "{} bytes", journeys.resident_bytes());
    assert_eq!(journeys.loads(), 3);
    assert_eq!(journeys.at(&names[0], &columns).await.unwrap().events(), watched.events());
    assert_eq!(journeys.loads(), 3, "it was at hand");
    journeys.at(&names[1], &columns).await.unwrap();
    assert_eq!(journeys.loads(), 4, "it was let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_are_loaded_at_once_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("data")).await;
    let columns = BTreeSet::from([Selector::property("order")]);
    let mut names = Vec::new();
    for number in 0..6 {
        names.push(tenant(&store, &format!("tenant-{number}")).await);
        for batch in 0..4 {
            append(&store, &names[number], batch * 5_000, 5_000).await;
        }
    }
    // Each takes more than there is room for, and so goes on alone.
    let journeys = journeys(&store, 4 << 20);
    let loads = names.iter().flat_map(|name| [name, name]).map(|name| {
        let (journeys, name, columns) = (journeys.clone(), name.clone(), columns.clone());
        tokio::spawn(async move { journeys.at(&name, &columns).await.unwrap().events() })
    });
    for load in loads.collect::<Vec<_>>() {
        assert_eq!(load.await.unwrap(), 20_000);
    }
}
