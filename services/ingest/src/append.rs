//! One batch: received, admitted, journaled, acknowledged.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use runnel_chassis::observe::causes;
use runnel_contracts::{
    proto::ingest::v1::{AppendResponse, Verdict},
    receive::{Received, Terms, receive_append},
    refusal::{Reason, Refusal},
};
use runnel_failpoints::hit;
use runnel_model::{ContentSum, Privacy, TenantName, content_hashes};
use runnel_storage::{AdmitError, Admitted, AppendError, Request, Unavailable, compute_in_turn};
use tracing::{Instrument, Span, field::Empty};

use crate::service::Ingest;

/// Appends an encoded `AppendRequest`.
pub(crate) async fn append(
    ingest: &Ingest,
    tenant: &TenantName,
    message: Bytes,
    now_ms: i64,
) -> Result<AppendResponse, Refusal> {
    let bytes = message.len();
    store_received(ingest, tenant, now_ms, bytes, move |terms| receive_append(&message, now_ms, terms)).await
}

/// Decodes, then writes. The work goes on when the caller goes away, so that a cancelled call leaves nothing half done.
///
/// A batch that brings names which there is no room for is decoded once more, without the events that bring them; and so is one that was checked when the tenant's
/// erasures were not known here, or its secret. `bytes` is the size of what was received.
pub(crate) async fn store_received(
    ingest: &Ingest,
    tenant: &TenantName,
    now_ms: i64,
    bytes: usize,
    receive: impl Fn(&Terms) -> Result<Received, Refusal> + Send + Sync + 'static,
) -> Result<AppendResponse, Refusal> {
    let (ingest, tenant, receive) = (ingest.clone(), tenant.clone(), Arc::new(receive));
    let span = tracing::info_span!("batch", bytes, accepted = Empty, sequence = Empty, repeated = Empty);
    let work = async move {
        let mut privacy = ingest.persons.at_hand(&tenant);
        let mut attempts = 0..ATTEMPTS;
        let (outcome, counts) = loop {
            let tried = try_to_store(&ingest, &tenant, now_ms, bytes, receive.clone(), privacy.clone()).await;
            privacy = match (tried, attempts.next()) {
                (Ok(Tried::Done(outcome, counts)), _) => break (outcome, counts),
                (Ok(Tried::Outdated), Some(_)) => {
                    ingest.persons.read(&ingest.store, &tenant, &privacy, false).await?
                }
                (Ok(Tried::NeedsSecret), Some(_)) => {
                    ingest.persons.read(&ingest.store, &tenant, &privacy, true).await?
                }
                (Ok(_), None) => return Err(unavailable(&Unavailable::Stopped)),
                (Err(refusal), _) => return Err(refusal),
            };
        };
        let metrics = &ingest.metrics;
        if counts && !outcome.repeated {
            metrics.ingested(&outcome, bytes as u64);
        }
        let span = Span::current();
        span.record("accepted", outcome.accepted).record("sequence", outcome.sequence);
        span.record("repeated", outcome.repeated);
        Ok(outcome)
    };
    tokio::spawn(work.instrument(span).in_current_span()).await.map_err(|_| stopped())?
}

/// How often a batch is checked again because somebody was erased meanwhile.
const ATTEMPTS: usize = 5;

/// What came of an attempt.
enum Tried {
    /// What the sender is told, and whether it is more than a question.
    Done(AppendResponse, bool),
    /// Somebody was erased since.
    Outdated,
    /// There are events without consent, and the tenant has no secret.
    NeedsSecret,
}

async fn try_to_store<R>(
    ingest: &Ingest,
    tenant: &TenantName,
    now_ms: i64,
    bytes: usize,
    receive: Arc<R>,
    privacy: Arc<Privacy>,
) -> Result<Tried, Refusal>
where
    R: Fn(&Terms) -> Result<Received, Refusal> + Send + Sync + 'static,
{
    let known = ingest.names.at_hand(tenant);
    let (span, again, erasure) = (Span::current(), receive.clone(), privacy.version);
    let terms = Terms { privacy: privacy.clone(), ..Terms::default() };
    let receiving = compute_in_turn(bytes, move || {
        let _receiving = tracing::info_span!(parent: span, "receive").entered();
        let received = receive(&terms)?;
        let new = known.lacks(&received.batch);
        Ok::<_, Refusal>(match new.is_empty() {
            _ if received.needs_secret => Step::NeedsSecret,
            true => Step::Judged(admit(received)?),
            false => Step::NewNames(received),
        })
    });
    let Judged { admitted, outcome, counts } = match receiving.await.map_err(|_| stopped())?? {
        Step::NeedsSecret => return Ok(Tried::NeedsSecret),
        Step::Judged(judged) => judged,
        Step::NewNames(received) => {
            let no_room = ingest.names.claim(&ingest.store, tenant, &received).await?;
            let admitting = compute_in_turn(bytes, move || match no_room.is_empty() {
                true => admit(received),
                false => admit(again(&Terms { no_room, privacy })?),
            });
            admitting.await.map_err(|_| stopped())??
        }
    };
    hit("ing.after_decode").await.map_err(|injected| unavailable(&injected.into()))?;
    let Some(admitted) = admitted else {
        // The store does not see what is only asked, so it cannot refuse what was checked without it.
        let unchecked = !counts && !ingest.persons.knows(tenant);
        return Ok(if unchecked { Tried::Outdated } else { Tried::Done(outcome, counts) });
    };
    match ingest.store.append(tenant, admitted.knowing(erasure), now_ms).await {
        Ok(journaled) => Ok(Tried::Done(acknowledge(&journaled)?, counts)),
        Err(AppendError::Erased) => Ok(Tried::Outdated),
        Err(fault) => Err(refusal(fault)),
    }
}

