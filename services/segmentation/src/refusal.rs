//! Faults of the layers below as refusals. Their inside goes to the log only.

use std::time::Duration;

use runnel_chassis::observe::causes;
use runnel_contracts::refusal::{Reason, Refusal};
use runnel_journeys::LoadError;
use runnel_storage::{FetchError, Unavailable};

/// The store failed.
pub(crate) fn unavailable(fault: &Unavailable) -> Refusal {
    tracing::error!(fault = causes(fault), "the store failed");
    Refusal::new(Reason::StoreUnavailable, "The store does not answer.").retry_after(Duration::from_secs(1))
}

/// Events could not be read.
pub(crate) fn loading(fault: &LoadError) -> Refusal {
    tracing::error!(fault = causes(fault), "events could not be read");
    match fault {
        LoadError::Fetch(FetchError::Damaged { .. } | FetchError::DamagedBlock { .. })
        | LoadError::Block(_) => {
            Refusal::new(Reason::DataDamaged, "Stored events are damaged, so the answer would be wrong.")
        }
        LoadError::Names(_) => Refusal::new(Reason::NamesTooMany, format!("{fault}.")),
        _ => Refusal::new(Reason::StoreUnavailable, "The stored events could not be read.")
            .retry_after(Duration::from_secs(1)),
    }
}
