//! A simulated shop: seeded, of any size, with planted truths. Demo data, test oracle and benchmark load.
//!
//! ```
//! use runnel_simulate::{Config, Shop};
//!
//! let shop = Shop::new(Config::shop(1, 1_000))?;
//! let truth = shop.truth();
//! assert_eq!(truth.reached[0], 1_000);
//! assert_eq!(shop.deliveries().count() as u64, truth.events + truth.duplicates);
//! # Ok::<(), runnel_simulate::ConfigError>(())
//! ```
//!
//! **Promises.** Equal [`Config`]s give equal streams, for ever and everywhere: no random-number crate and no `libm` is involved. A visitor
//! depends on the configuration and its number only, so ranges of visitors can be made in any order, in any chunks, on any thread.
//! Nothing allocates per event. Every stream has bounded memory, [`Shop::deliveries`] too.
//!
//! **Ways to read.** [`Shop::journey`] and [`Shop::for_each_visitor`] give whole journeys in the canonical order; [`Shop::events`] the same
//! events one by one; [`Shop::deliveries`] the events as they reach a collector, some late, some twice. [`write_csv`] and [`write_ndjson`]
//! make files of either. [`Shop::truth`] says what a correct answer is; [`PLANTED`] says what was put in to be found.
//!
//! **Events.** Thirteen names; every event has five properties: `channel` (7 values, one a session), `device` (3, mostly one a visitor), `country`
//! (20, one a visitor, Zipf), and two by name:
//!
//! | name | properties | |
//! |---|---|---|
//! | `page_view` | `page` (200, Zipf), `browser` (6) | every session but those from a wish-list e-mail lands with one; bots do nothing else |
//! | `view_item`, `add_to_cart`, `wish_list_add` | `product` (1,000, Zipf), `price` (up to 200, tied to the product) | |
//! | `search` | `term` (40), `results` (200) | |
//! | `view_cart`, `begin_checkout`, `place_order` | `items` (1 to 5), `value` (price × items) | |
//! | `choose_payment` | `value`, `method` (4) | |
//! | `purchase` | `product`, `value` | |
//! | `newsletter_signup` | `page`, `double_opt_in` (bool) | |
//! | `video_play` | `product`, `progress` (0.25 to 1) | |
//! | `email_click` | `product`, `campaign` (1 of 8 is in use) | |
//!
//! **Visitors** arrive evenly over the period in shop time, which has the shape of a week. They have about ten events in two sessions, a few of them
//! hundreds; they come back after minutes to weeks; inside a session events are seconds to minutes apart, or share a millisecond.

mod calendar;
mod config;
mod deliver;
mod event;
mod plan;
mod random;
mod session;
mod shop;
mod text;
mod truth;
mod value;
mod vocabulary;
mod write;

pub use config::{Config, ConfigError};
pub use deliver::{Deliveries, Delivery};
pub use event::{Event, EventId, Name, VisitorId};
pub use plan::{FUNNEL, FUNNEL_WINDOW_MS, PLANTED, Planted, ROUTE};
pub use shop::{Events, Shop};
pub use truth::{Exposure, Truth};
pub use value::{Property, Value};
pub use vocabulary::{BOT_BROWSER, BROWSERS, CHANNELS, COUNTRIES, DEVICES, PAGES, PRODUCTS, price_cents};
pub use write::{write_csv, write_ndjson};
