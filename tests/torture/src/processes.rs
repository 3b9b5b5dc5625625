//! Real processes and real stores: killed, stopped, restarted, cut off, forgotten and filled, at moments that a seed chooses.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use runnel_harness::{
    Deployment, Extra, Fault, HarnessError, NO_DISK, Placement, Postgres, Proxy, Redis, Stores, or_skip,
};
use tokio::time::sleep;

use crate::{
    checker::Random,
    load::{Load, Tally, tenants},
    watch::{Transactions, gone, log, look_through, memory},
};

/// Where everything is, and what it runs on.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Which processes there are.
    pub placement: Placement,
    /// Where hot state is.
    pub hot: HotPlace,
    /// Whether the database has a small disk, which gets full.
    pub small_disk: bool,
}

/// Where hot state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HotPlace {
    /// In each process.
    Process,
    /// On one server.
    Redis,
    /// On a cluster of three.
    Cluster,
}

impl World {
    /// The world of a seed: over some seeds, each there is.
    #[must_use]
    pub fn of(seed: u64) -> World {
        let placement = match seed % 8 {
            0 => Placement::Folder,
            1 | 2 => Placement::Shared,
            _ => Placement::Split,
        };
        let hot = match (placement, seed % 3) {
            (Placement::Folder, _) => HotPlace::Process,
            (_, 0) => HotPlace::Redis,
            (_, 1) => HotPlace::Cluster,
            _ => HotPlace::Process,
        };
        World { placement, hot, small_disk: placement != Placement::Folder && seed % 5 == 4 }
    }
}

/// Megabytes of a small disk: PostgreSQL alone takes some 110 of them.
const SMALL_DISK: u32 = 320;

/// What became of a schedule.
#[derive(Debug)]
pub struct Outcome {
    /// Faults that were injected, in their order.
    pub faults: Vec<String>,
    /// What was sent and read meanwhile.
    pub tally: Tally,
    /// Connections that the proxies cut in the middle of something.
    pub cuts: u64,
    /// How often the connections of the database were looked at.
    pub looks: u64,
    /// The most memory that a process had, in KiB.
    pub memory_kib: u64,
}

/// What is there to break.
struct Target {
    deployment: Deployment,
    postgres: Option<Arc<Postgres>>,
    redis: Option<Arc<Redis>>,
    /// In front of the database.
    inside: Option<Proxy>,
    /// In front of the edge.
    outside: Proxy,
    /// Who looks at the connections of the database.
    transactions: Option<Transactions>,
}

