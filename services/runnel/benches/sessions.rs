//! Open sessions on Redis: what a question takes, and how long it takes until hot state is whole again after everything was lost.
//!
//! `cargo bench -p runnel --bench sessions -- EVENTS` with a visitor in twenty events, each with an open session; small by default, so that it never rots.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at the first fault"
)]

use std::time::Duration;

use runnel::{
    node::{Node, NodeOptions},
    target::{Wire, over},
};
use runnel_chassis::{Clock, clock::Stopwatch};
use runnel_client::{
    Client,
    proto::{
        event::v1::Event,
        segmentation::v1::{
            CountOpenSessionsRequest, CountOpenSessionsResponse, OpenSessionsSource as Source,
        },
    },
};
use runnel_gateway::EdgeOptions;
use runnel_harness::{Redis, or_skip};
use runnel_model::TenantName;
use runnel_storage::{Hot, hot::HotOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of a batch.
const BATCH: u64 = 5_000;

fn main() {
    let events = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(200_000u64);
    let visitors = (events / 20).max(100);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for cluster in [false, true] {
        let redis = if cluster { Redis::cluster(3) } else { Redis::start(&[]) };
        if let Some(redis) = or_skip(redis).unwrap() {
            let name = if cluster { "a cluster of three" } else { "one server" };
            println!("{visitors} visitors with an open session, Redis: {name}");
            runtime.block_on(run(&redis, visitors));
        }
    }
}

async fn ask(client: &Client<Wire>) -> CountOpenSessionsResponse {
    client.segmentation().count_open_sessions(CountOpenSessionsRequest {}).await.unwrap().into_inner()
}

/// How long until an answer comes from hot state. All answers are looked at.
async fn until_hot(client: &Client<Wire>, visitors: u64) -> (Duration, Duration) {
    let watch = Stopwatch::start();
    let mut first = None;
    loop {
        let answer = ask(client).await;
        assert_eq!(answer.open_sessions, visitors);
        let first = *first.get_or_insert_with(|| watch.elapsed());
        if answer.source() == Source::Hot {
            return (first, watch.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn run(redis: &Redis, visitors: u64) {
    let folder = std::env::temp_dir().join(format!("runnel-sessions-{}", std::process::id()));
    let hot = Hot::open(&HotOptions::new(redis.url())).await.unwrap();
    let edge = EdgeOptions { hot, ..EdgeOptions::default() };
    let options = NodeOptions { edge, ..NodeOptions::default() };
    let node = Node::open(&folder, options, Clock::default()).await.unwrap();
    let tenant = TenantName::parse("shop").unwrap();
    node.ensure_tenant(&tenant).await.unwrap();
    let client = over(node.trusted(&tenant)).unwrap();
    let start_ms = node.clock().now_ms();
    let event = |at: u64| Event {
        visitor_id: format!("visitor-{at}"),
        name: "seen".into(),
        time_ms: Some(start_ms - (at % 60_000) as i64),
        ..Event::default()
    };
    for first in (0..visitors).step_by(BATCH as usize) {
        client.append((first..(first + BATCH).min(visitors)).map(event).collect(), None).await.unwrap();
    }
    let (first, whole) = until_hot(&client, visitors).await;
    println!("first answer         {:.2} s, from journeys that were loaded for it", first.as_secs_f64());
    println!("whole                {:.2} s after the first question", whole.as_secs_f64());
    for appending in [false, true] {
        let mut times = Vec::new();
        for number in 0..200u64 {
            if appending {
                client.append(vec![event(number * 7 % visitors)], None).await.unwrap();
            }
            let watch = Stopwatch::start();
            assert_eq!(ask(&client).await.open_sessions, visitors);
            times.push(watch.elapsed());
        }
        times.sort_unstable();
        let what = if appending { "right behind an append" } else { "with nothing new      " };
        let ms = |at: usize| times[at].as_secs_f64() * 1e3;
        println!("a question           {what} {:.1} ms median, {:.1} ms p99", ms(100), ms(198));
    }
    let memory: f64 = (0..redis.nodes())
        .map(|node| {
            let told = redis.cli(node, &["info", "memory"]).unwrap();
            let line = told.lines().find_map(|line| line.strip_prefix("used_memory:"));
            line.unwrap().trim().parse::<f64>().unwrap()
        })
        .sum();
    println!("memory of Redis      {:.0} bytes a visitor", memory / visitors as f64);
    redis.flush_all().unwrap();
    let (first, whole) = until_hot(&client, visitors).await;
    println!(
        "everything lost      right at once ({:.0} ms), whole again after {:.2} s, {:.2} s a million visitors",
        first.as_secs_f64() * 1e3,
        whole.as_secs_f64(),
        whole.as_secs_f64() * 1e6 / visitors as f64
    );
    node.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
}
