//! Which marketing channel a session came from.
//!
//! A [`Touch`] is what is known of a session's first contact: campaign tags, a click identifier, a referrer. [`Rules`] turn it
//! into the name of a channel: an ordered list of conditions, the first that holds decides. The rules are data
//! (`rules/default.txt`, with the hosts of `rules/hosts.txt`); a tenant's own rules stand before them
//! ([`Rules::parse_over`], [`Rules::over`]). [`Rules::landing`] reads tags and click identifiers off a landing page's query.
//!
//! Everything here is a pure function of its arguments. What cannot be read is absent, never an error: a session
//! always has a channel. What is wrong with *rules* is refused, with the line and the reason.
//!
//! ```
//! use runnel_channels::{Rules, Touch};
//!
//! let rules = Rules::standard()?;
//! let touch = Touch { referrer: "https://www.google.co.uk/", ..Touch::default() };
//! assert_eq!(rules.classify(&touch).channel, "Organic Search");
//! # Ok::<(), runnel_channels::RulesError>(())
//! ```

mod condition;
mod evidence;
mod fault;
mod hosts;
mod landing;
pub mod limits;
mod rules;
mod text;

pub use condition::{Condition, Field, Pattern, Rule, Shape};
pub use evidence::Touch;
pub use fault::{Fault, Place, RulesError};
pub use hosts::Hosts;
pub use landing::Landing;
pub use rules::{DIRECT, Decision, RuleAt, Rules, UNASSIGNED};
