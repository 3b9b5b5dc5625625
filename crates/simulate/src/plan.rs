//! What is planted, and what one visitor is going to do.
//!
//! A [`Plan`] is drawn from (seed, visitor) alone, and each session from the plan and its own stream, so that any session of any visitor can
//! be made without those before it. That is what lets deliveries stream in bounded memory.

use crate::Name;
use crate::random::Rng;
use crate::shop::Shop;
use crate::vocabulary::{DIRECT, EMAIL};

/// The main funnel: six steps that most people take in this order.
pub const FUNNEL: [Name; 6] = [
    Name::PageView,
    Name::ViewItem,
    Name::AddToCart,
    Name::BeginCheckout,
    Name::ChoosePayment,
    Name::Purchase,
];
/// Window of the main funnel from its entry, inclusive: seven days, in milliseconds.
pub const FUNNEL_WINDOW_MS: i64 = 7 * 24 * 3_600_000;

/// What the shop is made of, as probabilities in parts per million. What came of it in one shop is in [`crate::Truth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planted {
    /// Probability that a person who took step i of [`FUNNEL`] (from 0) plans step i + 1. The second is before its factors; in place of the
    /// fourth, which is 0, stands `payment_by_device`.
    pub advance: [u32; 5],
    /// Factor on view_item → add_to_cart by channel of the session, in percent. Friction: `social` people look and leave.
    pub cart_by_channel: [u32; 7],
    /// Probability of begin_checkout → choose_payment by device of the session. Friction: `mobile` loses people here.
    pub payment_by_device: [u32; 3],
    /// Probability that a person who views an item plays a video, independent of everything else.
    pub video: u32,
    /// Lift: factor on view_item → add_to_cart, hence on purchase, of a person who played a video, in percent. It is causal.
    pub video_lift: u32,
    /// Probability of a newsletter sign-up: of people with fewer than three sessions, and of the others.
    pub newsletter: [u32; 2],
    /// Factor on view_item → add_to_cart of the same two groups, in percent. The newsletter itself changes nothing: it seems to announce the
    /// purchase only because active people do both.
    pub cart_by_activity: [u32; 2],
    /// Probability that a person who views an item puts it on the wish list.
    pub wish_list: u32,
    /// Probability that such a person, if not in the checkout and with a session to come, opens that session from the e-mail and buys at
    /// once: the route that nobody designed, [`ROUTE`].
    pub route: u32,
    /// Probability that a buyer with a session to come buys again in it.
    pub repeat: u32,
    /// Probability that a person leaves after add_to_cart and takes the next steps in the next session, if there is one.
    pub split: u32,
}

/// The route that nobody designed: wish list, e-mail, purchase, without cart and checkout.
pub const ROUTE: [Name; 3] = [Name::WishListAdd, Name::EmailClick, Name::Purchase];

/// The planted effects. Indices of `cart_by_channel` and `payment_by_device` are those of [`crate::CHANNELS`] and [`crate::DEVICES`].
pub const PLANTED: Planted = Planted {
    advance: [602_000, 272_000, 510_000, 0, 668_000],
    cart_by_channel: [100, 110, 90, 60, 130, 110, 100],
    payment_by_device: [540_000, 850_000, 800_000],
    video: 120_000,
    video_lift: 180,
    newsletter: [20_000, 160_000],
    cart_by_activity: [87, 150],
    wish_list: 80_000,
    route: 450_000,
    repeat: 250_000,
    split: 220_000,
};

// With every factor at its largest, adding to the cart stays less than certain; else the lift would be clipped and no longer what it says.
const _: () = {
    let (mut channel, mut i) = (0, 0);
    while i < PLANTED.cart_by_channel.len() {
        if PLANTED.cart_by_channel[i] > channel {
            channel = PLANTED.cart_by_channel[i];
        }
        i += 1;
    }
    let most = PLANTED.advance[1] as u64
        * channel as u64
        * PLANTED.cart_by_activity[1] as u64
        * PLANTED.video_lift as u64;
    assert!(most < 1_000_000 * 1_000_000);
};

