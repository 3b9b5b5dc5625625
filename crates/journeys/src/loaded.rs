//! A tenant's journeys at one sequence number, immutable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use rayon::prelude::*;
use runnel_model::{Identities, Selector, Settings, ValueRef, ValueType, is_nobody};

use crate::{
    builder::{Room, RunBuilder},
    names::Names,
    run::Run,
    values::ValueDictionary,
};

/// Levels of a shard.
pub const LEVELS: usize = 3;

/// The journeys of one shard, in levels. A visitor's whole journey is in one of them.
#[derive(Debug, Clone)]
pub struct Shard {
    /// What was loaded first, and above it what is newer: smaller, and made anew more often.
    pub(crate) levels: [Level; LEVELS],
}

/// Journeys of some visitors of a shard.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    pub(crate) run: Arc<Run>,
    /// Bit per visitor of the run: its whole journey is in a level above, or part of another visitor's.
    pub(crate) superseded: Arc<Vec<u64>>,
    /// Bit per visitor of the run: it does not count, because it is superseded or stands for nobody.
    passed: Arc<Vec<u64>>,
}

impl Level {
    /// A run, in which whoever is superseded does not count.
    pub(crate) fn new(run: Arc<Run>, superseded: Arc<Vec<u64>>) -> Level {
        let passed = match nobodies(&run) {
            0 => superseded.clone(),
            count => {
                let mut passed = superseded.to_vec();
                (0..count).for_each(|at| set(&mut passed, at, run.visitors.len()));
                Arc::new(passed)
            }
        };
        Level { run, superseded, passed }
    }

    /// Nobody, with so many columns.
    pub(crate) fn empty(columns: usize) -> Level {
        Level::new(Arc::new(RunBuilder::new(columns, true, &Room::default()).finish()), Arc::default())
    }

    /// The place of a visitor whose journey is in this level.
    pub(crate) fn find(&self, visitor: &[u8]) -> Option<usize> {
        self.run.find(visitor).filter(|at| !is_set(&self.superseded, *at))
    }

    /// The visitors whose journeys are in this level, by position.
    pub(crate) fn visitors(&self) -> impl Iterator<Item = usize> {
        (0..self.run.visitors.len()).filter(|at| !is_set(&self.superseded, *at))
    }

    /// The same, with more visitors who are not in it any more.
    pub(crate) fn without(&self, gone: impl Iterator<Item = usize>) -> Level {
        let mut gone = gone.peekable();
        if gone.peek().is_none() {
            return self.clone();
        }
        let mut superseded = self.superseded.to_vec();
        gone.for_each(|visitor| set(&mut superseded, visitor, self.run.visitors.len()));
        Level::new(self.run.clone(), Arc::new(superseded))
    }
}

impl Shard {
    /// A shard of one run, with so many columns.
    pub(crate) fn of(run: Run, columns: usize) -> Shard {
        let empty = Level::empty(columns);
        Shard { levels: [Level::new(Arc::new(run), Arc::default()), empty.clone(), empty] }
    }

    /// The runs, each with the visitors that do not count.
    #[must_use]
    pub fn runs(&self) -> [(&Run, Option<&[u64]>); LEVELS] {
        self.levels.each_ref().map(|level| {
            let passed = &level.passed[..];
            (&*level.run, (!passed.is_empty()).then_some(passed))
        })
    }

    /// The run of the lowest level: of journeys that are alone, all there is.
    #[must_use]
    pub fn base(&self) -> &Run {
        &self.levels[0].run
    }

    /// The same without the visitors of whom an event has a code of a column.
    fn without(&self, column: usize, code: u32) -> Shard {
        let levels = self.levels.each_ref().map(|level| {
            let (run, mut passed) = (&level.run, level.passed.to_vec());
            let values = run.columns.get(column).map(|column| column.values());
            for visitor in 0..run.visitors.len() {
                if run
                    .range(visitor)
                    .any(|event| values.is_some_and(|values| values.get(event) == Some(code)))
                {
                    set(&mut passed, visitor, run.visitors.len());
                }
            }
            Level { passed: Arc::new(passed), ..level.clone() }
        });
        Shard { levels }
    }

    /// Visitors that stand for nobody, each with its run.
    pub(crate) fn nobodies(&self) -> impl Iterator<Item = (&Run, usize)> {
        self.levels.iter().flat_map(|level| {
            let visitors = (0..nobodies(&level.run)).filter(|at| !is_set(&level.superseded, *at));
            visitors.map(|at| (&*level.run, at))
        })
    }

    /// The level that has the journey of a visitor, and its place there.
    pub(crate) fn find(&self, visitor: &[u8]) -> Option<(usize, usize)> {
        let levels = self.levels.iter().enumerate().rev();
        levels.filter_map(|(number, level)| Some((number, level.find(visitor)?))).next()
    }
}

/// How many visitors of a run stand for nobody: they come before all others.
fn nobodies(run: &Run) -> usize {
    (0..run.visitors.len()).take_while(|at| is_nobody(run.visitors.get(*at))).count()
}

