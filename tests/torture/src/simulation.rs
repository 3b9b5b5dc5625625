//! Our whole system in one thread: clients, gateways, ingest, compaction and funnels over a network, clocks and a database that are made of a seed.
//!
//! What runs is what the product runs. What is simulated is what it stands on: time goes on when nobody has anything to do, messages take the ways that chance has
//! them take, processes end between any two of their steps, and the database does to transactions whatever a database may. One seed is one run, to the last step:
//! what went wrong once goes wrong again.

mod chaos;
mod cluster;
mod device;
mod events;
mod network;
mod panics;
mod settle;
mod trace;

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_client::Client;
use runnel_model::TenantName;
use runnel_storage::{Isolation, KeyKind, SimulatedDatabase, SimulatedFaults, SimulatedOptions};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    cluster::{Cluster, NOW_MS, keys},
    device::{Device, read},
    network::{Outside, Weather},
    settle::{Shop, settle},
    trace::Trace,
};
use crate::{
    checker::{Ledger, Random, days},
    followed::{Followers, Told},
};

/// How long it may take until everything is acknowledged once nothing breaks any more.
const RECOVERY: Duration = Duration::from_secs(120);

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The hash of all that happened, and how many steps it were.
    pub trace: (u64, u64),
    /// How often what happened, by kind.
    pub tally: BTreeMap<&'static str, u64>,
    /// Events that were acknowledged; all that were sent.
    pub events: u64,
    /// Calls of senders without an answer.
    pub unsure: u64,
    /// Reads that were checked while things broke.
    pub reads: u64,
    /// Commits of which whoever asked for them does not know whether they took place.
    pub ambiguous: u64,
}

/// A run in which something did not hold.
#[derive(Debug)]
pub struct Failure {
    /// What.
    pub what: String,
    /// The last steps before that.
    pub last: Vec<String>,
}

/// Everything that can happen in a run; over many runs, each of it does.
pub const KINDS: [&str; 38] = [
    "messages overtaken",
    "requests lost",
    "responses lost",
    "requests doubled",
    "handlers dropped",
    "callers gone",
    "nobody there",
    "partitions",
    "processes killed",
    "processes stopped",
    "database restarts",
    "clocks off",
    "days pass",
    "sweeps",
    "forced compactions",
    "requests repeated",
    "requests unanswered",
    "requests given up",
    "events sent again",
    "events refused",
    "contents altered",
    "senders restarted",
    "batchers",
    "batchers abandoned",
    "reads",
    "reads given up",
    "stored counts read",
    "changes told",
    "streams cut",
    "streams broken",
    "streams begun anew",
    "statements slow",
    "statements stalled",
    "statements lost",
    "statements refused",
    "commits lost",
    "commits late",
    "commits refused",
];

/// The longest that a run may take, by its own clock: many times what one does.
const LONGEST: Duration = Duration::from_secs(6 * 3_600);

thread_local! {
    /// Everything that is counted is counted on this thread, in the order in which it is asked for.
    static POOL: OnceCell<Arc<rayon::ThreadPool>> = const { OnceCell::new() };
}

fn pool() -> Arc<rayon::ThreadPool> {
    let build = || {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
        Arc::new(threads.build().unwrap())
    };
    POOL.with(|pool| pool.get_or_init(build).clone())
}

/// Runs a seed. A seed gives the same run whenever and wherever it is run.
pub fn run(seed: u64) -> Result<Outcome, Box<Failure>> {
    let trace = Arc::new(Trace::default());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let panicked = panics::begin();
    let running = async {
        tokio::select! {
            biased;
            outcome = simulate(seed, trace.clone()) => Some(outcome),
            // At once, while the steps that led there are the last ones.
            () = panicked.notified() => None,
            () = sleep(LONGEST) => panic!("the run does not end: somebody waits for what never comes"),
        }
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(running)));
    // A task that panicked fails the run whatever became of it: whoever waited for it may have asked again.
    let panics = panics::end();
    let failed = |what| Err(Box::new(Failure { what, last: trace.last() }));
    match ended {
        Ok(Some(outcome)) if panics.is_empty() => Ok(outcome),
        // What comes from another thread is told here only.
        Err(panic) if panics.is_empty() => failed(panics::said(&*panic)),
        _ => failed(panics.join("\n")),
    }
}

