//! Faults of the layers below as refusals. Their inside goes to the log only.

use std::time::Duration;

use runnel_chassis::observe::causes;
use runnel_contracts::refusal::{Reason, Refusal};
use runnel_journeys::{CountError, LoadError};
use runnel_kernel::{PlanError, RunError};
use runnel_storage::{FetchError, Unavailable};

/// The store failed.
pub fn unavailable(fault: &Unavailable) -> Refusal {
    tracing::error!(fault = causes(fault), "the store failed");
    Refusal::new(Reason::StoreUnavailable, "The store does not answer.").retry_after(Duration::from_secs(1))
}

/// Journeys could not be loaded.
pub fn loading(fault: &LoadError) -> Refusal {
    tracing::error!(fault = causes(fault), "journeys could not be loaded");
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

/// The definition is not defined, or over a limit.
pub fn planning(fault: &PlanError) -> Refusal {
    Refusal::field(Reason::FunnelInvalid, "definition", format!("The funnel cannot be asked: {fault}."))
}

/// Counting was refused.
pub fn counting(fault: &CountError) -> Refusal {
    match fault {
        CountError::Run(RunError::Cost { limit, .. }) => {
            let text = format!("A visitor's events need more than {limit} comparisons with grace.");
            Refusal::field(Reason::CostTooHigh, "definition.grace_ms", text)
        }
        _ => {
            tracing::error!(fault = causes(fault), "counting failed");
            Refusal::new(Reason::Internal, "The journeys in memory do not fit together.")
        }
    }
}

/// The server is stopping.
pub fn stopped() -> Refusal {
    Refusal::new(Reason::ShuttingDown, "The server is stopping.").retry_after(Duration::from_secs(1))
}
