//! A tenant whose visitors do something, and the service that tells of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use runnel_chassis::{Caller, Clock, ContextSigner, Metrics, seal::Seal};
use runnel_contracts::proto::segmentation::v1::{
    ListMembersRequest, SegmentRef, StreamMembersRequest, segmentation_service_server::SegmentationService,
};
use runnel_harness::Random;
use runnel_journeys::{Journeys, JourneysOptions};
use runnel_model::{EventBatch, EventRef, Field, TenantName, ValueRef};
use runnel_segmentation::{Segmentation, SegmentationOptions};
use runnel_storage::{Admitted, CompactOptions, EmbeddedOptions, Hot, Store};
use tokio_stream::StreamExt;
use tonic::{Request, Status, metadata::MetadataMap};

pub(crate) const START: i64 = 1_767_225_600_000;
pub(crate) const SECOND: i64 = 1_000;
pub(crate) const GAP: i64 = 30 * 60 * SECOND;
pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];
pub(crate) const LISTS: [&str; 2] = ["few", "many"];

/// One event, as the slow way sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) time_ms: i64,
    pub(crate) id: usize,
    pub(crate) name: usize,
    pub(crate) plan: Option<i64>,
    pub(crate) off_site: bool,
}

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) tenant: TenantName,
    pub(crate) clock: Clock,
    signer: ContextSigner,
    pub(crate) service: Segmentation,
    pub(crate) visitors: BTreeMap<String, Vec<Event>>,
    /// Who is on which list, whether there is such a visitor or not.
    pub(crate) lists: BTreeMap<String, BTreeSet<String>>,
    /// What was sent.
    batches: Vec<EventBatch>,
    _folder: tempfile::TempDir,
}

fn serve(store: &Store, signer: &ContextSigner, clock: &Clock) -> Segmentation {
    let journeys = JourneysOptions { threads: 2, ..JourneysOptions::default() };
    Segmentation::new(
        Journeys::new(store.clone(), journeys).unwrap(),
        Hot::process(),
        signer.clone(),
        clock.clone(),
        Metrics::new(),
        SegmentationOptions { looked: Duration::from_millis(20), ..SegmentationOptions::default() },
    )
}

impl World {
    pub(crate) async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open_embedded(&folder.path().join("data"), EmbeddedOptions::default()).await.unwrap();
        let tenant = TenantName::parse("shop").unwrap();
        store.create_tenant(&tenant, START).await.unwrap();
        let (clock, signer) = (Clock::fixed(START), ContextSigner::new(Seal::new([7; 32])));
        let service = serve(&store, &signer, &clock);
        let (visitors, batches, mut lists) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for list in LISTS {
            let ids = BTreeSet::from(["nobody".to_owned()]);
            store.put_list_members(&tenant, list, ids.clone(), START).await.unwrap();
            lists.insert(list.to_owned(), ids);
        }
        World { store, tenant, clock, signer, service, visitors, lists, batches, _folder: folder }
    }

    /// Puts some visitors on a list, or takes them off.
    pub(crate) async fn change_list(&mut self, random: &mut Random) {
        let at = random.below(2) as usize;
        let ids = 0..1 + random.below([3, 15][at]);
        let ids: BTreeSet<String> = ids.map(|_| format!("visitor-{}", random.below(27))).collect();
        let now_ms = self.clock.now_ms();
        let known = self.lists.entry(LISTS[at].to_owned()).or_default();
        let changed = match random.below(3) {
            0 => {
                known.retain(|id| !ids.contains(id));
                self.store.remove_list_members(&self.tenant, LISTS[at], ids, now_ms).await
            }
            _ => {
                known.extend(ids.iter().cloned());
                self.store.put_list_members(&self.tenant, LISTS[at], ids, now_ms).await
            }
        };
        changed.unwrap();
    }

    /// Another process takes over, which knows nothing but what is stored.
    pub(crate) async fn restart(&mut self) {
        self.service.close().await;
        self.service = serve(&self.store, &self.signer, &self.clock);
    }

    /// Sends some events, many of them at the same few instants.
    pub(crate) async fn append(&mut self, random: &mut Random) {
        let mut batch = EventBatch::default();
        for _ in 0..1 + random.below(40) {
            let number = random.below(25);
            let known: usize = self.visitors.values().map(Vec::len).sum();
            let event = Event {
                time_ms: START + random.below(60) as i64 * SECOND * [1, 60, 600][random.below(3) as usize],
                id: known,
                name: random.below(4) as usize,
                plan: (random.below(3) == 0).then(|| random.below(3) as i64),
                off_site: random.below(6) == 0,
            };
            let visitor = format!("visitor-{number}");
            let off_site = [(Field::OffSite, ValueRef::Int(2))];
            let plan = event.plan.map(|plan| [("plan", ValueRef::Int(plan))]);
            batch.push(&EventRef {
                visitor: &visitor,
                time_ms: event.time_ms,
                name: NAMES[event.name],
                event_id: &format!("{known:08}"),
                sequence: 0,
                fields: if event.off_site { &off_site } else { &[] },
                properties: plan.as_ref().map_or(&[], |plan| plan),
            });
            let events = self.visitors.entry(visitor).or_default();
            events.push(event);
            events.sort_by_key(|event| (event.time_ms, event.id));
        }
        self.batches.push(batch.clone());
        self.admit(batch).await;
    }

    /// Sends once more what was sent before.
    pub(crate) async fn repeat(&mut self, random: &mut Random) {
        let batch = self.batches[random.below(self.batches.len() as u64) as usize].clone();
        self.admit(batch).await;
    }

    pub(crate) async fn admit(&self, batch: EventBatch) {
        let erasure = self.store.list(&self.tenant, u64::MAX).await.unwrap().erasure;
        let admitted = Admitted::new(batch, None, Bytes::new()).unwrap().knowing(erasure);
        self.store.append(&self.tenant, admitted, START).await.unwrap();
    }

    pub(crate) async fn compact(&self) {
        let options = CompactOptions { force: true, ..CompactOptions::default() };
        self.store.compact(&self.tenant, options, START).await.unwrap();
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let caller = Caller { tenant: self.tenant.clone(), key_id: "test".into() };
        let mut headers = HeaderMap::new();
        self.signer.sign(&caller, self.clock.now_ms(), &mut headers);
        let mut request = Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        request
    }

    pub(crate) async fn streamed(&self, segment: SegmentRef, as_of_ms: i64) -> Result<Vec<String>, Status> {
        let request = StreamMembersRequest { segment: Some(segment), as_of_ms: Some(as_of_ms) };
        let mut parts = self.service.stream_members(self.request(request)).await?.into_inner();
        let mut ids = Vec::new();
        while let Some(part) = parts.next().await {
            ids.extend(part?.visitor_ids);
        }
        Ok(ids)
    }

    /// Page by page, with pages of three.
    pub(crate) async fn listed(&self, segment: SegmentRef, as_of_ms: i64) -> Vec<String> {
        let (mut ids, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListMembersRequest {
                segment: Some(segment.clone()),
                as_of_ms: page_token.is_empty().then_some(as_of_ms),
                page_size: 3,
                page_token,
            };
            let page = self.service.list_members(self.request(request)).await.unwrap().into_inner();
            assert_eq!(page.provenance.unwrap().as_of_ms, as_of_ms);
            ids.extend(page.visitor_ids);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return ids;
            }
        }
    }
}
