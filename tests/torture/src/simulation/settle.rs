//! When all is quiet: what is there is exactly what was acknowledged, for whoever asks, in whatever form it is stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use runnel_client::{
    Client,
    proto::{event::v1::Event, funnel::v1::VerifyRequest},
};
use runnel_model::{ColumnKey, EventBatch, TenantName, ValueRef};
use runnel_storage::{CompactOptions, Store};

use super::{cluster::Cluster, network::Outside};
use crate::{
    checker::{Identity, Ledger, TONE, ask, ask_tone, question},
    followed::{Followers, Told},
};

/// A tenant, who may write and read it, and what is known of it.
#[derive(Clone)]
pub(super) struct Shop {
    pub(super) tenant: TenantName,
    pub(super) writer: Client<Outside>,
    pub(super) reader: Client<Outside>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) followers: Arc<Followers<Outside>>,
    pub(super) told: Arc<Told>,
}

/// Checks a tenant as it is, after everything was compacted, and after everything that is not needed was deleted.
pub(super) async fn settle(cluster: &Arc<Cluster>, shop: &Shop) {
    let store = cluster.database.process().store();
    check(&store, shop).await;
    let options = CompactOptions { force: true, ..cluster.compaction() };
    store.compact(&shop.tenant, options, cluster.clock.now_ms()).await.unwrap();
    cluster.trace.step(format_args!("{} is compacted", shop.tenant));
    check(&store, shop).await;
    let later = cluster.clock.now_ms() + 8 * 24 * 3_600_000;
    store.janitor(later).await.unwrap();
    cluster.trace.step(format_args!("{} is swept", shop.tenant));
    check(&store, shop).await;
    assert!(store.backlog().await.unwrap().iter().all(|backlog| backlog.tenant != shop.tenant));
    // Processes that know nothing yet say the same.
    (0..super::cluster::ROLES.len() * super::cluster::EACH).for_each(|at| cluster.crash(at));
    cluster.heal();
    check(&store, shop).await;
}

async fn check(store: &Store, shop: &Shop) {
    shop.ledger.settle(&shop.writer, &shop.reader).await;
    let stored = contents(store, &shop.tenant).await;
    let (sent, _) = shop.ledger.references();
    let doubtful = shop.ledger.doubtful();
    let wanted: BTreeSet<&Identity> = sent.tones().keys().collect();
    let found: BTreeSet<&Identity> = stored.keys().filter(|identity| !doubtful.contains(*identity)).collect();
    let lost: Vec<_> = wanted.difference(&found).collect();
    let phantom: Vec<_> = found.difference(&wanted).collect();
    assert!(lost.is_empty() && phantom.is_empty(), "I1: lost {lost:?}; I3: from nowhere {phantom:?}");
    for tone in ["plain", "altered"] {
        let winners = stored.values().filter(|(_, _, stored)| stored == tone).count() as u64;
        let counted = ask_tone(&shop.reader, tone).await.unwrap();
        assert_eq!(counted, winners, "A7: the first content of an identity counts");
    }
    let request = VerifyRequest { query: Some(question()) };
    let verified = shop.reader.funnel().verify(request).await.unwrap().into_inner();
    assert!(verified.holds, "{:?}", verified.checks);
    assert_eq!(ask(&shop.reader).await.unwrap(), sent.reached(), "I7");
    shop.followers.settle(&sent.reached()).await;
}

/// Everything that is stored of a tenant: of each identity the number, the row and the tone of its first content.
async fn contents(store: &Store, tenant: &TenantName) -> BTreeMap<Identity, (u64, usize, String)> {
    let listing = store.list(tenant, 0).await.unwrap();
    let mut first: BTreeMap<Identity, (u64, usize, String)> = BTreeMap::new();
    let mut add = |batch: &EventBatch, number: &dyn Fn(usize) -> u64| {
        for row in 0..batch.len() {
            let event = event(batch, row);
            let identity = crate::checker::identity(&event);
            let new = (number(row), row, crate::checker::tone(&event).to_owned());
            let known = first.entry(identity).or_insert_with(|| new.clone());
            if (new.0, new.1) < (known.0, known.1) {
                *known = new;
            }
        }
    };
    let sequences: Vec<u64> = listing.journal.iter().map(|row| row.sequence).collect();
    for (number, batch) in store.fetch_journal(tenant, &sequences).await.unwrap() {
        add(&batch, &|_| number);
    }
    for block in &listing.blocks {
        let block = store.fetch_block(tenant, block.id).await.unwrap();
        for group in 0..block.row_groups().len() {
            let keys = block.read_keys(group).unwrap();
            add(&block.read_all(group).unwrap(), &|row| keys.numbers[row]);
        }
    }
    first
}

/// What is checked of a stored event.
fn event(batch: &EventBatch, row: usize) -> Event {
    let mut event = Event {
        visitor_id: batch.strings.get(batch.visitors[row]).to_owned(),
        time_ms: Some(batch.times[row]),
        event_id: String::from_utf8(batch.event_ids.get(row).to_vec()).unwrap(),
        name: batch.strings.get(batch.names[row]).to_owned(),
        ..Event::default()
    };
    for column in &batch.columns {
        let ColumnKey::Property(name) = column.key else { continue };
        let Ok(at) = column.rows.binary_search(&(row as u32)) else { continue };
        if let ValueRef::String(tone) = batch.value(column, at)
            && batch.strings.get(name) == TONE
        {
            event.properties.insert(TONE.into(), crate::checker::text(tone));
        }
    }
    event
}
