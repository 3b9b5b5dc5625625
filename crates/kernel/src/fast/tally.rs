//! Sums over units in flat arrays, and the [`Counts`] made of them at the end.

use std::collections::BTreeMap;
use std::ops::Range;

use super::marks::Marks;
use super::scan::{Bounds, Found, Instant};
use crate::Counts;
use crate::counts::{BreakDownRow, Levels};
use crate::histogram::{BUCKETS, Histogram, bucket};
use crate::outcome::State;
use crate::plan::Plan;
use crate::question::{BreakDown, Trend};
use crate::slice::{Columns, Values};

/// Break-down codes and trend buckets below this number have a row in a flat table, others in a map.
const FLAT: usize = 1 << 12;

/// One count per histogram bucket.
type Buckets = Box<[u64; BUCKETS]>;

/// A unit, by the visitor that is it.
pub(super) struct Visitor<'a, T> {
    pub(super) marks: &'a Marks<'a>,
    pub(super) bounds: &'a Bounds,
    /// Of the whole slice.
    pub(super) times: &'a [T],
    /// Its events. In the bit columns are only those that the plan sees.
    pub(super) events: Range<usize>,
}

impl<T: Instant> Visitor<'_, T> {
    /// The instant of a place.
    #[inline(always)]
    pub(super) fn time(&self, place: u32) -> i64 {
        self.times.get(place as usize).map_or(0, |time| time.ms())
    }
}

/// The state of a unit of this level, of so many.
#[inline(always)]
pub(super) fn state(level: usize, steps: usize, open: bool) -> State {
    match (level == steps, open) {
        (true, _) => State::Converted,
        (false, true) => State::Open,
        (false, false) => State::Dropped,
    }
}

/// Sums over units.
pub(super) struct Tally<'a> {
    steps: usize,
    window: i64,
    visible_until_ms: i64,
    step_times: bool,
    break_down: Option<BreakDown>,
    values: Values<'a>,
    trend: Option<Trend>,
    /// Whether the places of later steps are needed.
    places_needed: bool,
    /// Units per level and state.
    levels: Box<[[u64; 4]; 64]>,
    time_to_convert: Buckets,
    /// Per step, from the second on, the time from the step before.
    between: Vec<Buckets>,
    converted: Buckets,
    censored: Buckets,
    /// Units followed for their whole window.
    censored_at_window: u64,
    /// Whether every entry of the range is followed for its whole window.
    follow_up_is_window: bool,
    by_value: Rows,
    /// Conversions as value << 16 | bucket.
    conversions: BTreeMap<u64, u64>,
    recent: Vec<u64>,
    by_bucket: Rows,
    first_bucket: i64,
}

/// Units per row, level and state.
struct Rows {
    width: usize,
    flat: Vec<u64>,
    sparse: BTreeMap<u64, Vec<u64>>,
}

impl Rows {
    fn new(steps: usize) -> Self {
        Self { width: (steps + 1) * 4, flat: Vec::new(), sparse: BTreeMap::new() }
    }

    #[inline(always)]
    fn add(&mut self, row: u64, level: usize, state: State) {
        let cell = level * 4 + state as usize;
        if row < FLAT as u64 {
            let at = row as usize * self.width + cell;
            if at >= self.flat.len() {
                self.flat.resize((row as usize + 1) * self.width, 0);
            }
            self.flat[at] += 1;
        } else {
            self.sparse.entry(row).or_insert_with(|| vec![0; self.width])[cell] += 1;
        }
    }

    /// The rows that hold a unit.
    fn levels(&self) -> impl Iterator<Item = (u64, Levels)> + '_ {
        let levels = |cells: &[u64]| Levels {
            cells: cells.chunks_exact(4).map(|cell| [cell[0], cell[1], cell[2], cell[3]]).collect(),
        };
        let flat = self.flat.chunks_exact(self.width).enumerate();
        let flat = flat.filter(|(_, cells)| cells.iter().any(|count| *count != 0));
        let sparse = self.sparse.iter().map(move |(row, cells)| (*row, levels(cells)));
        flat.map(move |(row, cells)| (row as u64, levels(cells))).chain(sparse)
    }
}

