//! Real processes that are killed, fail, take long, or lose whoever waits, at every named point of the code (see `runnel-failpoints`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use runnel_failpoints::NAMES;
use runnel_harness::{Deployment, Extra, Placement, Postgres, Process, Stores};
use tokio::time::{Instant, sleep};

use crate::{
    load::{Load, Tally, tenants},
    processes::{HotPlace, eager, redis},
    watch::{Transactions, gone, log, look_through, memory},
};

/// What a point can do.
pub const ACTIONS: [&str; 4] = ["Kill", "Error", "Sleep", "Cancel"];
/// How long a point may take to be passed often enough.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often which point did what.
pub type Hits = BTreeMap<(String, String), u64>;

/// What is known after a run.
#[derive(Debug)]
pub struct Outcome {
    /// How often which point did what.
    pub hits: Hits,
    /// What was sent and read meanwhile.
    pub tally: Tally,
    /// How often the connections of the database were looked at.
    pub looks: u64,
    /// The most memory that a process had, in KiB.
    pub memory_kib: u64,
}

/// Points that are passed only when a process starts on an empty database, or ends.
fn is_rare(name: &str) -> bool {
    name.starts_with("mig.") || name == "sq.mid_checkpoint"
}

/// Points that are passed in a placement while events come in and questions are asked.
#[must_use]
pub fn passed(placement: Placement) -> Vec<&'static str> {
    let folder = placement == Placement::Folder;
    let is_passed = |name: &&str| match *name {
        "ing.before_commit" | "ing.in_commit" => !folder,
        name => !is_rare(name) && (folder || !name.starts_with("sq.")),
    };
    NAMES.iter().copied().filter(is_passed).collect()
}

/// What a point does in the life of a process: everything once, then the end. Those that every batch passes let some through between.
fn plan(name: &str) -> String {
    let pace = if name.starts_with("ing.") || name == "sq.before_commit" { 4 } else { 1 };
    format!(
        "{name}=sleep:30@{}; {name}=error@{}; {name}=cancel@{}; {name}=kill@{}",
        pace,
        2 * pace,
        3 * pace,
        4 * pace
    )
}

/// The variables that arm points.
fn armed(plan: &str, log: &Path) -> Vec<(String, String)> {
    let variables = [("RUNNEL_FAILPOINTS", plan), ("RUNNEL_FAILPOINTS_LOG", &log.to_string_lossy())];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    [variables.to_vec(), eager()].concat()
}

/// What a log says.
fn read(log: &Path) -> Hits {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut hits = Hits::new();
    // Of the last line there may be a part only.
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let (name, action) = line.split_once(' ').unwrap();
        let action = action.split(['(', ' ']).next().unwrap_or_default();
        *hits.entry((name.to_owned(), action.to_owned())).or_default() += 1;
    }
    hits
}

