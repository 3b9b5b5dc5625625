//! Points that do nothing.

use std::future::Future;

use crate::Injected;

/// Passes a point.
#[inline(always)]
pub async fn hit(_: &'static str) -> Result<(), Injected> {
    Ok(())
}

/// What the work gives; with armed points, `None` when everybody who waited was sent away.
#[inline(always)]
pub async fn cancellable<F: Future>(work: F) -> Option<F::Output> {
    Some(work.await)
}
