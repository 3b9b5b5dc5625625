//! What every service stands on: the clock, the signed context of a call, logs, traces and metrics, and serving until told to stop.

pub mod clock;
mod connection;
pub mod context;
pub mod metrics;
pub mod network;
pub mod observe;
pub mod ops;
pub mod seal;
pub mod serve;
pub mod tls;
pub mod upstream;

pub use clock::Clock;
pub use context::{Caller, ContextSigner};
pub use metrics::Metrics;
pub use network::Network;
pub use observe::Observe;
pub use upstream::Upstream;
