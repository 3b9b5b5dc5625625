//! Shares with their intervals.

use runnel_contracts::proto::query::v1 as query;
use runnel_kernel::stats::{self, Estimate};

const WILSON: &str = "wilson";

/// An estimate as it is answered; `method` says how it was made.
#[must_use]
pub fn rate(estimate: Estimate, n: u64, method: &str) -> query::Rate {
    query::Rate { point: estimate.rate, low: estimate.low, high: estimate.high, n, method: method.to_owned() }
}

/// A share with its Wilson interval; none of nothing.
#[must_use]
pub fn share(part: u64, whole: u64) -> Option<query::Rate> {
    stats::wilson(part, whole).map(|estimate| rate(estimate, whole, WILSON))
}