/// Whether a bit is set; those behind the end are not.
pub(crate) fn is_set(bits: &[u64], at: usize) -> bool {
    bits.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

/// Sets a bit; there are as many as `length`.
pub(crate) fn set(bits: &mut Vec<u64>, at: usize, length: usize) {
    bits.resize(length.div_ceil(64), 0);
    bits[at / 64] |= 1 << (at % 64);
}

/// The properties that a tenant's events carry.
#[derive(Debug, Default)]
pub struct Properties {
    types: Mutex<BTreeMap<String, BTreeSet<ValueType>>>,
}

impl Properties {
    /// Notes that a property was seen.
    pub fn add(&self, name: &str, value_type: ValueType) {
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        match types.get_mut(name) {
            Some(known) => drop(known.insert(value_type)),
            None => drop(types.insert(name.to_owned(), BTreeSet::from([value_type]))),
        }
    }

    /// Names from behind `after`, in order, at most `limit`, each with its types.
    #[must_use]
    pub fn page(&self, after: &str, limit: usize) -> Vec<(String, Vec<ValueType>)> {
        let types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        let later = types.iter().filter(|(name, _)| name.as_str() > after);
        later.take(limit).map(|(name, types)| (name.clone(), types.iter().copied().collect())).collect()
    }
}

/// A tenant's journeys.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Every batch up to this sequence number is in.
    pub sequence: u64,
    /// The version of the erasures that are carried out in this.
    pub erasure: u64,
    /// From when on events are kept, in milliseconds since the Unix epoch; `None` when all are.
    pub kept_from_ms: Option<i64>,
    /// Who is who: which visitor an id counts as.
    pub people: Arc<Identities>,
    /// Event names.
    pub names: Arc<Names>,
    /// Property names seen, with their types.
    pub properties: Arc<Properties>,
    /// Loaded columns, in the order of the runs' columns.
    pub columns: Vec<(Selector, Arc<ValueDictionary>)>,
    /// How the columns that are made of sessions are told.
    pub settings: Arc<Settings>,
    /// Whether the ids of all events are resident.
    pub identities: bool,
    /// The shards.
    pub shards: Vec<Shard>,
}

impl Loaded {
    /// The earliest and the latest event, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn span_ms(&self) -> Option<(i64, i64)> {
        let runs = self.runs().filter(|(run, _)| run.events() > 0);
        runs.map(|(run, _)| run.span_ms)
            .reduce(|(from, until), (first, last)| (from.min(first), until.max(last)))
    }

    /// All runs, each with the visitors to skip.
    pub fn runs(&self) -> impl Iterator<Item = (&Run, Option<&[u64]>)> {
        self.shards.iter().flat_map(Shard::runs)
    }

    /// Counts every run that has events, in parallel on the computing threads, and merges the counts in no certain order.
    pub fn fold<T: Default + Send, E: Send>(
        &self,
        count: impl Fn(&Run, Option<&[u64]>) -> Result<T, E> + Send + Sync,
        merge: impl Fn(&mut T, T) + Send + Sync,
    ) -> Result<T, E> {
        let runs: Vec<_> = self.runs().filter(|(run, _)| run.events() > 0).collect();
        let counted = runs.into_par_iter().map(|(run, skip)| count(run, skip));
        counted
            .try_reduce_with(|mut sum, more| {
                merge(&mut sum, more);
                Ok(sum)
            })
            .unwrap_or_else(|| Ok(T::default()))
    }

    /// The same without the visitors of whom an event has a value of a loaded column.
    #[must_use]
    pub fn without(&self, selector: &Selector, value: &str) -> Loaded {
        let column = self.columns.iter().position(|(loaded, _)| loaded == selector);
        let is_it = |known: ValueRef<'_>| known == ValueRef::String(value);
        let code =
            column.and_then(|at| self.columns[at].1.test(false, is_it).iter().position(|is_it| *is_it));
        let Some((column, code)) = column.zip(code) else { return self.clone() };
        let shards = self.shards.par_iter().map(|shard| shard.without(column, code as u32));
        Loaded { shards: shards.collect(), ..self.clone() }
    }

    /// Whether it has these columns, those that are made of sessions told by these settings.
    pub(crate) fn serves(&self, columns: &BTreeSet<Selector>, settings: Option<&Settings>) -> bool {
        settings.is_none_or(|settings| *settings == *self.settings)
            && columns.iter().all(|selector| self.column(selector).is_some())
    }

    /// The position of a loaded column.
    #[must_use]
    pub fn column(&self, selector: &Selector) -> Option<usize> {
        self.columns.iter().position(|(loaded, _)| loaded == selector)
    }

    /// The run and position that hold the visitor that an id counts as.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<(&Run, usize)> {
        self.place(self.people.visitor(id))
    }

    /// The run and position that hold a visitor, which is somebody of its own. Nobody is held anywhere.
    #[must_use]
    pub fn place(&self, visitor: &str) -> Option<(&Run, usize)> {
        if is_nobody(visitor.as_bytes()) {
            return None;
        }
        let shard = self.shards.get(runnel_model::shard_of(visitor))?;
        shard.find(visitor.as_bytes()).map(|(level, at)| (&*shard.levels[level].run, at))
    }

    /// Distinct events of visitors.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.runs()
            .map(|(run, passed)| {
                let gone = ones(passed.unwrap_or_default()).map(|visitor| run.range(visitor).len());
                (run.events() - gone.sum::<usize>()) as u64
            })
            .sum()
    }

    /// Bytes held in memory, approximately.
    #[must_use]
    pub fn memory(&self) -> usize {
        let values: usize = self.columns.iter().map(|(_, dictionary)| dictionary.memory()).sum();
        self.runs().map(|(run, _)| run.memory()).sum::<usize>() + values + self.people.memory()
    }

    /// Bytes of kinds and times.
    #[must_use]
    pub fn event_bytes(&self) -> usize {
        self.runs().map(|(run, _)| run.event_bytes()).sum()
    }
}

/// The positions of set bits.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(at, &word)| {
        std::iter::successors((word != 0).then_some(word), |rest| {
            Some(rest & (rest - 1)).filter(|rest| *rest != 0)
        })
        .map(move |rest| at * 64 + rest.trailing_zeros() as usize)
    })
}