fn buckets() -> Buckets {
    Box::new([0; BUCKETS])
}

#[inline(always)]
fn record(buckets: &mut Buckets, duration_ms: i64) {
    buckets[usize::from(bucket(duration_ms)) % BUCKETS] += 1;
}

impl<'a> Tally<'a> {
    pub(super) fn new(plan: &Plan, columns: &Columns<'a>) -> Self {
        let question = plan.question();
        let steps = question.steps.len();
        let later = matches!(question.break_down, Some(BreakDown::AtStep(1..) | BreakDown::FirstDefined));
        Self {
            steps,
            window: question.window_ms,
            visible_until_ms: plan.visible_until_ms,
            step_times: question.step_times,
            break_down: question.break_down,
            values: columns.break_down.unwrap_or(Values::U8(&[])),
            trend: question.trend,
            places_needed: question.step_times || later,
            levels: Box::new([[0; 4]; 64]),
            time_to_convert: buckets(),
            between: (1..steps).map(|_| buckets()).collect(),
            converted: buckets(),
            censored: buckets(),
            censored_at_window: 0,
            follow_up_is_window: plan.visible_until_ms - question.until_ms >= question.window_ms,
            by_value: Rows::new(steps),
            conversions: BTreeMap::new(),
            recent: Vec::new(),
            by_bucket: Rows::new(steps),
            first_bucket: question.trend.map_or(0, |trend| bucket_of(trend, question.from_ms)),
        }
    }

    /// The state of a unit of this level.
    #[inline(always)]
    pub(super) fn state(&self, level: usize, open: bool) -> State {
        state(level, self.steps, open)
    }

    /// Counts units of one level and state.
    #[inline(always)]
    pub(super) fn count(&mut self, level: usize, state: State, units: u64) {
        self.levels[level % 64][state as usize] += units;
    }

    /// Counts units that did not convert and were followed for their whole window.
    pub(super) fn censor_at_window(&mut self, units: u64) {
        self.censored_at_window += units;
    }

    /// Counts a unit that did not convert, by its first entry since the slice's epoch.
    #[inline(always)]
    pub(super) fn censor(&mut self, first: i64, bounds: &Bounds) {
        if self.follow_up_is_window {
            self.censored_at_window += 1;
        } else {
            let follow_up = self.visible_until_ms - (first + bounds.epoch_ms);
            record(&mut self.censored, follow_up.min(self.window));
        }
    }

    /// Whether more than the level and the times of a unit is to be known.
    #[inline(always)]
    pub(super) fn groups(&self) -> bool {
        self.trend.is_some() || self.break_down.is_some()
    }

    /// Whether the time between steps is to be known.
    #[inline(always)]
    pub(super) fn step_times(&self) -> bool {
        self.step_times
    }

    /// Whether the places of the steps behind the first are needed.
    #[inline(always)]
    pub(super) fn places_needed(&self) -> bool {
        self.places_needed
    }

    /// Counts the time between a step, from the second on, and the one before.
    #[inline(always)]
    pub(super) fn between(&mut self, step: usize, duration_ms: i64) {
        if let Some(buckets) = self.between.get_mut(step - 1) {
            record(buckets, duration_ms);
        }
    }

    /// Counts a unit of its own, with the events of its visitor and the places of its steps.
    pub(super) fn record<T: Instant>(
        &mut self,
        unit: &Visitor<'_, T>,
        (found, open): (Found, bool),
        places: &[u32; 32],
    ) {
        let state = self.state(found.level, open);
        self.count(found.level, state, 1);
        if state == State::Converted {
            self.convert(unit, &found);
        } else {
            self.censor(unit.time(found.first), unit.bounds);
        }
        if self.step_times {
            let mut before = unit.time(found.entry);
            for (step, place) in places.iter().enumerate().take(found.level).skip(1) {
                let time = unit.time(*place);
                self.between(step, time - before);
                before = time;
            }
        }
        self.group(unit, (&found, state), |step| places[step % 32]);
    }

