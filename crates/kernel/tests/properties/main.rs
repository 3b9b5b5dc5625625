//! The kernel against its twin, against itself, and against the invariants of SEMANTICS.md §3.
//!
//! `RUNNEL_CASES` sets the number of random cases (default 5,000), `RUNNEL_SEED` the seed of the first one. Every failure
//! prints the seed of its case.

mod agreement;
mod fast_path;
mod generate;
mod invariants;
mod journeys;
mod reached;
mod refusals;
mod vectors;
mod visits;
