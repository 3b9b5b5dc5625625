//! A tenant's head: the row that whoever changes what is numbered looks at first.

use runnel_model::TenantName;

use super::{Connection, LOCK_HEAD, sqlx};

/// What is known of a tenant that is written to.
pub(super) struct Head {
    pub(super) sequence: u64,
    pub(super) journal_bytes: u64,
    pub(super) journal_events: u64,
    /// The newest erasure.
    pub(super) erasure: u64,
}

/// Reads a tenant's head. Where several may write at a time, others wait for the end of the transaction.
pub(super) async fn lock_head(
    connection: &mut Connection,
    tenant: &TenantName,
) -> Result<Option<Head>, sqlx::Error> {
    let head: Option<(i64, i64, i64, i64)> =
        sqlx::query_as(LOCK_HEAD).bind(tenant.as_str()).fetch_optional(connection).await?;
    Ok(head.map(Head::from))
}

/// As [`LOCK_HEAD`] selects it.
impl From<(i64, i64, i64, i64)> for Head {
    fn from((sequence, journal_bytes, journal_events, erasure): (i64, i64, i64, i64)) -> Head {
        Head {
            sequence: sequence as u64,
            journal_bytes: journal_bytes as u64,
            journal_events: journal_events as u64,
            erasure: erasure as u64,
        }
    }
}
