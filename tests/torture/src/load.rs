//! Senders and readers of two tenants that go on whatever breaks, and check whatever they are told; and a third tenant, of whom people are erased.

mod batches;
mod erased;

use std::{
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use runnel_chassis::Clock;
use runnel_client::{Client, RetryPolicy};
use runnel_harness::{Deployment, HarnessError};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::transport::Channel;

use self::{
    batches::{Batch, Batches},
    erased::{ErasedKeys, Erasures},
};
use crate::{
    checker::{Ledger, Random, Seen},
    followed::{Followers, Told},
};

/// The tenants, and how many senders each has at a time. What comes to the smaller one from the larger shows.
const TENANTS: [(&str, u64); 2] = [("shop", 3), ("other", 1)];
/// How long a call may take before its sender gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take until everything is acknowledged once nothing breaks any more.
const RECOVERY: Duration = Duration::from_secs(60);
/// Every so many reads there is one of everything that shows whose events are.
const OWNERS_EVERY: u64 = 8;

/// What a load came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Batches, all of them acknowledged in the end.
    pub batches: u64,
    /// Calls without an answer.
    pub unsure: u64,
    /// Reads that were checked while things broke.
    pub reads: u64,
    /// Visitors whose steps lie in different batches.
    pub across: u64,
    /// Counts of open sessions that were checked while things broke, and were not 0.
    pub sessions: u64,
    /// Reads that were looked through for what is another tenant's.
    pub owners: u64,
    /// People who came and were erased.
    pub erased: u64,
    /// Changes that watchers were told of.
    pub changes: u64,
    /// Streams of watchers that broke.
    pub broken: u64,
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            batches: self.batches + other.batches,
            unsure: self.unsure + other.unsure,
            reads: self.reads + other.reads,
            across: self.across + other.across,
            sessions: self.sessions + other.sessions,
            owners: self.owners + other.owners,
            erased: self.erased + other.erased,
            changes: self.changes + other.changes,
            broken: self.broken + other.broken,
        }
    }
}

/// The keys of a tenant: for writing, for reading.
type Keys = (String, String);

/// The keys of all tenants.
#[derive(Debug, Clone)]
pub(crate) struct AllKeys {
    loads: [Keys; TENANTS.len()],
    erased: ErasedKeys,
}

impl AllKeys {
    /// Every key.
    pub(crate) fn all(&self) -> Vec<String> {
        let pairs = self.loads.iter().chain([&self.erased.keys]);
        let pairs = pairs.flat_map(|(write, read)| [write.clone(), read.clone()]);
        pairs.chain([self.erased.erase.clone()]).collect()
    }
}

/// Makes the tenants.
pub(crate) async fn tenants(deployment: &Deployment) -> Result<AllKeys, HarnessError> {
    let [(first, _), (second, _)] = TENANTS;
    let loads = [deployment.tenant(first).await?, deployment.tenant(second).await?];
    Ok(AllKeys { loads, erased: erased::tenant(deployment).await? })
}

/// A load on all tenants.
pub(crate) struct Load {
    loads: [TenantLoad; TENANTS.len()],
    erasures: Erasures,
}

impl Load {
    /// Begins. Calls go to `endpoint`.
    pub(crate) fn start(endpoint: &str, keys: &AllKeys, seed: u64) -> Load {
        let one = |at: usize| TenantLoad::start(endpoint, TENANTS[at], &keys.loads[at], seed + at as u64);
        Load { loads: std::array::from_fn(one), erasures: Erasures::start(endpoint, &keys.erased) }
    }

    /// Nothing breaks any more: waits until everything is acknowledged, and checks that exactly that is there.
    pub(crate) async fn settle(self) -> Tally {
        self.loads.iter().for_each(|load| load.stop.store(true, Ordering::Relaxed));
        let mut tally = Tally { erased: self.erasures.settle().await, ..Tally::default() };
        for load in self.loads {
            tally = tally + load.settle().await;
        }
        tally
    }
}

/// A load on one tenant.
struct TenantLoad {
    writer: Client<Channel>,
    reader: Client<Channel>,
    ledger: Arc<Ledger>,
    batches: Arc<Batches>,
    stop: Arc<AtomicBool>,
    quiet: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    reading: JoinHandle<()>,
    followers: Followers<Channel>,
    told: Arc<Told>,
}

