//! When visitors may stand otherwise though nothing new is known of them: for absence, for what lies too far back, and for windows that end.
//!
//! A visitor's next turn is told from its events alone (`runnel_kernel::members::turns`), so that nothing has to be kept. Turns of the next while are in a queue; when
//! that while is over, all visitors are looked at once more. Events add turns to the queue; those that they made void stay, and cost a look.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

use runnel_journeys::{CountError, Loaded, Run};
use runnel_kernel::members::turns;

/// For how long ahead turns are in the queue, in milliseconds.
const AHEAD_MS: i64 = 60_000;

/// When it is whose turn, the earliest first.
pub(super) type Turn = Reverse<(i64, Box<str>)>;

/// Turns that are ahead.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Durations after which something counts otherwise, in milliseconds.
    durations_ms: Vec<i64>,
    /// Every turn up to this instant is in the queue; `None`: nothing is known.
    until_ms: Option<i64>,
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
        if self.until_ms.is_some_and(|known_ms| known_ms >= until_ms) {
            return Ok(());
        }
        let horizon_ms = until_ms.saturating_add(AHEAD_MS);
        let turns = loaded.fold(
            |run, skip| self.of(run, skip, from_ms, horizon_ms),
            |all: &mut Vec<_>, more| all.extend(more),
        )?;
        self.queue = turns.into();
        self.until_ms = Some(horizon_ms);
        Ok(())
    }

    /// The turns of visitors of journeys that are theirs alone, after an instant, which the queue has to have.
    pub(super) fn turns(&self, alone: &Loaded, from_ms: i64) -> Result<Vec<Turn>, CountError> {
        let mut turns = Vec::new();
        for (run, skip) in alone.runs().filter(|_| self.until_ms.is_some()) {
            turns.extend(self.of(run, skip, from_ms, self.until_ms.unwrap_or(from_ms))?);
        }
        Ok(turns)
    }

    /// Adds turns.
    pub(super) fn add(&mut self, turns: Vec<Turn>) {
        self.queue.extend(turns);
    }

    fn of(
        &self,
        run: &Run,
        skip: Option<&[u64]>,
        from_ms: i64,
        until_ms: i64,
    ) -> Result<Vec<Turn>, CountError> {
        let turns = turns(&run.slice(skip)?, &self.durations_ms, from_ms);
        let ahead = turns.into_iter().enumerate().filter(|(_, turn_ms)| *turn_ms <= until_ms);
        let named = |at: usize| String::from_utf8_lossy(run.visitors.get(at)).into_owned().into_boxed_str();
        Ok(ahead.map(|(at, turn_ms)| Reverse((turn_ms, named(at)))).collect())
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
        queued.or(self.until_ms)
    }
}
