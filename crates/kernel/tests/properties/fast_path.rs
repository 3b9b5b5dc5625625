//! The fast path against the general engine, on larger slices and in every layout.

use runnel_kernel::{BreakDown, Match, Plan, Question, Rule, Step, Tie, Trend, Width};

use crate::generate::{Random, Size, cases, first_seed, journey};
use crate::journeys::{Event, Journeys, Widths};

/// A question of the common shape. Some of its steps may still share a kind, or look at properties.
pub(crate) fn common_question(random: &mut Random, size: Size, kinds: &[u16]) -> Question {
    let count = if random.chance(80) { random.within(2, 6) } else { random.within(7, 8) } as usize;
    let conditional = random.chance(30);
    let steps = (0..count).map(|at| {
        let of = |kind: usize, predicate| Match { kind: Some(kinds[kind % kinds.len()]), predicate };
        let mut predicate = || (conditional && random.chance(60)).then(|| random.within(0, 1) as u16);
        let mut any_of = vec![of(at, predicate())];
        if random.chance(20) {
            any_of.push(of(at + count, None));
        }
        if random.chance(3) {
            any_of.push(Match { kind: None, predicate: Some(0) });
        }
        Step { rule: Rule { any_of }, ..Step::default() }
    });
    let mut question = Question::new(steps.collect(), random.within(0, size.horizon), 0, 0, 0);
    question.tie = if random.chance(50) { Tie::StrictlyAfter } else { Tie::FavourOrder };
    question.from_ms = random.within(-10, size.horizon / 3);
    question.until_ms = question.from_ms + random.within(0, size.horizon);
    question.as_of_ms = random.within(size.horizon / 2, 3 * size.horizon);
    question.steps_until = random.chance(75);
    question.step_times = random.chance(70);
    question.break_down = match random.within(0, 6) {
        0 | 1 => None,
        2 => Some(BreakDown::FirstTouch),
        3 => Some(BreakDown::LastTouch),
        4 => Some(BreakDown::FirstDefined),
        _ => Some(BreakDown::AtStep(random.within(0, count as i64 - 1) as usize)),
    };
    if random.chance(50) {
        question.trend =
            Some(Trend { origin_ms: random.within(-50, 50), bucket_ms: random.within(1, size.horizon / 4) });
    }
    question
}

#[test]
fn the_fast_path_agrees_with_the_engine() {
    for seed in first_seed()..first_seed() + cases() / 20 {
        let mut random = Random::new(seed);
        let wide_kinds = random.chance(50);
        let kinds: Vec<u16> = (0..8).map(|at| if wide_kinds { at * 67 + 3 } else { at * 31 + 2 }).collect();
        // Beyond 57 events visitors are looked at one by one, and so many can share a millisecond, too.
        let events = [25, 100, 400][usize::from(random.chance(20)) + usize::from(random.chance(20))];
        let horizon = [40_000, 60, 8][usize::from(random.chance(20)) + usize::from(random.chance(20))];
        let size = Size { events, kinds: 8, horizon };
        // Instants beyond 32 bits must work in the wide layout.
        let stretch = if random.chance(20) { 200_000 } else { 1 };
        let mut visitors: Vec<Vec<Event>> =
            (0..random.within(1, 150)).map(|_| journey(&mut random, size)).collect();
        for event in visitors.iter_mut().flatten() {
            event.kind = kinds[usize::from(event.kind)];
            event.value *= if random.chance(5) { 5_000 } else { 1 };
            event.time *= stretch;
        }
        let mut journeys = Journeys::new(&visitors);
        if random.chance(30) {
            journeys.skip = Some((0..3).map(|_| random.next()).collect());
        }
        let mut question = common_question(&mut random, size, &kinds);
        for instant in
            [&mut question.window_ms, &mut question.from_ms, &mut question.until_ms, &mut question.as_of_ms]
        {
            *instant *= stretch;
        }
        let plan = Plan::new(question).expect("the common shape is defined");
        for wide_times in [false, true] {
            if stretch > 1 && !wide_times {
                continue;
            }
            let slice = journeys.slice(Widths { wide_kinds, wide_times });
            journeys.columns(false, |columns| {
                let fast = plan.run(&slice, columns).expect("no grace, no limit");
                let general = plan.run_general(&slice, columns).expect("no grace, no limit");
                for most in [Width::Narrow, Width::Avx2] {
                    let narrower = plan.run_within(&slice, columns, most).expect("no grace, no limit");
                    let context = format!("seed {seed}, {most:?}, wide times {wide_times}");
                    assert_eq!(fast, narrower, "{context}: {:#?}", plan.question());
                }
                assert_eq!(fast, general, "seed {seed}, wide times {wide_times}: {:#?}", plan.question());
            });
        }
    }
}
