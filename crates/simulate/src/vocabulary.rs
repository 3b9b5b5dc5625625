//! The words of the shop: every string that an event can carry, and the prices.

use crate::random::mix;

/// Where a session came from, by falling traffic. Indices are those of [`crate::Event::channel`].
pub const CHANNELS: [&str; 7] =
    ["organic", "direct", "paid_search", "social", "email", "referral", "affiliate"];
/// What people hold in their hands. Indices are those of [`crate::Event::device`].
pub const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];
/// ISO 3166 codes, by falling traffic (Zipf).
pub const COUNTRIES: [&str; 20] = [
    "US", "DE", "GB", "FR", "CH", "AT", "NL", "IT", "ES", "PL", "CA", "SE", "BE", "DK", "AU", "JP", "NO",
    "CZ", "IE", "PT",
];
/// Browsers of people, then the one agent of bots.
pub const BROWSERS: [&str; 6] = ["Chrome", "Safari", "Firefox", "Edge", "Samsung Internet", BOT_BROWSER];
/// The `browser` of every event of a bot, and of no other.
pub const BOT_BROWSER: &str = "ExampleBot/2.1 (+https://bot.example)";
/// Number of products; `sku-0000` to `sku-0999`, with sales by Zipf's law.
pub const PRODUCTS: u16 = 1_000;
/// Number of pages: twenty in each of ten sections, with visits by Zipf's law.
pub const PAGES: u16 = 200;

pub(crate) const SECTIONS: [&str; 10] =
    ["home", "shoes", "jackets", "bags", "sports", "kids", "sale", "blog", "help", "brands"];
pub(crate) const TERMS: [&str; 40] = [
    "shoes",
    "running shoes",
    "boots",
    "sandals",
    "sneakers",
    "jacket",
    "rain jacket",
    "coat",
    "jeans",
    "trousers",
    "shorts",
    "t-shirt",
    "shirt",
    "hoodie",
    "sweater",
    "dress",
    "skirt",
    "socks",
    "hat",
    "cap",
    "gloves",
    "scarf",
    "belt",
    "bag",
    "backpack",
    "suitcase",
    "wallet",
    "watch",
    "sunglasses",
    "tent",
    "sleeping bag",
    "bottle",
    "bike helmet",
    "yoga mat",
    "dumbbell",
    "football",
    "swimsuit",
    "gift card",
    "sale",
    "size guide",
];
pub(crate) const METHODS: [&str; 4] = ["card", "paypal", "invoice", "apple_pay"];
pub(crate) const CAMPAIGNS: [&str; 8] = [
    "wish_list_reminder",
    "welcome",
    "spring_sale",
    "back_in_stock",
    "newsletter",
    "birthday",
    "last_chance",
    "new_arrivals",
];

/// Index of `direct` in [`CHANNELS`].
pub(crate) const DIRECT: u8 = 1;
/// Index of `email` in [`CHANNELS`].
pub(crate) const EMAIL: u8 = 4;
/// Index of [`BOT_BROWSER`] in [`BROWSERS`].
pub(crate) const BOT: u8 = 5;

/// The price of a product in cents: always the same, 4.99 to 203.99.
#[must_use]
pub fn price_cents(product: u16) -> u32 {
    // Cheap things are more frequent: the lower of two even draws.
    let r = mix(u64::from(product) + 1);
    let euros = ((r >> 32) % 200).min((r & 0xffff_ffff) % 200) as u32;
    (euros + 4) * 100 + 99
}
