//! The funnel service: saved funnels, answers, explanations and checks; the catalogue of what a tenant sends and of what matters to it; and counts over time.
//!
//! A question goes through these steps: its definition is checked and resolved, journeys with the columns it names are brought up to date, and names become codes
//! (crates/definitions); the kernel counts ([`ask`]), and the counts become an answer ([`answer`]).

mod aggregates;
mod answer;
mod ask;
mod calendar;
mod catalog;
mod counted;
mod explain;
mod insight;
mod service;
mod unobserved;
mod verify;

pub use aggregates::retain;
pub use service::Funnels;
