//! A plain reference: the events of every visitor, and how far they got, by trying everything.

use std::collections::{BTreeMap, BTreeSet};

use runnel_client::proto::event::v1::Event;
use runnel_model::limits::SESSION_GAP_MS;

use super::tone;

/// The steps of the funnel.
pub(crate) const STEPS: [&str; 3] = ["seen", "kept", "done"];
/// How long after its entry a step counts.
const WINDOW_MS: i64 = 7 * 24 * 3_600_000;

/// What an event is known by: visitor, time, id.
pub(crate) type Identity = (String, i64, String);

/// When somebody was there, and who.
pub(crate) type Visit = (i64, String);

/// What an event is known by.
pub(crate) fn identity(event: &Event) -> Identity {
    (event.visitor_id.clone(), event.time_ms.unwrap_or_default(), event.event_id.clone())
}

/// A set of events. Contents that share an identity differ in their tone only.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reference {
    tones: BTreeMap<Identity, BTreeSet<String>>,
    journeys: BTreeMap<String, Vec<(i64, String)>>,
    visits: BTreeSet<Visit>,
    reached: [u64; STEPS.len()],
    contents: u64,
}

impl Reference {
    /// Adds an event, which may be there already.
    pub(crate) fn add(&mut self, event: &Event) {
        let tones = self.tones.entry(identity(event)).or_default();
        let known = !tones.is_empty();
        self.contents += u64::from(tones.insert(tone(event).to_owned()));
        if known {
            return;
        }
        self.visits.insert((event.time_ms.unwrap_or_default(), event.visitor_id.clone()));
        let journey = self.journeys.entry(event.visitor_id.clone()).or_default();
        let before = furthest(journey);
        journey.push((event.time_ms.unwrap_or_default(), event.name.clone()));
        let now = furthest(journey);
        self.reached[before..now].iter_mut().for_each(|reached| *reached += 1);
    }

    /// Distinct events.
    pub(crate) fn events(&self) -> u64 {
        self.tones.len() as u64
    }

    /// Contents beside the first of each identity.
    pub(crate) fn conflicts(&self) -> u64 {
        self.contents - self.events()
    }

    /// Visitors that did each step.
    pub(crate) fn reached(&self) -> [u64; STEPS.len()] {
        self.reached
    }

    /// The tones that each identity has.
    pub(crate) fn tones(&self) -> &BTreeMap<Identity, BTreeSet<String>> {
        &self.tones
    }

    /// Who was there since an instant.
    pub(crate) fn visits(&self, since_ms: i64) -> Vec<Visit> {
        self.visits.range((since_ms, String::new())..).cloned().collect()
    }
}

/// How many sessions are open at an instant, of those who were there.
pub(crate) fn open(visits: &[Visit], at_ms: i64) -> u64 {
    let there = visits.iter().filter(|(time_ms, _)| (at_ms - SESSION_GAP_MS..=at_ms).contains(time_ms));
    there.map(|(_, visitor)| visitor).collect::<BTreeSet<_>>().len() as u64
}

/// How many steps a visitor did: the best of all chains.
fn furthest(journey: &[(i64, String)]) -> usize {
    let times =
        |step: usize| journey.iter().filter(move |(_, name)| *name == STEPS[step]).map(|(time, _)| *time);
    let from = |entry: i64| {
        let mut last = vec![entry];
        for step in 1..STEPS.len() {
            let next: Vec<i64> = times(step)
                .filter(|time| *time <= entry + WINDOW_MS && last.iter().any(|before| before <= time))
                .collect();
            if next.is_empty() {
                return step;
            }
            last = next;
        }
        STEPS.len()
    };
    times(0).map(from).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_chain_counts() {
        let furthest = |journey: &[(i64, usize)]| {
            let journey: Vec<(i64, String)> =
                journey.iter().map(|(time, step)| (*time, STEPS[*step].to_owned())).collect();
            super::furthest(&journey)
        };
        let day = 24 * 3_600_000;
        assert_eq!(furthest(&[]), 0);
        assert_eq!(furthest(&[(5, 1), (6, 2)]), 0);
        assert_eq!(furthest(&[(5, 2), (5, 1), (5, 0)]), 3, "an instant has the order that helps");
        assert_eq!(furthest(&[(0, 0), (day, 1), (7 * day, 2)]), 3);
        assert_eq!(furthest(&[(0, 0), (day, 1), (7 * day + 1, 2)]), 2);
        assert_eq!(furthest(&[(0, 0), (day, 2), (2 * day, 1)]), 2);
        assert_eq!(furthest(&[(0, 0), (8 * day, 0), (9 * day, 1)]), 2);
    }

    #[test]
    fn a_session_is_open_for_the_gap_and_counts_once() {
        let mut reference = Reference::default();
        for (time_ms, visitor) in [(0, "early"), (1, "v"), (5, "v"), (9, "late")] {
            let event = Event { visitor_id: visitor.into(), time_ms: Some(time_ms), ..Event::default() };
            reference.add(&event);
        }
        let visits = reference.visits(1);
        assert_eq!(visits.len(), 3);
        assert_eq!([0, 1, 8, 9].map(|at_ms| open(&visits, at_ms)), [0, 1, 1, 2]);
        assert_eq!([5, 6, 9, 10].map(|at_ms| open(&visits, SESSION_GAP_MS + at_ms)), [2, 1, 1, 0]);
    }

    #[test]
    fn an_identity_counts_once_whatever_its_contents() {
        let mut reference = Reference::default();
        let event =
            Event { visitor_id: "v".into(), name: "seen".into(), time_ms: Some(1), ..Event::default() };
        for name in ["", "", "x", "x"] {
            let mut event = event.clone();
            if !name.is_empty() {
                let kind = runnel_client::proto::event::v1::value::Kind::StringValue(name.into());
                let value = runnel_client::proto::event::v1::Value { kind: Some(kind) };
                event.properties.insert("tone".into(), value);
            }
            reference.add(&event);
        }
        assert_eq!((reference.events(), reference.conflicts(), reference.reached()), (1, 1, [1, 0, 0]));
    }
}
