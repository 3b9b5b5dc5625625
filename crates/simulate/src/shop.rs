//! The shop: any visitor's journey, in any order, at any size.

use std::ops::Range;

use crate::calendar::Calendar;
use crate::plan::{CHANNEL_WEIGHTS, GROUPS, RETURNS_MINUTES, SLOTS};
use crate::random::{Exp2, Rng, Weighted, mix, threshold};
use crate::{COUNTRIES, Config, ConfigError, Deliveries, Event, PAGES, PRODUCTS, Truth, VisitorId};

/// Purpose of the random stream that decides when a visitor arrives.
const ARRIVAL: u64 = 3;

/// Distributions, made once.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub(crate) channel: Weighted,
    pub(crate) country: Weighted,
    pub(crate) product: Weighted,
    pub(crate) page: Weighted,
    /// Thresholds for 32 random bits.
    pub(crate) bots: u64,
    pub(crate) ties: u64,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
}

/// A simulated shop. It holds a few tables, whatever its size; every stream is made while it is read. Share it between threads and
/// give each its own range of visitors.
#[derive(Clone, Debug)]
pub struct Shop {
    config: Config,
    key: u64,
    pub(crate) calendar: Calendar,
    pub(crate) exp2: Exp2,
    pub(crate) tables: Tables,
    /// Shop time at the end of the period.
    end: u64,
    /// Shop time between two arrivals, on average.
    spacing: f64,
    /// Shop time from arrival to the session in each slot, by group.
    returns: [[u64; SLOTS]; GROUPS],
}

impl Shop {
    /// The shop of `config`.
    ///
    /// # Errors
    /// A field of `config` is out of its range.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let calendar = Calendar::new(config.start_ms);
        let end = calendar.shop_time(config.start_ms + i64::from(config.days) * 86_400_000);
        let mut returns = [[0; SLOTS]; GROUPS];
        for (group, returns) in returns.iter_mut().enumerate() {
            for (slot, minutes) in RETURNS_MINUTES.iter().enumerate() {
                returns[slot + 1] = calendar.average(minutes * 60_000) / 100 * (85 + 2 * group as u64);
            }
        }
        let tables = Tables {
            channel: Weighted::new(&CHANNEL_WEIGHTS),
            country: Weighted::zipf(COUNTRIES.len()),
            product: Weighted::zipf(usize::from(PRODUCTS)),
            page: Weighted::zipf(usize::from(PAGES)),
            bots: threshold(config.bots),
            ties: threshold(config.ties),
            late: threshold(config.late),
            duplicates: threshold(config.duplicates),
        };
        Ok(Self {
            key: mix(config.seed ^ 0x5eed_0000_0000_0001),
            calendar,
            exp2: Exp2::new(),
            tables,
            end,
            spacing: end as f64 / config.visitors as f64,
            returns,
            config,
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Appends the events of a visitor to `out`, in the order (time, sequence or 0, event id). Visitors outside `0..visitors` have none.
    pub fn journey(&self, visitor: u64, out: &mut Vec<Event>) {
        if visitor >= self.config.visitors {
            return;
        }
        let from = out.len();
        let key = self.visitor_key(visitor);
        let plan = self.plan(visitor, key, self.slots(visitor, key));
        let mut slots = plan.slots;
        while slots != 0 {
            self.session(&plan, slots.trailing_zeros() as u8, out);
            slots &= slots - 1;
        }
        let journey = &mut out[from..];
        if !journey.is_sorted_by_key(Event::order) {
            journey.sort_unstable_by_key(Event::order);
        }
    }

    /// Calls `each` with every visitor of a range, by rising number, and its journey. One buffer serves them all.
    pub fn for_each_visitor(&self, visitors: Range<u64>, mut each: impl FnMut(VisitorId, &[Event])) {
        let mut journey = Vec::new();
        for visitor in visitors.start..visitors.end.min(self.config.visitors) {
            journey.clear();
            self.journey(visitor, &mut journey);
            each(VisitorId(visitor), &journey);
        }
    }

    /// The events of a range of visitors, journey after journey.
    pub fn events(&self, visitors: Range<u64>) -> Events<'_> {
        let end = visitors.end.min(self.config.visitors);
        Events { shop: self, visitors: visitors.start..end, journey: Vec::new(), at: 0 }
    }

    /// Every event in the order in which a back end would send it, late ones and duplicates among them.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries<'_> {
        Deliveries::new(self, Deliveries::CAPACITY)
    }

    /// Like [`Shop::deliveries`], holding back at most `capacity` events for later.
    #[must_use]
    pub fn deliveries_within(&self, capacity: usize) -> Deliveries<'_> {
        Deliveries::new(self, capacity)
    }

    /// What is true of the whole shop. Takes one pass; to share the work, merge the [`Truth::of`] several ranges.
    #[must_use]
    pub fn truth(&self) -> Truth {
        Truth::of(self, 0..self.config.visitors)
    }

    #[inline]
    pub(crate) fn visitor_key(&self, visitor: u64) -> u64 {
        mix(self.key.wrapping_add(mix(visitor)))
    }

    /// Shop time at which the visitor's session in `slot` starts. For one slot and one group it rises with the visitor's number.
    #[inline]
    pub(crate) fn starts(&self, visitor: u64, key: u64, slot: usize) -> u64 {
        let within = f64::from(Rng::new(key, ARRIVAL).bits() >> 16) / 65_536.0;
        let arrival = ((visitor as f64 + within) * self.spacing) as u64;
        arrival + self.returns[(visitor % GROUPS as u64) as usize][slot]
    }

    /// Shop time at the end of the period.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

/// The iterator of [`Shop::events`].
#[derive(Clone, Debug)]
pub struct Events<'a> {
    shop: &'a Shop,
    visitors: Range<u64>,
    journey: Vec<Event>,
    at: usize,
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while self.at == self.journey.len() {
            let visitor = self.visitors.next()?;
            self.journey.clear();
            self.at = 0;
            self.shop.journey(visitor, &mut self.journey);
        }
        let event = self.journey.get(self.at).copied();
        self.at += 1;
        event
    }
}
