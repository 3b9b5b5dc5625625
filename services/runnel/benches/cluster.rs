//! The services in processes of their own, over PostgreSQL with fsync: how many events a second become durable, what that costs, and what it is compared with.
//!
//! `cargo bench -p runnel --bench cluster -- EVENTS`; small by default, so that it never rots. From 20,000,000 on, the load lasts five minutes.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at the first fault"
)]

#[path = "cluster/ceilings.rs"]
mod ceilings;
#[path = "cluster/events.rs"]
mod events;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/walk.rs"]
mod walk;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_chassis::clock::Stopwatch;
use runnel_harness::{Deployment, Extra, Placement, Postgres};

use self::{
    events::{EVENTS, Template},
    load::{CALLS, CONNECTIONS, clients, load, processor, quantile},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What compaction leaves in the journal where it keeps up, in megabytes.
const SETTLED: f64 = 16.0;
/// Events a second that two cores are meant to take, whatever more a machine can.
const AIM: f64 = 400_000.0;
/// As one would set it for a database that takes writes all day.
const SETTINGS: &str = "-c shared_buffers=1GB -c min_wal_size=8GB -c max_wal_size=8GB -c checkpoint_timeout=15min -c wal_buffers=64MB";

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(at) = words.iter().position(|word| word == "--server") {
        return runtime.block_on(ceilings::run(words[at + 1].clone()));
    }
    let events = words.iter().filter_map(|word| word.parse().ok()).next().unwrap_or(20_000u64);
    let seconds = if events >= 20_000_000 { 300.0 } else { (events as f64 / 200_000.0).max(1.0) };
    runtime.block_on(run(seconds));
}

/// Megabytes that wait for compaction.
fn waiting(server: &Postgres, deployment: &Deployment) -> f64 {
    let sum = "SELECT coalesce(sum(journal_bytes), 0) FROM heads";
    let bytes = server.sql(deployment.database().unwrap(), sum).unwrap();
    bytes.parse::<f64>().unwrap_or_default() / 1048576.0
}

/// Leaves as many segments to write the log into as a database has that has run for a while. A new one is filled with zeros first, for which commits wait.
fn fill_log(server: &Postgres, segments: usize) {
    let one = "SELECT pg_logical_emit_message(false, '', ''); SELECT pg_switch_wal();";
    let script = format!("{}CHECKPOINT;", one.repeat(segments));
    server.script("postgres", script.as_bytes()).unwrap();
}

/// Seconds of processor time of PostgreSQL's processes, those that ended included.
fn postgres_processor(server: &Postgres) -> f64 {
    let postmaster: u32 = server.postmaster().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{postmaster}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let own: f64 =
        behind_name.split_whitespace().skip(11).take(4).filter_map(|tick| tick.parse::<f64>().ok()).sum();
    let children = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (parent == postmaster).then(|| processor(pid))
    });
    own / 100.0 + children.sum::<f64>()
}