    /// Counts the times of a converted unit.
    #[inline(always)]
    pub(super) fn convert<T: Instant>(&mut self, unit: &Visitor<'_, T>, found: &Found) {
        record(&mut self.time_to_convert, unit.time(found.completion) - unit.time(found.entry));
        let first = unit.time(found.first);
        let from_first = found.first_completion.map(|completion| unit.time(completion) - first);
        match from_first {
            Some(duration) if duration <= self.window => record(&mut self.converted, duration),
            _ => self.censor(first, unit.bounds),
        }
    }

    /// Counts a unit in its row of the trend and of the break-down. `place` tells the places of the steps behind the first,
    /// if [`Self::places_needed`].
    #[inline(always)]
    pub(super) fn group<T: Instant>(
        &mut self,
        unit: &Visitor<'_, T>,
        (found, state): (&Found, State),
        place: impl Fn(usize) -> u32,
    ) {
        if let Some(trend) = self.trend {
            // Entries are in the range, so no bucket comes before that of its first instant.
            let row = bucket_of(trend, unit.time(found.entry) + unit.bounds.epoch_ms) - self.first_bucket;
            self.by_bucket.add(row as u64, found.level, state);
        }
        if let Some(break_down) = self.break_down {
            let at = |place: u32| self.values.get(unit.marks.event_at(place));
            let touches = || {
                let Range { start, end } = unit.events;
                let seen = unit.bounds.visible(&unit.times[start..end]);
                (start..start + seen).filter_map(|event| self.values.get(event))
            };
            // Of simultaneous entries, which are alike for everything else, the first tells the value.
            let first = || self.values.get(unit.marks.entry_at(found.entry));
            let value = match break_down {
                BreakDown::AtStep(0) => first(),
                BreakDown::AtStep(step) => (step < found.level).then(|| at(place(step))).flatten(),
                BreakDown::FirstDefined => {
                    let later = (1..found.level).map(|step| at(place(step)));
                    std::iter::once(first()).chain(later).flatten().find(|value| *value != 0)
                }
                BreakDown::FirstTouch => touches().find(|value| *value != 0),
                BreakDown::LastTouch => touches().rev().find(|value| *value != 0),
            }
            .unwrap_or(0);
            self.by_value.add(u64::from(value), found.level, state);
            if state == State::Converted {
                let duration = unit.time(found.completion) - unit.time(found.entry);
                self.recent.push(u64::from(value) << 16 | u64::from(bucket(duration)));
                if self.recent.len() == 1 << 16 {
                    self.fold();
                }
            }
        }
    }

    fn fold(&mut self) {
        self.recent.sort_unstable();
        for same in self.recent.chunk_by(|left, right| left == right) {
            *self.conversions.entry(same[0]).or_default() += same.len() as u64;
        }
        self.recent.clear();
    }

    pub(super) fn counts(mut self, plan: &Plan) -> Counts {
        self.fold();
        let mut counts = Counts::empty(plan);
        counts.levels.cells.copy_from_slice(&self.levels[..=self.steps]);
        for step in 0..self.steps {
            counts.reached[step] = counts.levels.at_least(step + 1);
        }
        counts.entered_here[0] = counts.levels.units();
        counts.time_to_convert = Histogram::of(self.time_to_convert);
        for (step, buckets) in counts.step_times.iter_mut().skip(1).zip(self.between) {
            *step = Histogram::of(buckets);
        }
        counts.survival.converted = Histogram::of(self.converted);
        counts.survival.censored = Histogram::of(self.censored);
        counts.survival.censored.add(bucket(self.window), self.censored_at_window);
        for (row, levels) in self.by_bucket.levels() {
            counts.trend.insert(row as i64 + self.first_bucket, levels);
        }
        for (value, levels) in self.by_value.levels() {
            counts.break_down.insert(value as u32, BreakDownRow { levels, ..Default::default() });
        }
        for (key, count) in &self.conversions {
            let row = counts.break_down.entry((key >> 16) as u32).or_default();
            row.time_to_convert.insert((key & 0xFFFF) as u16, *count);
        }
        counts
    }
}

fn bucket_of(trend: Trend, instant_ms: i64) -> i64 {
    (instant_ms - trend.origin_ms).div_euclid(trend.bucket_ms)
}