impl TenantLoad {
    fn start(
        endpoint: &str,
        (tenant, senders): (&'static str, u64),
        (write, read): &Keys,
        seed: u64,
    ) -> TenantLoad {
        let connect =
            |key: &str| Client::connect_lazy(endpoint, key).unwrap().with_policy(RetryPolicy::never());
        let (writer, reader) = (connect(write), connect(read));
        let (ledger, batches) = (Arc::new(Ledger::default()), Arc::new(Batches::new(tenant)));
        let (stop, quiet) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let tasks = (0..senders)
            .map(|sender| {
                let random = Random(seed.wrapping_mul(31) + sender);
                tokio::spawn(send(connect(write), ledger.clone(), batches.clone(), stop.clone(), random))
            })
            .collect();
        let reading = tokio::spawn(watch(connect(read), tenant, ledger.clone(), quiet.clone()));
        let told = Arc::new(Told::default());
        let followers = Followers::start(&reader, &told);
        TenantLoad { writer, reader, ledger, batches, stop, quiet, tasks, reading, followers, told }
    }

    async fn settle(self) -> Tally {
        for task in self.tasks {
            timeout(RECOVERY, task)
                .await
                .expect("everything is acknowledged soon after the last fault")
                .unwrap();
        }
        self.quiet.store(true, Ordering::Relaxed);
        self.reading.await.unwrap();
        self.ledger.settle(&self.writer, &self.reader).await;
        self.ledger.settle_open(&self.reader, Clock::default().now_ms()).await;
        self.followers.settle(&self.ledger.references().1.reached()).await;
        Tally {
            batches: self.batches.made(),
            unsure: self.ledger.unsure.load(Ordering::Relaxed),
            reads: self.ledger.reads.load(Ordering::Relaxed),
            across: self.batches.across(),
            sessions: self.ledger.sessions.load(Ordering::Relaxed),
            owners: self.ledger.owners.load(Ordering::Relaxed),
            erased: 0,
            changes: self.told.changes.load(Ordering::Relaxed),
            broken: self.told.broken.load(Ordering::Relaxed),
        }
    }
}

/// Asks until all is quiet. An answer that does not come in time is checked by nobody.
async fn watch(client: Client<Channel>, tenant: &'static str, ledger: Arc<Ledger>, quiet: Arc<AtomicBool>) {
    let (mut seen, mut reads) = (Seen::default(), 0);
    while !quiet.load(Ordering::Relaxed) {
        if timeout(PATIENCE, ledger.read(&client, &mut seen)).await.is_err() {
            continue;
        }
        let _ = timeout(PATIENCE, ledger.read_open(&client, Clock::default().now_ms())).await;
        if reads % OWNERS_EVERY == 0 {
            let _ = timeout(PATIENCE, ledger.read_owners(&client, tenant)).await;
        }
        reads += 1;
        sleep(Duration::from_millis(10)).await;
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
    let (clock, mut last) = (Clock::default(), None);
    loop {
        let new = !stop.load(Ordering::Relaxed);
        let Some(batch) = batches.next(new, clock.now_ms()) else { return };
        let Batch { number, events } = batch.clone();
        ledger.send(&events);
        let sent = client.append(events, Some(format!("batch-{number}")));
        match timeout(PATIENCE, sent).await {
            Ok(Ok(sent)) => {
                assert_eq!(sent.response.rejected, 0, "nothing is wrong with what was sent");
                ledger.acknowledge(&batch.events);
                match (random.below(10), last.replace(batch.clone())) {
                    (0, _) => {
                        let again = client.append(batch.events, Some(format!("batch-{number}")));
                        if let Ok(Ok(again)) = timeout(PATIENCE, again).await {
                            assert!(again.response.repeated, "a repeated request is known");
                        }
                    }
                    (1, Some(before)) => {
                        let id = format!("mix-{number}-{}", before.number);
                        let mixed = [batch.events, before.events].concat();
                        let _ = timeout(PATIENCE, client.append(mixed, Some(id))).await;
                    }
                    _ => {}
                }
            }
            Ok(Err(error)) => {
                ledger.unsure(Some(error.refusal()));
                batches.again(batch);
                sleep(Duration::from_millis(20)).await;
            }
            Err(_) => {
                ledger.unsure(None);
                batches.again(batch);
            }
        }
    }
}