/// Lets every point of a placement do everything, so many times. Panics where something does not hold, or a point is never passed.
pub async fn run(binary: &Path, placement: Placement, rounds: u64) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (points, said) = (folder.path().join("points"), log(&format!("{placement:?}")));
    let hot = if placement == Placement::Folder { HotPlace::Process } else { HotPlace::Redis };
    let postgres: Option<Arc<Postgres>> =
        (placement != Placement::Folder).then(|| Postgres::start("").unwrap().into());
    let redis = redis(hot).unwrap();
    let stores = Stores { postgres: postgres.clone(), redis: redis.clone(), ..Stores::default() };
    let extra = Extra { variables: eager(), log: Some(said.clone()), ..Extra::default() };
    let mut deployment = Deployment::start_with(binary, placement, stores, &extra).unwrap();
    let database = deployment.database().map(str::to_owned);
    let transactions = postgres.clone().map(Transactions::watch);
    let keys = tenants(&deployment).await.unwrap();
    let load = Load::start(&deployment.endpoint, &keys, 1);
    let mut memory_kib = 0;
    for name in passed(placement) {
        memory_kib = memory_kib.max(memory(&deployment));
        // The first processes may be killed before the last ones are armed.
        let before = kills(&read(&points));
        arm(&mut deployment, &armed(&plan(name), &points));
        let start = Instant::now();
        let done = |hits: &Hits| {
            ACTIONS.iter().all(|action| {
                hits.get(&(name.to_owned(), (*action).to_owned())).is_some_and(|count| *count >= rounds)
            })
        };
        let mut ended = Vec::new();
        while !done(&read(&points)) {
            assert!(start.elapsed() < PATIENCE * rounds as u32, "{name} is not passed: {:?}", read(&points));
            sleep(Duration::from_millis(50)).await;
            if let Some(redis) = redis.as_ref().filter(|_| name == "hot.mid_rebuild") {
                redis.flush_all().unwrap();
                sleep(Duration::from_millis(300)).await;
            }
            for service in gone(&mut deployment) {
                // A lease on compaction that nobody gives back runs out by itself; that is not waited for here.
                if let Some((server, database)) = postgres.as_ref().zip(database.as_ref()) {
                    server.sql(database, "UPDATE chores SET leased_until_ms = 0").unwrap();
                }
                deployment.processes.get_mut(service).unwrap().restart().unwrap();
                ended.push(service);
            }
        }
        ended.extend(gone(&mut deployment));
        // Whatever kills a process says so first.
        let killed = kills(&read(&points)) - before;
        assert!(ended.len() as u64 <= killed, "{name}: {ended:?} ended, and {killed} were killed");
    }
    memory_kib = memory_kib.max(memory(&deployment));
    arm(&mut deployment, &eager());
    let tally = load.settle().await;
    memory_kib = memory_kib.max(memory(&deployment));
    assert_eq!(gone(&mut deployment), Vec::<&str>::new(), "nobody asked them to end");
    let looks = transactions.map_or(0, Transactions::settle);
    look_through(&said, &keys.all());
    Outcome { hits: read(&points), tally, looks, memory_kib }
}

/// How often a process was killed.
fn kills(hits: &Hits) -> u64 {
    hits.iter().filter(|((_, action), _)| action == "Kill").map(|(_, count)| count).sum()
}

/// Kills and starts all processes, with other variables.
fn arm(deployment: &mut Deployment, variables: &[(String, String)]) {
    for process in deployment.processes.values_mut() {
        process.kill().unwrap();
        process.set_variables(variables);
        process.restart().unwrap();
    }
}

/// Lets the points that are passed at the start, on an empty database, and at the end, on a folder, do everything once.
#[must_use]
pub fn run_rare(binary: &Path) -> Hits {
    let folder = tempfile::tempdir().unwrap();
    let (points, said) = (folder.path().join("points"), log("rare"));
    let server = Postgres::start("").unwrap();
    for name in NAMES.iter().filter(|name| name.starts_with("mig.")) {
        for action in ["kill", "error", "sleep:100", "cancel"] {
            let url = server.url(&server.database().unwrap(), "owner");
            let migrate = |plan: &str| {
                let mut command = Command::new(binary);
                command.args(["migrate", "--postgres", &url]).envs(armed(plan, &points));
                let said = File::options().create(true).append(true).open(&said).unwrap();
                command.stdout(Stdio::null()).stderr(said).status().unwrap().success()
            };
            let first = migrate(&format!("{name}={action}"));
            assert_eq!(first, matches!(action, "sleep:100" | "cancel"), "{name}={action}");
            assert!(migrate(""), "after {name}={action} the schema can be made");
        }
    }
    let data: PathBuf = folder.path().join("data");
    let arguments = ["serve", "--data-dir", &data.to_string_lossy()];
    let mut extra = Extra { log: Some(said.clone()), ..Extra::default() };
    for action in ["kill", "error", "sleep:100", "cancel"] {
        extra.variables = armed(&format!("sq.mid_checkpoint={action}"), &points);
        let mut process = Process::start_with(binary, &arguments, &extra).unwrap();
        process.signal("TERM").unwrap();
        process.wait().unwrap();
        extra.variables.clear();
        Process::start_with(binary, &arguments, &extra).unwrap();
    }
    look_through(&said, &[]);
    read(&points)
}

/// Points and actions that did not happen.
#[must_use]
pub fn missing(hits: &Hits) -> BTreeSet<String> {
    let all = NAMES.iter().flat_map(|name| ACTIONS.map(|action| ((*name).to_owned(), action.to_owned())));
    all.filter(|wanted| !hits.contains_key(wanted)).map(|(name, action)| format!("{name} {action}")).collect()
}
