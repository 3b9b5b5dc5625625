//! What is sent: batches of visitors who come once, of visitors whose steps lie in different batches, and of visitors who are there now.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use runnel_client::proto::event::v1::Event;

use crate::checker::{CANARY, OWNER, Random, STEPS, text};

/// The first instant of all events but those of now, in milliseconds since 1970.
const START_MS: i64 = 1_700_000_000_000;
/// Groups of visitors that come back, at a time: between two batches of a group lie those of the others.
const GROUPS: u64 = 4;
/// Visitors of a group.
const RETURNING: u64 = 12;
/// Batches in which each group comes once for each step.
const ROUND: u64 = GROUPS * STEPS.len() as u64;
/// Every so many batches there is one with visitors who are there now.
const NOW_EVERY: u64 = 4;
/// Visitors who are there now, of so many batches after one another.
const NOW_TOGETHER: u64 = 16;
/// How many of them.
const NOW: u64 = 3;

/// What is sent under one request id, and again until it is acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) events: Vec<Event>,
}

/// The batches of a tenant: the next one, and those that had no answer.
#[derive(Debug)]
pub(super) struct Batches {
    tenant: &'static str,
    next: AtomicU64,
    again: Mutex<Vec<Batch>>,
}

impl Batches {
    pub(super) fn new(tenant: &'static str) -> Batches {
        Batches { tenant, next: AtomicU64::new(0), again: Mutex::default() }
    }

    /// The next batch to send: one without an answer, or a new one.
    pub(super) fn next(&self, new: bool, now_ms: i64) -> Option<Batch> {
        let again = self.again.lock().unwrap().pop();
        again.or_else(|| {
            new.then(|| {
                let number = self.next.fetch_add(1, Ordering::SeqCst);
                Batch { number, events: events(self.tenant, number, now_ms) }
            })
        })
    }

    /// This one had no answer.
    pub(super) fn again(&self, batch: Batch) {
        self.again.lock().unwrap().push(batch);
    }

    /// How many were made.
    pub(super) fn made(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// Visitors whose every step was made, each in another batch.
    pub(super) fn across(&self) -> u64 {
        self.made() / ROUND * GROUPS * RETURNING
    }
}

/// The events of a batch. Other tenants' requests have the same ids, and other visitors.
fn events(tenant: &str, number: u64, now_ms: i64) -> Vec<Event> {
    let event = |visitor_id: String, time_ms: i64, step: usize| Event {
        event_id: format!("{}-{number}-{visitor_id}", STEPS[step]),
        visitor_id,
        time_ms: Some(time_ms),
        name: STEPS[step].into(),
        properties: [(OWNER.to_owned(), text(&format!("{CANARY}{tenant}")))].into(),
        ..Event::default()
    };
    let once = (0..1 + Random(number).below(45)).flat_map(|visitor| {
        // Two thirds of them do further steps, in the same batch.
        (0..=((number + visitor) % 3) as usize).map(move |step| {
            let time_ms = START_MS + (number * 1_000 + visitor) as i64 + step as i64 * 500;
            event(format!("{tenant}-{number}-{visitor}"), time_ms, step)
        })
    });
    let (group, turn) = (number / ROUND * GROUPS + number % GROUPS, number % ROUND / GROUPS);
    // Groups begin with different steps, so that what comes later lies before as well as behind what is there.
    let step = ((turn + group) % STEPS.len() as u64) as usize;
    let back = (0..RETURNING).map(|visitor| {
        // Half of them did the steps in their order; of the others it is told in the order in which they did them, which converts few.
        let at = if visitor % 2 == 0 { step as i64 } else { turn as i64 };
        let time_ms = START_MS + (group * 10_000 + visitor) as i64 + at * 1_000;
        event(format!("{tenant}-back-{group}-{visitor}"), time_ms, step)
    });
    let now = (0..NOW)
        .filter(|_| number % NOW_EVERY == 1)
        .map(|visitor| event(format!("{tenant}-now-{}-{visitor}", number / NOW_TOGETHER), now_ms - 1_000, 0));
    once.chain(back).chain(now).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Reference;

    /// The visitors of a kind that did each step, after so many batches.
    fn reached(batches: u64, kind: &str) -> [u64; STEPS.len()] {
        let mut reference = Reference::default();
        let all = (0..batches).flat_map(|number| events("shop", number, 5_000));
        all.filter(|event| event.visitor_id.contains(kind)).for_each(|event| reference.add(&event));
        reference.reached()
    }

    #[test]
    fn visitors_who_come_back_convert_over_several_batches() {
        // A third of the twelve groups begins with each step: told in that order, they did three, one, or two.
        let all = 3 * GROUPS * RETURNING;
        let half = all / 2;
        let third = half / 3;
        assert_eq!(reached(3 * ROUND, "-back-"), [all, half + 2 * third, half + third]);
        assert_eq!(reached(ROUND / 3, "-back-")[1..], [0, 0], "one batch of each group converts nobody");
    }

    #[test]
    fn who_is_there_now_is_there_in_several_batches() {
        assert_eq!(reached(2 * NOW_TOGETHER, "-now-"), [2 * NOW, 0, 0]);
        let per_batch = |number| {
            let events = events("shop", number, 5_000);
            events.iter().filter(|event| event.time_ms == Some(4_000)).count()
        };
        assert_eq!((0..8).map(per_batch).collect::<Vec<_>>(), [0, 3, 0, 0, 0, 3, 0, 0]);
    }

    #[test]
    fn a_batch_of_another_tenant_has_no_visitor_in_common() {
        let visitors = |tenant| -> Vec<String> {
            events(tenant, 9, 5_000).into_iter().map(|event| event.visitor_id).collect()
        };
        let others = visitors("other");
        assert!(visitors("shop").iter().all(|visitor| !others.contains(visitor)));
    }
}
