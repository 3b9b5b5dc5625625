//! Journeys in memory: the events of a tenant as columns sorted by visitor, cached under a byte budget, kept fresh by deltas.
//!
//! ```text
//! journal rows ─┐                    ┌─ one run a shard, from the last load
//!               ├─ Rows ── merge ──► ├─ whole journeys of visitors with newer events; they are skipped below
//! blocks ───────┘                    └─ likewise, smaller and newer still
//! ```
//! [`Journeys::at`] gives an immutable [`Loaded`] that holds every batch committed before the call. Every identity is in it once, whatever lies in the store:
//! copies are dropped where rows of several origins meet, the lowest number wins. Nothing here is the truth; all of it is rebuilt from the store.

mod alone;
mod builder;
mod cache;
mod changed;
mod dimension;
mod load;
mod loaded;
mod marks;
mod merge;
mod names;
mod question;
mod rows;
mod run;
mod seen;
mod unobserved;
mod values;

pub use cache::{Journeys, JourneysOptions, PoolError, WeakJourneys};
pub use dimension::channel_rules;
pub use load::LoadError;
pub use loaded::{LEVELS, Loaded, Properties, Shard};
pub use marks::{Happens, Marks, MarksFor, View};
pub use names::Names;
pub use question::{ColumnsFor, Condition, CountError, Derived, PredicateError, RunColumns, regex};
pub use rows::TooManyNames;
pub use run::{Arena, Identities, KindColumn, Run, TimeColumn, ValueColumn};
pub use seen::{Presence, SeenSince, off_site};
pub use unobserved::Unobserved;
pub use values::ValueDictionary;
