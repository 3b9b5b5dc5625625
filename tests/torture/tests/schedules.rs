//! Real processes under faults. `RUNNEL_SCHEDULES` sets how many schedules (default 8), `RUNNEL_SEED` the seed of the first, `RUNNEL_ROUNDS` how often every named point
//! does everything (default 1); what happened is printed.

use std::path::PathBuf;

use runnel_harness::Placement;
use runnel_torture::{
    points,
    processes::{self, World},
};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The program: `RUNNEL_BIN`, or what lies beside this test's folder.
fn binary() -> PathBuf {
    let binary = match std::env::var_os("RUNNEL_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let mut path = std::env::current_exe().unwrap_or_default();
            path.pop();
            path.pop();
            path.join("runnel")
        }
    };
    let how = "cargo build --release -p runnel --features failpoints";
    assert!(binary.exists(), "{} is not built: {how}", binary.display());
    binary
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_of_faults_lose_and_repeat_nothing() {
    let binary = binary();
    eprintln!("what the processes say goes to {}", processes::log().display());
    let (first, count) = (number("RUNNEL_SEED", 1), number("RUNNEL_SCHEDULES", 8));
    let (mut batches, mut unsure, mut reads, mut faults, mut cuts) = (0, 0, 0, 0, 0);
    for seed in first..first + count {
        let world = World::of(seed);
        eprintln!("seed {seed}, {world:?}");
        let outcome = processes::run(&binary, world, seed, 10).await;
        eprintln!("seed {seed}: {outcome:?}");
        let tally = outcome.tally;
        (batches, unsure, reads) = (batches + tally.batches, unsure + tally.unsure, reads + tally.reads);
        (faults, cuts) = (faults + outcome.faults.len(), cuts + outcome.cuts);
    }
    eprintln!(
        "{count} schedules, {faults} faults, {cuts} connections cut: {batches} batches, {unsure} calls without an answer, {reads} reads; \
         0 lost, 0 twice, 0 from nowhere"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_at_a_named_point_loses_and_repeats_nothing() {
    let (binary, rounds) = (binary(), number("RUNNEL_ROUNDS", 1));
    eprintln!("what the processes say goes to {}", processes::log().display());
    let mut hits = points::run_rare(&binary);
    for placement in [Placement::Split, Placement::Folder] {
        let outcome = points::run(&binary, placement, rounds).await;
        eprintln!("{placement:?}: {:?}", outcome.tally);
        for (point, count) in outcome.hits {
            *hits.entry(point).or_default() += count;
        }
    }
    for ((name, action), count) in &hits {
        eprintln!("{count:8} {name} {action}");
    }
    let missing = points::missing(&hits);
    assert!(missing.is_empty(), "these never happened: {missing:?}; is the program built with its points?");
}