/// How far a batch came without asking the store.
enum Step {
    /// Every name is known.
    Judged(Judged),
    /// Some are to be claimed first.
    NewNames(Received),
    /// See [`Tried::NeedsSecret`].
    NeedsSecret,
}

/// A batch of which every event has its verdict.
struct Judged {
    /// What is to be stored, if anything is.
    admitted: Option<Admitted>,
    /// What the sender will be told.
    outcome: AppendResponse,
    /// Whether it is more than a question.
    counts: bool,
}

/// The only way to an acknowledgement: what the journal gave back.
fn acknowledge(journaled: &runnel_storage::Journaled) -> Result<AppendResponse, Refusal> {
    let outcome = AppendResponse::decode(journaled.outcome().clone()).map_err(|_| {
        Refusal::new(Reason::DataDamaged, "The stored outcome of the request cannot be read.")
    })?;
    Ok(AppendResponse { sequence: journaled.sequence(), repeated: journaled.repeated(), ..outcome })
}

/// Encodes a batch for the journal together with what its sender will be told. `None` when nothing is to be stored.
fn admit(received: Received) -> Result<Judged, Refusal> {
    let outcome = AppendResponse {
        accepted: received.batch.len() as u32,
        duplicate: received.count(Verdict::Duplicate),
        conflict: received.count(Verdict::Conflict),
        rejected: received.refused(),
        unobserved: received.unobserved,
        ..Default::default()
    };
    let nothing = received.validate_only || (received.batch.is_empty() && received.request_id.is_empty());
    let counts = !received.validate_only;
    if nothing {
        let outcome = AppendResponse { verdicts: received.verdicts, ..outcome };
        return Ok(Judged { admitted: None, outcome, counts });
    }
    let named = !received.request_id.is_empty();
    let sum = ContentSum::of(&content_hashes(&received.batch));
    let request =
        named.then(|| Request { id: received.request_id.clone(), content_hash: received.content(sum).0 });
    let Received { batch, verdicts, .. } = received;
    let outcome = AppendResponse { verdicts, ..outcome };
    let told = Bytes::from(outcome.encode_to_vec());
    let admitted = Admitted::with_sum(batch, sum, request, told).map_err(|fault| match fault {
        AdmitError::Inconsistent | AdmitError::Compression(_) => {
            Refusal::new(Reason::Internal, format!("{fault}."))
        }
        AdmitError::TooLarge { .. } => Refusal::new(Reason::MessageTooLarge, format!("{fault}.")),
    })?;
    Ok(Judged { admitted: Some(admitted), outcome, counts })
}

/// An append's failure as a refusal.
pub(crate) fn refusal(fault: AppendError) -> Refusal {
    let text = format!("{}.", capitalised(&fault.to_string()));
    match fault {
        AppendError::TenantUnknown(_) => Refusal::new(Reason::NotFound, text),
        AppendError::RequestReused => Refusal::field(Reason::RequestReused, "request_id", text),
        AppendError::Backlog { retry_after_ms, .. } => {
            Refusal::new(Reason::BacklogFull, text).retry_after(Duration::from_millis(retry_after_ms))
        }
        AppendError::Erased => unavailable(&Unavailable::Stopped),
        AppendError::DiskFull => Refusal::new(Reason::StoreFull, text).retry_after(Duration::from_secs(5)),
        AppendError::Unavailable(fault) => unavailable(&fault),
    }
}

/// A store's failure as a refusal; its inside goes to the log only.
pub(crate) fn unavailable(fault: &Unavailable) -> Refusal {
    tracing::error!(fault = causes(fault), "the store failed");
    Refusal::new(
        Reason::StoreUnavailable,
        "The store did not answer; whether the batch was stored is unknown.",
    )
    .retry_after(Duration::from_secs(1))
}

pub(crate) fn stopped() -> Refusal {
    Refusal::new(Reason::ShuttingDown, "The server is stopping.").retry_after(Duration::from_secs(1))
}

/// A sentence of what an error says.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
