//! The kernel: columns in, counts out.
//!
//! The kernel is pure. It reads a [`Slice`] of journeys (event kinds and times, sorted by visitor) and the columns
//! derived for one question. It does no I/O, reads no clock, and knows no domain types. SEMANTICS.md says what every
//! number means.
//!
//! Funnels: a [`Question`] is compiled into a [`Plan`], which answers it from a slice and its [`Columns`].
//!
//! - [`question`] and [`profile`] say what may be asked; [`plan`] refuses what is undefined and compiles the rest.
//! - `engine` answers every question exactly, one visitor at a time, in time proportional to events × steps.
//! - `fast` answers the common shape (loose order, total window, best chain) in one branch-free pass and
//!   hands every visitor it cannot treat exactly to `engine`.
//! - `simd` is what both do to many values at once, as widely as the processor can; `select` makes bits of columns by it.
//! - [`twin`] is the slow and obvious oracle that the tests compare both with; it shares no matching logic.
//! - [`counts`], [`histogram`] and [`stats`] hold what comes out: order-free sums, and the estimates made of them.
//!
//! Sessions and conversions: what is counted is a column of marks, a bit per event.
//!
//! - [`Sessions`] splits the journeys of a slice, says which session an event belongs to, and makes marks that depend on
//!   it: where a session reaches a [`Threshold`], which visit opens here, what is the first of its kind.
//! - [`trend()`], [`retention()`] and [`frequency()`] count marks; [`engagement()`] and [`pages()`] count sessions. What they
//!   return can be merged with that of other visitors, in any order.
//! - [`members`] says who belongs to a group by what they did, a bit per visitor.
//! - [`twin::Journeys`] is the oracle of all of them.

mod bits;
pub mod counts;
mod edges;
pub mod engagement;
mod engine;
mod fast;
pub mod frequency;
mod grid;
pub mod histogram;
pub mod members;
pub mod outcome;
pub mod pages;
pub mod plan;
pub mod profile;
pub mod question;
pub mod retention;
mod select;
pub mod sessions;
mod simd;
pub mod slice;
pub mod stats;
pub mod trend;
pub mod twin;

pub use counts::Counts;
pub use engagement::{Engagement, EngagementRow, engagement};
pub use frequency::{Frequency, FrequencyOf, frequency};
pub use histogram::Histogram;
pub use outcome::{RunError, State, UnitOutcome};
pub use pages::{PageRow, Pages, pages};
pub use plan::{Plan, PlanError};
pub use profile::{Choices, Profile, Resolved, ValueOf, WindowMissing};
pub use question::{
    BreakDown, Exclusion, ExclusionEffect, Match, Question, Reentry, Rule, Step, Tie, Trend, Unit,
};
pub use retention::{Retention, retention};
pub use sessions::{Ordinals, Per, Session, Sessions, Threshold, count_sessions};
pub use simd::Width;
pub use slice::{Columns, Kinds, Layout, Slice, SliceError, Times, Values};
pub use trend::{Amounts, Cell, TrendCounts, trend};
