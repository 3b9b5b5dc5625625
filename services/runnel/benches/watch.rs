//! What watching costs: from the acknowledgement of an event to the change at a watcher, how late a turn is told, what a thousand watchers cost ingest, and
//! how long one visitor takes to be asked for meanwhile.
//!
//! `cargo bench -p runnel --bench watch -- EVENTS`, with a visitor in ten events; small by default, so that it never rots. Three funnels and five segments are
//! watched while events come at a fixed rate; every batch has one visitor who was never there before, and many whose absence is due while it runs. Hot state lies on a
//! Redis server where there is one.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at the first fault"
)]

#[path = "watch/allocated.rs"]
mod allocated;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use runnel::{
    node::{Node, NodeOptions},
    target::{Wire, over},
};
use runnel_chassis::{Clock, clock::Stopwatch};
use runnel_client::{
    Client,
    proto::{
        event::v1::Event,
        funnel::v1::{DefineFunnelRequest, FunnelDefinition, Step},
        query::v1::EventMatch,
        segmentation::v1::{
            Absent, Condition, CountOpenSessionsRequest, DefineSegmentRequest, GetVisitorRequest,
            GetVisitorResponse, Happened, Occurrence, OpenSessionsSource, SegmentDefinition, SegmentRef,
            WatchFunnelRequest, WatchSegmentRequest, WatchedFunnel, condition::Node as Asked,
            occurrence::What, segment_ref, watched_funnel,
        },
    },
};
use runnel_gateway::EdgeOptions;
use runnel_harness::{Redis, or_skip};
use runnel_model::{EventBatch, EventRef, TenantName};
use runnel_storage::{Admitted, Hot, hot::HotOptions};

#[global_allocator]
static ALLOCATOR: allocated::Counting<mimalloc::MiMalloc> = allocated::Counting(mimalloc::MiMalloc);

const NAMES: [&str; 6] = ["look", "cart", "checkout", "pay", "buy", "page_view"];
/// Events of a batch while the tenant is filled, and batches between compactions.
const BATCH: u64 = 10_000;
const SETTLED: u64 = 200;
/// Events a second while it is measured, and batches a second.
const RATE: u64 = 20_000;
const BATCHES: u64 = 50;
/// Carts that were left so long ago are due.
const LEFT_MS: i64 = 30 * 60_000;
/// Watchers that slow ingest down, if they do.
const WATCHERS: usize = 1_000;

fn main() {
    let events = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(20_000u64);
    let seconds = if events < 1_000_000 { 3 } else { 30 };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run(events, seconds));
}

/// A number that looks random.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

/// How long before the tenant is filled a visitor puts something into the cart for the last time.
fn left_ago_ms(number: u64) -> i64 {
    (mixed(number) % LEFT_MS as u64) as i64
}

/// Fills the tenant: every visitor has put something into the cart within the last half an hour, so that each of them is due within the next.
async fn fill(node: &Node, tenant: &TenantName, events: u64, now_ms: i64) {
    let visitors = events.div_ceil(10);
    for first in (0..events).step_by(BATCH as usize) {
        let mut batch = EventBatch::default();
        for at in first..(first + BATCH).min(events) {
            let number = at % visitors;
            let last = at + visitors >= events;
            let ago_ms = match last {
                true => left_ago_ms(number),
                false => LEFT_MS + (mixed(at) % (14 * 86_400_000)) as i64,
            };
            batch.push(&EventRef {
                visitor: &format!("visitor-{number}"),
                time_ms: now_ms - ago_ms,
                name: if last { "cart" } else { NAMES[(mixed(at + events) % 6) as usize] },
                event_id: &format!("e{at}"),
                sequence: 0,
                fields: &[],
                properties: &[],
            });
        }
        let admitted = Admitted::new(batch, None, Bytes::new()).unwrap();
        node.store().append(tenant, admitted, now_ms).await.unwrap();
        if (first / BATCH) % SETTLED == SETTLED - 1 {
            node.settle(tenant).await;
        }
    }
    node.settle(tenant).await;
}

