//! The funnel kernel: columns in, counts out.
//!
//! The kernel is pure. It reads a [`Slice`] of journeys (event kinds and times, sorted by visitor)
//! and the [`Columns`] derived for one question, and answers a [`Question`] compiled into a [`Plan`].
//! It does no I/O, reads no clock, and knows no domain types. SEMANTICS.md says what every number means.
//!
//! How the parts fit together:
//!
//! - [`question`] and [`profile`] say what may be asked; [`plan`] refuses what is undefined and compiles the rest.
//! - `engine` answers every question exactly, one visitor at a time, in time proportional to events × steps.
//! - `fast` answers the common shape (loose order, total window, best chain) in one branch-free pass and
//!   hands every visitor it cannot treat exactly to `engine`.
//! - [`twin`] is the slow and obvious oracle that the tests compare both with; it shares no matching logic.
//! - [`counts`], [`histogram`] and [`stats`] hold what comes out: order-free sums, and the estimates made of them.

pub mod counts;
mod engine;
mod fast;
pub mod histogram;
pub mod outcome;
pub mod plan;
pub mod profile;
pub mod question;
pub mod sessions;
pub mod slice;
pub mod stats;
pub mod twin;

pub use counts::Counts;
pub use histogram::Histogram;
pub use outcome::{RunError, State, UnitOutcome};
pub use plan::{Plan, PlanError};
pub use profile::{Choices, Profile, Resolved, WindowMissing};
pub use question::{
    BreakDown, Exclusion, ExclusionEffect, Match, Question, Reentry, Rule, Step, Tie, Trend, Unit,
};
pub use sessions::count_sessions;
pub use slice::{Columns, Kinds, Layout, Slice, SliceError, Times, Values};
