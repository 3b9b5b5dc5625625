//! What the database's errors mean.

use crate::{Unavailable, spans};

/// Primary result codes of SQLite, <https://www.sqlite.org/rescode.html>.
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NOT_A_DATABASE: u32 = 26;

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(FULL)
}

pub(crate) fn is_damaged(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(CORRUPT | NOT_A_DATABASE))
}

/// Whether a transaction may have failed for what one of its batches holds. On a disk that is nearly full a smaller one may fit.
pub(crate) fn blames_a_batch(error: &Unavailable) -> bool {
    matches!(error, Unavailable::Database(_) | Unavailable::DiskFull)
}

/// A statement failed, and its transaction with it.
pub(crate) fn unavailable(error: sqlx::Error) -> Unavailable {
    spans::failed(error.as_database_error().and_then(|error| error.code()).as_deref());
    match error {
        error if is_full(&error) => Unavailable::DiskFull,
        sqlx::Error::PoolClosed => Unavailable::Closed,
        error => Unavailable::Database(error.into()),
    }
}

/// A commit failed. When the disk is full, the commit record is what could not be written.
pub(crate) fn commit_failed(error: sqlx::Error) -> Unavailable {
    spans::failed(error.as_database_error().and_then(|error| error.code()).as_deref());
    if is_full(&error) { Unavailable::DiskFull } else { Unavailable::OutcomeUnknown(error.into()) }
}