fn event_match(name: &str) -> EventMatch {
    EventMatch { event: name.to_owned(), ..EventMatch::default() }
}

fn occurrence(name: &str) -> Vec<Occurrence> {
    vec![Occurrence { what: Some(What::Event(event_match(name))) }]
}

fn steps(names: [&str; 3]) -> FunnelDefinition {
    let step = |name: &str| Step { any_of: vec![event_match(name)], ..Step::default() };
    FunnelDefinition { steps: names.map(step).to_vec(), ..FunnelDefinition::default() }
}

fn funnel(names: [&str; 3]) -> WatchFunnelRequest {
    let definition = steps(names);
    WatchFunnelRequest {
        funnel: Some(WatchedFunnel { funnel: Some(watched_funnel::Funnel::Inline(definition)) }),
        ..WatchFunnelRequest::default()
    }
}

fn of(condition: Asked) -> SegmentDefinition {
    SegmentDefinition { condition: Some(Condition { node: Some(condition) }), ..SegmentDefinition::default() }
}

fn segment(definition: SegmentDefinition) -> WatchSegmentRequest {
    let segment = Some(SegmentRef { segment: Some(segment_ref::Segment::Inline(definition)) });
    WatchSegmentRequest { segment, ..WatchSegmentRequest::default() }
}

fn absent() -> SegmentDefinition {
    let (after, without) = (occurrence("cart"), occurrence("pay"));
    of(Asked::Absent(Absent { after, without, for_ms: LEFT_MS, within_ms: None }))
}

fn happened(name: &str, at_least: u32, within_ms: Option<i64>) -> SegmentDefinition {
    let happened =
        Happened { any_of: occurrence(name), at_least: Some(at_least), within_ms, ..Happened::default() };
    of(Asked::Happened(happened))
}

/// The funnels that are watched and asked for, by name.
fn funnels() -> [(&'static str, [&'static str; 3]); 3] {
    [
        ("bought", ["look", "checkout", "buy"]),
        ("paid", ["cart", "checkout", "pay"]),
        ("carted", ["look", "cart", "buy"]),
    ]
}

/// The segments that are watched and asked for, by name. Whoever leaves a cart is in the first.
fn segments() -> [(&'static str, SegmentDefinition); 5] {
    [
        ("left", absent()),
        ("looked", happened("look", 1, None)),
        ("loyal", happened("buy", 2, None)),
        ("today", happened("look", 2, Some(86_400_000))),
        ("reading", happened("page_view", 3, Some(3_600_000))),
    ]
}

/// Saves them, so that they can be asked for by name.
async fn define(client: &Client<Wire>) {
    for (name, names) in funnels() {
        let definition = Some(steps(names));
        let request = DefineFunnelRequest { name: name.to_owned(), definition, expected_version: None };
        client.funnel().define_funnel(request).await.unwrap();
    }
    for (name, definition) in segments() {
        let definition = Some(definition);
        let request = DefineSegmentRequest { name: name.to_owned(), definition, expected_version: None };
        client.segmentation().define_segment(request).await.unwrap();
    }
}

/// Sends an event that only its id tells from one that there is, as the first repeat in real life does: from then on journeys have the ids of all events. Done when those
/// who watch have gone on from there.
async fn know_ids(client: &Client<Wire>, filled_ms: i64) {
    let event = Event {
        visitor_id: "visitor-0".to_owned(),
        name: "cart".to_owned(),
        event_id: "other".to_owned(),
        time_ms: Some(filled_ms - left_ago_ms(0)),
        ..Event::default()
    };
    client.append(vec![event], None).await.unwrap();
    client.watch_segment(segment(absent())).next().await.unwrap();
}

/// Asks for a visitor with everything that is watched.
async fn get(client: &Client<Wire>, number: u64) -> GetVisitorResponse {
    let request = GetVisitorRequest {
        visitor_id: format!("visitor-{number}"),
        segments: segments().map(|(name, _)| name.to_owned()).to_vec(),
        funnels: funnels().map(|(name, _)| name.to_owned()).to_vec(),
        ..GetVisitorRequest::default()
    };
    client.segmentation().get_visitor(request).await.unwrap().into_inner()
}

/// Asks for one visitor after the other until it is stopped; how long each took, in microseconds.
async fn ask(client: &Client<Wire>, visitors: u64, stop: &AtomicBool) -> Vec<i64> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let watch = Stopwatch::start();
        let answer = get(client, mixed(took.len() as u64) % visitors).await;
        took.push(watch.elapsed().as_micros() as i64);
        assert!(answer.events > 0 && answer.segments.len() == 5 && answer.funnels.len() == 3);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    took.sort_unstable();
    took
}

