//! One session: the events of a visitor between coming and going.

use crate::plan::{Plan, Visit};
use crate::random::{Rng, mix};
use crate::shop::Shop;
use crate::vocabulary::{BOT, METHODS, TERMS, price_cents};
use crate::{Event, Name, VisitorId};

/// Purpose of a session's random stream; the slot is added.
const SESSION: u64 = 0x200;
/// Median time between two events, as `256 · log2(25,000 ms)`, and its spread (one standard deviation is a factor of 2.6).
const GAP_MEDIAN: i32 = 3_740;
const GAP_UNIT: i32 = 88;
/// Median number of things looked at beside the way, as `256 · log2(2.6)`, and its spread (a factor of 3.1): a heavy tail, cut at
/// [`BROWSE_MOST`].
const BROWSE_MEDIAN: i32 = 353;
const BROWSE_UNIT: i32 = 104;
const BROWSE_MOST: u64 = 150;

/// Writes one session.
struct Pen<'a> {
    shop: &'a Shop,
    plan: &'a Plan,
    rng: Rng,
    visit: Visit,
    slot: u8,
    time_ms: i64,
    ordinal: u16,
    out: &'a mut Vec<Event>,
}

impl Shop {
    /// Appends the events of the session in `slot` to `out`, in the order in which they happened.
    pub(crate) fn session(&self, plan: &Plan, slot: u8, out: &mut Vec<Event>) {
        let shop_time = self.starts(plan.visitor, plan.key, usize::from(slot));
        let mut pen = Pen {
            shop: self,
            plan,
            rng: Rng::new(plan.key, SESSION + u64::from(slot)),
            visit: plan.adjust(slot, self.visit(plan.key, slot)),
            slot,
            time_ms: self.calendar.clock_ms(shop_time),
            ordinal: 0,
            out,
        };
        if plan.bot {
            pen.crawl();
        } else if slot == plan.route {
            pen.route();
        } else {
            pen.shop();
        }
    }
}

impl Pen<'_> {
    /// A bot: page after page at the bot's own beat.
    fn crawl(&mut self) {
        let beat_ms = 1_000 + (mix(self.plan.key) % 4_000) as i64;
        let pages = 60 + self.rng.below(200);
        for _ in 0..pages {
            let page = self.shop.tables.page.draw(&mut self.rng);
            self.write(Name::PageView, page, BOT, 0);
            self.time_ms += beat_ms;
        }
    }

    /// Wish list, e-mail, purchase: the reminder's button buys at once.
    fn route(&mut self) {
        let product = self.plan.product;
        self.push(Name::EmailClick, product, 0, 0);
        self.push(Name::Purchase, product, 1, price_cents(product));
    }

    /// A person: landing, looking around, and the steps that are planned for this session.
    fn shop(&mut self) {
        let plan = self.plan;
        self.page_view();
        self.browse();
        if plan.newsletter && self.slot == 0 {
            let page = self.shop.tables.page.draw(&mut self.rng);
            let double = u8::from(self.rng.chance(800_000));
            self.push(Name::NewsletterSignup, page, double, 0);
        }
        if self.slot == plan.progress {
            self.item(Name::ViewItem, plan.product);
            if plan.video {
                let quarters = 1 + self.rng.below(4) as u8;
                self.push(Name::VideoPlay, plan.product, quarters, 0);
            }
            if plan.wish {
                self.item(Name::WishListAdd, plan.product);
            }
            if plan.depth >= 2 {
                self.item(Name::AddToCart, plan.product);
            }
        }
        if self.slot == plan.finish && plan.depth >= 2 {
            self.check_out(plan.product, plan.items, plan.depth);
        }
        if self.slot == plan.repeat {
            let product = self.shop.product(&mut self.rng);
            self.item(Name::ViewItem, product);
            self.item(Name::AddToCart, product);
            self.check_out(product, 1, 5);
        }
    }

    fn browse(&mut self) {
        let things = self.shop.exp2.log_normal(&mut self.rng, BROWSE_MEDIAN, BROWSE_UNIT).min(BROWSE_MOST);
        // One in four leaves without looking around.
        let things = if self.rng.below(4) == 0 { 0 } else { things };
        // People who never get to an item look at pages and searches only.
        let (items, searches) = if self.plan.depth >= 1 { (400_000, 120_000) } else { (0, 150_000) };
        for _ in 0..things {
            let roll = self.rng.below(1_000_000);
            if roll < items {
                let product = self.shop.product(&mut self.rng);
                self.item(Name::ViewItem, product);
            } else if roll < items + searches {
                let term = self.rng.below(TERMS.len() as u32) as u8;
                let results = self.rng.below(200);
                self.push(Name::Search, 0, term, results);
            } else {
                self.page_view();
            }
        }
    }

    /// From the cart to as far as `depth` goes.
    fn check_out(&mut self, product: u16, items: u8, depth: u8) {
        let value = price_cents(product) * u32::from(items);
        if self.rng.chance(600_000) {
            self.push(Name::ViewCart, 0, items, value);
        }
        if depth >= 3 {
            self.push(Name::BeginCheckout, 0, items, value);
        }
        if depth >= 4 {
            let method = self.rng.below(METHODS.len() as u32) as u8;
            self.push(Name::ChoosePayment, 0, method, value);
        }
        if depth >= 5 {
            if self.rng.chance(850_000) {
                self.push(Name::PlaceOrder, 0, items, value);
            }
            self.push(Name::Purchase, product, items, value);
        }
    }

    fn page_view(&mut self) {
        let page = self.shop.tables.page.draw(&mut self.rng);
        self.push(Name::PageView, page, self.plan.browser, 0);
    }

    fn item(&mut self, name: Name, product: u16) {
        self.push(name, product, 0, price_cents(product));
    }

    /// The next event of a person: a moment after the one before, or in its millisecond.
    fn push(&mut self, name: Name, subject: u16, detail: u8, amount: u32) {
        if self.ordinal > 0 && u64::from(self.rng.bits()) >= self.shop.tables.ties {
            let gap = self.shop.exp2.log_normal(&mut self.rng, GAP_MEDIAN, GAP_UNIT);
            self.time_ms += gap.max(1) as i64;
        }
        self.write(name, subject, detail, amount);
    }

    fn write(&mut self, name: Name, subject: u16, detail: u8, amount: u32) {
        let place = u64::from(self.slot) << 32 | u64::from(self.ordinal);
        self.out.push(Event {
            visitor: VisitorId(self.plan.visitor),
            time_ms: self.time_ms,
            // A bijection of the place, so that no two events of a visitor share it.
            entropy: mix(self.plan.key.wrapping_add(place)),
            amount,
            subject,
            ordinal: self.ordinal,
            name,
            detail,
            channel: self.visit.channel,
            device: self.visit.device,
            country: self.plan.country,
            sequenced: self.plan.sequenced,
            bot: self.plan.bot,
        });
        self.ordinal += 1;
    }
}
