//! Journeys written out event by event, and the session of each by definition.

mod marks;
mod members;
mod reports;

pub use self::members::Look;
use crate::sessions::Session;
use crate::slice::{Slice, Values};

/// The journeys of a slice as plain lists, those of skipped visitors empty.
///
/// Every method is the twin of the method or function of [`crate`] that bears its name.
#[derive(Debug, Clone)]
pub struct Journeys {
    visitors: Vec<Vec<Event>>,
    /// Whether the slice skips each of them.
    skipped: Vec<bool>,
    /// Events of the slice, those of skipped visitors included.
    events: usize,
}

/// One event of a visitor.
#[derive(Debug, Clone, Copy)]
struct Event {
    visitor: usize,
    /// Its index in the slice.
    at: usize,
    time: i64,
    off_site: bool,
    /// The session of the visitor, from 0, that it belongs to.
    session: Option<usize>,
}

impl Journeys {
    /// As [`crate::Sessions::new`].
    pub fn new(slice: &Slice<'_>, off_site: Option<&[u64]>, gap_ms: i64) -> Self {
        let visitor = |visitor: usize| {
            let event = |at| Event {
                visitor,
                at,
                time: slice.time(at),
                off_site: off_site.is_some_and(|column| has(column, at)),
                session: None,
            };
            let visible = slice.range(visitor).filter(|_| !slice.skipped(visitor));
            with_sessions(visible.map(event).collect(), gap_ms)
        };
        Self {
            visitors: (0..slice.visitors()).map(visitor).collect(),
            skipped: (0..slice.visitors()).map(|visitor| slice.skipped(visitor)).collect(),
            events: slice.events(),
        }
    }

    /// As [`crate::Sessions::starts`].
    pub fn starts(&self) -> Vec<u64> {
        self.column(|event| self.visit_of(event).is_some_and(|visit| visit[0].at == event.at))
    }

    /// As [`crate::Sessions::of_visitor`].
    pub fn of_visitor(&self, visitor: usize) -> Vec<Session> {
        let session = |visit: &Vec<Event>| Session {
            first: visit[0].at,
            last: visit[visit.len() - 1].at,
            events: visit.len() as u32,
        };
        self.visits(visitor).iter().map(session).collect()
    }

    /// The session of the visitor that each event of the slice belongs to.
    pub fn ordinals(&self) -> Vec<Option<u32>> {
        let mut ordinals = vec![None; self.events];
        for event in self.all() {
            ordinals[event.at] = event.session.map(|session| session as u32);
        }
        ordinals
    }

    /// The events on the site of each session of a visitor.
    fn visits(&self, visitor: usize) -> Vec<Vec<Event>> {
        let events = self.visitors.get(visitor).into_iter().flatten();
        let on_site = events.filter(|event| !event.off_site);
        let number = on_site.clone().filter_map(|event| event.session).max().map_or(0, |last| last + 1);
        let visit =
            |session| on_site.clone().filter(|event| event.session == Some(session)).copied().collect();
        (0..number).map(visit).collect()
    }

    /// The events on the site of the session that an event belongs to.
    fn visit_of(&self, event: &Event) -> Option<Vec<Event>> {
        Some(self.visits(event.visitor)[event.session?].clone())
    }

    /// Every event of a visitor who is not skipped, in order.
    fn all(&self) -> impl Iterator<Item = &Event> {
        self.visitors.iter().flatten()
    }

    /// Every event that has a bit in a column, in order.
    fn marked(&self, column: &[u64]) -> Vec<Event> {
        self.all().filter(|event| has(column, event.at)).copied().collect()
    }

    /// The bit column of the events for which something holds.
    fn column(&self, holds: impl Fn(&Event) -> bool) -> Vec<u64> {
        let mut column = vec![0; self.events.div_ceil(64)];
        for event in self.all().filter(|event| holds(event)) {
            column[event.at / 64] |= 1 << (event.at % 64);
        }
        column
    }
}

/// Says of each event of a visitor which session it belongs to.
fn with_sessions(mut events: Vec<Event>, gap_ms: i64) -> Vec<Event> {
    for at in 0..events.len() {
        let on_site: Vec<i64> =
            events[..=at].iter().filter(|event| !event.off_site).map(|event| event.time).collect();
        if !events[at].off_site {
            let splits = on_site.windows(2).filter(|pair| pair[1] - pair[0] > gap_ms).count();
            events[at].session = Some(splits);
        }
    }
    let sessions = events.clone();
    for (at, event) in events.iter_mut().enumerate().filter(|(_, event)| event.off_site) {
        let on_site = |event: &&Event| !event.off_site;
        let latest = sessions[..at].iter().filter(on_site).filter_map(|event| event.session).max();
        let of_latest = |event: &&Event| on_site(event) && event.session == latest;
        let before = sessions[..at].iter().filter(of_latest).map(|event| event.time).max();
        let near = before.is_some_and(|before| event.time - before <= gap_ms);
        let between = before.is_some() && sessions[at..].iter().any(|event| of_latest(&event));
        event.session = latest.filter(|_| near || between);
    }
    events
}

fn has(column: &[u64], at: usize) -> bool {
    column.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
}

fn code(values: Option<Values<'_>>, at: usize) -> u32 {
    values.map_or(0, |values| values.get(at).unwrap_or(0))
}
