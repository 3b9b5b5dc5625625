//! What it costs that many visitors have several ids: the same question before and after.
//!
//! `cargo bench -p runnel --bench identities -- EVENTS` with a visitor in ten events, a tenth of which are identified as others; small by default, so that it
//! never rots.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at the first fault"
)]

use std::time::Duration;

use bytes::Bytes;
use runnel::{
    node::{Node, NodeOptions},
    target::{Wire, over},
};
use runnel_chassis::{Clock, clock::Stopwatch};
use runnel_client::{
    Client,
    proto::{
        funnel::v1::{FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request},
        identity::v1::{Identification, IdentifyRequest},
        query::v1::EventMatch,
    },
};
use runnel_model::{EventBatch, EventRef, TenantName};
use runnel_storage::Admitted;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START_MS: i64 = 1_767_225_600_000;
const NAMES: [&str; 6] = ["look", "cart", "checkout", "pay", "buy", "page_view"];
/// Events of a batch, and batches between compactions.
const BATCH: u64 = 10_000;
const SETTLED: u64 = 200;

fn main() {
    let events = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(50_000u64);
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run(events));
}

/// A number that looks random.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

async fn append(node: &Node, tenant: &TenantName, events: u64) {
    let visitors = events.div_ceil(10);
    for first in (0..events).step_by(BATCH as usize) {
        let mut batch = EventBatch::default();
        for at in first..(first + BATCH).min(events) {
            let (visitor, event_id) = (format!("visitor-{}", mixed(at) % visitors), format!("e{at}"));
            batch.push(&EventRef {
                visitor: &visitor,
                time_ms: START_MS + (mixed(at + events) % (30 * 86_400_000)) as i64,
                name: NAMES[(mixed(at + 2 * events) % 6) as usize],
                event_id: &event_id,
                sequence: 0,
                fields: &[],
                properties: &[],
            });
        }
        let admitted = Admitted::new(batch, None, Bytes::new()).unwrap();
        node.store().append(tenant, admitted, START_MS).await.unwrap();
        if (first / BATCH) % SETTLED == SETTLED - 1 {
            node.settle(tenant).await;
        }
    }
    node.settle(tenant).await;
}

/// The median of a funnel's time, and what it reached.
async fn ask(client: &Client<Wire>) -> (Duration, Vec<u64>) {
    let step = |name: &&str| Step {
        any_of: vec![EventMatch { event: (*name).to_owned(), ..EventMatch::default() }],
        ..Step::default()
    };
    let definition =
        FunnelDefinition { steps: NAMES[..5].iter().map(step).collect(), ..FunnelDefinition::default() };
    let request = QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        as_of_ms: Some(START_MS + 90 * 86_400_000),
        ..QueryFunnelRequest::default()
    };
    let (mut times, mut reached) = (Vec::new(), Vec::new());
    for _ in 0..21 {
        let watch = Stopwatch::start();
        let answer = client.funnel().query_funnel(request.clone()).await.unwrap().into_inner();
        times.push(watch.elapsed());
        reached = answer.steps.iter().map(|step| step.reached).collect();
    }
    times.sort_unstable();
    (times[10], reached)
}

async fn run(events: u64) {
    let folder = std::env::temp_dir().join(format!("runnel-identities-{}", std::process::id()));
    let node = Node::open(&folder, NodeOptions::default(), Clock::default()).await.unwrap();
    let tenant = TenantName::parse("shop").unwrap();
    node.ensure_tenant(&tenant).await.unwrap();
    let client = over(node.trusted(&tenant)).unwrap();
    append(&node, &tenant, events).await;
    let visitors = events.div_ceil(10);
    let (before, reached) = ask(&client).await;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("without              {:.2} ms for {visitors} visitors; reached {reached:?}", ms(before));
    let identification = |at: u64| Identification {
        anonymous_id: format!("visitor-{at}"),
        known_id: format!("visitor-{}", visitors / 2 + at),
        time_ms: Some(START_MS),
    };
    let identified = visitors / 10;
    let watch = Stopwatch::start();
    for first in (0..identified).step_by(1_000) {
        let some = (first..(first + 1_000).min(identified)).map(identification).collect();
        client.identity().identify(IdentifyRequest { identifications: some }).await.unwrap();
    }
    println!("identified           {identified} in {:.2} s", watch.elapsed().as_secs_f64());
    let watch = Stopwatch::start();
    drop(ask(&client).await);
    println!("taken in             {:.0} ms, with 21 questions", ms(watch.elapsed()));
    let (after, reached) = ask(&client).await;
    println!(
        "with                 {:.2} ms, {:.2}x; reached {reached:?}",
        ms(after),
        after.as_secs_f64() / before.as_secs_f64()
    );
    let mut times = Vec::new();
    for at in 0..50 {
        let one = vec![identification(identified + at)];
        client.identity().identify(IdentifyRequest { identifications: one }).await.unwrap();
        let watch = Stopwatch::start();
        let taken = node.journeys().at(&tenant, &Default::default()).await.unwrap();
        times.push(watch.elapsed());
        assert!(taken.people.version() > identified);
    }
    times.sort_unstable();
    println!("one more             taken in after {:.2} ms, {:.2} ms p98", ms(times[25]), ms(times[49]));
    assert_eq!(node.journeys().loads(), 1, "what is joined is not loaded anew");
    let (kept, reached) = ask(&client).await;
    node.close().await;
    let node = Node::open(&folder, NodeOptions::default(), Clock::default()).await.unwrap();
    let client = over(node.trusted(&tenant)).unwrap();
    let (fresh, again) = ask(&client).await;
    assert_eq!(reached, again);
    println!(
        "loaded anew          {:.2} ms, {:.2}x ({:.2} ms as kept)",
        ms(fresh),
        fresh.as_secs_f64() / before.as_secs_f64(),
        ms(kept)
    );
    node.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
}
