//! Ingest: from received bytes to an acknowledgement that outlives the process, and the compaction of what was stored.
//!
//! The path of a batch, each stage a type:
//! [`Received`](runnel_contracts::receive::Received) (decoded once, every event checked) → [`Admitted`](runnel_storage::Admitted) (encoded for the journal) →
//! [`Journaled`](runnel_storage::Journaled) (committed) → the acknowledgement. Only what is journaled can be acknowledged.

mod append;
pub mod compact;
mod erase;
mod identity;
mod names;
mod persons;
mod report;
mod service;
mod stream;
mod subject;

pub use service::Ingest;
