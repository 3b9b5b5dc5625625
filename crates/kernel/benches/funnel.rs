//! How long the kernel needs for one six-step funnel, in nanoseconds per event and core.
//!
//! `cargo bench -p runnel-kernel --bench funnel -- 20000000` measures 20 million events; the default is small, so that
//! an ordinary test run only checks that the benchmark still works. Data come from a seeded generator: ten events a
//! visitor on average, twelve kinds, half of the events serve one of the six steps.

#![expect(clippy::print_stdout, reason = "a benchmark shows what it measured")]

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runnel_kernel::{BreakDown, Columns, Counts, Kinds, Layout, Plan, Question, Slice, Step, Times, Trend};

const PARTITIONS: usize = 64;
const ROUNDS: usize = 7;
const DAY_MS: i64 = 86_400_000;

/// The columns of one partition.
#[derive(Default)]
struct Partition {
    offsets: Vec<u32>,
    kinds: Vec<u8>,
    times: Vec<u32>,
    kind_sets: Vec<u64>,
    ties: Vec<u64>,
    channels: Vec<u32>,
}

/// A xorshift generator (G. Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A uniform number in `0..1`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number with an exponential distribution.
    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

impl Partition {
    fn generate(events: usize, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        // Weights of the kinds: the six steps, then six others.
        let weights = [16, 12, 9, 6, 4, 3, 12, 10, 10, 8, 6, 4];
        let urn: Vec<u8> =
            weights.iter().zip(0..).flat_map(|(weight, kind)| std::iter::repeat_n(kind, *weight)).collect();
        let mut partition = Self { offsets: vec![0], ..Self::default() };
        while partition.kinds.len() < events {
            let mut time = random.unit() * 25.0 * DAY_MS as f64;
            let (mut set, mut last) = (0, None);
            // One event at least, ten on average, with a long tail.
            for _ in 0..(1.0 + random.exponential(9.5)) as usize {
                let kind = urn[random.next() as usize % urn.len()];
                let at = time as u32;
                let event = partition.kinds.len();
                partition.ties.resize(event / 64 + 1, 0);
                partition.ties[event / 64] |= u64::from(last.replace(at) == Some(at)) << (event % 64);
                set |= 1u64 << kind;
                partition.kinds.push(kind);
                partition.times.push(at);
                partition.channels.push(1 + (random.next() % 12) as u32);
                // Six of a hundred events come with the one before.
                let mean = if random.unit() < 0.7 { 90e3 } else { DAY_MS as f64 };
                time += if random.unit() < 0.06 { 0.0 } else { random.exponential(mean) };
            }
            partition.offsets.push(partition.kinds.len() as u32);
            partition.kind_sets.push(set);
        }
        partition
    }

    fn slice(&self) -> Slice<'_> {
        let layout = Layout {
            offsets: &self.offsets,
            kinds: Kinds::U8(&self.kinds),
            times: Times::Narrow { epoch_ms: 1_700_000_000_000, since_epoch_ms: &self.times },
            kind_sets: &self.kind_sets,
            ties: &self.ties,
            skip: None,
        };
        match Slice::new(layout) {
            Ok(slice) => slice,
            Err(error) => unreachable!("the generator makes valid slices: {error}"),
        }
    }

    /// A plain sum over the bytes that the kernel reads: the limit that memory sets.
    fn sum(&self) -> u64 {
        let kinds: u64 = self.kinds.iter().map(|kind| u64::from(*kind)).sum();
        let times: u64 = self.times.iter().map(|time| u64::from(*time)).sum();
        kinds + times
    }
}

