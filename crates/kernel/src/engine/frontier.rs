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
/// rise, entries fall.
#[derive(Debug, Clone, Default)]
pub(super) struct Frontier {
    chains: Vec<Chain>,
}

impl Frontier {
    /// Adds a chain whose last event is not before that of any other.
    pub(super) fn push(&mut self, chain: Chain) {
        while self.chains.last().is_some_and(|other| other.entry <= chain.entry) {
            self.chains.pop();
        }
        if self.chains.last().is_none_or(|other| other.last < chain.last) {
            self.chains.push(chain);
        }
    }

    /// Adds a chain anywhere.
    pub(super) fn insert(&mut self, chain: Chain) {
        let at = self.chains.partition_point(|other| other.last < chain.last);
        if self.chains.get(at).is_some_and(|other| other.entry >= chain.entry) {
            return;
        }
        self.chains.insert(at, chain);
        self.chains.retain(|other| *other == chain || other.last > chain.last || other.entry > chain.entry);
    }

    /// The latest entry among the chains whose last event is at or after `floor`.
    pub(super) fn latest_entry(&self, floor: i64) -> Option<i64> {
        // Entries fall as last events rise, so the first one allowed is the best.
        self.chains.iter().find(|chain| chain.last >= floor).map(|chain| chain.entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Chain> + '_ {
        self.chains.iter().copied()
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