/// The value at a share of sorted numbers.
fn at(sorted: &[i64], share: f64) -> i64 {
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}

/// When visitors came, by name, and what was found of those who were told.
#[derive(Default)]
struct Seen {
    acknowledged: HashMap<String, i64>,
    entered: HashMap<String, i64>,
    turned: Vec<i64>,
}

/// Sends events at the rate, for so many seconds. Of each batch one event is a new visitor's.
async fn send(client: &Client<Wire>, seen: &Arc<Mutex<Seen>>, clock: &Clock, visitors: u64, seconds: u64) {
    let begun = tokio::time::Instant::now();
    let mut sending = tokio::task::JoinSet::new();
    for batch in 0..seconds * BATCHES {
        tokio::time::sleep_until(begun + Duration::from_millis(1_000 * batch / BATCHES)).await;
        let marker = format!("new-{batch}");
        let mut events = vec![Event {
            visitor_id: marker.clone(),
            name: "look".to_owned(),
            time_ms: Some(clock.now_ms()),
            ..Event::default()
        }];
        for at in 1..RATE / BATCHES {
            let number = mixed(batch * RATE + at);
            events.push(Event {
                visitor_id: format!("visitor-{}", number % visitors),
                name: NAMES[(number % 5) as usize].replace("cart", "page_view"),
                time_ms: Some(clock.now_ms()),
                ..Event::default()
            });
        }
        let (client, seen, clock) = (client.clone(), seen.clone(), clock.clone());
        sending.spawn(async move {
            client.append(events, None).await.unwrap();
            seen.lock().unwrap().acknowledged.insert(marker, clock.now_ms());
        });
    }
    while sending.join_next().await.is_some() {}
}

/// How fast a thousand batches of a thousand events are taken in, in events a second.
async fn flood(client: &Client<Wire>, clock: &Clock, visitors: u64, round: u64, batches: u64) -> f64 {
    let watch = Stopwatch::start();
    let mut sending = tokio::task::JoinSet::new();
    for batch in 0..batches {
        let events = (0..1_000).map(|at| {
            let number = mixed((round * batches + batch) * 1_000 + at);
            Event {
                visitor_id: format!("visitor-{}", number % visitors),
                name: "page_view".to_owned(),
                time_ms: Some(clock.now_ms()),
                ..Event::default()
            }
        });
        let (client, events) = (client.clone(), events.collect());
        sending.spawn(async move { drop(client.append(events, None).await.unwrap()) });
        while sending.len() >= 8 {
            sending.join_next().await;
        }
    }
    while sending.join_next().await.is_some() {}
    (batches * 1_000) as f64 / watch.elapsed().as_secs_f64()
}

