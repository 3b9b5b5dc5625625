//! The Rust SDK: sends events so that none is lost and none counts twice, and gives access to every service.
//!
//! [`Client`] works over any tonic transport: a network [`Channel`](tonic::transport::Channel) or a service in the same process.
//! [`Client::append`] sends one batch and repeats it, with the same ids, until the server has answered; [`Client::identify`] does so with who is who. [`Batcher`] makes batches of single
//! events, keeps several in flight and bounds what waits. [`Client::watch_segment`] and [`Client::watch_funnel`] follow what changes.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use runnel_client::{Batcher, BatcherSettings, Client, proto::event::v1::Event};
//!
//! let client = Client::connect("http://127.0.0.1:7070", "rk_write_…").await?;
//! let batcher = Batcher::start(client, BatcherSettings::default());
//! batcher.send(Event {
//!     visitor_id: "visitor-7".into(),
//!     name: "add_to_cart".into(),
//!     time_ms: Some(1_700_000_000_000),
//!     ..Default::default()
//! }).await?;
//! batcher.close(std::time::Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```

mod append;
mod batcher;
mod client;
mod connect;
mod identify;
mod keyed;
mod refusal;
mod retry;
mod watch;

pub use append::Appended;
pub use batcher::{BatchOutcome, Batcher, BatcherSettings, EnqueueError, IdSource, OutcomeHook, Unfinished};
pub use client::Client;
pub use connect::{ConnectError, endpoint};
pub use keyed::{Bearer, KeyError, Keyed, Transport};
pub use refusal::{AppendError, FieldViolation, Refusal};
pub use retry::RetryPolicy;
/// The messages and generated clients.
pub use runnel_contracts::proto;
pub use watch::{Opening, Watch, Watched};
