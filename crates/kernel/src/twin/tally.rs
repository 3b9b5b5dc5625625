//! Counts by counting: every cell is the number of outcomes that satisfy its definition.

use crate::counts::{BreakDownRow, Counts, Levels, OptionalCounts, Survival};
use crate::histogram::{Histogram, bucket};
use crate::outcome::{State, UnitOutcome};
use crate::plan::Plan;

pub(super) fn counts(plan: &Plan, all: &[UnitOutcome]) -> Counts {
    let question = plan.question();
    let steps = question.steps.len();
    let required = question.steps.iter().filter(|step| !step.optional).count();
    let units: Vec<&UnitOutcome> = all.iter().filter(|unit| !unit.removed).collect();
    let number =
        |holds: &dyn Fn(&UnitOutcome) -> bool| units.iter().filter(|unit| holds(unit)).count() as u64;
    let levels = |holds: &dyn Fn(&UnitOutcome) -> bool| Levels {
        cells: (0..=required)
            .map(|level| {
                State::ALL
                    .map(|state| number(&|unit| holds(unit) && (unit.level, unit.state) == (level, state)))
            })
            .collect(),
    };
    let previous_required = |step: usize| (0..step).rev().find(|earlier| !question.steps[*earlier].optional);
    let optional = |step: usize| {
        if !question.steps[step].optional {
            return OptionalCounts::default();
        }
        let counted = |done: bool, converted: bool| {
            number(&|unit| {
                previous_required(step).is_some_and(|previous| unit.step_ms[previous].is_some())
                    && unit.step_ms[step].is_some() == done
                    && (!converted || unit.state == State::Converted)
            })
        };
        OptionalCounts {
            with: counted(true, false),
            without: counted(false, false),
            with_converted: counted(true, true),
            without_converted: counted(false, true),
        }
    };
    let step_time = |step: usize| {
        histogram(
            units
                .iter()
                .filter_map(|unit| Some(unit.step_ms[step]? - unit.step_ms[previous_required(step)?]?)),
        )
    };
    let duration = |unit: &UnitOutcome| unit.completion_ms - unit.entry_ms;
    let converted = |unit: &&&UnitOutcome| unit.state == State::Converted;
    let mut counts = Counts {
        levels: levels(&|_| true),
        removed: (all.len() - units.len()) as u64,
        missing_hold: number(&|unit| question.hold && unit.hold_code == 0),
        reached: (0..steps).map(|step| number(&|unit| unit.step_ms[step].is_some())).collect(),
        entered_here: (0..steps).map(|step| number(&|unit| unit.entered_step == step)).collect(),
        optional: (0..steps).map(optional).collect(),
        time_to_convert: histogram(units.iter().filter(converted).map(|unit| duration(unit))),
        step_times: if question.step_times { (0..steps).map(step_time).collect() } else { Vec::new() },
        survival: Survival {
            converted: histogram(
                units.iter().filter_map(|unit| Some(unit.first_converted_ms? - unit.first_entry_ms)),
            ),
            censored: histogram(
                units
                    .iter()
                    .filter(|unit| unit.first_converted_ms.is_none())
                    .map(|unit| question.window_ms.min(plan.visible_until_ms - unit.first_entry_ms)),
            ),
        },
        ..Counts::default()
    };
    if let Some(trend) = question.trend {
        let of = |unit: &UnitOutcome| (unit.entry_ms - trend.origin_ms).div_euclid(trend.bucket_ms);
        counts.trend = units.iter().map(|unit| (of(unit), levels(&|other| of(other) == of(unit)))).collect();
    }
    if question.break_down.is_some() {
        for code in units.iter().map(|unit| unit.break_down) {
            let mut row =
                BreakDownRow { levels: levels(&|unit| unit.break_down == code), ..Default::default() };
            for unit in units.iter().filter(converted).filter(|unit| unit.break_down == code) {
                *row.time_to_convert.entry(bucket(duration(unit))).or_insert(0) += 1;
            }
            counts.break_down.insert(code, row);
        }
    }
    counts
}

fn histogram(durations: impl Iterator<Item = i64>) -> Histogram {
    let mut histogram = Histogram::default();
    durations.for_each(|duration| histogram.record(duration));
    histogram
}
