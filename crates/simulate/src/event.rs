//! One event: forty bytes, copied freely; words and identifiers are made when asked for.

use std::fmt;

use crate::random::mix;
use crate::value::{Property, Value};
use crate::vocabulary::{BROWSERS, CAMPAIGNS, CHANNELS, COUNTRIES, DEVICES, METHODS, TERMS};

/// What happened. The number of a name (`name as u8`) is its index in [`Name::ALL`] and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it; lib.rs describes the properties of each")]
pub enum Name {
    PageView,
    ViewItem,
    AddToCart,
    BeginCheckout,
    ChoosePayment,
    Purchase,
    Search,
    ViewCart,
    PlaceOrder,
    NewsletterSignup,
    VideoPlay,
    WishListAdd,
    EmailClick,
}

impl Name {
    /// Every name, in the order of its number.
    pub const ALL: [Name; 13] = [
        Name::PageView,
        Name::ViewItem,
        Name::AddToCart,
        Name::BeginCheckout,
        Name::ChoosePayment,
        Name::Purchase,
        Name::Search,
        Name::ViewCart,
        Name::PlaceOrder,
        Name::NewsletterSignup,
        Name::VideoPlay,
        Name::WishListAdd,
        Name::EmailClick,
    ];

    /// The name as sent, such as `add_to_cart`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Name::PageView => "page_view",
            Name::ViewItem => "view_item",
            Name::AddToCart => "add_to_cart",
            Name::BeginCheckout => "begin_checkout",
            Name::ChoosePayment => "choose_payment",
            Name::Purchase => "purchase",
            Name::Search => "search",
            Name::ViewCart => "view_cart",
            Name::PlaceOrder => "place_order",
            Name::NewsletterSignup => "newsletter_signup",
            Name::VideoPlay => "video_play",
            Name::WishListAdd => "wish_list_add",
            Name::EmailClick => "email_click",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A visitor, by number. Shown as `v-0000001f3a`: ten hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VisitorId(pub u64);

impl fmt::Display for VisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v-{:010x}", self.0)
    }
}

/// A UUID of version 7 (RFC 9562): event time in milliseconds, then random bits. Shown in the canonical form, lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u128);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = ((self.0 >> 64) as u64, self.0 as u64);
        let (b_high, b_low) = (b >> 48, b & 0xffff_ffff_ffff);
        write!(f, "{:08x}-{:04x}-{:04x}-{b_high:04x}-{b_low:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xffff)
    }
}

/// An event of the shop. Equality is equality of everything that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Who.
    pub visitor: VisitorId,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Differs between all events of one visitor; makes the event id and decides the event's fate on the way.
    pub(crate) entropy: u64,
    /// Price, value or order value in cents; number of results of a search.
    pub(crate) amount: u32,
    /// Product or page.
    pub(crate) subject: u16,
    /// Place in the session, from 0.
    pub(crate) ordinal: u16,
    /// What.
    pub name: Name,
    /// Browser, term, method, campaign, number of items, quarters watched, or consent, by name.
    pub(crate) detail: u8,
    pub(crate) channel: u8,
    pub(crate) device: u8,
    pub(crate) country: u8,
    pub(crate) sequenced: bool,
    pub(crate) bot: bool,
}

impl Event {
    /// The event's id. Ids of different events differ, within a visitor by construction.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        let time = (self.time_ms as u64 & 0xffff_ffff_ffff) as u128;
        let high = u128::from(self.entropy >> 52);
        let low = u128::from((self.entropy & 0xf_ffff_ffff_ffff) << 10 | mix(self.entropy) >> 54);
        EventId(time << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low)
    }

    /// The sender's number of the event in its session, from 0; about half of the visitors have none.
    #[must_use]
    pub fn sequence(&self) -> Option<u32> {
        self.sequenced.then_some(u32::from(self.ordinal))
    }

    /// Index into [`CHANNELS`]; one for a session.
    #[must_use]
    pub fn channel(&self) -> usize {
        usize::from(self.channel)
    }

    /// Index into [`DEVICES`]; one for a session, and mostly for a visitor.
    #[must_use]
    pub fn device(&self) -> usize {
        usize::from(self.device)
    }

    /// Whether a bot did it.
    #[must_use]
    pub fn is_bot(&self) -> bool {
        self.bot
    }

    /// The product, if the event is about one.
    #[must_use]
    pub fn product(&self) -> Option<u16> {
        use Name::{AddToCart, EmailClick, Purchase, VideoPlay, ViewItem, WishListAdd};
        matches!(self.name, ViewItem | AddToCart | Purchase | VideoPlay | WishListAdd | EmailClick)
            .then_some(self.subject)
    }

    /// The order's value in cents; 0 for anything but a purchase.
    #[must_use]
    pub fn order_cents(&self) -> u64 {
        if self.name == Name::Purchase { u64::from(self.amount) } else { 0 }
    }

    /// The key of the order inside a visitor: time, sequence or 0, event id.
    #[inline]
    #[must_use]
    pub(crate) fn order(&self) -> (i64, u16, u64) {
        // Two ids of one millisecond compare like their entropies.
        (self.time_ms, if self.sequenced { self.ordinal } else { 0 }, self.entropy)
    }

    /// The five properties, in the order of [`Property`].
    #[inline]
    #[must_use]
    pub fn properties(&self) -> [(Property, Value); 5] {
        use Property as P;
        let product = || (P::Product, Value::Product(self.subject));
        let page = || (P::Page, Value::Page(self.subject));
        let items = || (P::Items, Value::Int(i64::from(self.detail)));
        let value = || (P::Value, Value::Cents(self.amount));
        let word =
            |words: &[&'static str]| Value::Str(words.get(usize::from(self.detail)).copied().unwrap_or(""));
        let (x, y) = match self.name {
            Name::PageView => (page(), (P::Browser, word(&BROWSERS))),
            Name::ViewItem | Name::AddToCart | Name::WishListAdd => {
                (product(), (P::Price, Value::Cents(self.amount)))
            }
            Name::Search => ((P::Term, word(&TERMS)), (P::Results, Value::Int(i64::from(self.amount)))),
            Name::ViewCart | Name::BeginCheckout | Name::PlaceOrder => (items(), value()),
            Name::ChoosePayment => (value(), (P::Method, word(&METHODS))),
            Name::Purchase => (product(), value()),
            Name::NewsletterSignup => (page(), (P::DoubleOptIn, Value::Bool(self.detail == 1))),
            Name::VideoPlay => (product(), (P::Progress, Value::Float(f64::from(self.detail) * 0.25))),
            Name::EmailClick => (product(), (P::Campaign, word(&CAMPAIGNS))),
        };
        let fixed = |words: &[&'static str], index: u8| {
            Value::Str(words.get(usize::from(index)).copied().unwrap_or(""))
        };
        [
            (P::Channel, fixed(&CHANNELS, self.channel)),
            (P::Device, fixed(&DEVICES, self.device)),
            (P::Country, fixed(&COUNTRIES, self.country)),
            x,
            y,
        ]
    }
}
