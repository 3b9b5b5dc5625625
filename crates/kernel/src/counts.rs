//! The counts of a run: whole numbers only, so that merging is exact and free of order.

use std::collections::BTreeMap;

use crate::histogram::{self, Histogram};
use crate::outcome::{State, UnitOutcome};
use crate::plan::Plan;

/// Units by furthest level (0 to the number of required steps) and state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    /// `cells[level][state as usize]`, states in the order of [`State::ALL`].
    pub cells: Vec<[u64; 4]>,
}

impl Levels {
    pub(crate) fn new(required: usize) -> Self {
        Self { cells: vec![[0; 4]; required + 1] }
    }

    pub(crate) fn add(&mut self, level: usize, state: State, count: u64) {
        if self.cells.len() <= level {
            self.cells.resize(level + 1, [0; 4]);
        }
        self.cells[level][state as usize] += count;
    }

    /// All units.
    pub fn units(&self) -> u64 {
        self.cells.iter().flatten().sum()
    }

    /// Units in one state, whatever their level.
    pub fn in_state(&self, state: State) -> u64 {
        self.cells.iter().map(|cell| cell[state as usize]).sum()
    }

    /// Units whose furthest level is at least `level`.
    pub fn at_least(&self, level: usize) -> u64 {
        self.cells.iter().skip(level).flatten().sum()
    }

    /// Adds every cell of another table.
    pub fn merge(&mut self, other: &Self) {
        for (level, cell) in other.cells.iter().enumerate() {
            for state in State::ALL {
                self.add(level, state, cell[state as usize]);
            }
        }
    }
}

/// What an optional step goes with. Only units that reached the required step before it are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OptionalCounts {
    /// Units that did the step.
    pub with: u64,
    /// Units that did not.
    pub without: u64,
    /// Converted units among those that did.
    pub with_converted: u64,
    /// Converted units among those that did not.
    pub without_converted: u64,
}

/// One row of a break-down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BreakDownRow {
    /// Units of the row by level and state.
    pub levels: Levels,
    /// Conversions per bucket of [`crate::histogram`] of the time from entry to the last step.
    pub time_to_convert: BTreeMap<u16, u64>,
}

/// Inputs of the Kaplan–Meier estimate: each unit's *first* entry, followed until it converted or until the
/// end of its follow-up, `min(window, as_of - entry)`. Removed units are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survival {
    /// Time from the first entry to its conversion.
    pub converted: Histogram,
    /// Length of the follow-up of the others.
    pub censored: Histogram,
}

/// The answer to a question, as sums over units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Units by level and state, removed units left out.
    pub levels: Levels,
    /// Units that an exclusion took out of every other count.
    pub removed: u64,
    /// Units whose chosen chain misses a held property.
    pub missing_hold: u64,
    /// Units per step of the question that reached it; for an optional step, that did it.
    pub reached: Vec<u64>,
    /// Units per step of the question whose chosen chain begins there.
    pub entered_here: Vec<u64>,
    /// Per step of the question; zero for required steps.
    pub optional: Vec<OptionalCounts>,
    /// Time from the chosen entry to the last step, of converted units.
    pub time_to_convert: Histogram,
    /// Per step of the question the time from the required step before it; empty if not asked for.
    pub step_times: Vec<Histogram>,
    /// Units per bucket of the entry time; empty if not asked for.
    pub trend: BTreeMap<i64, Levels>,
    /// Rows per code of the break-down value, 0 for unset; empty if not asked for.
    pub break_down: BTreeMap<u32, BreakDownRow>,
    /// Inputs of the projected rate.
    pub survival: Survival,
}

impl Counts {
    /// Counts of no unit at all, shaped for a plan.
    pub fn empty(plan: &Plan) -> Self {
        let steps = plan.question().steps.len();
        Self {
            levels: Levels::new(plan.required_steps()),
            reached: vec![0; steps],
            entered_here: vec![0; steps],
            optional: vec![OptionalCounts::default(); steps],
            step_times: if plan.question().step_times {
                vec![Histogram::default(); steps]
            } else {
                Vec::new()
            },
            ..Self::default()
        }
    }

