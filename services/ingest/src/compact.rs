//! The compaction loop: tenants in turn, oldest backlog first, a bounded round each.

use std::time::Duration;

use runnel_chassis::{Clock, Metrics, observe::causes};
use runnel_storage::{Backlog, CompactOptions, CompactionReport, Store};

/// How long the loop rests when nothing is due.
const REST: Duration = Duration::from_millis(250);
/// How often the janitor sweeps, in milliseconds.
const SWEEP_MS: i64 = 60_000;

/// Compacts what is due until the task is dropped. A failure of one tenant is logged and does not hold up the others.
pub async fn run(store: Store, clock: Clock, options: CompactOptions, metrics: Metrics) {
    let mut swept_ms = clock.now_ms();
    loop {
        let mut more = false;
        match store.backlog().await {
            Ok(backlog) => {
                measure(&backlog, clock.now_ms(), &metrics);
                for waiting in backlog {
                    match store.compact(&waiting.tenant, options.clone(), clock.now_ms()).await {
                        Ok(report) => {
                            more |= report.more;
                            if report != CompactionReport::default() {
                                metrics.compacted("done", report.bytes);
                                tracing::debug!(?report, "compacted");
                            }
                        }
                        Err(fault) => {
                            metrics.compacted("failed", 0);
                            tracing::error!(
                                fault = causes(&fault),
                                "a compaction failed; its inputs are untouched"
                            )
                        }
                    }
                }
            }
            Err(fault) => tracing::error!(fault = causes(&fault), "the backlog could not be listed"),
        }
        if clock.now_ms().saturating_sub(swept_ms) > SWEEP_MS {
            swept_ms = clock.now_ms();
            if let Err(fault) = store.janitor(swept_ms).await {
                tracing::error!(fault = causes(&fault), "the janitor failed");
            }
        }
        if !more {
            tokio::time::sleep(REST).await;
        }
    }
}

fn measure(backlog: &[Backlog], now_ms: i64, metrics: &Metrics) {
    let bytes = backlog.iter().map(|waiting| waiting.bytes).sum();
    let oldest = backlog.iter().map(|waiting| waiting.oldest_ms).min().unwrap_or(now_ms);
    let age_ms = u64::try_from(now_ms.saturating_sub(oldest)).unwrap_or(0);
    metrics.backlog(bytes, Duration::from_millis(age_ms));
}
