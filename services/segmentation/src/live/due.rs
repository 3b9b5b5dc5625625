//! When visitors may stand otherwise though nothing new is known of them: for absence, for what lies too far back, and for windows that end.
//!
//! A visitor's next turn is told from its events alone (`runnel_kernel::members::turns`), so that nothing has to be kept. Turns of the next while are in a queue; when
//! that while is over, all visitors of a shard are looked at once more, one shard after the other. Events add turns to the queue; those that they made void stay, and
//! cost a look.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

use rayon::prelude::*;
use runnel_journeys::{CountError, Loaded, Run};
use runnel_kernel::members::turns;
use runnel_model::{SHARDS, shard_of};

/// For how long ahead, at least, the turns of a shard are in the queue once it was looked at, in milliseconds. At first up to twice as long.
const AHEAD_MS: i64 = 60_000;

/// When it is whose turn, the earliest first.
pub(super) type Turn = Reverse<(i64, Box<str>)>;

/// Turns that are ahead.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Durations after which something counts otherwise, in milliseconds.
    durations_ms: Vec<i64>,
    /// Every turn up to these instants is in the queue, by shard; empty: nothing is known.
    until_ms: Vec<i64>,
    queue: BinaryHeap<Turn>,
}

impl Due {
    /// Looks at these durations from now on.
    pub(super) fn watch(&mut self, durations_ms: impl Iterator<Item = i64>) {
        let durations_ms: BTreeSet<i64> = durations_ms.collect();
        let durations_ms: Vec<i64> = durations_ms.into_iter().collect();
        if durations_ms != self.durations_ms {
            *self = Due { durations_ms, ..Due::default() };
        }
    }

    /// Forgets what it knows: the journeys are others.
    pub(super) fn forget(&mut self) {
        *self = Due { durations_ms: std::mem::take(&mut self.durations_ms), ..Due::default() };
    }

    /// Makes sure that every turn after one instant and up to another is in the queue.
    pub(super) fn reach(&mut self, loaded: &Loaded, from_ms: i64, until_ms: i64) -> Result<(), CountError> {
        // Shards get to the end of what is known at different times, so that none of these takes long.
        let ahead_ms = |shard: usize| match self.until_ms.is_empty() {
            true => AHEAD_MS + AHEAD_MS * shard as i64 / SHARDS as i64,
            false => AHEAD_MS,
        };
        let known_ms = |shard: usize| self.until_ms.get(shard).copied().unwrap_or(from_ms);
        let looked: Vec<(usize, i64, i64)> = (0..SHARDS)
            .filter(|shard| self.until_ms.is_empty() || known_ms(*shard) < until_ms)
            .map(|shard| (shard, known_ms(shard), until_ms.saturating_add(ahead_ms(shard))))
            .collect();
        let turns = looked.par_iter().map(|&(shard, known_ms, until_ms)| {
            let mut turns = Vec::new();
            for (run, skip) in loaded.shards[shard].runs() {
                turns.extend(self.of(run, skip, known_ms, |_| until_ms)?);
            }
            Ok::<_, CountError>(turns)
        });
        let turns: Vec<Vec<Turn>> = turns.collect::<Result<_, _>>()?;
        self.queue.extend(turns.into_iter().flatten());
        self.until_ms.resize(SHARDS, until_ms);
        for (shard, _, until_ms) in looked {
            self.until_ms[shard] = until_ms;
        }
        Ok(())
    }

    /// The turns of visitors of journeys that are theirs alone, after an instant, which the queue has to have.
    pub(super) fn turns(&self, alone: &Loaded, from_ms: i64) -> Result<Vec<Turn>, CountError> {
        let mut turns = Vec::new();
        for (run, skip) in alone.runs().filter(|_| !self.until_ms.is_empty()) {
            turns.extend(self.of(run, skip, from_ms, |visitor| self.until_ms[shard_of(visitor)])?);
        }
        Ok(turns)
    }

    /// Adds turns.
    pub(super) fn add(&mut self, turns: Vec<Turn>) {
        self.queue.extend(turns);
    }

    /// The next turns of the visitors of a run after an instant, of each up to another.
    fn of(
        &self,
        run: &Run,
        skip: Option<&[u64]>,
        from_ms: i64,
        until_ms: impl Fn(&str) -> i64,
    ) -> Result<Vec<Turn>, CountError> {
        let turns = turns(&run.slice(skip)?, &self.durations_ms, from_ms);
        let named = turns.into_iter().enumerate().filter(|(_, turn_ms)| *turn_ms < i64::MAX);
        let named = named.map(|(at, turn_ms)| (String::from_utf8_lossy(run.visitors.get(at)), turn_ms));
        let ahead = named.filter(|(visitor, turn_ms)| *turn_ms <= until_ms(visitor));
        Ok(ahead.map(|(visitor, turn_ms)| Reverse((turn_ms, visitor.into()))).collect())
    }

    /// Takes out whoever's turn has come.
    pub(super) fn take(&mut self, now_ms: i64, visitors: &mut BTreeSet<Box<str>>) {
        while let Some(Reverse((turn_ms, _))) = self.queue.peek()
            && *turn_ms <= now_ms
        {
            visitors.extend(self.queue.pop().map(|Reverse((_, visitor))| visitor));
        }
    }

    /// When the next turn is.
    pub(super) fn next_ms(&self) -> Option<i64> {
        let queued = self.queue.peek().map(|Reverse((turn_ms, _))| *turn_ms);
        queued.into_iter().chain(self.until_ms.iter().copied()).min()
    }
}
