//! The invariants of SEMANTICS.md §3 that a single answer can keep or break.

use runnel_kernel::counts::Levels;
use runnel_kernel::{Counts, Plan, Unit};

use crate::generate::{Random, Size, cases, first_seed, journey, question};
use crate::journeys::{Event, Journeys, Widths};

const WIDTHS: Widths = Widths { wide_kinds: false, wide_times: false };

#[test]
fn every_answer_keeps_the_invariants() {
    let size = Size { events: 12, kinds: 4, horizon: 30 };
    for seed in first_seed()..first_seed() + cases() / 5 {
        let mut random = Random::new(seed);
        let Ok(plan) = Plan::new(question(&mut random, size)) else {
            continue;
        };
        let visitors: Vec<Vec<Event>> = (0..12).map(|_| journey(&mut random, size)).collect();
        let counts = run(&plan, &visitors);
        let context = format!("seed {seed}: {counts:#?} {:#?}", plan.question());

        let question = plan.question();
        let units = counts.levels.units();
        let required: Vec<usize> =
            (0..question.steps.len()).filter(|step| !question.steps[*step].optional).collect();
        if !question.open {
            let reached: Vec<u64> = required.iter().map(|step| counts.reached[*step]).collect();
            assert!(reached.is_sorted_by(|earlier, later| earlier >= later), "step counts rise: {context}");
            assert_eq!(reached[0], units, "{context}");
        }
        assert_eq!(counts.entered_here.iter().sum::<u64>(), units, "{context}");
        let converted = counts.levels.cells.last().map_or(0, |cell| cell.iter().sum());
        assert_eq!(counts.reached[*required.last().expect("steps")], converted, "{context}");
        assert_eq!(counts.time_to_convert.total(), converted, "{context}");
        let survival = &counts.survival;
        assert_eq!(survival.converted.total() + survival.censored.total(), units, "{context}");
        if question.break_down.is_some() {
            let rows = counts.break_down.values();
            assert_eq!(sum(&counts, rows.clone().map(|row| &row.levels)), counts.levels, "{context}");
            let conversions: u64 = rows.flat_map(|row| row.time_to_convert.values()).sum();
            assert_eq!(conversions, converted, "{context}");
        }
        if question.trend.is_some() {
            assert_eq!(sum(&counts, counts.trend.values()), counts.levels, "trend: {context}");
        }
        for (step, optional) in counts.optional.iter().enumerate().filter(|(step, _)| *step > 0) {
            if question.steps[step].optional {
                assert_eq!(optional.with, counts.reached[step], "{context}");
                assert_eq!(optional.with_converted + optional.without_converted, converted, "{context}");
            }
        }
        if question.unit == Unit::Visitor {
            assert!(units + counts.removed <= visitors.len() as u64, "{context}");
        }

        // However visitors are spread over slices, and in whatever order slices are merged, the answer is the same.
        let cut = random.within(0, visitors.len() as i64) as usize;
        let (left, right) = (run(&plan, &visitors[..cut]), run(&plan, &visitors[cut..]));
        for (first, second) in [(&left, &right), (&right, &left)] {
            let mut merged = Counts::default();
            merged.merge(first);
            merged.merge(second);
            assert_eq!(merged, counts, "merge: {context}");
        }
    }
}

#[test]
fn the_matured_question_leaves_nothing_open() {
    let size = Size { events: 12, kinds: 3, horizon: 30 };
    for seed in first_seed()..first_seed() + cases() / 10 {
        let mut random = Random::new(seed);
        let Ok(plan) = Plan::new(question(&mut random, size)) else {
            continue;
        };
        let matured = plan.matured();
        let visitors: Vec<Vec<Event>> = (0..6).map(|_| journey(&mut random, size)).collect();
        let counts = run(matured.as_ref().unwrap_or(&plan), &visitors);
        assert_eq!(counts.levels.in_state(runnel_kernel::State::Open), 0, "seed {seed}: {counts:#?}");
    }
}

fn run(plan: &Plan, visitors: &[Vec<Event>]) -> Counts {
    let journeys = Journeys::new(visitors);
    journeys.columns(true, |columns| plan.run(&journeys.slice(WIDTHS), columns).expect("small journeys"))
}

fn sum<'a>(counts: &Counts, rows: impl Iterator<Item = &'a Levels>) -> Levels {
    let mut all = Levels { cells: vec![[0; 4]; counts.levels.cells.len()] };
    rows.for_each(|row| all.merge(row));
    all
}