/// Traffic by channel of a first session, in percent, in the order of [`crate::CHANNELS`].
pub(crate) const CHANNEL_WEIGHTS: [f64; 7] = [30.0, 28.0, 16.0, 11.0, 7.0, 5.0, 3.0];

/// Sessions a visitor can have: one on arrival and one at each of [`RETURNS_MINUTES`] later.
pub(crate) const SLOTS: usize = 24;
/// When people come back, in minutes after their arrival, before the factor of their group. The busiest hour shrinks them to less than half;
/// they are far enough apart that nearly all sessions stay more than 30 minutes apart, or strata by found sessions would mix active people with others.
pub(crate) const RETURNS_MINUTES: [u64; SLOTS - 1] = [
    120, 260, 420, 700, 1_000, 1_440, 2_100, 2_880, 4_320, 5_760, 7_200, 8_640, 10_080, 11_520, 14_400,
    17_280, 20_160, 23_040, 26_000, 30_240, 34_560, 41_000, 50_400,
];
/// Visitors belong to groups in turn; each has its own factor on [`RETURNS_MINUTES`], so that returns do not come in sharp waves.
pub(crate) const GROUPS: usize = 16;

/// No slot.
pub(crate) const NEVER: u8 = u8::MAX;

/// Purposes of random streams.
mod purpose {
    pub(super) const SLOTS: u64 = 1;
    pub(super) const PLAN: u64 = 2;
    pub(super) const VISIT: u64 = 0x100;
}

/// What a visitor is going to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) visitor: u64,
    /// The visitor's own key for random streams.
    pub(crate) key: u64,
    /// Bit i: there is a session in slot i.
    pub(crate) slots: u32,
    pub(crate) bot: bool,
    pub(crate) sequenced: bool,
    pub(crate) country: u8,
    pub(crate) browser: u8,
    /// How many steps of the funnel after the landing are planned, 0 to 5.
    pub(crate) depth: u8,
    /// The slot in which they begin,
    pub(crate) progress: u8,
    /// and the slot of those from begin_checkout.
    pub(crate) finish: u8,
    /// Slot of a second purchase.
    pub(crate) repeat: u8,
    /// Slot of the e-mail click of [`ROUTE`].
    pub(crate) route: u8,
    pub(crate) video: bool,
    pub(crate) newsletter: bool,
    pub(crate) wish: bool,
    pub(crate) product: u16,
    pub(crate) items: u8,
}

/// The circumstances of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) channel: u8,
    pub(crate) device: u8,
}

impl Shop {
    /// The slots in which a visitor has sessions. The number of sessions is geometric, with a more loyal minority.
    #[inline]
    pub(crate) fn slots(&self, visitor: u64, key: u64) -> u32 {
        let mut rng = Rng::new(key, purpose::SLOTS);
        let (again, longest) = if rng.chance(80_000) { (840_000, 3) } else { (430_000, 9) };
        let (mut slots, mut slot) = (1_u32, 0);
        while rng.chance(again) {
            slot += 1 + rng.below(longest) as usize;
            if slot >= SLOTS || self.starts(visitor, key, slot) >= self.end() {
                break;
            }
            slots |= 1 << slot;
        }
        slots
    }

    /// Channel and device of the session in `slot`.
    pub(crate) fn visit(&self, key: u64, slot: u8) -> Visit {
        let draw = |slot: u8| {
            let mut rng = Rng::new(key, purpose::VISIT + u64::from(slot));
            let direct = slot > 0 && rng.chance(400_000);
            let channel = self.tables.channel.draw(&mut rng) as u8;
            let device = match rng.below(100) {
                0..55 => 0,
                55..92 => 1,
                _ => 2,
            };
            (Visit { channel: if direct { DIRECT } else { channel }, device }, rng)
        };
        let (mut visit, mut rng) = draw(slot);
        // People keep their device; one session in sixteen after the first is from another one.
        if slot > 0 && rng.below(16) != 0 {
            visit.device = draw(0).0.device;
        }
        visit
    }