async fn run(events: u64, seconds: u64) {
    let folder = std::env::temp_dir().join(format!("runnel-watch-{}", std::process::id()));
    let redis = or_skip(Redis::start(&[])).unwrap();
    let hot = match &redis {
        Some(redis) => Hot::open(&HotOptions::new(redis.url())).await.unwrap(),
        None => Hot::process(),
    };
    let edge = EdgeOptions { hot, ..EdgeOptions::default() };
    let options = NodeOptions { edge, ..NodeOptions::default() };
    let node = Node::open(&folder, options, Clock::default()).await.unwrap();
    let tenant = TenantName::parse("shop").unwrap();
    node.ensure_tenant(&tenant).await.unwrap();
    let (client, clock) = (over(node.trusted(&tenant)).unwrap(), node.clock().clone());
    let visitors = events.div_ceil(10);
    let filled_ms = clock.now_ms();
    fill(&node, &tenant, events, filled_ms).await;
    define(&client).await;
    println!(
        "{events} events of {visitors} visitors, each with a cart that is left within half an hour; hot state {}",
        if redis.is_some() { "on Redis" } else { "in the process" }
    );

    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut watching = tokio::task::JoinSet::new();
    let bare = allocated::bytes();
    let opening = Stopwatch::start();
    get(&client, 0).await;
    let first = opening.elapsed();
    let opening = Stopwatch::start();
    let mut ready = Vec::new();
    for (_, names) in funnels() {
        let mut watch = client.watch_funnel(funnel(names));
        watch.next().await.unwrap();
        let (seen, clock) = (seen.clone(), clock.clone());
        let (told, is_told) = tokio::sync::oneshot::channel::<()>();
        ready.push(told);
        watching.spawn(async move {
            tokio::pin!(is_told);
            loop {
                let message = tokio::select! {
                    message = watch.next() => message.unwrap(),
                    _ = &mut is_told => return,
                };
                let now_ms = clock.now_ms();
                let mut seen = seen.lock().unwrap();
                for change in message.changes {
                    if change.visitor_id.starts_with("new-") && change.before.is_none() {
                        seen.entered.entry(change.visitor_id).or_insert(now_ms);
                    }
                }
            }
        });
    }
    for (at, (_, definition)) in segments().into_iter().enumerate() {
        let mut watch = client.watch_segment(segment(definition));
        watch.next().await.unwrap();
        let (seen, clock) = (seen.clone(), clock.clone());
        let (told, is_told) = tokio::sync::oneshot::channel::<()>();
        ready.push(told);
        watching.spawn(async move {
            tokio::pin!(is_told);
            loop {
                let message = tokio::select! {
                    message = watch.next() => message.unwrap(),
                    _ = &mut is_told => return,
                };
                // Who was in the cart at an instant is due a millisecond after half an hour.
                let now_ms = clock.now_ms();
                if at == 0 {
                    let due = message.changes.iter().filter(|change| change.member).filter_map(|change| {
                        let number: u64 = change.visitor_id.strip_prefix("visitor-")?.parse().ok()?;
                        Some(now_ms - (filled_ms - left_ago_ms(number) + LEFT_MS + 1))
                    });
                    seen.lock().unwrap().turned.extend(due);
                }
            }
        });
    }
    println!(
        "until the first answer: {:.1} s, with journeys to be loaded; until all of them are watched: {:.1} s more",
        first.as_secs_f64(),
        opening.elapsed().as_secs_f64()
    );

    let anew = Stopwatch::start();
    know_ids(&client, filled_ms).await;
    println!("until journeys have the ids of all events: {:.1} s", anew.elapsed().as_secs_f64());
    let asked = Stopwatch::start();
    let open = client.segmentation().count_open_sessions(CountOpenSessionsRequest {}).await.unwrap();
    println!(
        "until hot state has the {} open sessions: {:.1} s",
        open.into_inner().open_sessions,
        asked.elapsed().as_secs_f64()
    );
    // What was due meanwhile is told late, and then is told.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = |bytes: usize| bytes as f64 / visitors as f64;
    let journeys = node.journeys().resident_bytes() as usize;
    let more = each(allocated::bytes().saturating_sub(bare + journeys));
    println!("in memory: {:.0} bytes a visitor of journeys, and {more:.0} to watch them", each(journeys));
    seen.lock().unwrap().turned.clear();

    let stop = AtomicBool::new(false);
    let pause = async {
        tokio::time::sleep(Duration::from_secs(seconds.min(5))).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (took, ()) = tokio::join!(ask(&client, visitors, &stop), pause);
    println!(
        "one visitor with all of them, while nothing comes in: {:.1} ms median, {:.1} ms p99, of {}",
        at(&took, 0.5) as f64 / 1e3,
        at(&took, 0.99) as f64 / 1e3,
        took.len()
    );

    let stop = AtomicBool::new(false);
    let sending = async {
        send(&client, &seen, &clock, visitors, seconds).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (took, ()) = tokio::join!(ask(&client, visitors, &stop), sending);
    let (mut delays, lost) = {
        let seen = seen.lock().unwrap();
        let delays = seen.acknowledged.iter();
        let delays =
            delays.filter_map(|(visitor, acknowledged)| Some(seen.entered.get(visitor)? - acknowledged));
        let delays: Vec<i64> = delays.collect();
        let lost = seen.acknowledged.len() - delays.len();
        (delays, lost)
    };
    delays.sort_unstable();
    println!(
        "from the acknowledgement to the change, at {RATE} events a second for {seconds} s: {} ms median, {} ms p99, {} ms longest, of {}",
        at(&delays, 0.5),
        at(&delays, 0.99),
        at(&delays, 1.0),
        delays.len()
    );
    assert_eq!(lost, 0, "every new visitor was told");
    let mut turned = std::mem::take(&mut seen.lock().unwrap().turned);
    turned.sort_unstable();
    println!(
        "{} carts were left meanwhile, of {visitors} that were due some time; told {} ms later, median, {} ms p99, {} ms longest",
        turned.len(),
        at(&turned, 0.5),
        at(&turned, 0.99),
        at(&turned, 1.0)
    );
    println!(
        "one visitor with all of them, beside that: {:.1} ms median, {:.1} ms p99, of {}",
        at(&took, 0.5) as f64 / 1e3,
        at(&took, 0.99) as f64 / 1e3,
        took.len()
    );
    let journeys = node.journeys().resident_bytes() as usize;
    let more = each(allocated::bytes().saturating_sub(bare + journeys));
    println!(
        "in memory after these {} events more: {:.0} bytes a visitor of journeys, and {more:.0} to watch them",
        RATE * seconds,
        each(journeys)
    );
    if let Some(redis) = &redis {
        let info = redis.cli(0, &["info", "memory"]).unwrap();
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        println!("in Redis: {:.0} bytes a visitor", each(used.unwrap()));
        let open = async || {
            let request = CountOpenSessionsRequest {};
            client.segmentation().count_open_sessions(request).await.unwrap().into_inner()
        };
        let known = open().await.open_sessions;
        redis.cli(0, &["flushall"]).unwrap();
        let forgotten = Stopwatch::start();
        let told = open().await.open_sessions;
        let at_once = forgotten.elapsed();
        while open().await.source() != OpenSessionsSource::Hot {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!(
            "Redis forgot {known} open sessions: the next answer, {told}, after {:.1} s, and everything there again after {:.1} s",
            at_once.as_secs_f64(),
            forgotten.elapsed().as_secs_f64()
        );
    }
    drop(ready);
    while watching.join_next().await.is_some() {}

    let (batches, rounds) = if events < 1_000_000 { (50, 1) } else { (1_000, 7) };
    // Each in turn begins: what changes as it goes on, changes both.
    let (mut without, mut with, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut rates = [0.0; 2];
        for turn in [round % 2, 1 - round % 2] {
            let mut crowd = tokio::task::JoinSet::new();
            for _ in 0..turn as usize * WATCHERS {
                let mut watch = client.watch_segment(segment(absent()));
                crowd.spawn(async move { while watch.next().await.is_ok() {} });
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            rates[turn as usize] = flood(&client, &clock, visitors, 2 * round + turn, batches).await;
            crowd.shutdown().await;
        }
        without.push(rates[0]);
        with.push(rates[1]);
        times.push(rates[1] / rates[0]);
    }
    let middle = |numbers: &mut Vec<f64>| {
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    println!(
        "ingest: {:.0} k events/s without watchers, {:.0} k with {WATCHERS} on one tenant: {:.3} times, of {rounds} pairs from {:.3} to {:.3}",
        middle(&mut without) / 1e3,
        middle(&mut with) / 1e3,
        middle(&mut times),
        times[0],
        times[times.len() - 1]
    );
    node.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
}
