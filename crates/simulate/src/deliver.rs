//! The stream as a collector would see it: ordered by arrival, with late events and duplicates, in bounded memory.
//!
//! A shop of any size is delivered without remembering who is to come back. A visitor's sessions lie at one of [`SLOTS`] distances from the
//! arrival, and for one slot and one group of visitors sessions start in the order of the visitors' numbers. So each (slot, group) has a
//! cursor, which is one number; the cursors advance together through the period and make each session when its time comes. What has begun but not
//! arrived waits in a heap: the rest of open sessions, and what is late or sent again. When the heap is full its earliest events are
//! delivered ahead of their time: the order gets rougher, nothing gets lost, memory stays.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::plan::{GROUPS, SLOTS};
use crate::random::Rng;
use crate::{Event, Shop};

/// Purpose of the random stream that decides an event's fate.
const FATE: u64 = 0x300;
/// Arrivals of new visitors between two advances of the cursors. What begins and arrives within one stride is sorted and never sees the heap, which
/// is where a large shop spends its time; but a stride is in memory at once. It does not change the order of deliveries.
const STRIDE: u64 = 4_096;
/// Delays of late events: one minute to three days, as `256 · log2(ms)`.
const LATE: (i32, i32) = (4_063, 7_155);
/// Delays of duplicates after the copy before: one second to one day.
const AGAIN: (i32, i32) = (2_551, 6_749);

/// One sending of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What is sent; the same in all copies.
    pub event: Event,
    /// When it arrives, milliseconds since the Unix epoch.
    pub arrived_ms: i64,
    /// 0 for the first copy of an event, then 1 and 2.
    pub copy: u8,
}

impl Delivery {
    fn key(&self) -> (i64, u64, u64, u8) {
        (self.arrived_ms, self.event.visitor.0, self.event.entropy, self.copy)
    }
}

impl Ord for Delivery {
    /// By arrival; ties by visitor and event.
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Delivery {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What happens to an event on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// Arrival of the first copy and of each that follows.
    arrivals: [i64; 3],
    /// Number of copies after the first, 0 to 2.
    pub(crate) again: u8,
    /// Whether the first copy is held up.
    pub(crate) late: bool,
}

impl Shop {
    /// What happens to `event` on its way. Depends on nothing but the event.
    pub(crate) fn fate(&self, event: &Event) -> Fate {
        let mut rng = Rng::new(event.entropy, FATE);
        let r = rng.next();
        let late = r & 0xffff_ffff < self.tables.late;
        let again = r >> 32 < self.tables.duplicates;
        // The network's own delay: 20 to 532 ms, from bits that decide nothing else when shares are small.
        let mut arrivals = [event.time_ms + 20 + (r >> 16 & 511) as i64; 3];
        if late {
            arrivals[0] += self.exp2.log_uniform(&mut rng, LATE.0, LATE.1) as i64;
        }
        let mut copies = 0;
        if again {
            copies = 1 + u8::from(rng.below(8) == 0);
            arrivals[1] = arrivals[0] + self.exp2.log_uniform(&mut rng, AGAIN.0, AGAIN.1) as i64;
            arrivals[2] = arrivals[1] + self.exp2.log_uniform(&mut rng, AGAIN.0, AGAIN.1) as i64;
        }
        Fate { arrivals, again: copies, late }
    }
}

/// The iterator of [`Shop::deliveries`].
#[derive(Clone, Debug)]
pub struct Deliveries<'a> {
    shop: &'a Shop,
    /// The next visitor of each group, by slot.
    cursors: [[u64; GROUPS]; SLOTS],
    stride: u64,
    strides: u64,
    /// Arrives before the cursors' time, in order; `at` is the next.
    due: Vec<Delivery>,
    at: usize,
    /// Arrives later.
    held: BinaryHeap<Reverse<Delivery>>,
    capacity: usize,
    peak: usize,
    session: Vec<Event>,
}

impl<'a> Deliveries<'a> {
    /// Events that are held back at most, unless [`Shop::deliveries_within`] says otherwise: 15 MB of them. The shop of
    /// [`crate::Config::shop`] needs more only from some thirty million visitors on.
    pub const CAPACITY: usize = 1 << 18;

    pub(crate) fn new(shop: &'a Shop, capacity: usize) -> Self {
        Self {
            shop,
            cursors: std::array::from_fn(|_| std::array::from_fn(|group| group as u64)),
            stride: 0,
            strides: shop.config().visitors / STRIDE + 1,
            due: Vec::new(),
            at: 0,
            held: BinaryHeap::new(),
            capacity,
            peak: 0,
            session: Vec::new(),
        }
    }

    /// The largest number of events that were in memory at once so far: held back, and due but not yet read.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Moves the cursors to the end of the next stride and gathers what arrives until then.
    fn advance(&mut self) {
        self.due.clear();
        self.at = 0;
        self.stride += 1;
        let last = self.stride == self.strides;
        let end = self.shop.end();
        let until = if last {
            end
        } else {
            (u128::from(end) * u128::from(self.stride) / u128::from(self.strides)) as u64
        };
        // Sessions that start from now on are later than this, and so are their arrivals.
        let horizon_ms = if last { i64::MAX } else { self.shop.calendar.clock_ms(until) };
        for slot in 0..SLOTS {
            for group in 0..GROUPS {
                self.advance_cursor(slot, group, until, horizon_ms);
            }
        }
        self.peak = self.peak.max(self.due.len() + self.held.len());
        while let Some(earliest) = self.held.peek_mut() {
            if earliest.0.arrived_ms >= horizon_ms {
                break;
            }
            self.due.push(PeekMut::pop(earliest).0);
        }
        self.due.sort_unstable();
        while self.held.len() > self.capacity
            && let Some(Reverse(earliest)) = self.held.pop()
        {
            self.due.push(earliest);
        }
    }

    fn advance_cursor(&mut self, slot: usize, group: usize, until: u64, horizon_ms: i64) {
        let shop = self.shop;
        let visitors = shop.config().visitors;
        let mut visitor = self.cursors[slot][group];
        while visitor < visitors {
            let key = shop.visitor_key(visitor);
            if shop.starts(visitor, key, slot) >= until {
                break;
            }
            let slots = shop.slots(visitor, key);
            if slots >> slot & 1 == 1 {
                let plan = shop.plan(visitor, key, slots);
                self.session.clear();
                shop.session(&plan, slot as u8, &mut self.session);
                for event in &self.session {
                    let fate = shop.fate(event);
                    for copy in 0..=fate.again {
                        let arrived_ms = fate.arrivals[usize::from(copy)];
                        let delivery = Delivery { event: *event, arrived_ms, copy };
                        if arrived_ms < horizon_ms {
                            self.due.push(delivery);
                        } else {
                            self.held.push(Reverse(delivery));
                        }
                    }
                }
            }
            visitor += GROUPS as u64;
        }
        self.cursors[slot][group] = visitor;
    }
}

impl Iterator for Deliveries<'_> {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        while self.at == self.due.len() {
            if self.stride == self.strides {
                return None;
            }
            self.advance();
        }
        let delivery = self.due.get(self.at).copied();
        self.at += 1;
        delivery
    }
}
