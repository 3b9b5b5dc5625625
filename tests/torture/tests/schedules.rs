//! Real processes under faults. `RUNNEL_SCHEDULES` sets how many schedules (default 8), `RUNNEL_SEED` the seed of the first, `RUNNEL_ROUNDS` how often every named point
//! does everything (default 1); what happened is printed.

use std::path::PathBuf;

use runnel_harness::Placement;
use runnel_torture::{
    Tally, log, points,
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
    let (first, count) = (number("RUNNEL_SEED", 1), number("RUNNEL_SCHEDULES", 8));
    let (mut tally, mut faults, mut cuts, mut looks, mut memory_kib) = (Tally::default(), 0, 0, 0, 0);
    for seed in first..first + count {
        let (world, log) = (World::of(seed), log(&format!("seed-{seed}")));
        eprintln!("seed {seed}, {world:?}; what the processes say goes to {}", log.display());
        let outcome = processes::run(&binary, world, seed, 10).await;
        eprintln!("seed {seed}: {outcome:?}");
        tally = tally + outcome.tally;
        (faults, cuts) = (faults + outcome.faults.len(), cuts + outcome.cuts);
        (looks, memory_kib) = (looks + outcome.looks, outcome.memory_kib.max(memory_kib));
    }
    let Tally { batches, unsure, reads, across, sessions, owners, erased, changes, broken } = tally;
    eprintln!(
        "{count} schedules, {faults} faults, {cuts} connections cut: {batches} batches, {across} visitors over several of them, {unsure} calls \
         without an answer, {reads} reads, {sessions} counts of open sessions, {owners} looks for another tenant's events, {erased} persons \
         of whom all but the last were erased, {changes} changes told over {broken} broken streams, {looks} looks at connections, at most {} MiB; 0 lost, 0 twice, 0 from nowhere",
        memory_kib >> 10
    );
    // One schedule may be too short for everything.
    if count >= 8 {
        let checked = [across, sessions, owners, erased, changes, broken, looks, memory_kib];
        assert!(checked.iter().all(|count| *count > 0), "something was never checked: {checked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_at_a_named_point_loses_and_repeats_nothing() {
    let (binary, rounds) = (binary(), number("RUNNEL_ROUNDS", 1));
    let mut hits = points::run_rare(&binary);
    for placement in [Placement::Split, Placement::Folder] {
        eprintln!(
            "{placement:?}: what the processes say goes to {}",
            log(&format!("{placement:?}")).display()
        );
        let outcome = points::run(&binary, placement, rounds).await;
        let (looks, memory_mib) = (outcome.looks, outcome.memory_kib >> 10);
        eprintln!(
            "{placement:?}: {:?}, {looks} looks at connections, at most {memory_mib} MiB",
            outcome.tally
        );
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
