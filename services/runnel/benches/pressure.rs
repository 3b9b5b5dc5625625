//! The services in processes of their own, under pressure: more than they can take, peers that stand still, bombs, stores that end, and many tenants.
//!
//! `cargo bench -p runnel --bench pressure -- EVENTS [overload] [abuse] [stores] [tenants]`; small by default, so that it never rots, and all four unless some are named. From 20,000,000 on,
//! the overload lasts ten minutes.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at the first fault"
)]

#[path = "pressure/abuse.rs"]
mod abuse;
#[path = "cluster/events.rs"]
mod events;
#[path = "cluster/load.rs"]
mod load;
#[path = "pressure/overload.rs"]
mod overload;
#[path = "../tests/system/scrape.rs"]
mod scrape;
#[path = "pressure/stores.rs"]
mod stores;
#[path = "pressure/tenants.rs"]
mod tenants;

use std::{path::PathBuf, sync::Arc};

use runnel_harness::{Deployment, Extra, Placement, Postgres, Redis, Stores, or_skip};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Each of them alone where it is named.
const PARTS: [&str; 4] = ["overload", "abuse", "stores", "tenants"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let events = words.iter().filter_map(|word| word.parse().ok()).next().unwrap_or(20_000u64);
    let seconds = if events >= 20_000_000 { 600.0 } else { (events as f64 / 33_333.0).clamp(1.0, 60.0) };
    let parts: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| word.parse::<u64>().is_err()).collect();
    assert!(parts.iter().all(|part| PARTS.contains(part)), "parts are {PARTS:?}, and not {parts:?}");
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("overload") {
            overload::run(seconds).await;
        }
        if wanted("abuse") {
            abuse::run(seconds).await;
        }
        if wanted("stores") {
            stores::run(seconds).await;
        }
        if wanted("tenants") {
            tenants::run(if events >= 1_000_000 { 10_000 } else { 300 }).await;
        }
    });
}

/// The program.
fn binary() -> PathBuf {
    std::env::var("RUNNEL_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_runnel").to_owned()).into()
}

/// Everything in processes of its own, over PostgreSQL with fsync, and over Redis where one is wanted.
struct World {
    deployment: Deployment,
    postgres: Arc<Postgres>,
    redis: Option<Arc<Redis>>,
    write: String,
    read: String,
}

impl World {
    async fn start(redis: bool, variables: &[(&str, &str)]) -> World {
        let postgres = Arc::new(Postgres::start("").unwrap());
        let redis = if redis { or_skip(Redis::start(&[])).unwrap().map(Arc::new) } else { None };
        let stores = Stores { postgres: Some(postgres.clone()), redis: redis.clone(), ..Stores::default() };
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let extra = Extra { variables, ..Extra::default() };
        let deployment = Deployment::start_with(&binary(), Placement::Split, stores, &extra).unwrap();
        let (write, read) = deployment.tenant("shop").await.unwrap();
        World { deployment, postgres, redis, write, read }
    }

    /// Megabytes of memory that a process has.
    fn resident(&self, name: &str) -> f64 {
        status(self.deployment.processes[name].id(), "VmRSS:")
    }

    /// The most megabytes that it ever had.
    fn peak(&self, name: &str) -> f64 {
        status(self.deployment.processes[name].id(), "VmHWM:")
    }

    /// Megabytes of all processes.
    fn all_resident(&self) -> f64 {
        self.deployment.processes.values().map(|process| status(process.id(), "VmRSS:")).sum()
    }
}

/// A line of a process's status, in megabytes.
fn status(pid: u32, line: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    found.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1_024.0
}
