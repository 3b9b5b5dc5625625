//! A tenant's journeys at one sequence number, immutable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use hashbrown::HashMap;
use rayon::prelude::*;
use runnel_model::{Identities, Selector, Settings, ValueRef, ValueType, is_nobody};

use crate::{
    names::Names,
    run::{Run, RunBuilder},
    values::ValueDictionary,
};

/// The journeys of one shard: `base` without the superseded visitors, and `overlay`.
#[derive(Debug, Clone)]
pub struct Shard {
    /// What was loaded.
    pub base: Arc<Run>,
    /// Bit per visitor of `base`: the whole journey is in `overlay`, or part of another visitor's.
    pub superseded: Arc<Vec<u64>>,
    /// Whole journeys of visitors that have newer events.
    pub overlay: Arc<Run>,
    /// Bit per visitor of `base` and of `overlay`: it does not count, because it is superseded or stands for nobody.
    passed: (Arc<Vec<u64>>, Arc<Vec<u64>>),
}

impl Shard {
    /// A shard of these runs, in which whoever is superseded in the base is not.
    pub(crate) fn new(base: Arc<Run>, superseded: Arc<Vec<u64>>, overlay: Arc<Run>) -> Shard {
        let passed = match nobodies(&base) {
            0 => superseded.clone(),
            count => {
                let mut passed = superseded.to_vec();
                (0..count).for_each(|at| set(&mut passed, at, base.visitors.len()));
                Arc::new(passed)
            }
        };
        let mut passed_above = Vec::new();
        (0..nobodies(&overlay)).for_each(|at| set(&mut passed_above, at, overlay.visitors.len()));
        Shard { base, superseded, overlay, passed: (passed, Arc::new(passed_above)) }
    }

    /// The runs, each with the visitors that do not count.
    #[must_use]
    pub fn runs(&self) -> [(&Run, Option<&[u64]>); 2] {
        fn bits(passed: &[u64]) -> Option<&[u64]> {
            (!passed.is_empty()).then_some(passed)
        }
        [(&self.base, bits(&self.passed.0)), (&self.overlay, bits(&self.passed.1))]
    }

    /// The same without the visitors of whom an event has a code of a column.
    fn without(&self, column: usize, code: u32) -> Shard {
        let passed = |run: &Run, passed: &Arc<Vec<u64>>| {
            let mut passed = passed.to_vec();
            let values = run.columns.get(column).map(|column| column.values());
            for visitor in 0..run.visitors.len() {
                if run
                    .range(visitor)
                    .any(|event| values.is_some_and(|values| values.get(event) == Some(code)))
                {
                    set(&mut passed, visitor, run.visitors.len());
                }
            }
            Arc::new(passed)
        };
        let passed = (passed(&self.base, &self.passed.0), passed(&self.overlay, &self.passed.1));
        Shard { passed, ..self.clone() }
    }

    /// Visitors that stand for nobody, each with its run.
    pub(crate) fn nobodies(&self) -> impl Iterator<Item = (&Run, usize)> {
        let below = (0..nobodies(&self.base)).filter(|at| !is_set(&self.superseded, *at));
        let above = (0..nobodies(&self.overlay)).map(|at| (&*self.overlay, at));
        below.map(|at| (&*self.base, at)).chain(above)
    }

    /// The place of a visitor in `base`, where its journey is.
    pub(crate) fn in_base(&self, visitor: &[u8]) -> Option<usize> {
        self.base.find(visitor).filter(|at| !is_set(&self.superseded, *at))
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

    /// The run and position that hold a visitor, which is somebody of its own.
    #[must_use]
    pub fn place(&self, visitor: &str) -> Option<(&Run, usize)> {
        let shard = self.shards.get(runnel_model::shard_of(visitor))?;
        let overlay = shard.overlay.find(visitor.as_bytes()).map(|at| (&*shard.overlay, at));
        overlay.or_else(|| shard.in_base(visitor.as_bytes()).map(|at| (&*shard.base, at)))
    }

    /// The journeys of some visitors alone, in one run and in the order in which they are named, with the columns that are wanted and dictionaries of what these have: so that
    /// what is asked of few costs little. Whoever has no journey, as an id that counts as another visitor, has an empty one.
    #[must_use]
    pub fn alone<'a>(
        &self,
        visitors: impl Iterator<Item = &'a str>,
        wanted: impl Fn(&Selector) -> bool,
    ) -> Loaded {
        let columns = self.columns.iter().enumerate().filter(|(_, (selector, _))| wanted(selector));
        let columns: Vec<(usize, &ValueDictionary)> =
            columns.map(|(at, (_, values))| (at, &**values)).collect();
        let dictionaries: Vec<ValueDictionary> = columns.iter().map(|_| ValueDictionary::default()).collect();
        let mut known: Vec<HashMap<u32, u32>> = vec![HashMap::new(); columns.len()];
        let mut builder = RunBuilder::new(columns.len(), false, 0);
        let mut codes = vec![0; columns.len()];
        for visitor in visitors {
            if let Some((run, place)) = self.place(visitor) {
                for event in run.range(place) {
                    for (at, (column, values)) in columns.iter().enumerate() {
                        let found = run.columns.get(*column).and_then(|column| column.values().get(event));
                        let found = found.unwrap_or(0);
                        codes[at] = *known[at].entry(found).or_insert_with(|| {
                            values.value(found).map_or(0, |value| dictionaries[at].code(value.as_ref()))
                        });
                    }
                    builder.event(run.time(event), run.kind(event), codes.iter().copied(), (&[], 0));
                }
            }
            builder.visitor(visitor.as_bytes());
        }
        let selectors = columns.iter().map(|(at, _)| self.columns[*at].0.clone());
        let shard = Shard::new(
            Arc::new(builder.finish()),
            Arc::default(),
            Arc::new(RunBuilder::new(columns.len(), false, 0).finish()),
        );
        Loaded {
            columns: selectors.zip(dictionaries.into_iter().map(Arc::new)).collect(),
            identities: false,
            shards: vec![shard],
            ..self.clone()
        }
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
