//! Three times as many calls as can be answered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use runnel_chassis::clock::Stopwatch;

use crate::{
    World,
    events::{EVENTS, Template},
    load::{clients, load, processor, quantile},
    scrape,
};

/// Calls of the sender that may be under way; who would send more stands still.
const UNDER_WAY: usize = 2_000;

/// What became of calls at a pace.
#[derive(Debug, Default)]
struct Calls {
    accepted: Vec<Duration>,
    refused: Vec<Duration>,
    /// Those that the sender itself could not send in time.
    unsent: u64,
    /// Batches that were refused, to be sent again as they are.
    again: Vec<(Bytes, String)>,
}

pub(crate) async fn run(seconds: f64) {
    let world = World::start(false, &[("RUNNEL_OPS_LISTEN", "127.0.0.1:0")]).await;
    let (senders, next) = (clients(&world.deployment.endpoint, &world.write), Arc::new(AtomicU64::new(1)));
    drop(load(&senders, &next, (seconds / 10.0).min(3.0), None).await);
    let mut able = load(&senders, &next, (seconds / 3.0).clamp(1.0, 60.0), None).await;
    assert_eq!(able.refusal, None, "without overload");
    let usual = quantile(&mut able.acks, 0.99);
    println!(
        "able to              {:.0} events/s of {:.0} bytes, {EVENTS} in a batch; ack p99 {usual:.1} ms",
        able.rate(),
        Template::new().event_bytes()
    );
    let batches = able.rate() / EVENTS as f64;
    let before = (services(&world), processor(std::process::id()));
    let mut three = at_pace(&world, &next, 3.0 * batches, seconds).await;
    let spent = (services(&world) - before.0, processor(std::process::id()) - before.1);
    let goodput = three.accepted.len() as f64 / seconds / batches;
    println!(
        "three times as many  for {seconds:.0} s: {:.0} % of what it is able to; accepted p99 {:.1} ms, refused p50 {:.1} ms, p99 {:.1} ms; \
         {} accepted, {} refused, {} not sent; at most {:.0} MiB gateway, {:.0} MiB ingest",
        goodput * 100.0,
        quantile(&mut three.accepted, 0.99),
        quantile(&mut three.refused, 0.5),
        quantile(&mut three.refused, 0.99),
        three.accepted.len(),
        three.refused.len(),
        three.unsent,
        world.peak("gateway"),
        world.peak("ingest")
    );
    let (quick, all) = refused_at_the_gateway(&world);
    println!(
        "at the gateway       {:.2} % of {all} refusals within 5 ms; processors: {:.0} % the sender, {:.0} % gateway and ingest, the rest PostgreSQL",
        100.0 * quick / all.max(1.0),
        100.0 * spent.1 / seconds / cores(),
        100.0 * spent.0 / seconds / cores()
    );
    let calm = Stopwatch::start();
    let back = loop {
        let mut second = at_pace(&world, &next, batches / 2.0, 1.0).await;
        let now = quantile(&mut second.accepted, 0.99);
        if (second.refused.is_empty() && now <= usual.max(25.0)) || calm.elapsed().as_secs() > 60 {
            break calm.elapsed();
        }
    };
    println!("back to usual        after {:.1} s at half load", back.as_secs_f64());
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Seconds of processor time that the gateway and ingest took so far.
fn services(world: &World) -> f64 {
    ["gateway", "ingest"].iter().map(|name| processor(world.deployment.processes[*name].id())).sum()
}

/// Calls that the gateway refused, by its own clock: those that took 5 ms at most, and all.
fn refused_at_the_gateway(world: &World) -> (f64, f64) {
    let ops = world.deployment.processes["gateway"].ops.clone().unwrap();
    let numbers = scrape::numbers(&ops);
    let refusals = |end: &str| -> f64 {
        let bucket = |name: &&String| {
            name.starts_with("runnel_rpc_duration_seconds_bucket")
                && name.contains("RESOURCE_EXHAUSTED")
                && name.ends_with(end)
        };
        numbers.keys().filter(bucket).map(|name| numbers[name]).sum()
    };
    (refusals("le=\"0.005\"}"), refusals("le=\"+Inf\"}"))
}

/// Sends batches at a pace, whatever becomes of earlier ones.
async fn at_pace(world: &World, next: &Arc<AtomicU64>, batches: f64, seconds: f64) -> Calls {
    let senders = clients(&world.deployment.endpoint, &world.write);
    let calls = Arc::new(Mutex::new(Calls::default()));
    let room = Arc::new(tokio::sync::Semaphore::new(UNDER_WAY));
    let (watch, mut sent) = (Stopwatch::start(), 0u64);
    let (mut template, mut tasks) = (Template::new(), tokio::task::JoinSet::new());
    while watch.elapsed().as_secs_f64() < seconds {
        while (sent as f64) < watch.elapsed().as_secs_f64() * batches {
            sent += 1;
            let Ok(place) = room.clone().try_acquire_owned() else {
                calls.lock().unwrap().unsent += 1;
                continue;
            };
            let again = calls.lock().unwrap().again.pop();
            let (batch, id) = again.unwrap_or_else(|| template.batch(next.fetch_add(1, Ordering::Relaxed)));
            let (client, calls) = (senders[sent as usize % senders.len()].clone(), calls.clone());
            tasks.spawn(async move {
                let took = Stopwatch::start();
                let done = client.append_encoded(batch.clone(), &id).await;
                let mut calls = calls.lock().unwrap();
                match done {
                    Ok(_) => calls.accepted.push(took.elapsed()),
                    Err(_) => {
                        calls.refused.push(took.elapsed());
                        calls.again.push((batch, id));
                    }
                }
                drop(place);
            });
        }
        while tasks.try_join_next().is_some() {}
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while tasks.join_next().await.is_some() {}
    Arc::into_inner(calls).unwrap().into_inner().unwrap()
}
