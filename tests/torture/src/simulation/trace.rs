//! What happened, step by step: a hash of all of it, the last steps as text, and how often what did.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard},
};

use tokio::time::Instant;

/// Steps that are kept as text.
const KEPT: usize = 150;

/// What happened in one run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    began: Option<Instant>,
    hash: DefaultHasher,
    steps: u64,
    last: VecDeque<String>,
    tally: BTreeMap<&'static str, u64>,
}

impl Trace {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Something happened.
    pub(super) fn step(&self, what: fmt::Arguments<'_>) {
        let inner = &mut *self.inner();
        let began = *inner.began.get_or_insert_with(Instant::now);
        let mut text = if inner.last.len() == KEPT { inner.last.pop_front().unwrap() } else { String::new() };
        text.clear();
        fmt::write(&mut text, format_args!("{:7} ms  {what}", began.elapsed().as_millis())).unwrap();
        text.hash(&mut inner.hash);
        inner.steps += 1;
        inner.last.push_back(text);
    }

    /// Something of a kind happened.
    pub(super) fn count(&self, kind: &'static str) {
        *self.inner().tally.entry(kind).or_default() += 1;
    }

    /// Something that is counted happened.
    pub(super) fn counted(&self, kind: &'static str, what: fmt::Arguments<'_>) {
        self.count(kind);
        self.step(what);
    }

    /// The hash of all steps, and how many there were.
    pub(super) fn digest(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.hash.clone().finish(), inner.steps)
    }

    /// How often what happened.
    pub(super) fn tally(&self) -> BTreeMap<&'static str, u64> {
        self.inner().tally.clone()
    }

    /// The last steps.
    pub(super) fn last(&self) -> Vec<String> {
        self.inner().last.iter().cloned().collect()
    }
}
