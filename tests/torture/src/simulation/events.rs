//! The events of a device: of few visitors, late and early, at equal instants, under ids that were used before, and some that must be refused.

use std::collections::BTreeSet;

use runnel_client::proto::event::v1::Event;

use super::{cluster::NOW_MS, device::Noted};
use crate::checker::{Identity, PICK, Random, STEPS, TONE, identity, text};

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It counts.
    Valid,
    /// It is refused, whoever looks at it and whenever.
    Invalid,
    /// It is so far in the future that the server's clock decides.
    Doubtful,
}

/// Visitors that all devices have in common.
const VISITORS: u64 = 10;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Makes events.
#[derive(Debug)]
pub(super) struct Events {
    device: String,
    made: u64,
    /// Ids that were used, and what they were used for.
    ids: Vec<String>,
    used: BTreeSet<Identity>,
    /// Events whose content may be altered.
    picks: Vec<Event>,
    /// Where the times of visits begin.
    visits: Vec<i64>,
}

impl Events {
    pub(super) fn new(device: String, mut random: Random) -> Events {
        // Over some 60 days, so that blocks of three months are made.
        let visits = (0..4).map(|_| NOW_MS - (10 + random.below(60) as i64) * DAY_MS).collect();
        Events { device, made: 0, ids: Vec::new(), used: BTreeSet::new(), picks: Vec::new(), visits }
    }

    fn new_id(&mut self) -> String {
        self.made += 1;
        let id = format!("e-{}-{}", self.device, self.made);
        self.ids.push(id.clone());
        id
    }

    /// The next event.
    pub(super) fn draw(&mut self, random: &mut Random) -> Noted {
        let visit = self.visits[random.below(4) as usize];
        // Whole minutes, so that instants coincide; some lie days behind the visit.
        let behind = random.below(5) as i64 * random.below(8) as i64 * DAY_MS / 4;
        let mut event = Event {
            visitor_id: format!("v-{}", random.below(VISITORS)),
            time_ms: Some(visit + behind + random.below(90) as i64 * 60_000),
            name: STEPS[random.below(3) as usize].into(),
            sequence: (random.below(4) == 0).then(|| random.below(3) as i64),
            ..Event::default()
        };
        // A robot uses an id again for other events.
        if !self.ids.is_empty() && random.below(12) == 0 {
            event.event_id = self.ids[random.below(self.ids.len() as u64) as usize].clone();
        }
        if event.event_id.is_empty() || !self.used.insert(identity(&event)) {
            event.event_id = self.new_id();
            self.used.insert(identity(&event));
        }
        match random.below(20) {
            0 => self.invalid(event, random),
            1 => {
                self.made += 1;
                let ahead = DAY_MS + random.below(12) as i64 * HOUR_MS - 6 * HOUR_MS;
                let time_ms = Some(NOW_MS + ahead);
                let (visitor_id, name) = (format!("f-{}-{}", self.device, self.made), "ahead".into());
                Noted { event: Event { time_ms, visitor_id, name, ..event }, kind: Kind::Doubtful }
            }
            2..=4 => {
                self.made += 1;
                let visitor_id = format!("p-{}-{}", self.device, self.made);
                let pick = toned(Event { visitor_id, name: PICK.into(), ..event }, "plain");
                self.picks.push(pick.clone());
                Noted { event: pick, kind: Kind::Valid }
            }
            _ => Noted { event, kind: Kind::Valid },
        }
    }

    fn invalid(&mut self, event: Event, random: &mut Random) -> Noted {
        let event = match random.below(4) {
            0 => Event { visitor_id: String::new(), ..event },
            1 => Event { name: String::new(), ..event },
            2 => Event { time_ms: None, ..event },
            _ => Event { time_ms: Some(NOW_MS + 3_000 * DAY_MS), ..event },
        };
        Noted { event, kind: Kind::Invalid }
    }

    /// Another content of an event that was made before.
    pub(super) fn alter(&mut self, random: &mut Random) -> Option<Noted> {
        let count = self.picks.len() as u64;
        let pick = self.picks.get(random.below(count) as usize)?;
        Some(Noted { event: toned(pick.clone(), "altered"), kind: Kind::Valid })
    }
}

fn toned(mut event: Event, tone: &str) -> Event {
    event.properties.insert(TONE.into(), text(tone));
    event
}
