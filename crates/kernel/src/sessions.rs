//! Sessions by gap: a visitor's events split wherever two neighbours lie more than a gap apart.
//!
//! Events off the site never open or extend a session, yet most happen during one. [`Sessions`] keeps a few bits an
//! event: it opens a session; it is one of the events that make a session; it belongs to one. Which session that is
//! follows from the number of openings up to the event, so no number is stored for any event. Visitors are told apart
//! in the same way, by the number of first events up to one of theirs.

mod marks;
mod walk;

pub use self::marks::{Per, Threshold};
pub use self::walk::Ordinals;
pub(crate) use self::walk::{Marked, Visit};

use std::ops::Range;

use crate::bits;
use crate::slice::{INSTANT_BOUND_MS, Slice, Times, bit, words};

/// The index ranges of the sessions in sorted instants (milliseconds). A gap of exactly `gap_ms` does not split.
pub fn sessions(times: &[i64], gap_ms: i64) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= times.len() {
            return None;
        }
        let splits = |at: &usize| times[*at].saturating_sub(times[at - 1]) > gap_ms;
        let end = (start + 1..times.len()).find(splits).unwrap_or(times.len());
        let session = start..end;
        start = end;
        Some(session)
    })
}

/// Number of sessions in a slice, and of those among them that have a single event. Skipped visitors do not count.
pub fn count_sessions(slice: &Slice<'_>, gap_ms: i64) -> (u64, u64) {
    let sessions = Sessions::new(*slice, None, gap_ms);
    sessions
        .within(0..slice.events())
        .fold((0, 0), |(total, single), session| (total + 1, single + u64::from(session.events == 1)))
}

/// One session of a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Index of its first event on the site.
    pub first: usize,
    /// Index of its last event on the site.
    pub last: usize,
    /// Number of its events on the site.
    pub events: u32,
}

/// The sessions of all visitors of a slice but the skipped ones, who have none.
///
/// It holds four bits an event, and one more if some events are off the site.
#[derive(Debug, Clone)]
pub struct Sessions<'a> {
    slice: Slice<'a>,
    /// A bit per event that is the first of its visitor.
    heads: Vec<u64>,
    /// A bit per event of a visitor who is not skipped.
    visible: Vec<u64>,
    /// A bit per event that opens a session.
    starts: Vec<u64>,
    /// A bit per visible event on the site.
    on_site: Vec<u64>,
    /// A bit per event that belongs to a session; `None` if it is that on the site.
    members: Option<Vec<u64>>,
}

impl<'a> Sessions<'a> {
    /// Splits the events on the site wherever two neighbours lie more than `gap_ms` apart; a gap of exactly `gap_ms`
    /// does not split. `off_site` has a bit per event that is off the site; `None` means that none is.
    ///
    /// An event off the site belongs to the session of the event on the site that comes before it in order, if it
    /// lies at most `gap_ms` after that; else to none. So one between two events of a session always belongs to it.
    pub fn new(slice: Slice<'a>, off_site: Option<&[u64]>, gap_ms: i64) -> Self {
        let mut heads = vec![0; words(slice.events())];
        let mut visible = heads.clone();
        bits::fill(&mut visible, 0..slice.events(), true);
        for visitor in 0..slice.visitors() {
            let events = slice.range(visitor);
            if slice.skipped(visitor) {
                bits::fill(&mut visible, events.clone(), false);
            }
            if !events.is_empty() {
                bits::set(&mut heads, events.start);
            }
        }
        let far = far(&slice, gap_ms);
        let starts = (0..heads.len()).map(|at| visible[at] & (heads[at] | far[at])).collect();
        let on_site = visible.clone();
        let mut sessions = Self { slice, heads, visible, starts, on_site, members: None };
        if let Some(off_site) = off_site {
            sessions.take_off_site(off_site, gap_ms);
        }
        sessions
    }

