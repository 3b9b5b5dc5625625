//! The product from end to end on one machine: import, disk, memory, answers over gRPC beside the kernel's own time, and both under load.
//!
//! `cargo bench -p runnel --bench product -- EVENTS`; small by default, so that it never rots.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at the first fault"
)]

use std::{
    io::BufWriter,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use runnel::{
    import::{self, ImportArgs},
    node::{Node, NodeOptions},
    target::over,
};
use runnel_chassis::{Clock, clock::Stopwatch, serve};
use runnel_client::{
    Client,
    proto::{
        event::v1::Event,
        funnel::v1::{BreakDown, FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request},
        query::v1::{EventMatch, Selector, selector::Column},
    },
};
use runnel_journeys::ColumnsFor;
use runnel_kernel::{Plan, Question};
use runnel_model::TenantName;
use runnel_simulate::{Config, FUNNEL, FUNNEL_WINDOW_MS, Shop, write_csv};
use runnel_storage::KeyKind;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The options of an import, as the command line has them.
#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    import: ImportArgs,
}

/// Events a second of the load under which answers are measured.
const LOAD: u64 = 20_000;

fn main() {
    let events = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(20_000u64);
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run(events));
}

fn quantile(times: &mut [Duration], p: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * p) as usize]
}

fn question(as_of_ms: i64, by: bool) -> QueryFunnelRequest {
    let step = |name: runnel_simulate::Name| Step {
        any_of: vec![EventMatch { event: name.as_str().into(), ..EventMatch::default() }],
        ..Step::default()
    };
    let definition = FunnelDefinition {
        steps: FUNNEL.map(step).into(),
        window_ms: Some(FUNNEL_WINDOW_MS),
        ..FunnelDefinition::default()
    };
    let column = Some(Selector { column: Some(Column::Property("channel".into())) });
    QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        as_of_ms: Some(as_of_ms),
        break_down: by.then(|| BreakDown { column, ..BreakDown::default() }),
        ..QueryFunnelRequest::default()
    }
}