async fn run(seconds: f64) {
    let binary = std::env::var("RUNNEL_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_runnel").to_owned());
    let server = Arc::new(Postgres::start(SETTINGS).unwrap());
    fill_log(&server, (seconds * 10.0).min(520.0) as usize);
    let deployment = Deployment::start(Path::new(&binary), Placement::Split, Some(server.clone())).unwrap();
    let deployment = Arc::new(deployment);
    let (write, _) = deployment.tenant("shop").await.unwrap();
    let (senders, next) = (clients(&deployment.endpoint, &write), Arc::new(AtomicU64::new(1)));
    println!(
        "an event             {:.0} bytes on the wire, batches of {EVENTS}, {} calls under way",
        Template::new().event_bytes(),
        CONNECTIONS * CALLS
    );
    drop(load(&senders, &next, (seconds / 10.0).min(5.0), None).await);

    let pid = |name: &str| deployment.processes[name].id();
    let before = [
        processor(pid("gateway")),
        processor(pid("ingest")),
        postgres_processor(&server),
        processor(std::process::id()),
    ];
    let going = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let watching = tokio::task::spawn_blocking({
        let (server, deployment, going) = (server.clone(), deployment.clone(), going.clone());
        move || {
            let mut backlog = Vec::new();
            while going.load(Ordering::Relaxed) {
                backlog.push(waiting(&server, &deployment));
                std::thread::sleep(Duration::from_secs_f64((seconds / 30.0).clamp(0.2, 10.0)));
            }
            backlog
        }
    });
    let mut full = load(&senders, &next, seconds, None).await;
    going.store(false, Ordering::Relaxed);
    let after = [
        processor(pid("gateway")),
        processor(pid("ingest")),
        postgres_processor(&server),
        processor(std::process::id()),
    ];
    let backlog = watching.await.unwrap();
    let millions = full.events as f64 / 1e6;
    println!(
        "durable              {:.0} events/s for {:.0} s; ack p50 {:.1} ms, p99 {:.1} ms; {} calls refused",
        full.rate(),
        full.seconds,
        quantile(&mut full.acks, 0.5),
        quantile(&mut full.acks, 0.99),
        full.refused
    );
    if let Some(refusal) = &full.refusal {
        println!("one of them said     {refusal}");
    }
    let most = backlog.iter().copied().fold(0.0, f64::max);
    println!(
        "compaction           journal at most {most:.0} MiB, {:.0} MiB at the end",
        backlog.last().copied().unwrap_or_default()
    );
    for (at, name) in
        ["gateway", "ingest, compaction with it", "PostgreSQL", "sender"].into_iter().enumerate()
    {
        println!(
            "processor            {:.2} s per million events: {name}",
            (after[at] - before[at]) / millions
        );
    }
    // What the full load left to compaction is not part of half the load.
    let half = full.rate() / 2.0;
    let settling = Stopwatch::start();
    while waiting(&server, &deployment) > SETTLED && settling.elapsed().as_secs_f64() < seconds * 3.0 {
        drop(load(&senders, &next, 1.0, Some(half)).await);
    }
    println!("compaction           done {:.0} s later, at half load", settling.elapsed().as_secs_f64());
    for (what, pace) in [("at half load", half), ("at half of the aim", half.min(AIM / 2.0))] {
        let mut some = load(&senders, &next, (seconds / 2.0).clamp(2.0, 75.0), Some(pace)).await;
        println!(
            "{what:<20} {:.0} events/s: ack p50 {:.1} ms, p99 {:.1} ms; journal {:.0} MiB",
            some.rate(),
            quantile(&mut some.acks, 0.5),
            quantile(&mut some.acks, 0.99),
            waiting(&server, &deployment)
        );
    }
    drop(deployment);
    without_compaction(&binary, &server, seconds).await;

    let rows = ((full.rate() * seconds / 10.0) as u64).clamp(20_000, 2_000_000);
    println!(
        "row per event        {:.0} rows/s by COPY into PostgreSQL, indexed, one transaction per 1,000",
        copy(&server, rows)
    );
    drop(server);

    for (kind, what) in ceilings::KINDS {
        let (mut child, endpoint) = ceilings::start(kind);
        let target = clients(&endpoint, &write);
        drop(load(&target, &next, 0.3, None).await);
        let before = processor(child.id());
        let done = load(&target, &next, (seconds / 30.0).max(1.0), None).await;
        let cost = (processor(child.id()) - before) / (done.events as f64 / 1e6);
        println!("a server that        {what}: {cost:.2} s per million events, {:.0} events/s", done.rate());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// What ingest takes where compaction comes later, as where other processes compact.
async fn without_compaction(binary: &str, server: &Arc<Postgres>, seconds: f64) {
    let later = ("RUNNEL_COMPACT_AFTER_KB".to_owned(), "262144".to_owned());
    let extra = Extra { variables: vec![later], ..Extra::default() };
    let stores = Some(server.clone());
    let deployment = Deployment::start_with(Path::new(binary), Placement::Split, stores, &extra).unwrap();
    let (write, _) = deployment.tenant("shop").await.unwrap();
    let (senders, next) = (clients(&deployment.endpoint, &write), Arc::new(AtomicU64::new(1)));
    let pid = deployment.processes["ingest"].id();
    drop(load(&senders, &next, (seconds / 20.0).min(2.0), None).await);
    let before = processor(pid);
    let mut done = load(&senders, &next, (seconds / 10.0).clamp(1.0, 10.0), None).await;
    let cost = (processor(pid) - before) / (done.events as f64 / 1e6);
    println!(
        "compaction later     {:.0} events/s; ingest alone: {cost:.2} s per million events; ack p50 {:.1} ms, p99 {:.1} ms",
        done.rate(),
        quantile(&mut done.acks, 0.5),
        quantile(&mut done.acks, 0.99)
    );
}

/// Rows a second that COPY brings into a table with a row for each event, as many as a batch has in one transaction.
fn copy(server: &Postgres, rows: u64) -> f64 {
    let database = server.database().unwrap();
    let table = "CREATE TABLE events (tenant text, visitor text, time_ms bigint, event_id text, name text, channel text, device text, \
                 product text, price double precision, quantity bigint, PRIMARY KEY (tenant, visitor, time_ms, event_id)); \
                 CREATE INDEX ON events (tenant, time_ms)";
    server.sql(&database, table).unwrap();
    let mut statements = Vec::new();
    for number in 0..rows.div_ceil(EVENTS as u64) {
        statements.extend_from_slice(b"COPY events FROM STDIN;\n");
        for at in 0..EVENTS as u64 {
            let event = number * EVENTS as u64 + at;
            let visitor = event.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 2_000_000;
            let line = format!(
                "shop\tvisitor-{visitor:012}\t{}\t01998b5e-9d00-7000-8000-{event:012}\tview_item\torganic\tphone\tp-{:04}\t9.99\t1\n",
                1_790_000_000_000u64 + event / 250,
                event % 3_000
            );
            statements.extend_from_slice(line.as_bytes());
        }
        statements.extend_from_slice(b"\\.\n");
    }
    let watch = Stopwatch::start();
    server.script(&database, &statements).unwrap();
    rows as f64 / watch.elapsed().as_secs_f64()
}
