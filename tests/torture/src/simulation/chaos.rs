//! What goes wrong, one thing after the other.

use std::{sync::Arc, time::Duration};

use runnel_model::TenantName;
use runnel_storage::{CompactOptions, SimulatedFaults};
use tokio::time::sleep;

use super::{
    cluster::{Cluster, EACH, ROLES},
    network::Weather,
};
use crate::checker::Random;

const HOUR_MS: i64 = 3_600_000;

/// The network on a day with so many things going wrong, from 0 to 3.
fn weather(strength: u64) -> Weather {
    Weather {
        delay_ms: 5 + 20 * strength,
        request_lost: 15 * strength,
        response_lost: 25 * strength,
        doubled: 30 * strength,
        dropped: 25 * strength,
        cut: 60 * strength,
    }
}

/// The database on such a day.
fn faults(strength: u64) -> SimulatedFaults {
    let strength = strength as u32;
    SimulatedFaults {
        latency_ms: 2 + 2 * u64::from(strength),
        slow: 30 * strength,
        stalled: 3 * strength,
        lost_before: 20 * strength,
        lost_after: 20 * strength,
        refused: 15 * strength,
        commit_lost_before: 120 * strength,
        commit_lost_after: 150 * strength,
        commit_late: 15 * strength,
        commit_refused: 60 * strength,
    }
}

/// Lets things go wrong until it is stopped.
pub(super) async fn run(cluster: Arc<Cluster>, tenants: Vec<TenantName>, mut random: Random) {
    let mut storm = 1;
    loop {
        cluster.network.set_weather(weather(storm));
        cluster.database.set_faults(faults(storm));
        sleep(Duration::from_millis(100 + random.below(900))).await;
        let (at, down) =
            (random.below((ROLES.len() * EACH) as u64) as usize, Duration::from_millis(random.below(1_500)));
        match random.below(16) {
            0..=2 => {
                cluster.crash(at);
                restart_later(&cluster, at, down);
            }
            3 => {
                cluster.stop(at);
                restart_later(&cluster, at, down);
            }
            4 => {
                cluster.trace.counted("database restarts", format_args!("the database restarts"));
                cluster.database.restart(down);
            }
            5 | 6 => {
                let off_ms = random.below(12 * HOUR_MS as u64) as i64 - 6 * HOUR_MS;
                let off_ms = if random.below(3) == 0 { off_ms / 1_000 } else { off_ms };
                cluster.trace.counted("clocks off", format_args!("machine {at} is {off_ms} ms off"));
                cluster.skew(at, off_ms);
            }
            7 => {
                let days = 1 + random.below(20) as i64;
                cluster.trace.counted("days pass", format_args!("{days} days pass"));
                cluster.pass(days * 24 * HOUR_MS);
            }
            8 => {
                let role = ROLES[random.below(ROLES.len() as u64) as usize];
                cluster.trace.counted("partitions", format_args!("nobody reaches {role:?}"));
                cluster.network.part(Some(role));
                sleep(down).await;
                cluster.network.part(None);
            }
            9 | 10 => sweep(&cluster, &tenants, &mut random),
            11 => {
                let tenant = &tenants[random.below(tenants.len() as u64) as usize];
                compact(&cluster, tenant, random.below(2) == 0);
            }
            _ => {
                storm = random.below(4);
                cluster.trace.step(format_args!("the storm has strength {storm}"));
            }
        }
    }
}

fn restart_later(cluster: &Arc<Cluster>, at: usize, down: Duration) {
    let cluster = cluster.clone();
    tokio::spawn(async move {
        sleep(down).await;
        cluster.start_instance(at);
    });
}

/// The janitor sweeps, by a clock that may be wrong.
fn sweep(cluster: &Arc<Cluster>, tenants: &[TenantName], random: &mut Random) {
    let (cluster, ahead_ms) = (cluster.clone(), random.below(2 * HOUR_MS as u64) as i64);
    let tenants = tenants.len();
    cluster.trace.counted("sweeps", format_args!("the janitor of {tenants} tenants is {ahead_ms} ms ahead"));
    tokio::spawn(async move {
        let process = cluster.database.process();
        let swept = process.store().janitor(cluster.clock.now_ms() + ahead_ms).await;
        cluster.trace.step(format_args!("the janitor is done: {}", swept.is_ok()));
    });
}

/// Somebody compacts a tenant to the end, beside those who do so all the time, and may be killed meanwhile.
fn compact(cluster: &Arc<Cluster>, tenant: &TenantName, killed: bool) {
    let (cluster, tenant) = (cluster.clone(), tenant.clone());
    let options = CompactOptions { force: true, ..cluster.compaction() };
    let within = Duration::from_millis(cluster.compaction().step_events * 10);
    cluster.trace.counted("forced compactions", format_args!("{tenant} is compacted to the end"));
    tokio::spawn(async move {
        let process = cluster.database.process();
        let store = process.store();
        let now_ms = cluster.clock.now_ms();
        let compacting = tokio::spawn(async move { store.compact(&tenant, options, now_ms).await.is_ok() });
        if killed {
            sleep(within).await;
            process.kill();
        } else {
            let done = compacting.await;
            cluster.trace.step(format_args!("compacted to the end: {done:?}"));
        }
    });
}