async fn run(events: u64) {
    let folder = std::env::temp_dir().join(format!("runnel-product-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let config = Config::shop(1, (events / 10).max(10));
    let as_of_ms = config.start_ms + i64::from(config.days + 30) * 86_400_000;
    let file = folder.join("events.csv");
    let shop = Shop::new(config).unwrap();
    let mut out = BufWriter::new(std::fs::File::create(&file).unwrap());
    write_csv(&mut out, shop.deliveries().map(|delivery| delivery.event)).unwrap();
    drop(out);

    let node = Node::open(&folder.join("data"), NodeOptions::default(), Clock::default()).await.unwrap();
    let tenant = TenantName::parse("shop").unwrap();
    node.ensure_tenant(&tenant).await.unwrap();
    let client = over(node.trusted(&tenant)).unwrap();
    let watch = Stopwatch::start();
    let summary =
        import::run(&Arguments::parse_from(["import".as_ref(), file.as_os_str()]).import, &client, false)
            .await
            .unwrap();
    let sent = watch.elapsed();
    node.settle(&tenant).await;
    let settled = watch.elapsed();
    let rows = summary.accepted;
    println!(
        "import               {rows} events in {:.2} s, {:.0} events/s; {:.0} events/s with compaction to the end",
        sent.as_secs_f64(),
        rows as f64 / sent.as_secs_f64(),
        rows as f64 / settled.as_secs_f64()
    );
    std::fs::remove_file(&file).unwrap();

    let stats = node.store().stats(&tenant).await.unwrap();
    let ids: u64 =
        stats.columns.iter().filter(|column| column.name == "event_id").map(|column| column.bytes).sum();
    println!(
        "on disk              {:.1} bytes an event beside its id, {:.1} with it ({} blocks)",
        (stats.block_bytes - ids) as f64 / stats.block_events as f64,
        stats.block_bytes as f64 / stats.block_events as f64,
        stats.blocks
    );

    let listener = serve::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving =
        tokio::spawn(serve::serve(listener, node.edge(), serve::ServeOptions::default(), async move {
            drop(stopped.await)
        }));
    let key = |kind| node.keys().create(&tenant, kind, "bench", None, node.clock().now_ms());
    let reader = Client::connect(&endpoint, key(KeyKind::Read).await.unwrap().0.reveal()).await.unwrap();
    let writer = Client::connect(&endpoint, key(KeyKind::Write).await.unwrap().0.reveal()).await.unwrap();

    for by in [false, true] {
        let watch = Stopwatch::start();
        let answer = reader.funnel().query_funnel(question(as_of_ms, by)).await.unwrap().into_inner();
        println!(
            "first answer{}  {:.0} ms; reached {:?}",
            if by { ", by" } else { "    " },
            watch.elapsed().as_secs_f64() * 1e3,
            answer.steps.iter().map(|step| step.reached).collect::<Vec<_>>()
        );
        let mut warm = Vec::new();
        let mut kernel = Vec::new();
        for _ in 0..15 {
            let watch = Stopwatch::start();
            drop(reader.funnel().query_funnel(question(as_of_ms, by)).await.unwrap());
            warm.push(watch.elapsed());
            kernel.push(own_time(&node, &tenant, as_of_ms, by).await);
        }
        let (warm, own) =
            (quantile(&mut warm, 0.5).as_secs_f64() * 1e3, quantile(&mut kernel, 0.5).as_secs_f64() * 1e3);
        let per_event = own * 1e6 * node.journeys().pool().current_num_threads() as f64 / rows as f64;
        println!(
            "warm{}          {warm:.1} ms over gRPC, kernel {own:.1} ms, {:.2}x; {per_event:.2} ns an event and core",
            if by { ", by" } else { "    " },
            warm / own
        );
    }
    let loaded = node.journeys().at(&tenant, &ColumnsFor::default().selectors()).await.unwrap();
    println!(
        "in memory            {:.1} bytes an event for kind and time; {:.1} with visitors, offsets and one property",
        loaded.event_bytes() as f64 / loaded.events() as f64,
        loaded.memory() as f64 / loaded.events() as f64
    );
    drop(loaded);

    under_load(&reader, &writer, as_of_ms).await;
    drop(stop);
    serving.await.unwrap().unwrap();
    node.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The time that the kernel itself takes for the question, on the same threads.
async fn own_time(node: &Node, tenant: &TenantName, as_of_ms: i64, by: bool) -> Duration {
    let channel = runnel_model::Selector::property("channel");
    let needs = ColumnsFor { break_down: by.then_some(channel), ..ColumnsFor::default() };
    let loaded = node.journeys().at(tenant, &needs.selectors()).await.unwrap();
    let steps =
        FUNNEL.map(|name| runnel_kernel::Step::of_kind(loaded.names.find(name.as_str()).unwrap_or(u16::MAX)));
    let mut question = Question::new(steps.into(), FUNNEL_WINDOW_MS, i64::MIN / 4, as_of_ms, as_of_ms);
    question.break_down = by.then_some(runnel_kernel::BreakDown::AtStep(0));
    let plan = Plan::new(question).unwrap();
    let derived = needs.derive(&loaded, as_of_ms).unwrap();
    let pool = node.journeys().pool().clone();
    tokio::task::spawn_blocking(move || {
        let watch = Stopwatch::start();
        pool.install(|| derived.count(&loaded, &plan)).unwrap();
        watch.elapsed()
    })
    .await
    .unwrap()
}

/// Appends at a steady pace while questions are asked: how long an acknowledgement takes, and how long after it an answer holds the event.
async fn under_load(
    reader: &Client<tonic::transport::Channel>,
    writer: &Client<tonic::transport::Channel>,
    as_of_ms: i64,
) {
    let (going, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let batch = move |number: u64| -> Vec<Event> {
        let event = |at: u64| Event {
            visitor_id: format!("load-{}", (number * 500 + at) % 50_000),
            event_id: format!("load-{number}-{at}"),
            time_ms: Some(as_of_ms - 1_000_000 + (number * 500 + at) as i64 / 50),
            name: FUNNEL[(at % 6) as usize].as_str().into(),
            ..Event::default()
        };
        (0..500).map(event).collect()
    };
    let appending = tokio::spawn({
        let (writer, going, sent) = (writer.clone(), going.clone(), sent.clone());
        async move {
            let mut acks = Vec::new();
            let mut pace = tokio::time::interval(Duration::from_micros(500 * 1_000_000 / LOAD));
            while going.load(Ordering::Relaxed) {
                pace.tick().await;
                let watch = Stopwatch::start();
                writer.append(batch(sent.load(Ordering::Relaxed)), None).await.unwrap();
                acks.push(watch.elapsed());
                sent.fetch_add(1, Ordering::Relaxed);
            }
            acks
        }
    });
    let mut seen = Vec::new();
    let watch = Stopwatch::start();
    for number in 0..200u64 {
        let mark = Event {
            visitor_id: format!("mark-{number}"),
            time_ms: Some(as_of_ms - 1),
            name: FUNNEL[0].as_str().into(),
            ..Event::default()
        };
        let before = reader
            .funnel()
            .query_funnel(question(as_of_ms, false))
            .await
            .unwrap()
            .into_inner()
            .totals
            .unwrap()
            .entered;
        writer.append(vec![mark], None).await.unwrap();
        let acknowledged = Stopwatch::start();
        let after = reader
            .funnel()
            .query_funnel(question(as_of_ms, false))
            .await
            .unwrap()
            .into_inner()
            .totals
            .unwrap()
            .entered;
        seen.push(acknowledged.elapsed());
        assert!(after > before, "the event is in the answer");
    }
    going.store(false, Ordering::Relaxed);
    let mut acks = appending.await.unwrap();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "under load           {:.0} events/s: ack p50 {:.1} ms, p99 {:.1} ms; an event is in an answer {:.1} ms after its ack at p50, {:.1} ms at p99",
        sent.load(Ordering::Relaxed) as f64 * 500.0 / watch.elapsed().as_secs_f64(),
        ms(quantile(&mut acks, 0.5)),
        ms(quantile(&mut acks, 0.99)),
        ms(quantile(&mut seen, 0.5)),
        ms(quantile(&mut seen, 0.99))
    );
}