    /// What a visitor is going to do.
    pub(crate) fn plan(&self, visitor: u64, key: u64, slots: u32) -> Plan {
        let mut rng = Rng::new(key, purpose::PLAN);
        let bot = u64::from(rng.bits()) < self.tables.bots;
        let sequenced = rng.bits() & 1 == 0;
        let country = self.tables.country.draw(&mut rng) as u8;
        let browser = match rng.below(100) {
            0..52 => 0,
            52..76 => 1,
            76..86 => 2,
            86..95 => 3,
            _ => 4,
        };
        let mut plan = Plan {
            visitor,
            key,
            slots,
            bot,
            sequenced,
            country,
            browser,
            depth: 0,
            progress: NEVER,
            finish: NEVER,
            repeat: NEVER,
            route: NEVER,
            video: false,
            newsletter: false,
            wish: false,
            product: self.product(&mut rng),
            items: 1 + rng.next().trailing_ones().min(4) as u8,
        };
        if !bot {
            self.plan_person(&mut plan, &mut rng);
        }
        plan
    }

    fn plan_person(&self, plan: &mut Plan, rng: &mut Rng) {
        let sessions = plan.slots.count_ones();
        let active = usize::from(sessions >= 3);
        plan.newsletter = rng.chance(PLANTED.newsletter[active]);
        if !rng.chance(PLANTED.advance[0]) {
            return;
        }
        let (mut slots, skip) = (plan.slots, rng.below(sessions));
        for _ in 0..skip {
            slots &= slots - 1;
        }
        plan.progress = slots.trailing_zeros() as u8;
        plan.finish = plan.progress;
        if rng.chance(PLANTED.split) {
            plan.finish = following(plan.slots, plan.progress).unwrap_or(plan.progress);
        }
        plan.video = rng.chance(PLANTED.video);
        plan.wish = rng.chance(PLANTED.wish_list);

        let here = self.visit(plan.key, plan.progress);
        let lift = if plan.video { PLANTED.video_lift } else { 100 };
        let cart = PLANTED.advance[1] / 100 * PLANTED.cart_by_channel[usize::from(here.channel)] / 100
            * PLANTED.cart_by_activity[active]
            / 100
            * lift;
        let payment = PLANTED.payment_by_device[usize::from(self.visit(plan.key, plan.finish).device)];
        plan.depth = 1;
        for ppm in [cart, PLANTED.advance[2], payment, PLANTED.advance[4]] {
            if !rng.chance(ppm) {
                break;
            }
            plan.depth += 1;
        }
        if plan.depth < 3 {
            plan.finish = plan.progress;
        }
        if plan.depth == 5 && rng.chance(PLANTED.repeat) {
            plan.repeat = following(plan.slots, plan.finish).unwrap_or(NEVER);
        }
        if plan.wish && plan.depth <= 2 && rng.chance(PLANTED.route) {
            plan.route = following(plan.slots, plan.progress).unwrap_or(NEVER);
        }
    }

    /// A product, by Zipf's law over shelves that are numbered otherwise.
    #[inline]
    pub(crate) fn product(&self, rng: &mut Rng) -> u16 {
        let rank = u32::from(self.tables.product.draw(rng));
        ((rank * 617 + 421) % u32::from(crate::PRODUCTS)) as u16
    }
}

impl Plan {
    /// The circumstances of the session in `slot`, where the plan decides them.
    pub(crate) fn adjust(&self, slot: u8, visit: Visit) -> Visit {
        if self.bot {
            Visit { channel: DIRECT, device: 1 }
        } else if slot == self.route {
            Visit { channel: EMAIL, ..visit }
        } else {
            visit
        }
    }
}

/// The slot after `slot`, if there is one.
fn following(slots: u32, slot: u8) -> Option<u8> {
    let later = slots & !((2_u32 << slot) - 1);
    (later != 0).then(|| later.trailing_zeros() as u8)
}
