//! Two processes that follow one tenant, over hot state that is forgotten now and then, with a clock that moves as it likes: every answer is what the events say.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use runnel_chassis::{Caller, Clock, ContextSigner, Metrics, seal::Seal};
use runnel_contracts::proto::segmentation::v1::{
    CountOpenSessionsRequest, CountOpenSessionsResponse, OpenSessionsSource as Source,
    segmentation_service_server::SegmentationService,
};
use runnel_harness::{Random, Redis, or_skip};
use runnel_journeys::{Journeys, JourneysOptions};
use runnel_model::{EventBatch, EventRef, Field, TenantName, ValueRef, limits::SESSION_GAP_MS as GAP};
use runnel_segmentation::{Segmentation, SegmentationOptions};
use runnel_storage::{Admitted, CompactOptions, EmbeddedOptions, Hot, Store, hot::HotOptions};
use tonic::{Request, metadata::MetadataMap};

const START: i64 = 1_767_225_600_000;

/// A store, a tenant, and all that was ever sent to it.
struct World {
    store: Store,
    tenant: TenantName,
    clock: Clock,
    signer: ContextSigner,
    sent: HashMap<u64, Vec<i64>>,
    sequence: u64,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(name: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open_embedded(&folder.path().join("data"), EmbeddedOptions::default()).await.unwrap();
        let tenant = TenantName::parse(name).unwrap();
        store.create_tenant(&tenant, START).await.unwrap();
        World {
            store,
            tenant,
            clock: Clock::fixed(START),
            signer: ContextSigner::new(Seal::new([7; 32])),
            sent: HashMap::new(),
            sequence: 0,
            _folder: folder,
        }
    }

    /// A process of the service. It does nothing by itself but fill what was found lost.
    fn process(&self, hot: &Hot) -> Segmentation {
        let journeys =
            JourneysOptions { threads: 2, followed: Duration::from_millis(10), ..JourneysOptions::default() };
        let options = SegmentationOptions {
            lease: Duration::from_millis(40),
            pace: Duration::from_secs(3_600),
            ..SegmentationOptions::default()
        };
        let journeys = Journeys::new(self.store.clone(), journeys).unwrap();
        Segmentation::new(
            journeys,
            hot.clone(),
            self.signer.clone(),
            self.clock.clone(),
            Metrics::new(),
            options,
        )
    }

    /// Sends some events: of the last hour, at the edge of the gap, of the near future, elsewhere, or sent before.
    async fn append(&mut self, random: &mut Random) {
        let now = self.clock.now_ms();
        let mut batch = EventBatch::default();
        for _ in 0..1 + random.below(30) {
            let number = random.below(60);
            let mut time_ms = match random.below(8) {
                0 => now + 1 + random.below(GAP as u64) as i64,
                1 => now - GAP + random.below(5) as i64 - 2,
                _ => now - random.below(2 * GAP as u64) as i64,
            };
            let known = self.sent.get(&number).and_then(|times| times.last()).copied();
            if let (Some(known), 0) = (known, random.below(6)) {
                time_ms = known;
            }
            let elsewhere = known != Some(time_ms) && random.below(7) == 0;
            let field = [(Field::OffSite, ValueRef::Int(2))];
            let (visitor, id) = (format!("visitor-{number}"), format!("{number}-{time_ms}"));
            batch.push(&EventRef {
                visitor: &visitor,
                time_ms,
                name: "seen",
                event_id: if elsewhere { "elsewhere" } else { &id },
                sequence: 0,
                fields: if elsewhere { &field } else { &[] },
                properties: &[],
            });
            if !elsewhere {
                self.sent.entry(number).or_default().push(time_ms);
            }
        }
        let admitted = Admitted::new(batch, None, Bytes::new()).unwrap();
        self.store.append(&self.tenant, admitted, now).await.unwrap();
        self.sequence += 1;
    }

    async fn compact(&self) {
        let options = CompactOptions { force: true, ..CompactOptions::default() };
        self.store.compact(&self.tenant, options, self.clock.now_ms()).await.unwrap();
    }

    /// Asks a process, and looks whether it is right.
    async fn ask(&self, process: &Segmentation, what: &str) -> CountOpenSessionsResponse {
        let caller = Caller { tenant: self.tenant.clone(), key_id: "test".into() };
        let mut headers = HeaderMap::new();
        self.signer.sign(&caller, self.clock.now_ms(), &mut headers);
        let mut request = Request::new(CountOpenSessionsRequest {});
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        let answer = process.count_open_sessions(request).await.unwrap().into_inner();
        let window = answer.as_of_ms - GAP..=answer.as_of_ms;
        let there = |times: &&Vec<i64>| times.iter().any(|time| window.contains(time));
        let open = self.sent.values().filter(there).count() as u64;
        let told = (answer.open_sessions, answer.as_of_ms, answer.revision.unwrap().sequence);
        assert_eq!(told, (open, self.clock.now_ms(), self.sequence), "{what}, from {:?}", answer.source());
        answer
    }

    async fn until_hot(&self, process: &Segmentation, what: &str) {
        for _ in 0..2_000 {
            if self.ask(process, what).await.source() == Source::Hot {
                return;
            }
            // Leases end by the clock, or by that of Redis.
            self.clock.set(self.clock.now_ms() + 5);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}: hot state is never whole");
    }
}

async fn follow(hot: Hot, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut random = Random(seed);
        let mut world = World::new(&format!("shop-{seed}")).await;
        let processes = [world.process(&hot), world.process(&hot)];
        let mut sources = HashSet::new();
        for round in 0..120 {
            let what = format!("seed {seed}, round {round}");
            let process = random.below(2) as usize;
            match random.below(20) {
                0..8 => world.append(&mut random).await,
                8 => world.compact().await,
                9 => hot.sessions(&world.tenant, START, 0).forget().await.unwrap(),
                10 => world.until_hot(&processes[process], &what).await,
                11 => world.clock.set(world.clock.now_ms() + GAP),
                12..14 => world.clock.set(world.clock.now_ms() + random.below(GAP as u64 / 10) as i64),
                14 => processes[process].close().await,
                _ => {
                    let answer = world.ask(&processes[process], &what).await;
                    sources.insert((process, answer.source() as i32));
                }
            }
        }
        for process in &processes {
            world.until_hot(process, &format!("seed {seed}, in the end")).await;
        }
        assert!(sources.len() >= 3, "seed {seed}: {sources:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_is_what_the_events_say() {
    follow(Hot::process(), 1..9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_is_what_the_events_say_over_redis() {
    let Some(redis) = or_skip(Redis::start(&[])).unwrap() else { return };
    let options = HotOptions { deadline: Duration::from_secs(10), ..HotOptions::new(redis.url()) };
    follow(Hot::open(&options).await.unwrap(), 1..5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hot_state_of_another_history_is_not_believed() {
    let hot = Hot::process();
    let mut random = Random(3);
    let mut world = World::new("shop").await;
    for _ in 0..5 {
        world.append(&mut random).await;
    }
    world.until_hot(&world.process(&hot), "the first history").await;
    // The same tenant from an older copy of the store: what hot state holds came later.
    let mut copy = World::new("shop").await;
    copy.append(&mut random).await;
    let process = copy.process(&hot);
    assert_eq!(copy.ask(&process, "the copy").await.source(), Source::Journeys);
    copy.until_hot(&process, "the copy, followed").await;
}