    /// The slice whose sessions these are.
    pub fn slice(&self) -> &Slice<'a> {
        &self.slice
    }

    /// A bit per event that opens a session.
    pub fn starts(&self) -> &[u64] {
        &self.starts
    }

    /// A bit per event on the site, those of skipped visitors excepted: these make the sessions.
    pub fn on_site(&self) -> &[u64] {
        &self.on_site
    }

    /// A bit per event that belongs to a session, be it on or off the site.
    pub fn members(&self) -> &[u64] {
        self.members.as_deref().unwrap_or(&self.on_site)
    }

    /// The sessions of a visitor in order; none for a visitor that is skipped or that the slice does not have.
    pub fn of_visitor(&self, visitor: usize) -> impl Iterator<Item = Session> + '_ {
        self.within(self.slice.range(visitor))
    }

    /// Which session of a visitor each of its events belongs to, from 0 on.
    pub fn ordinals(&self, visitor: usize) -> Ordinals<'_> {
        Ordinals::new(self, self.slice.range(visitor))
    }

    /// Which session of the slice each event belongs to, from 0 on: the sessions of a visitor have successive
    /// numbers, and those of later visitors higher ones.
    pub fn numbers(&self) -> Ordinals<'_> {
        Ordinals::new(self, 0..self.slice.events())
    }

    /// The sessions of some visitors who stand next to each other. As every event on the site is in a session, those of a
    /// session are all up to the next start, whoever's it is.
    fn within(&self, events: Range<usize>) -> impl Iterator<Item = Session> + '_ {
        let mut starts = bits::ones(&self.starts, events.clone());
        let mut next = starts.next();
        std::iter::from_fn(move || {
            let first = next?;
            next = starts.next();
            let session = first..next.unwrap_or(events.end);
            let (last, events) = bits::last_and_count(&self.on_site, session);
            Some(Session { first, last: last?, events })
        })
    }

    /// Corrects what was found as if every event were on the site. Only events off the site, and those right after them, are
    /// looked at.
    fn take_off_site(&mut self, off_site: &[u64], gap_ms: i64) {
        let mut members = self.visible.clone();
        let off_site = bits::both(&self.visible, off_site);
        // The event off the site that was looked at last, and the event on the site before it.
        let (mut latest, mut before) = (None, None);
        for event in bits::ones(&off_site, 0..self.slice.events()) {
            if bit(&self.heads, event) {
                before = None;
            } else if latest.map(|latest| latest + 1) != Some(event) {
                before = Some(event - 1);
            }
            latest = Some(event);
            let near =
                |at| before.is_some_and(|before| self.slice.time(at) - self.slice.time(before) <= gap_ms);
            bits::put(&mut members, event, near(event));
            bits::put(&mut self.starts, event, false);
            // What follows was compared with this one. If it is off the site as well, its turn comes.
            let next = event + 1;
            if bit(&self.on_site, next) && !bit(&self.heads, next) {
                bits::put(&mut self.starts, next, !near(next));
            }
        }
        self.on_site.iter_mut().zip(&off_site).for_each(|(on_site, off_site)| *on_site &= !off_site);
        self.members = Some(members);
    }
}

/// A bit per event that lies more than `gap_ms` after the event before it, whoever's that is.
fn far(slice: &Slice<'_>, gap_ms: i64) -> Vec<u64> {
    match slice.layout().times {
        // Only differences count, so narrow instants are taken as they are stored; none of them is negative.
        Times::Narrow { since_epoch_ms, .. } => match u32::try_from(gap_ms.saturating_add(1).max(0)) {
            Ok(least) => compare(since_epoch_ms, |before, time| time.wrapping_sub(before) >= least),
            Err(_) => vec![0; words(slice.events())],
        },
        Times::Wide(times) => {
            let bounded = |time: i64| time.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS);
            compare(times, |before, time| bounded(time) - bounded(before) > gap_ms)
        }
    }
}

/// A bit per instant of which something holds, together with the instant before it; never of the first.
#[inline(always)]
fn compare<T: Copy>(times: &[T], holds: impl Fn(T, T) -> bool) -> Vec<u64> {
    let mut column = vec![0; words(times.len())];
    for (at, word) in column.iter_mut().enumerate() {
        let (start, end) = ((at << 6).max(1), ((at + 1) << 6).min(times.len()));
        let pairs = times[start - 1..end - 1].iter().zip(&times[start..end]);
        for (place, (before, time)) in (start & 63..).zip(pairs) {
            *word |= u64::from(holds(*before, *time)) << place;
        }
    }
    column
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::{Kinds, Layout, Times};

    #[test]
    fn a_gap_splits_only_when_it_is_longer() {
        let split: Vec<_> = sessions(&[0, 30, 60, 91, 91], 30).collect();
        assert_eq!(split, [0..3, 3..5]);
        assert_eq!(sessions(&[], 30).count(), 0);
    }

    #[test]
    fn skipped_visitors_have_no_sessions() {
        let layout = Layout {
            offsets: &[0, 2, 2, 5],
            kinds: Kinds::U8(&[0; 5]),
            times: Times::Narrow { epoch_ms: 7, since_epoch_ms: &[0, 40, 0, 31, 62] },
            span_ms: (7, 69),
            kind_sets: &[1, 0, 1],
            ties: &[0],
            skip: None,
        };
        let slice = Slice::new(layout).expect("a valid slice");
        assert_eq!(count_sessions(&slice, 31), (3, 2));
        let slice = Slice::new(Layout { skip: Some(&[1]), ..layout }).expect("a valid slice");
        assert_eq!(count_sessions(&slice, 31), (1, 0));
    }
}
