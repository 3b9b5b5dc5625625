//! What is watched, and how visitors stand in it.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use runnel_contracts::{proto::funnel::v1::UnitState, refusal::Refusal};
use runnel_definitions::{
    funnel::{self, Range},
    members::{Members, selectors},
    posed::Posed,
    segment,
    worth::Priced,
};
use runnel_journeys::{CountError, Loaded, Run};
use runnel_kernel::{State, UnitOutcome};
use runnel_model::{Selector, Settings, Worth, limits};

use super::advance::Change;

/// A segment or a funnel that is watched.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// Who belongs.
    Segment(Box<segment::Checked>),
    /// Who has come how far, of those who entered from an instant on.
    Funnel {
        /// The funnel.
        checked: Box<funnel::Checked>,
        /// From when on entries count, in milliseconds since the Unix epoch.
        from_ms: i64,
        /// Whether what is at stake is told.
        values: bool,
    },
}

/// How a visitor, or one of the units that a funnel counts of it, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It belongs to the segment.
    Member,
    /// It is so far in the funnel.
    Unit {
        /// The furthest step done, from 1, optional ones not looked at.
        step: usize,
        /// What has become of it.
        state: UnitState,
        /// When it entered, in milliseconds since the Unix epoch.
        entered_ms: i64,
        /// When it did the furthest step.
        step_ms: i64,
    },
}

/// What of a definition is needed to tell of changes. Steps are kept with it, and not with the definition, which may name long lists.
#[derive(Debug, Default)]
pub(super) struct Legend {
    /// What the steps of a funnel are called.
    pub(super) labels: Vec<String>,
    /// How long after its entry a unit may go on, in milliseconds.
    pub(super) window_ms: i64,
}

/// Units by furthest step and state. Members of a segment are all one.
pub(super) type Cells = BTreeMap<(usize, i32), u64>;

/// Counts of what is watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) cells: Cells,
    /// Visitors who exist; of a segment only.
    pub(super) present: u64,
}

/// A visitor as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stands {
    /// Whether it exists; of a segment only.
    pub(super) present: bool,
    /// Its units.
    pub(super) units: Vec<Standing>,
}

/// How the visitors of a run stand, by their place there.
#[derive(Debug, Default)]
pub(super) struct Standings {
    /// Bit per visitor: it exists; of a segment only.
    present: Vec<u64>,
    /// Units, each with the place of its visitor, ascending.
    units: Vec<(usize, Standing)>,
}

impl Standings {
    /// Visitors who stand anywhere.
    pub(super) fn anywhere(&self) -> impl Iterator<Item = (usize, Stands)> {
        self.units
            .chunk_by(|left, right| left.0 == right.0)
            .map(|units| (units[0].0, self.of(units[0].0, units)))
    }

    /// Visitors of both who stand otherwise in the other, with how they do in both.
    pub(super) fn differing(&self, other: &Standings) -> Vec<(usize, Stands, Stands)> {
        let mut differing = Vec::new();
        let (mut mine, mut others) = (&self.units[..], &other.units[..]);
        let visitors = self.present.len().max(other.present.len()) * 64;
        let visitors = visitors
            .max([mine, others].into_iter().filter_map(|units| Some(units.last()?.0 + 1)).max().unwrap_or(0));
        for at in 0..visitors {
            let (before, after) = (take(&mut mine, at), take(&mut others, at));
            let same = before.iter().map(|unit| unit.1).eq(after.iter().map(|unit| unit.1));
            if !same || is(&self.present, at) != is(&other.present, at) {
                differing.push((at, self.of(at, before), other.of(at, after)));
            }
        }
        differing
    }

    fn of(&self, at: usize, units: &[(usize, Standing)]) -> Stands {
        Stands { present: is(&self.present, at), units: units.iter().map(|unit| unit.1).collect() }
    }
}

/// Whether a visitor has its bit.
fn is(bits: &[u64], at: usize) -> bool {
    bits.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

/// Takes the units of a visitor off the front.
fn take<'a>(units: &mut &'a [(usize, Standing)], at: usize) -> &'a [(usize, Standing)] {
    let count = units.iter().take_while(|unit| unit.0 == at).count();
    let (taken, rest) = units.split_at(count);
    *units = rest;
    taken
}

