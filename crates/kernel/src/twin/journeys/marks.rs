//! Which events are marked, each by looking at everything before it.

use super::{Event, Journeys, code, has};
use crate::sessions::{Per, Threshold};
use crate::slice::Values;

impl Journeys {
    /// As [`crate::Sessions::reaching`].
    pub fn reaching(&self, threshold: Threshold<'_>) -> Vec<u64> {
        // Whether the threshold is reached once these events of a session have happened.
        let reached = |events: &[Event]| match (threshold, events) {
            (_, []) => false,
            (Threshold::DurationMs(least), [first, .., last]) => last.time - first.time >= least,
            (Threshold::DurationMs(least), [_]) => 0 >= least,
            (Threshold::Events(count), _) => events.len() >= count.max(1) as usize,
            (Threshold::Matching { count, which }, _) => {
                let matching = events.iter().filter(|event| has(which, event.at)).count();
                matching >= count.max(1) as usize
            }
        };
        self.column(|event| {
            !event.off_site
                && self.visit_of(event).is_some_and(|visit| {
                    let upto = visit.iter().take_while(|earlier| earlier.at <= event.at).count();
                    reached(&visit[..upto]) && !reached(&visit[..upto - 1])
                })
        })
    }

    /// As [`crate::Sessions::nth_visit`].
    pub fn nth_visit(&self, n: u32) -> Vec<u64> {
        let starts = self.starts();
        self.column(|event| has(&starts, event.at) && event.session.is_some_and(|at| at as u32 + 1 == n))
    }

    /// As [`crate::Sessions::returning`].
    pub fn returning(&self, within_ms: i64) -> Vec<u64> {
        let starts = self.starts();
        self.column(|event| {
            let before = event.session.and_then(|session| session.checked_sub(1));
            has(&starts, event.at)
                && before.is_some_and(|before| {
                    let visit = &self.visits(event.visitor)[before];
                    event.time - visit[visit.len() - 1].time <= within_ms
                })
        })
    }

    /// As [`crate::Sessions::first_per_item`].
    pub fn first_per_item(&self, reached: &[u64], item: Option<Values<'_>>) -> Vec<u64> {
        let key = |event: &Event| (event.visitor, event.session, code(item, event.at));
        let reached = self.marked(reached);
        self.column(|event| {
            let mut before = reached.iter().take_while(|earlier| earlier.at < event.at);
            reached.iter().any(|other| other.at == event.at)
                && (event.session.is_none() || !before.any(|earlier| key(earlier) == key(event)))
        })
    }

    /// As [`crate::Sessions::once`].
    pub fn once(&self, marks: &[u64], per: Per) -> Vec<u64> {
        let marked = self.marked(marks);
        self.column(|event| {
            let mut before = marked.iter().take_while(|earlier| earlier.at < event.at);
            marked.iter().any(|other| other.at == event.at)
                && !before.any(|earlier| {
                    earlier.visitor == event.visitor
                        && match per {
                            Per::Visitor => true,
                            Per::Session => event.session.is_some() && earlier.session == event.session,
                        }
                })
        })
    }
}
