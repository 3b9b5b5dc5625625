//! Seeds, each a run of the whole system. `RUNNEL_SEEDS` sets how many (default 500), `RUNNEL_SEED` the first.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use runnel_torture::simulation::{Failure, KINDS, Outcome, run};

/// Threads, each with a run at a time.
const THREADS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// All seeds, on as many threads as there are cores.
fn all(first: u64, count: u64) -> Result<Vec<Outcome>, (u64, Box<Failure>)> {
    let (next, outcomes, failure) = (AtomicU64::new(first), Mutex::new(Vec::new()), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while failure.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    match run(seed) {
                        Ok(outcome) => outcomes.lock().unwrap().push(outcome),
                        Err(found) => _ = failure.lock().unwrap().get_or_insert((seed, found)),
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap() {
        Some(failure) => Err(failure),
        None => Ok(outcomes.into_inner().unwrap()),
    }
}

#[test]
fn seeds_lose_and_repeat_nothing() {
    let (first, count) = (number("RUNNEL_SEED").unwrap_or(1), number("RUNNEL_SEEDS").unwrap_or(500));
    let outcomes = all(first, count).unwrap_or_else(|(seed, failure)| {
        let Failure { what, last } = *failure;
        panic!(
            "seed {seed}, the last steps:\n{}\n\n{what}\n\nagain: RUNNEL_SEED={seed} RUNNEL_SEEDS=1 cargo test --release -p runnel-torture --test simulation seeds",
            last.join("\n")
        )
    });
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in outcomes.iter().flat_map(|outcome| &outcome.tally) {
        *tally.entry(kind).or_default() += count;
    }
    for (kind, count) in &tally {
        eprintln!("{count:10} {kind}");
    }
    eprintln!(
        "{} runs, {} steps: {} events acknowledged, {} calls without an outcome, {} commits of unknown outcome, {} callers gone, \
         {} reads; 0 lost, 0 twice, 0 from nowhere",
        outcomes.len(),
        sum(|outcome| outcome.trace.1),
        sum(|outcome| outcome.events),
        sum(|outcome| outcome.unsure),
        sum(|outcome| outcome.ambiguous),
        tally.get("callers gone").unwrap_or(&0),
        sum(|outcome| outcome.reads),
    );
    // A few runs need not have everything.
    if count >= 100 {
        let never: Vec<_> = KINDS.iter().filter(|kind| !tally.contains_key(*kind)).collect();
        assert!(never.is_empty(), "these never happened: {never:?}");
        assert!(sum(|outcome| outcome.ambiguous) >= 2 * count, "too few commits of unknown outcome");
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let first = number("RUNNEL_SEED").unwrap_or(1) + 1_000_000;
    // Much of what can make runs differ does so in few of them.
    let seeds = move || (first..first + 40).map(|seed| run(seed).unwrap()).collect::<Vec<_>>();
    let elsewhere = thread::spawn(seeds);
    let here = seeds();
    assert_eq!(here, elsewhere.join().unwrap());
    assert_ne!(here[0].trace, here[1].trace);
}
