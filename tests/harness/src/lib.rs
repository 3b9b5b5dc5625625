//! Real servers for tests, and the product in its placements: on free ports of the loopback interface, with files in temporary folders.
//!
//! A keeper process holds each of them and ends it as soon as the test process is gone, however that ended.

mod collector;
mod deployment;
mod disk;
mod keeper;
mod postgres;
mod proxy;
mod random;
mod redis;

pub use collector::{Collector, SeenLine, SeenSpan};
pub use deployment::{CONTEXT_SECRET, Deployment, Extra, Placement, Process, Stores};
pub use disk::{NO_DISK, SmallDisk};
pub use keeper::{HarnessError, or_skip};
pub use postgres::Postgres;
pub use proxy::{Fault, Proxy};
pub use random::Random;
pub use redis::Redis;
