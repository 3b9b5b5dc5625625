//! Schedules of faults. `RUNNEL_SCHEDULES` sets how many (default 6), `RUNNEL_SEED` the seed of the first; what happened is printed for each.

use std::path::PathBuf;

use runnel_harness::Placement;
use runnel_torture::processes;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The program: `RUNNEL_BIN`, or what lies beside this test's folder.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("RUNNEL_BIN") {
        return PathBuf::from(path);
    }
    let mut path = std::env::current_exe().unwrap_or_default();
    path.pop();
    path.pop();
    path.join("runnel")
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_of_faults_lose_and_repeat_nothing() {
    let binary = binary();
    assert!(binary.exists(), "{} is not built: cargo build --release -p runnel", binary.display());
    let (first, count) = (number("RUNNEL_SEED", 1), number("RUNNEL_SCHEDULES", 6));
    let placements = [Placement::Split, Placement::Shared, Placement::Split, Placement::Folder];
    let (mut batches, mut unsure, mut reads, mut faults) = (0, 0, 0, 0);
    for seed in first..first + count {
        let placement = placements[seed as usize % placements.len()];
        eprintln!("seed {seed}, {placement:?}");
        let outcome = processes::run(&binary, placement, seed, 8).await;
        eprintln!("seed {seed}: {outcome:?}");
        (batches, unsure) = (batches + outcome.batches, unsure + outcome.unsure);
        (reads, faults) = (reads + outcome.reads, faults + outcome.faults.len());
    }
    eprintln!(
        "{count} schedules, {faults} faults: {batches} batches, {unsure} calls without an answer, {reads} reads; nothing lost, nothing twice"
    );
}
