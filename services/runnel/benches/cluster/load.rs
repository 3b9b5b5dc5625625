//! A load of batches, and what it took.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_chassis::clock::Stopwatch;
use runnel_client::{Client, RetryPolicy};
use tokio::time::Instant;
use tonic::transport::Channel;

use super::events::{EVENTS, Template};

/// Connections of the sender, and calls under way on each.
pub(crate) const CONNECTIONS: u64 = 2;
pub(crate) const CALLS: u64 = 8;
/// Seconds of processor time that a process took so far.
pub(crate) fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> =
        behind_name.split_whitespace().skip(11).take(2).filter_map(|tick| tick.parse().ok()).collect();
    ticks.iter().sum::<f64>() / 100.0
}

/// A quantile of durations, in milliseconds.
pub(crate) fn quantile(times: &mut [Duration], p: f64) -> f64 {
    times.sort_unstable();
    times.get(((times.len().max(1) - 1) as f64 * p) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// What a load did.
pub(crate) struct Load {
    pub(crate) events: u64,
    pub(crate) seconds: f64,
    pub(crate) acks: Vec<Duration>,
    pub(crate) refused: u64,
    /// What one of them said.
    pub(crate) refusal: Option<String>,
}

impl Load {
    /// Events a second.
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// Sends batches for a while: as fast as they are acknowledged, or at a pace in events a second, whether or not earlier ones were.
pub(crate) async fn load(
    clients: &[Client<Channel>],
    next: &Arc<AtomicU64>,
    seconds: f64,
    pace: Option<f64>,
) -> Load {
    let watch = Stopwatch::start();
    let senders: Vec<_> = (0..CONNECTIONS * CALLS)
        .map(|sender| {
            let (client, next) = (clients[(sender % CONNECTIONS) as usize].clone(), next.clone());
            tokio::spawn(async move {
                let (mut template, mut acks, mut refused) = (Template::new(), Vec::new(), Vec::new());
                let round = (CONNECTIONS * CALLS * EVENTS as u64) as f64;
                let each = pace.map_or(Duration::from_secs(1), |pace| Duration::from_secs_f64(round / pace));
                // Not all at once, neither now nor later.
                let first = each.mul_f64(sender as f64 / (CONNECTIONS * CALLS) as f64);
                let mut ticks = tokio::time::interval_at(Instant::now() + first, each);
                while watch.elapsed().as_secs_f64() < seconds {
                    if pace.is_some() {
                        ticks.tick().await;
                    }
                    let (batch, id) = template.batch(next.fetch_add(1, Ordering::Relaxed));
                    let sent = Stopwatch::start();
                    match client.append_encoded(batch, &id).await {
                        Ok(_) => acks.push(sent.elapsed()),
                        Err(error) => refused.push(error.to_string()),
                    }
                }
                (acks, refused)
            })
        })
        .collect();
    let (mut acks, mut refused) = (Vec::new(), Vec::new());
    for sender in senders {
        let (more, failed) = sender.await.unwrap();
        acks.extend(more);
        refused.extend(failed);
    }
    let (events, seconds) = (acks.len() as u64 * EVENTS as u64, watch.elapsed().as_secs_f64());
    Load { events, seconds, acks, refused: refused.len() as u64, refusal: refused.pop() }
}

/// Clients with a connection each.
pub(crate) fn clients(endpoint: &str, key: &str) -> Vec<Client<Channel>> {
    let connect = |_| Client::connect_lazy(endpoint, key).unwrap().with_policy(RetryPolicy::never());
    (0..CONNECTIONS).map(connect).collect()
}