    /// Adds the counts of other units of the same question. The order of merges does not matter.
    pub fn merge(&mut self, other: &Self) {
        self.levels.merge(&other.levels);
        self.removed += other.removed;
        self.missing_hold += other.missing_hold;
        merge_each(&mut self.reached, &other.reached, |count, more| *count += more);
        merge_each(&mut self.entered_here, &other.entered_here, |count, more| *count += more);
        merge_each(&mut self.optional, &other.optional, |counts, more| {
            counts.with += more.with;
            counts.without += more.without;
            counts.with_converted += more.with_converted;
            counts.without_converted += more.without_converted;
        });
        self.time_to_convert.merge(&other.time_to_convert);
        merge_each(&mut self.step_times, &other.step_times, Histogram::merge);
        for (bucket, levels) in &other.trend {
            self.trend.entry(*bucket).or_default().merge(levels);
        }
        for (code, row) in &other.break_down {
            let mine = self.break_down.entry(*code).or_default();
            mine.levels.merge(&row.levels);
            for (bucket, count) in &row.time_to_convert {
                *mine.time_to_convert.entry(*bucket).or_default() += count;
            }
        }
        self.survival.converted.merge(&other.survival.converted);
        self.survival.censored.merge(&other.survival.censored);
    }

    /// Adds one unit of `plan`.
    pub fn record(&mut self, plan: &Plan, outcome: &UnitOutcome) {
        if outcome.removed {
            self.removed += 1;
            return;
        }
        let question = plan.question();
        let converted = outcome.state == State::Converted;
        self.levels.add(outcome.level, outcome.state, 1);
        self.missing_hold += u64::from(question.hold && outcome.hold_code == 0);
        self.entered_here[outcome.entered_step] += 1;
        let mut previous = None;
        for (step, at) in outcome.step_ms.iter().enumerate() {
            if let Some(at) = at {
                self.reached[step] += 1;
                if let (Some(previous), true) = (previous, question.step_times) {
                    self.step_times[step].record(at - previous);
                }
            }
            if !question.steps[step].optional {
                previous = *at;
            } else if previous.is_some() {
                let counts = &mut self.optional[step];
                let (units, conversions) = match at {
                    Some(_) => (&mut counts.with, &mut counts.with_converted),
                    None => (&mut counts.without, &mut counts.without_converted),
                };
                *units += 1;
                *conversions += u64::from(converted);
            }
        }
        let duration = outcome.completion_ms - outcome.entry_ms;
        if converted {
            self.time_to_convert.record(duration);
        }
        if let Some(trend) = question.trend {
            let bucket = (outcome.entry_ms - trend.origin_ms).div_euclid(trend.bucket_ms);
            self.trend.entry(bucket).or_insert_with(|| Levels::new(plan.required_steps())).add(
                outcome.level,
                outcome.state,
                1,
            );
        }
        if question.break_down.is_some() {
            let row = self.break_down.entry(outcome.break_down).or_insert_with(|| BreakDownRow {
                levels: Levels::new(plan.required_steps()),
                time_to_convert: BTreeMap::new(),
            });
            row.levels.add(outcome.level, outcome.state, 1);
            if converted {
                *row.time_to_convert.entry(histogram::bucket(duration)).or_default() += 1;
            }
        }
        match outcome.first_converted_ms {
            Some(at) => self.survival.converted.record(at - outcome.first_entry_ms),
            None => self.survival.censored.record(plan.follow_up_ms(outcome.first_entry_ms)),
        }
    }
}

/// Merges what stands at the same place of two lists.
pub(crate) fn merge_each<T: Clone>(mine: &mut Vec<T>, theirs: &[T], merge: impl Fn(&mut T, &T)) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        merge(mine, theirs);
    }
    // A default value has no steps yet; what it lacks is taken as it is.
    mine.extend_from_slice(theirs.get(mine.len()..).unwrap_or_default());
}
