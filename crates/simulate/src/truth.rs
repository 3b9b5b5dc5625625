//! What is true of a shop: counted while it is made, by the simplest code that is right.

use std::ops::Range;

use crate::plan::{FUNNEL, FUNNEL_WINDOW_MS, ROUTE};
use crate::{Event, Name, Shop, VisitorId};

/// Gap that ends a session, in milliseconds: one longer than this.
const SESSION_GAP_MS: i64 = 30 * 60_000;

/// Visitors with and without something, and how many of them bought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Visitors who did it,
    pub exposed: u64,
    /// and reached the last step of the main funnel.
    pub exposed_bought: u64,
    /// Visitors who did not,
    pub others: u64,
    /// and reached the last step all the same.
    pub others_bought: u64,
}

impl Exposure {
    /// The buying rate of the exposed over that of the others; `None` if one of them is undefined or zero.
    #[must_use]
    pub fn lift(&self) -> Option<f64> {
        let rate = |bought: u64, of: u64| (of > 0 && bought > 0).then(|| bought as f64 / of as f64);
        Some(rate(self.exposed_bought, self.exposed)? / rate(self.others_bought, self.others)?)
    }

    fn add(&mut self, exposed: bool, bought: bool) {
        let bought = u64::from(bought);
        if exposed {
            self.exposed += 1;
            self.exposed_bought += bought;
        } else {
            self.others += 1;
            self.others_bought += bought;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.exposed += other.exposed;
        self.exposed_bought += other.exposed_bought;
        self.others += other.others;
        self.others_bought += other.others_bought;
    }
}

/// Exact figures of a shop, or of a range of its visitors. All counts include bots and count each event once, unless they say otherwise.
///
/// The funnel is [`FUNNEL`] within [`FUNNEL_WINDOW_MS`], by visitor, loose order, the best chain, and an instant shared by two steps
/// satisfies their order. A break-down takes the property of the event that enters the best chain: the furthest, of those the one that
/// completes first, of those the latest entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Visitors; each has at least one event.
    pub visitors: u64,
    /// Distinct events.
    pub events: u64,
    /// Copies that are sent beside the first: `deliveries = events + duplicates`.
    pub duplicates: u64,
    /// Events whose first copy is late by a minute or more.
    pub late: u64,
    /// Events in the same millisecond as the one before them in the visitor's order.
    pub tied: u64,
    /// Sessions: events of a visitor with no gap over 30 minutes. Every event counts, the e-mail click too.
    pub sessions: u64,
    /// Events per name, by the name's number.
    pub by_name: [u64; Name::ALL.len()],
    /// Visitors who are bots. They get to the first step only.
    pub bots: u64,
    /// Events of bots.
    pub bot_events: u64,
    /// Value of all purchases in cents.
    pub revenue_cents: u64,
    /// Visitors who reached each step of the main funnel.
    pub reached: [u64; 6],
    /// The same by device, in the order of [`crate::DEVICES`].
    pub reached_by_device: [[u64; 6]; 3],
    /// The same by channel, in the order of [`crate::CHANNELS`].
    pub reached_by_channel: [[u64; 6]; 7],
    /// Visitors who took [`ROUTE`], one event after the other with nothing between e-mail and purchase.
    pub route: u64,
    /// Among visitors who viewed an item: those who played a video. A cause (see [`crate::Planted::video_lift`]).
    pub video: Exposure,
    /// Among visitors who viewed an item: those who signed up for the newsletter. Not a cause.
    pub newsletter: Exposure,
}

impl Truth {
    /// The figures of a range of visitors.
    #[must_use]
    pub fn of(shop: &Shop, visitors: Range<u64>) -> Self {
        let mut truth = Self::default();
        shop.for_each_visitor(visitors, |_, journey| truth.add(shop, journey));
        truth
    }

