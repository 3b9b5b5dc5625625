//! A tenant's journeys at one sequence number, immutable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use rayon::prelude::*;
use runnel_model::{Identities, Selector, Settings, ValueType};

use crate::{names::Names, run::Run, values::ValueDictionary};

/// The journeys of one shard: `base` without the superseded visitors, and `overlay`.
#[derive(Debug, Clone)]
pub struct Shard {
    /// What was loaded.
    pub base: Arc<Run>,
    /// Bit per visitor of `base`: the whole journey is in `overlay`, or part of another visitor's.
    pub superseded: Arc<Vec<u64>>,
    /// Whole journeys of visitors that have newer events.
    pub overlay: Arc<Run>,
}

impl Shard {
    /// The place of a visitor in `base`, where its journey is.
    pub(crate) fn in_base(&self, visitor: &[u8]) -> Option<usize> {
        self.base.find(visitor).filter(|at| !is_set(&self.superseded, *at))
    }
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
    /// All runs, each with the visitors to skip.
    pub fn runs(&self) -> impl Iterator<Item = (&Run, Option<&[u64]>)> {
        self.shards.iter().flat_map(|shard| {
            let skip = (!shard.superseded.is_empty()).then(|| shard.superseded.as_slice());
            [(&*shard.base, skip), (&*shard.overlay, None)]
        })
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

    /// The position of a loaded column.
    #[must_use]
    pub fn column(&self, selector: &Selector) -> Option<usize> {
        self.columns.iter().position(|(loaded, _)| loaded == selector)
    }

    /// The run and position that hold the visitor that an id counts as.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<(&Run, usize)> {
        let visitor = self.people.visitor(id);
        let shard = self.shards.get(runnel_model::shard_of(visitor))?;
        let overlay = shard.overlay.find(visitor.as_bytes()).map(|at| (&*shard.overlay, at));
        overlay.or_else(|| shard.in_base(visitor.as_bytes()).map(|at| (&*shard.base, at)))
    }

    /// Distinct events.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| {
                let gone: usize =
                    ones(&shard.superseded).map(|visitor| shard.base.range(visitor).len()).sum();
                (shard.base.events() - gone + shard.overlay.events()) as u64
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
