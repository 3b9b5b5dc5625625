//! Stores that end and come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_chassis::clock::Stopwatch;
use tokio::time::sleep;

use crate::{
    World,
    events::Template,
    load::{clients, load, quantile},
};

pub(crate) async fn run(seconds: f64) {
    // Budgets are counted in Redis, though there is enough for everybody.
    let world = World::start(true, &[("RUNNEL_TENANT_EVENTS_PER_SECOND", "1000000000")]).await;
    let (senders, next) = (clients(&world.deployment.endpoint, &world.write), Arc::new(AtomicU64::new(1)));
    let each = (seconds / 10.0).clamp(1.0, 20.0);
    drop(load(&senders, &next, each.min(3.0), None).await);
    let pace = load(&senders, &next, each, None).await.rate() / 2.0;
    if let Some(redis) = &world.redis {
        let mut with = load(&senders, &next, each, Some(pace)).await;
        redis.signal("STOP").unwrap();
        let mut without = load(&senders, &next, each, Some(pace)).await;
        redis.signal("CONT").unwrap();
        let (with_p99, without_p99) = (quantile(&mut with.acks, 0.99), quantile(&mut without.acks, 0.99));
        println!(
            "Redis stands still   ack p99 {with_p99:.1} ms with it, {without_p99:.1} ms without ({:+.1} ms); {} refused",
            without_p99 - with_p99,
            without.refused
        );
        let forgetting = {
            let redis = redis.clone();
            tokio::spawn(async move {
                loop {
                    redis.flush_all().unwrap();
                    sleep(Duration::from_secs(5)).await;
                }
            })
        };
        let mut forgotten = load(&senders, &next, each.max(6.0), Some(pace)).await;
        forgetting.abort();
        println!(
            "Redis forgets        everything every 5 s: ack p99 {:.1} ms; {} refused",
            quantile(&mut forgotten.acks, 0.99),
            forgotten.refused
        );
    }
    let mut first_acks = Vec::new();
    for _ in 0..if seconds > 5.0 { 5 } else { 1 } {
        world.postgres.stop_at_once().unwrap();
        sleep(Duration::from_secs(3)).await;
        world.postgres.start_again().unwrap();
        let watch = Stopwatch::start();
        let mut template = Template::new();
        while watch.elapsed() < Duration::from_secs(60) {
            let (batch, id) = template.batch(next.fetch_add(1, Ordering::Relaxed));
            if senders[0].append_encoded(batch, &id).await.is_ok() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        first_acks.push(watch.elapsed());
    }
    println!(
        "PostgreSQL restarted first ack {:.2} s after it answers again, at the longest",
        quantile(&mut first_acks, 1.0) / 1e3
    );
}
