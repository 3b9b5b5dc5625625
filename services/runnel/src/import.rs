//! `runnel import`: reads event files, encodes them once into append requests, and sends these until every one is acknowledged.
//!
//! A blocking thread reads and encodes; a bounded channel hands requests over; several are under way at a time; verdicts come back and are matched with lines. The
//! id of a request is a hash of its content, so that an import that is repeated, after a crash or by mistake, finds its own outcomes again and counts nothing twice.
//!
//! A fault of one row costs that row: it goes to the rejects file and the import goes on. A fault of a file as a whole stops that file, after everything before the
//! fault has been sent and acknowledged.
//!
//! Exports of other products go the same way; what they say about who is who is collected over all files and sent as identifications after the events.

mod args;
mod collect;
mod deliver;
mod encode;
mod exports;
mod fault;
mod from_csv;
mod from_ndjson;
mod from_parquet;
mod input;
mod instant;
mod json;
mod layout;
mod lines;
mod pairs;
mod progress;
mod read;
mod records;
mod rejects;
mod scan;
mod summary;
mod typed;

pub use args::{Format, ImportArgs, PropertyType, TimeUnit, TypedProperty};
pub use collect::{Portion, Reject};
pub use deliver::{ImportError, run};
pub use encode::Encoded;
pub use exports::{Mapped, OptionRefused};
pub use fault::{FaultCause, FileFault};
pub use read::read_files;
pub use summary::Summary;