/// A server for hot state, where one is wanted and there is the program.
pub(crate) fn redis(hot: HotPlace) -> Result<Option<Arc<Redis>>, HarnessError> {
    let server = match hot {
        HotPlace::Process => return Ok(None),
        HotPlace::Redis => Redis::start(&[]),
        HotPlace::Cluster => Redis::cluster(3),
    };
    Ok(or_skip(server)?.map(Arc::new))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// So that whatever is compacted is compacted while things break.
pub(crate) fn eager() -> Vec<(String, String)> {
    let variables = [("RUNNEL_COMPACT_AFTER_KB", "16"), ("RUNNEL_COMPACT_AFTER_SECONDS", "1")];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// Runs one schedule on empty stores. Panics where something does not hold.
pub async fn run(binary: &Path, world: World, seed: u64, faults: u64) -> Outcome {
    let log = log(&format!("seed-{seed}"));
    let mut target = Target::start(binary, world, &log).unwrap();
    let keys = tenants(&target.deployment).await.unwrap();
    let load = Load::start(&format!("http://{}", target.outside.address()), &keys, seed);
    let mut random = Random(seed);
    let (mut injected, mut memory_kib) = (Vec::new(), 0);
    for _ in 0..faults {
        sleep(Duration::from_millis(50 + random.below(500))).await;
        memory_kib = memory_kib.max(target.look());
        injected.push(target.inject(&mut random).await);
    }
    let tally = load.settle().await;
    memory_kib = memory_kib.max(target.look());
    let looks = target.transactions.take().map_or(0, Transactions::settle);
    look_through(&log, &keys.all());
    let cuts = target.outside.cuts() + target.inside.as_ref().map_or(0, Proxy::cuts);
    Outcome { faults: injected, tally, cuts, looks, memory_kib }
}

impl Target {
    fn start(binary: &Path, world: World, log: &Path) -> Result<Target, HarnessError> {
        let redis = redis(world.hot)?;
        let postgres = match (world.placement, world.small_disk) {
            (Placement::Folder, _) => None,
            (_, false) => Some(Arc::new(Postgres::start("")?)),
            (_, true) => match Postgres::start_on_small_disk(SMALL_DISK) {
                // Only root may make one; everybody else has everything but that fault.
                Err(HarnessError::Missing { what: NO_DISK }) => Some(Arc::new(Postgres::start("")?)),
                server => Some(Arc::new(server?)),
            },
        };
        let inside = postgres.as_ref().map(|server| Proxy::start(local(server.port()))).transpose()?;
        let stores = Stores {
            postgres: postgres.clone(),
            postgres_port: inside.as_ref().map(|proxy| proxy.address().port()),
            redis: redis.clone(),
        };
        let extra = Extra { variables: eager(), log: Some(log.to_owned()), ..Extra::default() };
        let deployment = Deployment::start_with(binary, world.placement, stores, &extra)?;
        let edge = deployment.endpoint.trim_start_matches("http://").parse();
        let edge: SocketAddr = edge.map_err(|_| HarnessError::Missing { what: "the address of the edge" })?;
        let transactions = postgres.clone().map(Transactions::watch);
        Ok(Target { deployment, postgres, redis, inside, outside: Proxy::start(edge)?, transactions })
    }

    /// Looks at all processes: each runs, since whatever ended it has started it again. The most memory that one had, in KiB.
    fn look(&mut self) -> u64 {
        assert_eq!(gone(&mut self.deployment), Vec::<&str>::new(), "nobody asked them to end");
        memory(&self.deployment)
    }

    /// One fault, ended again before this returns. Says which.
    async fn inject(&mut self, random: &mut Random) -> String {
        let pause = Duration::from_millis(random.below(300));
        match (random.below(16), self.postgres.clone(), self.redis.clone()) {
            (0, Some(server), _) => {
                server.restart_at_once().unwrap();
                "PostgreSQL restarted at once".to_owned()
            }
            (1 | 2, Some(server), _) => {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> 'postgres' AND random() < 0.5";
                drop(server.sql("postgres", kill));
                "connections killed".to_owned()
            }
            (3, Some(server), _) if server.disk().is_some() => fill(&server, pause * 5).await,
            (4, _, Some(redis)) => {
                redis.flush_all().unwrap();
                "Redis forgot everything".to_owned()
            }
            (5, _, Some(redis)) => {
                redis.signal("STOP").unwrap();
                sleep(pause * 5).await;
                redis.signal("CONT").unwrap();
                format!("Redis stopped for {} ms", pause.as_millis() * 5)
            }
            (6, _, Some(redis)) => {
                redis.kill().unwrap();
                sleep(pause).await;
                redis.restart().unwrap();
                "Redis killed and started".to_owned()
            }
            (7..=9, _, _) => {
                let inside = self.inside.as_ref().filter(|_| random.below(3) > 0);
                // Whoever waits for what does not come through is inside a transaction as long.
                let _held = inside.and(self.transactions.as_ref()).map(Transactions::hold);
                let edge = ("the edge", &self.outside);
                let (place, proxy) = inside.map_or(edge, |proxy| ("the database", proxy));
                spoil(proxy, place, pause, random).await
            }
            (10, _, _) => {
                let _held = self.transactions.as_ref().map(Transactions::hold);
                let (name, process) = any(&mut self.deployment, random);
                process.signal("STOP").unwrap();
                sleep(pause * 3).await;
                process.signal("CONT").unwrap();
                format!("{name} stopped for {} ms", pause.as_millis() * 3)
            }
            (11, _, _) => {
                let (name, process) = any(&mut self.deployment, random);
                process.signal("TERM").unwrap();
                assert!(process.wait().unwrap(), "{name} ends well when asked to");
                process.restart().unwrap();
                format!("{name} ended and started")
            }
            _ => {
                let (name, process) = any(&mut self.deployment, random);
                process.kill().unwrap();
                sleep(pause).await;
                process.restart().unwrap();
                format!("{name} killed, started after {} ms", pause.as_millis())
            }
        }
    }
}

fn any<'d>(
    deployment: &'d mut Deployment,
    random: &mut Random,
) -> (&'static str, &'d mut runnel_harness::Process) {
    let at = random.below(deployment.processes.len() as u64) as usize;
    let (name, process) = deployment.processes.iter_mut().nth(at).unwrap();
    (name, process)
}

/// Leaves no space for a while. A server that cannot write its log ends; it is started again.
async fn fill(server: &Postgres, pause: Duration) -> String {
    let disk = server.disk().unwrap();
    disk.fill().unwrap();
    sleep(pause).await;
    disk.free().unwrap();
    sleep(Duration::from_millis(500)).await;
    let ended = server.sql("postgres", "SELECT 1").is_err();
    if ended {
        // Whatever is left of it is ended first.
        drop(server.stop_at_once());
        server.start_again().unwrap();
    }
    format!("the disk was full for {} ms{}", pause.as_millis(), if ended { ", PostgreSQL ended" } else { "" })
}

/// Spoils what passes for a while.
async fn spoil(proxy: &Proxy, place: &str, pause: Duration, random: &mut Random) -> String {
    let fault = match random.below(6) {
        0 => Fault::Delay(pause / 4),
        1 => Fault::Hold,
        2 => Fault::HoldAnswers,
        3 => Fault::Drip,
        4 => Fault::CutAfter(random.below(4_000)),
        _ => Fault::CutAnswer,
    };
    proxy.set(fault);
    sleep(pause * 3).await;
    proxy.set(Fault::None);
    // What was kept back is never said.
    if matches!(fault, Fault::Hold | Fault::HoldAnswers) && random.below(2) == 0 {
        proxy.cut();
    }
    format!("{fault:?} before {place} for {} ms", pause.as_millis() * 3)
}
