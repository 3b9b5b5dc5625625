//! How long the kernel needs for one six-step funnel, in nanoseconds per event and core.
//!
//! `cargo bench -p runnel-kernel --bench funnel -- 20000000` measures about 20 million events; the default is small, so
//! that an ordinary test run only checks that the benchmark still works. Data are journeys of the simulated shop: ten events
//! a visitor on average, thirteen kinds, 6 of 100 events in the millisecond of the one before; the question is the
//! shop's own funnel of six steps within seven days. A word behind the number picks the cases whose name holds it.

#![expect(clippy::print_stdout, reason = "a benchmark shows what it measured")]

use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runnel_kernel::{
    BreakDown, Columns, Counts, Kinds, Layout, Plan, Question, Slice, State, Step, Times, Trend, Values,
    Width,
    members::{AsOf, Touch},
};
use runnel_simulate::{Config, FUNNEL, FUNNEL_WINDOW_MS, Shop};

const PARTITIONS: u64 = 64;
/// The first day of the shop.
const EPOCH_MS: i64 = 1_699_833_600_000;
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
    channels: Vec<u8>,
}

impl Partition {
    fn of(shop: &Shop, visitors: Range<u64>) -> Self {
        let mut partition = Self { offsets: vec![0], ..Self::default() };
        let start_ms = shop.config().start_ms;
        shop.for_each_visitor(visitors, |_, journey| {
            let (mut set, mut last) = (0, None);
            for event in journey {
                let at = partition.kinds.len();
                partition.ties.resize(at / 64 + 1, 0);
                let tied = last.replace(event.time_ms) == Some(event.time_ms);
                partition.ties[at / 64] |= u64::from(tied) << (at % 64);
                set |= 1u64 << (event.name as u8);
                partition.kinds.push(event.name as u8);
                partition.times.push((event.time_ms - start_ms) as u32);
                partition.channels.push(1 + event.channel() as u8);
            }
            partition.offsets.push(partition.kinds.len() as u32);
            partition.kind_sets.push(set);
        });
        partition
    }

    fn slice(&self) -> Slice<'_> {
        let layout = Layout {
            offsets: &self.offsets,
            kinds: Kinds::U8(&self.kinds),
            times: Times::Narrow { epoch_ms: EPOCH_MS, since_epoch_ms: &self.times },
            span_ms: (EPOCH_MS, EPOCH_MS + 30 * DAY_MS),
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
        // In their own widths, so that it is memory that takes the time and not the widening.
        let kinds = self.kinds.iter().fold(0u8, |sum, kind| sum.wrapping_add(*kind));
        let times = self.times.iter().fold(0u32, |sum, time| sum.wrapping_add(*time));
        u64::from(kinds) + u64::from(times)
    }
}

/// As asked of a shop that is no longer open, thirty days after its last day.
fn question() -> Question {
    let steps = FUNNEL.map(|name| Step::of_kind(name as u16)).into();
    Question::new(steps, FUNNEL_WINDOW_MS, EPOCH_MS, EPOCH_MS + 58 * DAY_MS, EPOCH_MS + 58 * DAY_MS)
}

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let only = std::env::args().skip(1).find(|argument| argument.starts_with(char::is_alphabetic));
    let visitors = asked.unwrap_or(100_000u64) / 10;
    let shop = match Shop::new(Config { start_ms: EPOCH_MS, ..Config::shop(1, visitors) }) {
        Ok(shop) => shop,
        Err(error) => unreachable!("the shop can be built: {error}"),
    };
    let of = |part| part * visitors / PARTITIONS..(part + 1) * visitors / PARTITIONS;
    let partitions: Vec<Partition> = (0..PARTITIONS).map(|part| Partition::of(&shop, of(part))).collect();
    let events: usize = partitions.iter().map(|partition| partition.kinds.len()).sum();
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
        ("fast, half open", plan(|question| question.as_of_ms = EPOCH_MS + 20 * DAY_MS)),
        ("fast, range cut", plan(|question| question.until_ms = EPOCH_MS + 10 * DAY_MS)),
    ];
    for threads in [1, 2] {
        let measure = |name: &str, work: &(dyn Fn(&Partition) -> Counts + Sync)| {
            if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
                return;
            }
            let (time, counts) = best_of(&partitions, threads, work);
            let each = time.as_nanos() as f64 / events as f64;
            let levels: Vec<u64> = (1..=FUNNEL.len()).map(|level| counts.levels.at_least(level)).collect();
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
        measure("fast, and matured", &|partition| {
            plan_result(full.run_with_matured(&partition.slice(), &columns(partition)).map(|counts| counts.0))
        });
        for (name, most) in [("fast, AVX2", Width::Avx2), ("fast, narrow registers", Width::Narrow)] {
            measure(name, &|partition| {
                plan_result(full.run_within(&partition.slice(), &columns(partition), most))
            });
        }
        measure("who reached the last step", &|partition| {
            let as_of = AsOf::new(partition.slice(), full.question().as_of_ms);
            let last = FUNNEL.len()..=FUNNEL.len();
            black_box(as_of.reached(&full, &columns(partition), last, &[State::Converted]).ok());
            Counts::default()
        });
        for (name, within_ms) in
            [("who has two of a kind", None), ("the same in a fortnight", Some(14 * DAY_MS))]
        {
            measure(name, &|partition| {
                let marks = Values::U8(&partition.kinds).holding(&[false, true]);
                black_box(as_of(partition).happened(&marks, within_ms, 2..=u32::MAX));
                Counts::default()
            });
        }
        measure("who came last by a channel", &|partition| {
            let channels = Values::U8(&partition.channels);
            let has = channels.holding(&[false, true, true, true, true]);
            let holds = channels.holding(&[false, false, true]);
            black_box(as_of(partition).touched((&has, &holds), Touch::Last, false));
            Counts::default()
        });
        measure("general engine", &|partition| {
            plan_result(full.run_general(&partition.slice(), &columns(partition)))
        });
    }
}

/// As of an instant that some events are not before.
fn as_of(partition: &Partition) -> AsOf<'_> {
    AsOf::new(partition.slice(), EPOCH_MS + 29 * DAY_MS)
}

fn columns(partition: &Partition) -> Columns<'_> {
    Columns { break_down: Some(Values::U8(&partition.channels)), ..Columns::default() }
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
