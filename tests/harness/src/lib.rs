//! Real servers for tests, each on a free port of the loopback interface, with its files in a temporary folder.
//!
//! A keeper process holds each of them and ends it as soon as the test process is gone, however that ended.

mod keeper;
mod postgres;

pub use keeper::HarnessError;
pub use postgres::Postgres;
