//! Random journeys, and questions about them, from a seed.

use std::ops::Range;

use super::columns::{Columns, Event};
use crate::generate::Random;

/// A case: journeys and what is asked about them. Instants are small, so that ties, events on an edge and gaps of
/// exactly the limit are frequent.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) visitors: Vec<Vec<Event>>,
    pub(crate) skip: Option<Vec<u64>>,
    pub(crate) gap_ms: i64,
    pub(crate) edges: Vec<i64>,
    pub(crate) range: Range<i64>,
    pub(crate) duration_ms: i64,
    pub(crate) count: u32,
    pub(crate) micros: Vec<i64>,
    pub(crate) has_off_site: bool,
    pub(crate) has_pages: bool,
    pub(crate) has_codes: bool,
    pub(crate) has_amounts: bool,
    pub(crate) wide_times: bool,
    /// Least width of the codes.
    pub(crate) width: u32,
    /// Columns end after so many events.
    pub(crate) length: usize,
}

impl Case {
    pub(crate) fn new(random: &mut Random) -> Self {
        // Instants beyond 32 bits must work in the wide layout, and so must those before the epoch.
        let stretch = if random.chance(15) { 1 << 36 } else { 1 };
        let shift = if random.chance(30) { -20 } else { 0 };
        let horizon = random.within(4, 60);
        let instant = |random: &mut Random| (random.within(-2, horizon + 2) + shift) * stretch;
        let mut edges: Vec<i64> = (0..random.within(0, 7)).map(|_| instant(random)).collect();
        edges.sort_unstable();
        let from = instant(random);
        let range = from..from + random.within(0, horizon + 2) * stretch;
        // Codes of every width, some of them so large that they cannot be a place in a list.
        let scale = [1, 1, 200, 70_000, u32::MAX / 3][random.within(0, 4) as usize];
        let mut visitors: Vec<Vec<Event>> =
            (0..random.within(0, 20)).map(|_| journey(random, horizon)).collect();
        for event in visitors.iter_mut().flatten() {
            event.time = (event.time + shift) * stretch;
            event.code *= scale;
        }
        let events: usize = visitors.iter().map(Vec::len).sum();
        let amounts = random.within(0, 4);
        let mut amount = |_| if random.chance(10) { i64::MAX } else { random.within(-500, 500) };
        let micros = (0..amounts).map(&mut amount).collect();
        Self {
            skip: random.chance(30).then(|| vec![random.next() & random.next()]),
            gap_ms: random.within(-1, 8) * stretch,
            edges,
            range,
            duration_ms: random.within(-1, 12) * stretch,
            count: random.within(0, 4) as u32,
            micros,
            has_off_site: random.chance(75),
            has_pages: random.chance(75),
            has_codes: random.chance(75),
            has_amounts: random.chance(75),
            wide_times: stretch > 1 || random.chance(50),
            width: random.within(0, 2) as u32,
            length: if random.chance(10) { random.within(0, events as i64) as usize } else { events },
            visitors,
        }
    }

    /// The columns of all visitors.
    pub(crate) fn columns(&self) -> Columns {
        let mut columns = Columns::new(&self.visitors, self.width, self.length);
        columns.journeys.skip = self.skip.clone();
        columns.wide_times = self.wide_times;
        columns
    }

    /// The same questions about the first visitors, and about the others.
    pub(crate) fn cut(&self, at: usize) -> [Self; 2] {
        let skip = |from: usize| {
            let all = self.skip.as_ref()?;
            Some(vec![all[0].checked_shr(from as u32).unwrap_or(0)])
        };
        let length = |visitors: &[Vec<Event>]| visitors.iter().map(Vec::len).sum::<usize>();
        let (left, right) = self.visitors.split_at(at);
        let part = |visitors: &[Vec<Event>], skip, length| Self {
            visitors: visitors.to_vec(),
            skip,
            edges: self.edges.clone(),
            range: self.range.clone(),
            micros: self.micros.clone(),
            length,
            ..*self
        };
        let before = length(left);
        [
            part(left, skip(0), self.length.min(before)),
            part(right, skip(at), self.length.saturating_sub(before)),
        ]
    }
}

/// A journey, sorted by time; equal times keep the order in which they were drawn. A few are longer than several words.
fn journey(random: &mut Random, horizon: i64) -> Vec<Event> {
    let most = if random.chance(4) { 200 } else { 12 };
    let (off_site, marked) = (random.within(0, 50) as u64, random.within(5, 70) as u64);
    let mut journey: Vec<Event> = (0..random.within(0, most))
        .map(|_| Event {
            time: random.within(0, horizon),
            off_site: random.chance(off_site),
            page: random.chance(50),
            marked: random.chance(marked),
            again: random.chance(marked),
            code: random.within(0, 3) as u32,
            amount: random.within(0, 4) as u32,
        })
        .collect();
    journey.sort_by_key(|event| event.time);
    journey
}
