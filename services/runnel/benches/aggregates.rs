//! Weekly counts of two years over gRPC: from aggregates, and from journeys.
//!
//! `cargo bench -p runnel --bench aggregates -- EVENTS`, a visitor in ten events; small by default, so that it never rots.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at the first fault"
)]

use std::time::Duration;

use bytes::Bytes;
use runnel::{
    node::{Node, NodeOptions},
    target::over,
};
use runnel_chassis::{Clock, clock::Stopwatch, serve};
use runnel_client::{
    Client,
    proto::{
        catalog::v1::{ApplyCatalogRequest, FitTemplateRequest},
        insight::v1::{Interval, ListRestatementsRequest, QueryTrendRequest, QueryTrendResponse},
        query::v1::{Dimension, EventMatch, Selector, Split, selector::Column},
    },
};
use runnel_model::{EventBatch, EventRef, TenantName, ValueRef};
use runnel_storage::{Admitted, KeyKind};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 2024-01-01T00:00:00Z.
const START_MS: i64 = 1_704_067_200_000;
const DAYS: u64 = 730;
const NAMES: [&str; 6] = ["page_view", "view_item", "add_to_cart", "begin_checkout", "purchase", "search"];
const CHANNELS: [&str; 5] = ["Direct", "Organic Search", "Email", "Paid Search", "Referral"];
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

/// Journeys of ten events in two sessions, a visitor behind the other as they came first.
async fn append(node: &Node, tenant: &TenantName, events: u64) {
    let visitors = events.div_ceil(10);
    for first in (0..events).step_by(BATCH as usize) {
        let mut batch = EventBatch::default();
        for at in first..(first + BATCH).min(events) {
            let (number, step) = (at / 10, at % 10);
            let (visitor, event_id) = (format!("visitor-{number}"), format!("{number}-{step}"));
            let came_ms = number * (DAYS - 10) * 86_400_000 / visitors;
            let later_ms = if step < 5 { 0 } else { mixed(number) % (9 * 86_400_000) + 3_600_000 };
            let channel = CHANNELS[(mixed(number + step / 5) % 5) as usize];
            batch.push(&EventRef {
                visitor: &visitor,
                time_ms: START_MS + (came_ms + later_ms + step * 60_000) as i64,
                name: NAMES[(mixed(at) % 6) as usize],
                event_id: &event_id,
                sequence: 0,
                fields: &[],
                properties: &[("channel", ValueRef::String(channel))],
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

fn question(split: bool) -> QueryTrendRequest {
    let of = |name: &str| EventMatch { conversion: name.to_owned(), ..EventMatch::default() };
    let channel = Selector { column: Some(Column::Dimension(Dimension::Channel as i32)) };
    QueryTrendRequest {
        of: ["purchase", "cart"].map(of).into(),
        interval: Interval::Week as i32,
        split: split.then_some(Split { column: Some(channel), top: 20 }),
        buckets_only: true,
        ..QueryTrendRequest::default()
    }
}

async fn run(events: u64) {
    let folder = std::env::temp_dir().join(format!("runnel-aggregates-{}", std::process::id()));
    let node = Node::open(&folder, NodeOptions::default(), Clock::default()).await.unwrap();
    let tenant = TenantName::parse("shop").unwrap();
    node.ensure_tenant(&tenant).await.unwrap();
    let local = over(node.trusted(&tenant)).unwrap();
    let watch = Stopwatch::start();
    append(&node, &tenant, events).await;
    println!("stored               {events} events in {:.0} s", watch.elapsed().as_secs_f64());
    let request = FitTemplateRequest { template: "shop".to_owned() };
    let document = local.catalog().fit_template(request).await.unwrap().into_inner().document;
    let conversions = document.as_ref().map_or(0, |document| document.conversions.len());
    let request = ApplyCatalogRequest { document, ..ApplyCatalogRequest::default() };
    local.catalog().apply_catalog(request).await.unwrap();
    let watch = Stopwatch::start();
    local.insight().list_restatements(ListRestatementsRequest::default()).await.unwrap();
    println!(
        "made                 aggregates of {conversions} conversions in {:.1} s",
        watch.elapsed().as_secs_f64()
    );

    let listener = serve::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving =
        tokio::spawn(serve::serve(listener, node.edge(), serve::ServeOptions::default(), async move {
            drop(stopped.await)
        }));
    let key = node.keys().create(&tenant, KeyKind::Read, "bench", None, node.clock().now_ms()).await.unwrap();
    let reader = Client::connect(&endpoint, key.0.reveal()).await.unwrap();
    let ask = async |request: QueryTrendRequest| -> (QueryTrendResponse, Duration) {
        let watch = Stopwatch::start();
        let answer = reader.insight().query_trend(request).await.unwrap().into_inner();
        (answer, watch.elapsed())
    };
    for split in [false, true] {
        let mut times = Vec::new();
        let mut kept = QueryTrendResponse::default();
        for _ in 0..1_000 {
            let (answer, took) = ask(question(split)).await;
            assert!(answer.aggregated);
            kept = answer;
            times.push(took);
        }
        times.sort_unstable();
        let as_of_ms = kept.provenance.as_ref().map(|provenance| provenance.as_of_ms);
        let (fresh, took) = ask(QueryTrendRequest { as_of_ms, ..question(split) }).await;
        assert_eq!(kept.series, fresh.series);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "weekly{}   {:.2} ms median, {:.2} ms p99 from aggregates; {:.0} ms from journeys; {} weeks, {} rows, equal",
            if split { ", by channel" } else { "            " },
            ms(times[500]),
            ms(times[990]),
            ms(took),
            kept.buckets.len(),
            kept.series.len()
        );
    }
    drop(stop);
    serving.await.unwrap().unwrap();
    node.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
}
