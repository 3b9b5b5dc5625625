//! The product as its users meet it: real processes, real sockets, real files.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test says what it does, and stops at the first thing that is not as it should be"
)]

mod aggregates;
mod audience;
mod bad_input;
mod canaries;
mod chain;
mod command;
mod consent;
mod conversions;
mod edge;
mod effects;
mod erasure;
mod fresh;
mod identity;
mod isolation;
mod kill;
mod lifecycle;
mod lists;
mod logs;
mod measured;
mod orders;
mod places;
mod retention;
mod scan;
mod scrape;
mod segments;
mod server;
mod sessions;
mod tls;
mod traces;
mod unread;
mod vectors;
mod watch;
