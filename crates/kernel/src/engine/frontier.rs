//! The chains of one level that are worth keeping.

/// A chain of some level, as far as its future is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// Instant of its entry.
    pub(super) entry: i64,
    /// Instant of its last event.
    pub(super) last: i64,
}

/// Chains none of which has both a later or equal entry and a later or equal last event than another: last events
/// rise, entries fall. Mostly there is one, which is kept without memory of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Frontier {
    /// All but the newest.
    older: Vec<Chain>,
    newest: Option<Chain>,
}

impl Frontier {
    /// Adds a chain whose last event is not before that of any other.
    pub(super) fn push(&mut self, chain: Chain) {
        while self.newest.is_some_and(|newest| newest.entry <= chain.entry) {
            self.newest = self.older.pop();
        }
        if self.newest.is_none_or(|newest| newest.last < chain.last) {
            self.older.extend(self.newest.replace(chain));
        }
    }

    /// Adds a chain anywhere.
    pub(super) fn insert(&mut self, chain: Chain) {
        let dominates = |by: Chain, other: Chain| by.entry >= other.entry && by.last >= other.last;
        if self.iter().any(|other| dominates(other, chain)) {
            return;
        }
        let mut chains: Vec<Chain> = self.iter().filter(|other| !dominates(chain, *other)).collect();
        chains.insert(chains.partition_point(|other| other.last < chain.last), chain);
        self.newest = chains.pop();
        self.older = chains;
    }

    /// The latest entry among the chains whose last event is at or after `floor`.
    pub(super) fn latest_entry(&self, floor: i64) -> Option<i64> {
        // Entries fall as last events rise, so the first one allowed is the best.
        self.iter().find(|chain| chain.last >= floor).map(|chain| chain.entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Chain> + '_ {
        self.older.iter().copied().chain(self.newest)
    }
}

impl FromIterator<Chain> for Frontier {
    /// From chains in the order of their last events.
    fn from_iter<I: IntoIterator<Item = Chain>>(chains: I) -> Self {
        let mut frontier = Self::default();
        chains.into_iter().for_each(|chain| frontier.push(chain));
        frontier
    }
}
