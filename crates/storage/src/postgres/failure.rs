//! What the database's errors mean. SQLSTATE codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use std::io;

use super::sqlx;
use crate::{Unavailable, spans};

fn state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// 53100 disk_full.
fn is_full(error: &sqlx::Error) -> bool {
    state(error).as_deref() == Some("53100")
}

/// Whether the connection is gone, or the server is not ready: then what was asked did not take place, unless it was a commit.
pub(super) fn lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        // 57P01 admin_shutdown, 57P02 crash_shutdown, 57P03 cannot_connect_now, class 08 connection exceptions.
        error => state(error)
            .is_some_and(|state| matches!(&*state, "57P01" | "57P02" | "57P03") || state.starts_with("08")),
    }
}

/// Whether the server undid a transaction only because of what others did at the same time: 40001 serialization_failure, 40P01 deadlock_detected.
pub(super) fn collided(error: &Unavailable) -> bool {
    let Unavailable::Database(error) = error else { return false };
    matches!(state(error).as_deref(), Some("40001" | "40P01"))
}

/// Nothing was heard for too long.
pub(super) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer in time"))
}

/// The server committed, and warned of something.
pub(super) fn warned() -> sqlx::Error {
    let text = "the database committed with a warning, which its log has: a standby may not have the commit";
    sqlx::Error::Io(io::Error::other(text))
}

/// Whether nothing was heard for too long.
pub(super) fn is_late(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Whether a transaction may have failed for what one of its batches holds, rather than for the state of the server or the way to it.
pub(super) fn blames_a_batch(error: &Unavailable) -> bool {
    match error {
        Unavailable::Database(error) => {
            !lost(error) && !matches!(**error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)
        }
        Unavailable::DiskFull => true,
        _ => false,
    }
}

/// A statement failed, and its transaction with it.
pub(super) fn unavailable(error: sqlx::Error) -> Unavailable {
    spans::failed(state(&error).as_deref());
    match error {
        error if is_full(&error) => Unavailable::DiskFull,
        sqlx::Error::PoolClosed => Unavailable::Closed,
        error => Unavailable::Database(error.into()),
    }
}

/// A commit failed. Only a server that refuses it says that it did not take place: class 23 integrity, 40 rollback, 53 resources.
pub(super) fn commit_failed(error: sqlx::Error) -> Unavailable {
    spans::failed(state(&error).as_deref());
    let refused =
        state(&error).is_some_and(|state| ["23", "40", "53"].iter().any(|class| state.starts_with(class)));
    if refused { unavailable(error) } else { Unavailable::OutcomeUnknown(error.into()) }
}