impl Standing {
    /// When it entered, in milliseconds since the Unix epoch.
    pub(super) fn entered_ms(&self) -> i64 {
        match self {
            Standing::Member => 0,
            Standing::Unit { entered_ms, .. } => *entered_ms,
        }
    }

    /// Where it counts.
    fn cell(&self) -> (usize, i32) {
        match self {
            Standing::Member => (0, 0),
            Standing::Unit { state: UnitState::Removed, .. } => (0, UnitState::Removed as i32),
            Standing::Unit { step, state, .. } => (*step, *state as i32),
        }
    }
}

impl Tally {
    /// Takes in that a visitor stands otherwise.
    pub(super) fn change(&mut self, before: &Stands, after: &Stands) {
        for unit in &before.units {
            let count = self.cells.entry(unit.cell()).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.cells.remove(&unit.cell());
            }
        }
        for unit in &after.units {
            *self.cells.entry(unit.cell()).or_default() += 1;
        }
        self.present = self.present + u64::from(after.present) - u64::from(before.present).min(self.present);
    }

    fn merge(&mut self, more: Tally) {
        for (cell, count) in more.cells {
            *self.cells.entry(cell).or_default() += count;
        }
        self.present += more.present;
    }
}

impl What {
    /// Tells apart what would be counted otherwise.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }

    /// What is needed to tell of its changes.
    pub(super) fn legend(&self) -> Arc<Legend> {
        Arc::new(match self {
            What::Segment(_) => Legend::default(),
            What::Funnel { checked, .. } => Legend {
                labels: checked.resolved().steps.iter().map(|step| step.label.clone()).collect(),
                window_ms: checked.choices.window_ms,
            },
        })
    }

    /// The columns that it looks at.
    pub(super) fn selectors(&self) -> impl Iterator<Item = Selector> {
        match self {
            What::Segment(checked) => selectors(checked),
            What::Funnel { checked, values, .. } => {
                let mut selectors = checked.columns.selectors();
                let (amount, currency) = Worth::OfEvent.columns();
                selectors.extend(amount.into_iter().chain(currency).filter(|_| *values));
                selectors
            }
        }
        .into_iter()
    }

    /// How sessions are told.
    pub(super) fn settings(&self) -> &Settings {
        match self {
            What::Segment(checked) => &checked.marks.settings,
            What::Funnel { checked, .. } => &checked.columns.settings,
        }
    }

    /// Durations after which visitors may stand otherwise without new events, in milliseconds.
    pub(super) fn durations_ms(&self) -> Vec<i64> {
        match self {
            What::Segment(checked) => checked.durations_ms.clone(),
            What::Funnel { checked, .. } => checked.durations_ms().collect(),
        }
    }

    /// Visitors who are on one of its lists in one of two journeys and not in the other, by who is who there.
    pub(super) fn moved_on_lists(&self, was: &Loaded, is: &Loaded) -> Vec<String> {
        let What::Segment(checked) = self else { return Vec::new() };
        let moved = checked.conditions.iter().map(|condition| match condition {
            segment::Asked::OnList(list) => list.moved(was, is),
            _ => Vec::new(),
        });
        moved.flatten().collect()
    }

    /// Adds what is at stake after changes, where that is asked for.
    pub(super) fn price(&self, loaded: &Loaded, changes: &mut [Change]) {
        if !matches!(self, What::Funnel { values: true, .. }) {
            return;
        }
        let priced = Priced::new(&Worth::OfEvent, loaded);
        for change in changes {
            let Some(Standing::Unit { entered_ms, step_ms, .. }) = change.after else { continue };
            let place = loaded.place(&change.visitor);
            change.value = place.and_then(|place| priced.latest(loaded, place, &(entered_ms..=step_ms)));
        }
    }

