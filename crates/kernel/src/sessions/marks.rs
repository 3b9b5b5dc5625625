//! Marks: bit columns that say at which events a conversion happens.
//!
//! Every column has a bit per event of the slice; those of skipped visitors are 0.

use super::{Marked, Session, Sessions, Visit};
use crate::bits;
use crate::grid::{self, Grid};
use crate::slice::{Values, words};

/// What a session has to reach, by an event on the site at the latest.
#[derive(Debug, Clone, Copy)]
pub enum Threshold<'a> {
    /// So many milliseconds since the first event of the session; exactly so many are enough.
    DurationMs(i64),
    /// So many events on the site; 0 behaves as 1.
    Events(u32),
    /// So many events on the site that match.
    Matching {
        /// How many; 0 behaves as 1.
        count: u32,
        /// A bit per event that matches.
        which: &'a [u64],
    },
}

/// Within what a mark is the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Within a session. Marks that belong to no session each stand for themselves.
    Session,
    /// Within all events of a visitor.
    Visitor,
}

impl Sessions<'_> {
    /// The event of each session, on the site, at which it reaches a threshold; none in sessions that do not.
    pub fn reaching(&self, threshold: Threshold<'_>) -> Vec<u64> {
        match threshold {
            Threshold::DurationMs(least_ms) => self.mark(|session| {
                let first_ms = self.slice.time(session.first);
                let reaches = |event: &usize| self.slice.time(*event) - first_ms >= least_ms;
                bits::ones(&self.on_site, session.first..session.last + 1).find(reaches)
            }),
            Threshold::Events(count) => {
                self.mark(|session| bits::nth(&self.on_site, session.first..session.last + 1, count))
            }
            Threshold::Matching { count, which } => {
                let which = bits::both(&self.on_site, which);
                self.mark(|session| bits::nth(&which, session.first..session.last + 1, count))
            }
        }
    }

    /// The event that opens the `n`-th session, from 1, of each visitor who has so many.
    pub fn nth_visit(&self, n: u32) -> Vec<u64> {
        let mut marks = self.no_marks();
        for visit in self.visits().filter(|visit| visit.number == n) {
            bits::set(&mut marks, visit.session.first);
        }
        marks
    }

    /// The event that opens a session, in each session that starts at most `within_ms` after the last event, on the
    /// site, of the session before.
    pub fn returning(&self, within_ms: i64) -> Vec<u64> {
        let mut marks = self.no_marks();
        for Visit { session, before, .. } in self.visits() {
            let since_ms = |last| self.slice.time(session.first) - self.slice.time(last);
            if before.is_some_and(|last| since_ms(last) <= within_ms) {
                bits::set(&mut marks, session.first);
            }
        }
        marks
    }

    /// Of the events with a bit in `reached`, the first of each session and item. `item` has a code per event; 0, which
    /// means that the item is missing, is an item of its own. `None` means that all are of one item. Events that
    /// belong to no session are all kept.
    pub fn first_per_item(&self, reached: &[u64], item: Option<Values<'_>>) -> Vec<u64> {
        let mut marks = self.no_marks();
        let mut numbers = self.numbers();
        // Per item, one more than the number of the last session in which it was reached.
        let mut latest = Grid::<u32>::new(1);
        for (event, _) in Marked::new(self, reached) {
            if let Some(number) = numbers.of(event) {
                let latest = latest.at(grid::code(item, event), 0);
                if std::mem::replace(latest, number + 1) == number + 1 {
                    continue;
                }
            }
            bits::set(&mut marks, event);
        }
        marks
    }

    /// Keeps the first mark of each session or visitor.
    pub fn once(&self, marks: &[u64], per: Per) -> Vec<u64> {
        match per {
            Per::Session => self.first_per_item(marks, None),
            Per::Visitor => {
                let mut kept = self.no_marks();
                let mut latest = None;
                for (event, visitor) in Marked::new(self, marks) {
                    if latest.replace(visitor) != Some(visitor) {
                        bits::set(&mut kept, event);
                    }
                }
                kept
            }
        }
    }

    /// Marks at most one event of each session.
    fn mark(&self, event: impl Fn(Session) -> Option<usize>) -> Vec<u64> {
        let mut marks = self.no_marks();
        for event in self.within(0..self.slice.events()).filter_map(event) {
            bits::set(&mut marks, event);
        }
        marks
    }

    fn no_marks(&self) -> Vec<u64> {
        vec![0; words(self.slice.events())]
    }
}
