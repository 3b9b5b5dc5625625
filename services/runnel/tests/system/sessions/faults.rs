//! Open sessions while hot state is forgotten, stands still or ends, and while another process takes over.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use runnel_chassis::{Caller, ContextSigner, seal::Seal};
use runnel_client::{
    Client, RetryPolicy,
    proto::{
        event::v1::Event,
        segmentation::v1::{
            CountOpenSessionsRequest, CountOpenSessionsResponse, OpenSessionsSource as Source,
            segmentation_service_client::SegmentationServiceClient,
        },
    },
};
use runnel_harness::{CONTEXT_SECRET, Placement, Process, Redis};
use runnel_model::TenantName;
use tokio::time::{Instant, sleep};
use tonic::{metadata::MetadataMap, transport::Channel};

use super::{Sent, Where, ask, clients, event, hot, now_ms, until_hot};
use crate::server::deployment_over;

/// Visitors one after another, each with one event a second ago: all that were acknowledged are there, and none that nobody sent.
#[derive(Default)]
struct Load {
    tried: AtomicU64,
    acknowledged: AtomicU64,
    going: AtomicBool,
}

impl Load {
    /// Sends batches until told to stop. What got no answer is sent again.
    async fn send(self: Arc<Self>, writer: Client<Channel>) {
        while self.going.load(Ordering::SeqCst) {
            let first = self.tried.fetch_add(20, Ordering::SeqCst);
            let events: Vec<Event> =
                (first..first + 20).map(|at| event(&format!("v{at}"), now_ms() - 1_000, false)).collect();
            while writer.append(events.clone(), Some(format!("batch-{first}"))).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
            self.acknowledged.fetch_add(20, Ordering::SeqCst);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks again and again until told to stop: no answer may be wrong. How many came from hot state, and how many from journeys.
    async fn read(self: Arc<Self>, reader: Client<Channel>, seen: Arc<Mutex<(u64, u64)>>) {
        while self.going.load(Ordering::SeqCst) {
            let least = self.acknowledged.load(Ordering::SeqCst);
            let answer = ask(&reader).await;
            let most = self.tried.load(Ordering::SeqCst);
            assert!(
                (least..=most).contains(&answer.open_sessions),
                "{least} <= {} <= {most}, from {:?}",
                answer.open_sessions,
                answer.source()
            );
            let mut seen = seen.lock().unwrap();
            match answer.source() {
                Source::Hot => seen.0 += 1,
                _ => seen.1 += 1,
            }
        }
    }
}

/// What becomes of hot state under load: (faults, whether nothing else is wrong afterwards).
async fn under_load(placement: Placement, place: Where, fail: impl AsyncFn(&Redis, u64)) {
    let redis = hot!(place).unwrap();
    let deployment = deployment_over(placement, Some(redis.clone()));
    let (writer, reader) = clients(&deployment).await;
    let (load, seen) = (Arc::new(Load::default()), Arc::new(Mutex::new((0, 0))));
    load.going.store(true, Ordering::SeqCst);
    let sender = tokio::spawn(load.clone().send(writer.with_policy(RetryPolicy::never())));
    let asker = tokio::spawn(load.clone().read(reader.clone(), seen.clone()));
    for round in 0..12 {
        let before = load.acknowledged.load(Ordering::SeqCst);
        fail(&redis, round).await;
        assert!(load.acknowledged.load(Ordering::SeqCst) > before, "appends go on");
        if asker.is_finished() {
            break;
        }
    }
    load.going.store(false, Ordering::SeqCst);
    sender.await.unwrap();
    asker.await.unwrap();
    let (hot, journeys) = *seen.lock().unwrap();
    eprintln!("{hot} answers from hot state, {journeys} from journeys, {:?} events", load.acknowledged);
    assert!(journeys > 0, "hot state was lost");
    let mut sent = Sent::nothing();
    let all: Vec<Event> = (0..load.acknowledged.load(Ordering::SeqCst))
        .map(|at| event(&format!("v{at}"), now_ms() - 1_000, false))
        .collect();
    sent.note(&all);
    until_hot(&reader, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_state_that_is_forgotten_again_and_again_makes_no_answer_wrong() {
    let forget = async |redis: &Redis, _| {
        redis.flush_all().unwrap();
        sleep(Duration::from_millis(400)).await;
    };
    under_load(Placement::Shared, Where::Redis, forget).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_forgets_again_and_again_makes_no_answer_wrong() {
    let forget = async |redis: &Redis, round| {
        redis.flush(round as usize % 3).unwrap();
        sleep(Duration::from_millis(400)).await;
    };
    under_load(Placement::Split, Where::Cluster, forget).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_stands_still_or_ends_makes_no_answer_wrong() {
    let fail = async |redis: &Redis, round| {
        if round % 2 == 0 {
            redis.signal("STOP").unwrap();
            sleep(Duration::from_millis(700)).await;
            redis.signal("CONT").unwrap();
        } else {
            redis.kill().unwrap();
            sleep(Duration::from_millis(300)).await;
            redis.restart().unwrap();
        }
        sleep(Duration::from_millis(500)).await;
    };
    under_load(Placement::Split, Where::Redis, fail).await;
}

/// A client of one process of the segmentation service, past the gateway.
struct Direct {
    channel: Channel,
    signer: ContextSigner,
}

impl Direct {
    fn to(process: &Process) -> Direct {
        let channel = Channel::from_shared(process.endpoint.clone()).unwrap().connect_lazy();
        Direct { channel, signer: ContextSigner::new(Seal::new(CONTEXT_SECRET)) }
    }

    async fn ask(&self) -> CountOpenSessionsResponse {
        let caller = Caller { tenant: TenantName::parse("shop").unwrap(), key_id: "test".into() };
        let mut headers = HeaderMap::new();
        self.signer.sign(&caller, now_ms(), &mut headers);
        let mut request = tonic::Request::new(CountOpenSessionsRequest {});
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        let mut client = SegmentationServiceClient::new(self.channel.clone());
        client.count_open_sessions(request).await.unwrap().into_inner()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_is_overtaken_and_both_are_right() {
    let redis = hot!(Where::Redis);
    let deployment = deployment_over(Placement::Split, redis);
    let (writer, _) = clients(&deployment).await;
    let first = &deployment.processes["segmentation"];
    let second = first.another().unwrap();
    let (mut sent, mut next) = (Sent::nothing(), 0);
    let append = async |sent: &mut Sent, next: &mut u64| {
        let events: Vec<Event> =
            (*next..*next + 30).map(|at| event(&format!("v{at}"), now_ms() - 1_000, false)).collect();
        *next += 30;
        writer.append(events.clone(), None).await.unwrap();
        sent.note(&events);
    };
    let [one, other] = [first, &second].map(Direct::to);
    let mut sources = HashSet::new();
    for round in 0..3 {
        for _ in 0..20 {
            append(&mut sent, &mut next).await;
            for (who, asked) in [("the first", &one), ("the second", &other)] {
                let answer = asked.ask().await;
                sent.check(&answer, &format!("round {round}, {who}"));
                sources.insert((who, answer.source() as i32));
            }
        }
        // The first stands still until its lease is over and the second has taken over; then it goes on where it was.
        first.signal("STOP").unwrap();
        let start = Instant::now();
        loop {
            append(&mut sent, &mut next).await;
            let answer = other.ask().await;
            sent.check(&answer, &format!("round {round}, while the first stands still"));
            if answer.source() == Source::Hot {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "nobody takes over");
            sleep(Duration::from_millis(100)).await;
        }
        first.signal("CONT").unwrap();
        append(&mut sent, &mut next).await;
        sent.check(&one.ask().await, &format!("round {round}, the first again"));
        sent.check(&other.ask().await, &format!("round {round}, the second"));
    }
    assert!(sources.contains(&("the first", Source::Hot as i32)), "{sources:?}");
}
