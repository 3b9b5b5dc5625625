//! One binary for everything: it serves all services in one process, and it is the client that imports, asks and manages.

mod ask;
mod catalog;
pub mod command;
mod decimal;
mod demo;
mod doctor;
mod export;
pub mod import;
mod import_command;
mod json;
mod keys;
mod lifecycle;
mod listen;
mod mistakes;
pub mod node;
mod parts;
mod query;
mod render;
mod retention;
mod serve;
mod services;
mod store;
mod subject;
pub mod target;
mod watch;
mod when;