fn question() -> Question {
    let from = 1_700_000_000_000;
    let steps = (0..6).map(Step::of_kind).collect();
    Question::new(steps, 7 * DAY_MS, from, from + 60 * DAY_MS, from + 90 * DAY_MS)
}

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let only = std::env::args().skip(1).find(|argument| argument.starts_with(char::is_alphabetic));
    let events: usize = asked.unwrap_or(100_000);
    let generate = |seed| Partition::generate(events / PARTITIONS, seed);
    let partitions: Vec<Partition> = (1..=PARTITIONS as u64).map(generate).collect();
    let events: usize = partitions.iter().map(|partition| partition.kinds.len()).sum();
    let visitors: usize = partitions.iter().map(|partition| partition.kind_sets.len()).sum();
    println!("{events} events, {visitors} visitors, {PARTITIONS} partitions; ns per event and core");

    let plan = |change: fn(&mut Question)| {
        let mut question = question();
        change(&mut question);
        match Plan::new(question) {
            Ok(plan) => plan,
            Err(error) => unreachable!("the questions are defined: {error}"),
        }
    };
    let full = plan(|_| ());
    let cases: [(&str, Plan); 7] = [
        ("fast, no step times", plan(|question| question.step_times = false)),
        ("fast", full.clone()),
        ("fast, break-down", plan(|question| question.break_down = Some(BreakDown::AtStep(0)))),
        ("fast, first touch", plan(|question| question.break_down = Some(BreakDown::FirstTouch))),
        ("fast, trend", plan(|question| question.trend = Some(Trend { origin_ms: 0, bucket_ms: DAY_MS }))),
        ("fast, half open", plan(|question| question.as_of_ms = question.from_ms + 20 * DAY_MS)),
        ("fast, range cut", plan(|question| question.until_ms = question.from_ms + 10 * DAY_MS)),
    ];
    for threads in [1, 2] {
        let measure = |name: &str, work: &(dyn Fn(&Partition) -> Counts + Sync)| {
            if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
                return;
            }
            let (time, counts) = best_of(&partitions, threads, work);
            let each = time.as_nanos() as f64 / events as f64;
            let levels: Vec<u64> = (1..=6).map(|level| counts.levels.at_least(level)).collect();
            println!(
                "{threads} threads  {name:24} {each:6.2}  ({:7.1} ms)  {levels:?}",
                time.as_secs_f64() * 1e3 / threads as f64
            );
        };
        measure("sum of the same bytes", &|partition| {
            black_box(partition.sum());
            Counts::default()
        });
        for (name, plan) in &cases {
            measure(name, &|partition| run(plan, partition));
        }
        measure("fast, narrow registers", &|partition| {
            plan_result(full.run_narrow(&partition.slice(), &columns(partition)))
        });
        measure("general engine", &|partition| {
            plan_result(full.run_general(&partition.slice(), &columns(partition)))
        });
    }
}

fn columns(partition: &Partition) -> Columns<'_> {
    Columns { break_down: Some(&partition.channels), ..Columns::default() }
}

fn run(plan: &Plan, partition: &Partition) -> Counts {
    plan_result(plan.run(&partition.slice(), &columns(partition)))
}

fn plan_result(counts: Result<Counts, runnel_kernel::RunError>) -> Counts {
    match counts {
        Ok(counts) => counts,
        Err(error) => unreachable!("the columns fit: {error}"),
    }
}

/// Sum over partitions of the shortest time that each took in several rounds, which is the time of a quiet core even
/// on a machine that others use; and what all partitions count together.
fn best_of(
    partitions: &[Partition],
    threads: usize,
    work: &(dyn Fn(&Partition) -> Counts + Sync),
) -> (Duration, Counts) {
    let mut best = vec![Duration::MAX; partitions.len()];
    let mut all = Counts::default();
    for _ in 0..ROUNDS {
        let next = AtomicUsize::new(0);
        let share = || {
            let (mut counts, mut times) = (Counts::default(), Vec::new());
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(partition) = partitions.get(at) else {
                    return (counts, times);
                };
                #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
                let start = Instant::now();
                counts.merge(&work(partition));
                times.push((at, start.elapsed()));
            }
        };
        all = Counts::default();
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(share)).collect();
            let mine = share();
            let theirs = helpers.into_iter().map(|helper| helper.join().unwrap_or_default());
            for (counts, times) in std::iter::once(mine).chain(theirs) {
                all.merge(&counts);
                times.into_iter().for_each(|(at, time)| best[at] = best[at].min(time));
            }
        });
    }
    (best.into_iter().sum(), all)
}