    /// Brings it before journeys that have its columns.
    pub(super) fn before(&self, loaded: &Arc<Loaded>, as_of_ms: i64) -> Result<Brought, Refusal> {
        match self {
            What::Segment(checked) => {
                let members = Members::new(loaded.clone(), (**checked).clone(), as_of_ms)?;
                Ok(Brought::Segment(Box::new(members)))
            }
            What::Funnel { checked, from_ms, .. } => {
                let range = Range { from_ms: *from_ms, until_ms: as_of_ms.max(*from_ms), as_of_ms };
                let posed = Posed::new(loaded.clone(), checked, range, 0)?;
                let steps = checked.resolved().steps.iter().enumerate().filter(|(_, step)| !step.optional);
                Ok(Brought::Funnel(Box::new(posed), steps.map(|(at, _)| at + 1).collect()))
            }
        }
    }
}

/// What is watched, before journeys as of an instant.
pub(super) enum Brought {
    Segment(Box<Members>),
    /// With the number of each required step.
    Funnel(Box<Posed>, Vec<usize>),
}

impl Brought {
    /// How the visitors of a run stand. Who is to be skipped stands nowhere.
    pub(super) fn stand(&self, run: &Run, skip: Option<&[u64]>) -> Result<Standings, CountError> {
        let mut all = Standings::default();
        match self {
            Brought::Segment(members) => {
                let found = members.of(run, skip)?;
                let belonging = (0..run.visitors.len()).filter(|at| is(&found.members, *at));
                all.units.extend(belonging.map(|at| (at, Standing::Member)));
                all.present = found.present;
            }
            Brought::Funnel(posed, steps) => {
                let (slice, columns) = (run.slice(skip)?, posed.derived.columns(run, skip)?);
                let predicates = columns.predicates();
                posed.plan.outcomes_of_all(&slice, &columns.kernel(&predicates), |at, unit| {
                    all.units.extend(standing(&unit, steps).map(|unit| (at, unit)));
                })?;
            }
        }
        Ok(all)
    }

    /// The counts of a run.
    fn tally(&self, run: &Run, skip: Option<&[u64]>) -> Result<Tally, CountError> {
        let mut tally = Tally::default();
        match self {
            Brought::Segment(members) => {
                let found = members.of(run, skip)?;
                let ones = |bits: &[u64]| bits.iter().map(|word| u64::from(word.count_ones())).sum();
                tally.present = ones(&found.present);
                tally.cells.insert(Standing::Member.cell(), ones(&found.members));
            }
            Brought::Funnel(posed, steps) => {
                let columns = posed.derived.columns(run, skip)?;
                let predicates = columns.predicates();
                let counts = posed.plan.run(&run.slice(skip)?, &columns.kernel(&predicates))?;
                for (cell, step) in counts.levels.cells.iter().skip(1).zip(steps) {
                    for state in State::ALL {
                        tally.cells.insert((*step, shown(state) as i32), cell[state as usize]);
                    }
                }
                tally.cells.insert((0, UnitState::Removed as i32), counts.removed);
            }
        }
        tally.cells.retain(|_, count| *count > 0);
        Ok(tally)
    }

    /// The counts of all journeys, on the computing threads.
    pub(super) fn count(&self, loaded: &Loaded) -> Result<Tally, CountError> {
        loaded.fold(|run, skip| self.tally(run, skip), |sum: &mut Tally, more| sum.merge(more))
    }
}

/// A state of the kernel as the contract has it.
pub(super) fn shown(state: State) -> UnitState {
    match state {
        State::Converted => UnitState::Converted,
        State::Dropped => UnitState::Dropped,
        State::Excluded => UnitState::Excluded,
        State::Open => UnitState::Open,
    }
}

/// How a unit stands; `None` before it has done a step.
fn standing(unit: &UnitOutcome, steps: &[usize]) -> Option<Standing> {
    let (step, state) = match unit.removed {
        true => (0, UnitState::Removed),
        false => (*steps.get(unit.level.checked_sub(1)?)?, shown(unit.state)),
    };
    let (entered_ms, step_ms) = (unit.entry_ms, unit.completion_ms);
    Some(Standing::Unit { step, state, entered_ms, step_ms })
}

/// From when on entries count where a request does not say.
pub(super) const FROM_THE_FIRST_MS: i64 = *limits::TIME_RANGE_MS.start();
