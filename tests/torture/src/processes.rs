//! Real processes and a real database: killed, stopped, restarted, at moments that a seed chooses.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_client::{Client, RetryPolicy, proto::event::v1::Event};
use runnel_harness::{Deployment, Placement, Postgres};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::checker::{Ledger, Random, STEPS, Seen};

/// Senders at a time.
const SENDERS: u64 = 4;
/// How long a call may take before its sender gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take until everything is acknowledged once nothing breaks any more.
const RECOVERY: Duration = Duration::from_secs(30);

/// The first instant of all events, in milliseconds since 1970.
const START_MS: i64 = 1_700_000_000_000;

/// The batch of a number: some visitors, each with a first event, and two thirds of them with further ones behind it.
fn batch(number: u64) -> Vec<Event> {
    let visitors = 1 + Random(number).below(60);
    let event = |visitor: u64, step: usize| Event {
        event_id: format!("{}-{number}-{visitor}", STEPS[step]),
        visitor_id: format!("v-{number}-{visitor}"),
        time_ms: Some(START_MS + (number * 1_000 + visitor) as i64 + step as i64 * 500),
        name: STEPS[step].into(),
        ..Event::default()
    };
    let steps = |visitor: u64| 0..=((number + visitor) % 3) as usize;
    (0..visitors).flat_map(|visitor| steps(visitor).map(move |step| event(visitor, step))).collect()
}

/// The numbers of batches: the next one, and those that had no answer.
#[derive(Debug, Default)]
struct Batches {
    next: AtomicU64,
    again: Mutex<Vec<u64>>,
}

impl Batches {
    /// The next batch to send: one without an answer, or a new one.
    fn next(&self, new: bool) -> Option<u64> {
        let again = self.again.lock().unwrap().pop();
        again.or_else(|| new.then(|| self.next.fetch_add(1, Ordering::SeqCst)))
    }

    fn again(&self, number: u64) {
        self.again.lock().unwrap().push(number);
    }
}

/// What became of a schedule.
#[derive(Debug)]
pub struct Outcome {
    /// Faults that were injected, in their order.
    pub faults: Vec<String>,
    /// Batches, all of them acknowledged in the end.
    pub batches: u64,
    /// Calls without an answer.
    pub unsure: u64,
    /// Reads that were checked while things broke.
    pub reads: u64,
}

/// Runs one schedule on empty stores. Panics where something does not hold.
pub async fn run(binary: &Path, placement: Placement, seed: u64, faults: u64) -> Outcome {
    let server = (placement != Placement::Folder).then(|| Arc::new(Postgres::start("").unwrap()));
    let mut deployment = Deployment::start(binary, placement, server.clone()).unwrap();
    let (write, read) = deployment.tenant("shop").await.unwrap();
    let (ledger, batches) = (Arc::new(Ledger::default()), Arc::new(Batches::default()));
    let (stop, quiet) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let endpoint = deployment.endpoint.clone();
    let connect = |key: &str| Client::connect_lazy(&endpoint, key).unwrap().with_policy(RetryPolicy::never());
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (client, ledger, batches) = (connect(&write), ledger.clone(), batches.clone());
            tokio::spawn(send(client, ledger, batches, stop.clone(), Random(seed.wrapping_mul(31) + sender)))
        })
        .collect();
    let reader = tokio::spawn({
        let (client, ledger, quiet) = (connect(&read), ledger.clone(), quiet.clone());
        async move {
            let mut seen = Seen::default();
            while !quiet.load(Ordering::Relaxed) {
                if timeout(PATIENCE, ledger.read(&client, &mut seen)).await.is_err() {
                    continue;
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let mut random = Random(seed);
    let mut injected = Vec::new();
    for _ in 0..faults {
        sleep(Duration::from_millis(50 + random.below(500))).await;
        injected.push(inject(&mut deployment, server.as_deref(), &mut random).await);
    }
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        timeout(RECOVERY, sender)
            .await
            .expect("everything is acknowledged soon after the last fault")
            .unwrap();
    }
    quiet.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    ledger.settle(&connect(&write), &connect(&read)).await;
    if let Some(server) = &server {
        let idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' \
                    AND state_change < clock_timestamp() - interval '1 second'";
        assert_eq!(server.sql("postgres", idle).unwrap(), "0", "I12");
    }
    Outcome {
        faults: injected,
        batches: batches.next.load(Ordering::SeqCst),
        unsure: ledger.unsure.load(Ordering::Relaxed),
        reads: ledger.reads.load(Ordering::Relaxed),
    }
}

/// Sends batches until told to stop and every one of them has its answer. Some are sent again though they have, as they were or in other batches.
async fn send(
    client: Client<Channel>,
    ledger: Arc<Ledger>,
    batches: Arc<Batches>,
    stop: Arc<AtomicBool>,
    mut random: Random,
) {
    let mut last = None;
    loop {
        let new = !stop.load(Ordering::Relaxed);
        let Some(number) = batches.next(new) else { return };
        let events = batch(number);
        ledger.send(&events);
        let sent = client.append(events.clone(), Some(format!("batch-{number}")));
        match timeout(PATIENCE, sent).await {
            Ok(Ok(_)) => {
                ledger.acknowledge(&events);
                match (random.below(10), last.replace(number)) {
                    (0, _) => {
                        let again = client.append(events, Some(format!("batch-{number}")));
                        if let Ok(Ok(again)) = timeout(PATIENCE, again).await {
                            assert!(again.response.repeated, "a repeated request is known");
                        }
                    }
                    (1, Some(before)) => {
                        let mixed = [events, batch(before)].concat();
                        let _ =
                            timeout(PATIENCE, client.append(mixed, Some(format!("mix-{number}-{before}"))))
                                .await;
                    }
                    _ => {}
                }
            }
            Ok(Err(error)) => {
                ledger.unsure(Some(error.refusal()));
                batches.again(number);
                sleep(Duration::from_millis(20)).await;
            }
            Err(_) => {
                ledger.unsure(None);
                batches.again(number);
            }
        }
    }
}

/// One fault, ended again before this returns. Says which.
async fn inject(deployment: &mut Deployment, server: Option<&Postgres>, random: &mut Random) -> String {
    let names: Vec<&'static str> = deployment.processes.keys().copied().collect();
    let name = names[random.below(names.len() as u64) as usize];
    let pause = Duration::from_millis(random.below(300));
    let process = deployment.processes.get_mut(name).unwrap();
    match (random.below(8), server) {
        (0, Some(server)) => {
            server.restart_at_once().unwrap();
            "PostgreSQL restarted at once".to_owned()
        }
        (1 | 2, Some(server)) => {
            let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> 'postgres' AND random() < 0.5";
            drop(server.sql("postgres", kill));
            "connections killed".to_owned()
        }
        (3, _) => {
            process.signal("STOP").unwrap();
            sleep(pause * 3).await;
            process.signal("CONT").unwrap();
            format!("{name} stopped for {} ms", pause.as_millis() * 3)
        }
        (4, _) => {
            process.signal("TERM").unwrap();
            assert!(process.wait().unwrap(), "{name} ends well when asked to");
            process.restart().unwrap();
            format!("{name} ended and started")
        }
        _ => {
            process.kill().unwrap();
            sleep(pause).await;
            process.restart().unwrap();
            format!("{name} killed, started after {} ms", pause.as_millis())
        }
    }
}
