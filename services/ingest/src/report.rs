//! What became of a batch, or of everything, counted exactly from the truth.

use std::time::Duration;

use prost::Message;
use runnel_chassis::observe::causes;
use runnel_contracts::{
    proto::ingest::v1::{AppendResponse, GetIngestReportResponse},
    refusal::{Reason, Refusal},
};
use runnel_model::TenantName;
use runnel_storage::{AuditError, FetchError, Store};

use crate::append::unavailable;

/// Reports on one request or, with an empty id, on the tenant.
pub(crate) async fn report(
    store: &Store,
    tenant: &TenantName,
    request_id: &str,
) -> Result<GetIngestReportResponse, Refusal> {
    let outcome = if request_id.is_empty() {
        None
    } else {
        let receipt = store.receipt(tenant, request_id).await.map_err(|fault| unavailable(&fault))?;
        let receipt = receipt.ok_or_else(|| {
            Refusal::field(
                Reason::NotFound,
                "request_id",
                "There is no receipt of this request; receipts are kept 7 days.",
            )
        })?;
        let outcome = AppendResponse::decode(receipt.outcome).map_err(|_| {
            Refusal::new(Reason::DataDamaged, "The stored outcome of the request cannot be read.")
        })?;
        Some(AppendResponse { sequence: receipt.sequence, ..outcome })
    };
    let audit = store.audit(tenant).await.map_err(|fault| {
        tracing::error!(fault = causes(&fault), "the audit failed");
        match fault {
            AuditError::Unbalanced { .. } => {
                Refusal::new(Reason::DataDamaged, "The stored events do not add up.")
            }
            AuditError::Fetch(FetchError::Damaged { .. } | FetchError::DamagedBlock { .. }) => {
                Refusal::new(Reason::DataDamaged, "Stored events are damaged, so the report would be wrong.")
            }
            AuditError::Fetch(_) => {
                Refusal::new(Reason::StoreUnavailable, "The stored events could not be read.")
                    .retry_after(Duration::from_secs(1))
            }
        }
    })?;
    Ok(GetIngestReportResponse {
        accepted: audit.accepted,
        duplicate: audit.duplicates,
        conflict: audit.conflicts,
        counted: audit.counted,
        quarantined: audit.quarantined,
        quarantine_reasons: audit.quarantine_reasons,
        outcome,
        sequence: audit.sequence,
        erased: audit.erased,
    })
}
