//! Calls whose callers go away: no answer reaches anybody but who asked.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use runnel_harness::Redis;
use runnel_storage::hot::{Hot, HotError, HotOptions, Sessions};

use super::{
    Random, cluster, server,
    sessions::{NOW, filled, seen},
    tenant,
};

const TENANTS: u64 = 50;

fn calls() -> u64 {
    std::env::var("RUNNEL_HOT_CANCELS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// Many tenants, each with a canary in everything that is answered: sequence, epoch and count are its own.
async fn cancelled(redis: &Redis) {
    // Short enough that calls also end by their deadline.
    let options = HotOptions { deadline: Duration::from_millis(300), ..HotOptions::new(redis.url()) };
    let hot = Hot::open(&options).await.unwrap();
    let patient = super::patient(redis).await;
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        let (name, visitors) = (tenant(), (0..number).map(|visitor| seen(visitor, NOW)).collect::<Vec<_>>());
        for shard in 0..4 {
            let shards = patient.sessions(&name, NOW, 0);
            shards.reset(shard, 1_000 + number, 5_000 + number, &visitors, NOW).await.unwrap();
        }
        tenants.push(hot.sessions(&name, NOW, 0));
    }
    let workers: Vec<_> =
        (0..8).map(|worker| tokio::spawn(work(tenants.clone(), Random(worker), calls() / 8))).collect();
    let (mut answered, mut dropped) = (0, 0);
    for worker in workers {
        let (some, others) = worker.await.unwrap();
        (answered, dropped) = (answered + some, dropped + others);
    }
    println!("{answered} answered, {dropped} cancelled");
    assert!(answered > calls() / 10, "{answered} answered, {dropped} cancelled");
    let last = filled(&patient, 7).await.count_all(NOW).await;
    assert!(last.into_iter().all(|count| count.unwrap().sequence == 7));
}

async fn work(tenants: Vec<Sessions>, mut random: Random, calls: u64) -> (u64, u64) {
    let (mut answered, mut dropped) = (0, 0);
    while dropped < calls {
        let number = random.below(TENANTS);
        let sessions = &tenants[number as usize];
        let call = sessions.count(random.below(4) as usize, NOW);
        // One in four is waited for, the others at most for a moment.
        let looks = if random.below(4) == 0 { u64::MAX } else { random.below(200) };
        match up_to(call, looks).await {
            None => dropped += 1,
            Some(Ok(count)) => {
                let told = (count.open, count.sequence, count.epoch);
                assert_eq!(told, (number, 5_000 + number, 1_000 + number), "the answer of somebody else");
                answered += 1;
            }
            // The machine is busy; so it is with every deadline.
            Some(Err(HotError::TimedOut { .. } | HotError::CircuitOpen { .. })) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Some(Err(other)) => panic!("{other:?}"),
        }
    }
    (answered, dropped)
}

/// What a future gives within so many looks; then it is dropped.
async fn up_to<F: Future>(future: F, looks: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..looks {
        if let Poll::Ready(value) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_calls_reach_nobody_else() {
    let Some(redis) = server() else { return };
    cancelled(redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_calls_reach_nobody_else_on_a_cluster() {
    let Some(redis) = cluster() else { return };
    cancelled(redis).await;
}
