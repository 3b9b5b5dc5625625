//! What tenants define, and questions made of it: read from the store, checked, resolved, and brought before journeys.
//!
//! Services that answer by the same definitions share this: a funnel that a segment names is the funnel that is counted, and a conversion is the same to both.

pub mod catalogue;
pub mod counted;
pub mod funnel;
pub mod list;
pub mod members;
mod notes;
pub mod posed;
pub mod rate;
pub mod refusal;
pub mod saved;
pub mod segment;
pub mod worth;