    /// Adds the whole journey of one more visitor of `shop`, as [`Shop::for_each_visitor`] shows it.
    pub fn add(&mut self, shop: &Shop, journey: &[Event]) {
        let Some(first) = journey.first() else { return };
        self.visitors += 1;
        self.events += journey.len() as u64;
        self.bots += u64::from(first.bot);
        self.sessions += 1;
        let mut seen = [false; Name::ALL.len()];
        for event in journey {
            let fate = shop.fate(event);
            self.duplicates += u64::from(fate.again);
            self.late += u64::from(fate.late);
            self.bot_events += u64::from(event.bot);
            self.by_name[event.name as usize] += 1;
            self.revenue_cents += event.order_cents();
            seen[event.name as usize] = true;
        }
        for pair in journey.windows(2) {
            let gap_ms = pair[1].time_ms - pair[0].time_ms;
            self.tied += u64::from(gap_ms == 0);
            self.sessions += u64::from(gap_ms > SESSION_GAP_MS);
        }
        let mut bought = false;
        if let Some((level, entry)) = best_chain(journey, seen[Name::ViewItem as usize]) {
            bought = level == FUNNEL.len();
            for step in 0..level {
                self.reached[step] += 1;
                self.reached_by_device[entry.device()][step] += 1;
                self.reached_by_channel[entry.channel()][step] += 1;
            }
        }
        self.route += u64::from(took_route(journey));
        if seen[Name::ViewItem as usize] {
            self.video.add(seen[Name::VideoPlay as usize], bought);
            self.newsletter.add(seen[Name::NewsletterSignup as usize], bought);
        }
    }

    /// Adds the figures of other visitors of the same shop.
    pub fn merge(&mut self, other: &Self) {
        self.visitors += other.visitors;
        self.events += other.events;
        self.duplicates += other.duplicates;
        self.late += other.late;
        self.tied += other.tied;
        self.sessions += other.sessions;
        self.bots += other.bots;
        self.bot_events += other.bot_events;
        self.revenue_cents += other.revenue_cents;
        self.route += other.route;
        self.video.merge(&other.video);
        self.newsletter.merge(&other.newsletter);
        sum(&mut self.by_name, &other.by_name);
        sum(&mut self.reached, &other.reached);
        sum(self.reached_by_device.as_flattened_mut(), other.reached_by_device.as_flattened());
        sum(self.reached_by_channel.as_flattened_mut(), other.reached_by_channel.as_flattened());
    }

    /// Whether a visitor of `shop` is a bot.
    #[must_use]
    pub fn is_bot(shop: &Shop, visitor: VisitorId) -> bool {
        let mut journey = Vec::new();
        shop.journey(visitor.0, &mut journey);
        journey.first().is_some_and(Event::is_bot)
    }
}

fn sum(into: &mut [u64], from: &[u64]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

/// The level of the best chain and its entry: from every entry, each step at its first instant not before the step before.
fn best_chain(journey: &[Event], beyond_first: bool) -> Option<(usize, &Event)> {
    let mut best: Option<(usize, i64, &Event)> = None;
    for (index, entry) in journey.iter().enumerate().filter(|(_, event)| event.name == FUNNEL[0]) {
        let (mut level, mut time_ms) = (1, entry.time_ms);
        if beyond_first {
            // An instant is shared by both sides of a chain, so look from its first event on.
            let from =
                index - journey[..index].iter().rev().take_while(|e| e.time_ms == entry.time_ms).count();
            let within = journey[from..].iter().take_while(|e| e.time_ms - entry.time_ms <= FUNNEL_WINDOW_MS);
            for step in &FUNNEL[1..] {
                let Some(next) = within.clone().find(|e| e.name == *step && e.time_ms >= time_ms) else {
                    break;
                };
                level += 1;
                time_ms = next.time_ms;
            }
        }
        // A later entry wins when it is as good.
        if best.is_none_or(|(l, t, _)| level > l || (level == l && time_ms <= t)) {
            best = Some((level, time_ms, entry));
        }
    }
    best.map(|(level, _, entry)| (level, entry))
}

/// Whether the visitor put something on the wish list and later bought with the click in the e-mail.
fn took_route(journey: &[Event]) -> bool {
    let Some(wish) = journey.iter().position(|event| event.name == ROUTE[0]) else { return false };
    // The two may share a millisecond, and then stand in either order.
    journey[wish + 1..].windows(2).any(|pair| match (pair[0].name, pair[1].name) {
        (a, b) if a == ROUTE[1] && b == ROUTE[2] => true,
        (a, b) if a == ROUTE[2] && b == ROUTE[1] => pair[0].time_ms == pair[1].time_ms,
        _ => false,
    })
}
