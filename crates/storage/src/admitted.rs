//! A batch on its way into the journal: admitted, then journaled. Only what is journaled can be acknowledged.

use bytes::Bytes;
use runnel_model::{ContentSum, EventBatch, TenantName, content_hashes};

use crate::{Unavailable, journal};

/// Names a batch, so that its repeats are recognised for 7 days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The sender's identifier of the batch.
    pub id: String,
    /// Hash of all that was sent. The same id with another hash is refused.
    pub content_hash: u128,
}

/// A batch whose events were all checked, encoded and ready to be written.
#[derive(Debug, Clone)]
pub struct Admitted {
    batch: EventBatch,
    request: Option<Request>,
    outcome: Bytes,
    payload: Bytes,
    raw_bytes: u64,
    content_sum: ContentSum,
    erasure: u64,
}

/// Why a batch cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// Columns do not fit together, or an event id is no UTF-8.
    #[error("the batch's columns do not fit together")]
    Inconsistent,
    /// Encoded it is larger than a reader would accept.
    #[error("the encoded batch takes {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes before compression.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// It could not be compressed.
    #[error("the batch could not be compressed")]
    Compression(#[source] std::io::Error),
}

impl Admitted {
    /// Encodes a batch. This is the processor's share of an append; it does no I/O. `outcome` is given back to whoever repeats the request. A batch without
    /// events is stored as a receipt alone.
    pub fn new(batch: EventBatch, request: Option<Request>, outcome: Bytes) -> Result<Admitted, AdmitError> {
        if !batch.is_consistent() {
            return Err(AdmitError::Inconsistent);
        }
        let content_sum = ContentSum::of(&content_hashes(&batch));
        Admitted::with_sum(batch, content_sum, request, outcome)
    }

    /// The same for whoever has the sum over the batch's content hashes already.
    pub fn with_sum(
        batch: EventBatch,
        content_sum: ContentSum,
        request: Option<Request>,
        outcome: Bytes,
    ) -> Result<Admitted, AdmitError> {
        if !batch.is_consistent() || !ids_are_text(&batch) {
            return Err(AdmitError::Inconsistent);
        }
        let (payload, raw_bytes) = journal::encode(&batch, content_sum)?;
        Ok(Admitted { batch, request, outcome, payload, raw_bytes, content_sum, erasure: 0 })
    }

    /// Says which version of the tenant's erasures the events were checked against. Where it is not the newest at the commit, the batch is refused.
    #[must_use]
    pub fn knowing(self, erasure: u64) -> Admitted {
        Admitted { erasure, ..self }
    }

    /// The events.
    #[must_use]
    pub fn batch(&self) -> &EventBatch {
        &self.batch
    }

    /// Gives the events back, for whoever keeps them in memory after they were journaled.
    #[must_use]
    pub fn into_batch(self) -> EventBatch {
        self.batch
    }

    /// The batch's name, if it has one.
    #[must_use]
    pub fn request(&self) -> Option<&Request> {
        self.request.as_ref()
    }

    /// What a repeat is told.
    #[must_use]
    pub fn outcome(&self) -> &Bytes {
        &self.outcome
    }

    /// Bytes that the journal row takes.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.payload.len()
    }
}

fn ids_are_text(batch: &EventBatch) -> bool {
    let ids = &batch.event_ids;
    ids.bytes().is_ascii() || (0..ids.len()).all(|row| std::str::from_utf8(ids.get(row)).is_ok())
}

/// The parts that go to the backend's writer.
pub(crate) struct Row {
    pub(crate) events: u32,
    pub(crate) request: Option<Request>,
    pub(crate) outcome: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) raw_bytes: u64,
    pub(crate) content_sum: ContentSum,
    pub(crate) erasure: u64,
}

impl Row {
    pub(crate) fn of(admitted: &Admitted) -> Row {
        Row {
            events: admitted.batch.len() as u32,
            request: admitted.request.clone(),
            outcome: admitted.outcome.clone(),
            payload: admitted.payload.clone(),
            raw_bytes: admitted.raw_bytes,
            content_sum: admitted.content_sum,
            erasure: admitted.erasure,
        }
    }

    /// Bytes that it keeps in memory while it waits.
    pub(crate) fn memory(&self) -> usize {
        self.payload.len() + self.outcome.len() + 512
    }
}

/// A batch that survives the loss of the process. The only thing that may be acknowledged; only a backend makes it, after its commit returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journaled {
    sequence: u64,
    repeated: bool,
    outcome: Bytes,
}

impl Journaled {
    pub(crate) fn committed(sequence: u64, repeated: bool, outcome: Bytes) -> Journaled {
        Journaled { sequence, repeated, outcome }
    }

    /// The tenant's sequence number of the batch; 0 when it had no events. A repeat has the number of the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether the request had been stored before, so that nothing was stored now.
    #[must_use]
    pub fn repeated(&self) -> bool {
        self.repeated
    }

    /// The outcome that was stored with the batch; of a repeat, the first one's.
    #[must_use]
    pub fn outcome(&self) -> &Bytes {
        &self.outcome
    }
}

/// What is kept of a request for 7 days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Hash of all that was sent.
    pub content_hash: u128,
    /// What the sender was told.
    pub outcome: Bytes,
    /// The batch's sequence number; 0 when it had no events.
    pub sequence: u64,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// Why a batch was not journaled.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    TenantUnknown(TenantName),
    /// The request's id was used with other content.
    #[error("the request id was used before with other content")]
    RequestReused,
    /// More is in the journal than compaction has worked off.
    #[error("{bytes} bytes wait for compaction, the limit is {limit}; try again in {retry_after_ms} ms")]
    Backlog {
        /// Stored bytes of live journal rows, this batch included.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Somebody was erased since the events were checked. Check them against [`Store::privacy`](crate::Store::privacy) and append what is left.
    #[error("somebody was erased since the events were checked")]
    Erased,
    /// There is no space left. Nothing was stored; later appends work once there is.
    #[error("the disk is full; nothing of the batch was stored")]
    DiskFull,
    /// The store failed. Repeating the same request is safe, and needed when the outcome is unknown.
    #[error(transparent)]
    Unavailable(Unavailable),
}

impl From<Unavailable> for AppendError {
    fn from(cause: Unavailable) -> AppendError {
        match cause {
            Unavailable::DiskFull => AppendError::DiskFull,
            other => AppendError::Unavailable(other),
        }
    }
}