async fn simulate(seed: u64, trace: Arc<Trace>) -> Outcome {
    let mut random = Random(seed);
    let observer = trace.clone();
    let database = SimulatedDatabase::new(SimulatedOptions {
        seed: random.below(u64::MAX),
        now_ms: NOW_MS,
        isolation: Isolation::RepeatableRead,
        faults: SimulatedFaults::default(),
        observer: Some(Arc::new(move |what| observer.step(what))),
    });
    let cluster = Cluster::start(database, random.below(u64::MAX), trace.clone(), pool());
    let shops = [shop(&cluster, "shop").await, shop(&cluster, "other").await];
    let mut senders = JoinSet::new();
    for at in 0..4 {
        // The other tenant has one device, so that whatever comes to it from elsewhere shows.
        let shop = &shops[usize::from(at == 3)];
        let (client, ledger) = (shop.writer.clone(), shop.ledger.clone());
        let random = Random(random.below(u64::MAX));
        let device =
            Device::new(format!("{at}"), client, ledger, trace.clone(), cluster.clock.clone(), random);
        senders.spawn(device.run(12));
    }
    let mut others = JoinSet::new();
    for at in 0..3 {
        let shop = shops[usize::from(at == 2)].clone();
        let random = Random(random.below(u64::MAX));
        others.spawn(read(shop.writer, shop.reader, shop.ledger, trace.clone(), random));
    }
    let tenants = shops.iter().map(|shop| shop.tenant.clone()).collect();
    others.spawn(chaos::run(cluster.clone(), tenants, Random(random.below(u64::MAX))));
    all(&mut senders, &mut others, Duration::from_secs(20 + random.below(30))).await;
    trace.step(format_args!("nothing breaks any more"));
    cluster.database.set_faults(SimulatedFaults { latency_ms: 2, ..SimulatedFaults::default() });
    cluster.network.set_weather(Weather { delay_ms: 5, ..Weather::default() });
    others.abort_all();
    cluster.heal();
    // What was about to be restarted, or to be noticed, has been.
    sleep(Duration::from_secs(3)).await;
    cluster.heal();
    let quiet = all(&mut senders, &mut JoinSet::new(), RECOVERY).await;
    assert!(quiet, "everything is acknowledged soon after the last fault");
    // What was on its way has arrived.
    sleep(Duration::from_secs(60)).await;
    for shop in &shops {
        settle(&cluster, shop).await;
    }
    // By now everything has happened that was said to be about to.
    cluster.pass(3 * 24 * 3_600_000);
    for shop in &shops {
        days::settle(&shop.reader).await;
    }
    let sum = |count: fn(&Ledger) -> u64| shops.iter().map(|shop| count(&shop.ledger)).sum();
    let store = cluster.database.tally();
    let mut tally = trace.tally();
    let told = |count: fn(&Told) -> &AtomicU64| {
        shops.iter().map(|shop| count(&shop.told).load(Ordering::Relaxed)).sum()
    };
    tally.extend([
        ("changes told", told(|told| &told.changes)),
        ("streams broken", told(|told| &told.broken)),
        ("streams begun anew", told(|told| &told.resets)),
        ("statements slow", store.slow),
        ("statements stalled", store.stalled),
        ("statements lost", store.lost_before + store.lost_after),
        ("statements refused", store.refused),
        ("commits lost", store.commit_lost_before + store.commit_lost_after),
        ("commits late", store.commit_late),
        ("commits refused", store.commit_refused),
    ]);
    Outcome {
        trace: trace.digest(),
        tally,
        events: sum(|ledger| ledger.references().1.events()),
        unsure: sum(|ledger| ledger.unsure.load(Ordering::Relaxed)),
        reads: sum(|ledger| ledger.reads.load(Ordering::Relaxed)),
        ambiguous: store.commit_lost_before + store.commit_lost_after + store.commit_late,
    }
}

/// Waits until all senders are done, for so long at the most. Whoever finds that something does not hold ends the run. `false` when some are not done.
async fn all(senders: &mut JoinSet<()>, others: &mut JoinSet<()>, patience: Duration) -> bool {
    let ended = async {
        loop {
            tokio::select! {
                biased;
                Some(Err(error)) = others.join_next() => resume_unwind(error.into_panic()),
                ended = senders.join_next() => match ended {
                    Some(Ok(())) => {}
                    Some(Err(error)) => resume_unwind(error.into_panic()),
                    None => return,
                },
            }
        }
    };
    timeout(patience, ended).await.is_ok()
}

/// A tenant with keys.
async fn shop(cluster: &Arc<Cluster>, name: &str) -> Shop {
    let tenant = TenantName::parse(name).unwrap();
    let store = cluster.database.process().store();
    store.create_tenant(&tenant, NOW_MS).await.unwrap();
    let keys = keys(store);
    let client = async |kind| {
        let (key, _) = keys.create(&tenant, kind, "", None, NOW_MS).await.unwrap();
        Client::over(Outside(Arc::downgrade(cluster)), key.reveal()).unwrap()
    };
    let (writer, reader) = (client(KeyKind::Write).await, client(KeyKind::Read).await);
    days::define(&reader).await;
    let told = Arc::new(Told::default());
    let followers = Arc::new(Followers::start(&reader, &told));
    Shop { tenant, writer, reader, ledger: Arc::default(), followers, told }
}
