//! Who belongs to a group, against the twin; and when that can change.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use runnel_kernel::{
    Sessions,
    members::{AsOf, Touch, Who, turns},
    twin::{self, Look},
};

use super::agreement::{every_case, sessions, twin};
use super::columns::Columns;
use super::random::Case;
use crate::generate::{Random, cases};

/// What is asked about a case.
#[derive(Debug, Clone)]
struct Asked {
    look: Look,
    for_ms: i64,
    times: RangeInclusive<u32>,
    touch: Touch,
    or: bool,
}

impl Asked {
    fn new(case: &Case, random: &mut Random) -> Self {
        let instants: Vec<i64> = case.visitors.iter().flatten().map(|event| event.time).collect();
        let stretch = if instants.iter().any(|time| time.abs() > 1 << 30) { 1 << 36 } else { 1 };
        // Often an event's own instant, or one at which it is exactly as old as a duration says.
        let picked = random.next() as usize % instants.len().max(1);
        let near = instants.get(picked).copied().unwrap_or(0);
        let duration = |random: &mut Random| random.within(0, 30) * stretch;
        let within_ms = random.chance(60).then(|| duration(random));
        let as_of_ms = match random.within(0, 3) {
            0 => near + random.within(0, 1),
            1 => near + within_ms.unwrap_or(0) + random.within(0, 1),
            2 => i64::MAX,
            _ => near + duration(random) - 10 * stretch,
        };
        let least = random.within(0, 3) as u32;
        Self {
            look: Look { as_of_ms, within_ms: within_ms.filter(|_| as_of_ms != i64::MAX) },
            for_ms: duration(random),
            times: least..=if random.chance(50) { u32::MAX } else { least + random.within(0, 2) as u32 },
            touch: if random.chance(50) { Touch::First } else { Touch::Last },
            or: random.chance(50),
        }
    }

    fn as_of(&self, as_of_ms: i64) -> Self {
        Self { look: Look { as_of_ms, ..self.look }, ..self.clone() }
    }

    /// Every condition, and who is there at all.
    fn found(&self, columns: &Columns, sessions: &Sessions<'_>) -> Vec<Vec<u64>> {
        let Self { look, for_ms, times, touch, or } = self.clone();
        let (marked, again) = (&columns.marked, &columns.again);
        let (as_of, within_ms) = (AsOf::new(columns.slice(), look.as_of_ms), look.within_ms);
        vec![
            as_of.happened(marked, within_ms, times.clone()),
            as_of.happened_in_sessions(sessions, marked, within_ms, times),
            as_of.absent(marked, again, for_ms, within_ms),
            as_of.touched((marked, again), touch, or),
            as_of.present(),
        ]
    }

    fn expected(&self, columns: &Columns, twin: &twin::Journeys) -> Vec<Vec<u64>> {
        let Self { look, for_ms, times, touch, or } = self.clone();
        let (marked, again) = (&columns.marked, &columns.again);
        vec![
            twin.happened(marked, look, times.clone()),
            twin.happened_in_sessions(marked, look, times),
            twin.absent(marked, again, for_ms, look),
            twin.touched((marked, again), touch, or, look.as_of_ms),
            twin.present(look.as_of_ms),
        ]
    }
}

#[test]
fn members_agree_with_the_twin() {
    let members = RefCell::new([0u64; 5]);
    every_case(|case, columns, context| {
        let mut random = Random::new(case.edges.len() as u64 + case.range.start.unsigned_abs());
        let (sessions, twin) = (sessions(case, columns), twin(case, columns));
        for _ in 0..4 {
            let asked = Asked::new(case, &mut random);
            let found = asked.found(columns, &sessions);
            assert_eq!(found, asked.expected(columns, &twin), "{asked:?}, {context}");
            for (sum, bits) in members.borrow_mut().iter_mut().zip(&found) {
                *sum += bits.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            }
        }
    });
    let members = members.into_inner();
    assert!(members.iter().all(|members| *members > cases() / 10), "hardly anybody belongs: {members:?}");
}

#[test]
fn nothing_changes_before_its_turn() {
    every_case(|case, columns, context| {
        if case.visitors.iter().flatten().any(|event| event.time.abs() > 1 << 30) {
            return;
        }
        let mut random = Random::new(case.duration_ms.unsigned_abs() + case.visitors.len() as u64);
        let sessions = sessions(case, columns);
        let mut asked = Asked::new(case, &mut random);
        if asked.look.as_of_ms == i64::MAX {
            asked = asked.as_of(random.within(-10, 50));
        }
        let start_ms = asked.look.as_of_ms;
        let durations: Vec<i64> = asked.look.within_ms.into_iter().chain([asked.for_ms]).collect();
        let turns = turns(&columns.slice(), &durations, start_ms);
        let bit = |bits: &[u64], visitor: usize| bits[visitor / 64] >> (visitor % 64) & 1;
        let before = asked.found(columns, &sessions);
        for later_ms in start_ms + 1..start_ms + 40 {
            let after = asked.as_of(later_ms).found(columns, &sessions);
            for (visitor, turn_ms) in turns.iter().enumerate().filter(|(_, turn_ms)| later_ms < **turn_ms) {
                for (condition, (was, is)) in before.iter().zip(&after).enumerate() {
                    let what = format!("{condition} of {visitor} at {later_ms} before {turn_ms}");
                    assert_eq!(bit(was, visitor), bit(is, visitor), "{what}, {asked:?}, {context}");
                }
            }
        }
    });
}

#[test]
fn groups_are_combined_by_their_bits() {
    let (a, b, present) = (vec![0b1100], vec![0b1010], vec![0b1110]);
    let conditions = [a, b];
    let one = Who::Condition;
    let not = |who| Who::Not(Box::new(who));
    let members = |who: &Who| who.members(&conditions, &present)[0];
    assert_eq!(members(&one(0)), 0b1100);
    assert_eq!(members(&one(7)), 0, "a condition that was not looked at has nobody");
    assert_eq!(members(&not(one(0))), 0b0010, "whoever is not there belongs to nothing");
    assert_eq!(members(&Who::All(vec![one(0), one(1)])), 0b1000);
    assert_eq!(members(&Who::Any(vec![one(0), one(1)])), 0b1110);
    assert_eq!(members(&Who::All(vec![one(0), not(one(1))])), 0b0100);
    assert_eq!((members(&Who::All(vec![])), members(&Who::Any(vec![]))), (0b1110, 0));
}
