//! Forward passes over a slice: from events to their sessions, from marks to their visitors, and from session to session.

use std::ops::Range;

use super::{Session, Sessions};
use crate::bits::{self, Ones, Rank};
use crate::slice::bit;

/// Tells which session an event belongs to. Asking for events in ascending order costs a constant time each, and once
/// per 64 events that lie between; asking for an earlier event starts anew.
#[derive(Debug, Clone)]
pub struct Ordinals<'a> {
    starts: Rank<'a>,
    members: &'a [u64],
    /// The events whose sessions are counted.
    events: Range<usize>,
}

impl<'a> Ordinals<'a> {
    pub(super) fn new(sessions: &'a Sessions<'_>, events: Range<usize>) -> Self {
        Self { starts: Rank::new(&sessions.starts, events.start), members: sessions.members(), events }
    }

    /// Number of the session that an event belongs to, from 0; `None` if it belongs to none.
    #[inline]
    pub fn of(&mut self, event: usize) -> Option<u32> {
        if !self.events.contains(&event) || !bit(self.members, event) {
            return None;
        }
        // It belongs to the last session that opens up to it.
        self.starts.upto(event).checked_sub(1)
    }
}

/// The events that have a bit in a column, ascending, each with the number of its visitor, from 1, among those who have
/// events. Skipped visitors are passed over.
#[derive(Debug, Clone)]
pub(crate) struct Marked<'a> {
    ones: Ones<'a>,
    visible: &'a [u64],
    heads: Rank<'a>,
}

impl<'a> Marked<'a> {
    pub(crate) fn new(sessions: &'a Sessions<'_>, marks: &'a [u64]) -> Self {
        Self {
            ones: bits::ones(marks, 0..sessions.slice.events()),
            visible: &sessions.visible,
            heads: Rank::new(&sessions.heads, 0),
        }
    }
}

impl Iterator for Marked<'_> {
    type Item = (usize, u32);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, u32)> {
        let event = self.ones.find(|event| bit(self.visible, *event))?;
        Some((event, self.heads.upto(event)))
    }
}

/// A session and whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit {
    /// Number of the visitor, from 1, among those who have events.
    pub(crate) visitor: u32,
    /// Number of the session among those of the visitor, from 1.
    pub(crate) number: u32,
    /// Index of the last event, on the site, of the session before.
    pub(crate) before: Option<usize>,
    pub(crate) session: Session,
}

impl Sessions<'_> {
    /// All sessions in order.
    pub(crate) fn visits(&self) -> impl Iterator<Item = Visit> + '_ {
        let mut heads = Rank::new(&self.heads, 0);
        let mut latest: Option<Visit> = None;
        self.within(0..self.slice.events()).map(move |session| {
            let visitor = heads.upto(session.first);
            let visit = match latest.filter(|latest| latest.visitor == visitor) {
                Some(Visit { number, session: before, .. }) => {
                    Visit { visitor, number: number + 1, before: Some(before.last), session }
                }
                None => Visit { visitor, number: 1, before: None, session },
            };
            latest = Some(visit);
            visit
        })
    }
}
