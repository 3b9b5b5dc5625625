//! What a segment costs: a property, a count and a sequence, each alone and together, beside a funnel of the same steps.
//!
//! `cargo bench -p runnel --bench segments -- EVENTS`, with a visitor in ten events; small by default, so that it never rots.

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
        event::v1::{Value, value::Kind},
        funnel::v1::{FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request},
        query::v1::{Comparison, EventMatch, Operator, Selector, selector::Column},
        segmentation::v1::{
            Absent, Condition, Conditions, CountSegmentRequest, Happened, Has, Occurrence, Reached,
            SegmentDefinition, SegmentRef, WasMemberRequest, condition::Node as Asked, occurrence::What,
            reached, segment_ref,
        },
    },
};
use runnel_model::{EventBatch, EventRef, TenantName, ValueRef};
use runnel_storage::Admitted;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START_MS: i64 = 1_767_225_600_000;
const DAY_MS: i64 = 86_400_000;
const AS_OF_MS: i64 = START_MS + 29 * DAY_MS;
const NAMES: [&str; 6] = ["look", "cart", "checkout", "pay", "buy", "page_view"];
const PLANS: [&str; 4] = ["free", "basic", "pro", "enterprise"];
/// Events of a batch, and batches between compactions.
const BATCH: u64 = 10_000;
const SETTLED: u64 = 200;
const ROUNDS: usize = 21;

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
            let plan = [("plan", ValueRef::String(PLANS[(mixed(at + 3 * events) % 4) as usize]))];
            batch.push(&EventRef {
                visitor: &visitor,
                time_ms: START_MS + (mixed(at + events) % (30 * DAY_MS as u64)) as i64,
                name: NAMES[(mixed(at + 2 * events) % 6) as usize],
                event_id: &event_id,
                sequence: 0,
                fields: &[],
                properties: if at % 3 == 0 { &plan } else { &[] },
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

fn event(name: &str) -> EventMatch {
    EventMatch { event: name.to_owned(), ..EventMatch::default() }
}

fn occurrence(name: &str) -> Vec<Occurrence> {
    vec![Occurrence { what: Some(What::Event(event(name))) }]
}

fn way() -> FunnelDefinition {
    let step = |name: &str| Step { any_of: vec![event(name)], ..Step::default() };
    FunnelDefinition { steps: ["look", "cart", "pay"].map(step).to_vec(), ..FunnelDefinition::default() }
}

fn node(asked: Asked) -> Condition {
    Condition { node: Some(asked) }
}

fn conditions() -> Vec<(&'static str, Condition)> {
    let plan = Comparison {
        column: Some(Selector { column: Some(Column::Property("plan".to_owned())) }),
        operator: Operator::Equal as i32,
        values: vec![Value { kind: Some(Kind::StringValue("pro".to_owned())) }],
    };
    let property = node(Asked::Has(Has { value: Some(plan), touch: 0 }));
    let count = node(Asked::Happened(Happened {
        any_of: occurrence("look"),
        at_least: Some(2),
        within_ms: Some(14 * DAY_MS),
        ..Happened::default()
    }));
    let sequence = node(Asked::Reached(Box::new(Reached {
        funnel: Some(reached::Funnel::Inline(way())),
        ..Reached::default()
    })));
    let absence = node(Asked::Absent(Absent {
        after: occurrence("cart"),
        without: occurrence("buy"),
        for_ms: DAY_MS,
        within_ms: None,
    }));
    let all = Conditions { parts: vec![property.clone(), count.clone(), sequence.clone()] };
    vec![
        ("property", property),
        ("count in 14 days", count),
        ("absence", absence),
        ("sequence", sequence),
        ("property, count, sequence", node(Asked::All(all))),
    ]
}

/// The median of some times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn count(client: &Client<Wire>, condition: Condition) -> (Duration, u64) {
    let definition = SegmentDefinition { condition: Some(condition), ..SegmentDefinition::default() };
    let segment = Some(SegmentRef { segment: Some(segment_ref::Segment::Inline(definition)) });
    let request = CountSegmentRequest { segment, as_of_ms: Some(AS_OF_MS) };
    let (mut times, mut members) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let watch = Stopwatch::start();
        members = client.segmentation().count_segment(request.clone()).await.unwrap().into_inner().members;
        times.push(watch.elapsed());
    }
    (median(times), members)
}

async fn run(events: u64) {
    let folder = std::env::temp_dir().join(format!("runnel-segments-{}", std::process::id()));
    let node_of = Node::open(&folder, NodeOptions::default(), Clock::default()).await.unwrap();
    let tenant = TenantName::parse("shop").unwrap();
    node_of.ensure_tenant(&tenant).await.unwrap();
    let client = over(node_of.trusted(&tenant)).unwrap();
    append(&node_of, &tenant, events).await;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let told = |what: &str, time: Duration, found: u64| {
        let each = time.as_secs_f64() * 1e9 * cores as f64 / events as f64;
        println!(
            "{what:<28} {:>9.2} ms  {each:>6.2} ns an event and core  {found}",
            time.as_secs_f64() * 1e3
        );
    };
    println!("{events} events, {cores} cores");
    let mut times = Vec::new();
    let mut reached = 0;
    for _ in 0..ROUNDS {
        let request = QueryFunnelRequest {
            funnel: Some(query_funnel_request::Funnel::Inline(way())),
            as_of_ms: Some(AS_OF_MS),
            ..QueryFunnelRequest::default()
        };
        let watch = Stopwatch::start();
        let answer = client.funnel().query_funnel(request).await.unwrap().into_inner();
        times.push(watch.elapsed());
        reached = answer.steps[2].reached;
    }
    told("a funnel of the same steps", median(times), reached);
    for (what, condition) in conditions() {
        let (time, members) = count(&client, condition).await;
        told(what, time, members);
        assert!(
            what != "sequence" || members == reached,
            "{members} members where {reached} reached the end"
        );
    }
    let definition =
        SegmentDefinition { condition: conditions().pop().map(|(_, all)| all), ..Default::default() };
    let segment = Some(SegmentRef { segment: Some(segment_ref::Segment::Inline(definition)) });
    let mut times = Vec::new();
    for at in 0..200 {
        let request = WasMemberRequest {
            segment: segment.clone(),
            visitor_id: format!("visitor-{}", mixed(at) % events.div_ceil(10)),
            at_ms: Some(AS_OF_MS),
        };
        let watch = Stopwatch::start();
        client.segmentation().was_member(request).await.unwrap();
        times.push(watch.elapsed());
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("one visitor                  {:>9.2} ms median, {:.2} ms p99", ms(times[100]), ms(times[198]));
    node_of.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
}
