//! Spans of database work, with the attributes that OpenTelemetry gives it:
//! <https://opentelemetry.io/docs/specs/semconv/database/database-spans/>. A transaction is a span; its statements are not.

use tracing::{Span, field::Empty};

use crate::backend::Purpose;

/// Which database works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// `sqlite` or `postgresql`.
    pub(crate) system: &'static str,
    /// The database's name, where it has one.
    pub(crate) namespace: &'a str,
}

/// A folder's database.
pub(crate) const FOLDER: Place<'_> = Place { system: "sqlite", namespace: "main" };

/// The span of a transaction that belongs to whatever is under way. Work that belongs to nothing has none: looking for something to do, several times a second,
/// would be traces of nothing.
pub(crate) fn transaction(place: Place<'_>, purpose: Purpose, writes: bool) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    let name = match (purpose, writes) {
        (Purpose::Ingest, _) => "ingest write",
        (Purpose::Compaction, true) => "compaction write",
        (Purpose::Compaction, false) => "compaction read",
        (Purpose::Query, _) => "query read",
        (Purpose::Admin, true) => "admin write",
        (Purpose::Admin, false) => "admin read",
    };
    tracing::info_span!(
        "transaction",
        otel.name = name,
        otel.kind = "client",
        db.system.name = place.system,
        db.namespace = place.namespace,
        db.operation.name = if writes { "write" } else { "read" },
        db.response.status_code = Empty,
        otel.status_code = Empty
    )
}

/// The span of a transaction that appends several batches: a child of the first one's span, and linked with the others' in both directions, so that each
/// batch's trace leads to it.
pub(crate) fn append<'a>(place: Place<'_>, batches: impl ExactSizeIterator<Item = &'a Span>) -> Span {
    let size = batches.len();
    let mut batches = batches.filter(|batch| !batch.is_none());
    let Some(first) = batches.next() else { return Span::none() };
    let span = tracing::info_span!(
        parent: first, "transaction", otel.name = "ingest append", otel.kind = "client", db.system.name = place.system,
        db.namespace = place.namespace, db.operation.name = "append", db.operation.batch.size = size,
        db.response.status_code = Empty, otel.status_code = Empty
    );
    for other in batches {
        span.follows_from(other);
        other.follows_from(&span);
    }
    span
}

/// Notes in the span that is under way that the database failed, and its code if it gave one.
pub(crate) fn failed(code: Option<&str>) {
    let span = Span::current();
    span.record("otel.status_code", "ERROR");
    if let Some(code) = code {
        span.record("db.response.status_code", code);
    }
}
