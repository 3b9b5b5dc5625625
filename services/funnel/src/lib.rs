//! The funnel service: saved funnels, answers, explanations and checks; the catalogue of what a tenant sends and of what matters to it; and counts over time.
//!
//! A question goes through these steps: its definition is checked and resolved ([`definition`]), journeys with the columns it names are brought up to date,
//! names become codes and the kernel counts ([`ask`]), and the counts become an answer ([`answer`]).

mod aggregates;
mod answer;
mod ask;
mod calendar;
mod catalog;
mod definition;
mod explain;
mod insight;
mod notes;
mod refusal;
mod saved;
mod service;
mod verify;

pub use service::Funnels;
