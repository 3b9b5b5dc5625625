//! What is done to what was stored: compaction, tenants in turn, oldest backlog first, a bounded round each; and erasures beside it.

use std::{collections::HashSet, time::Duration};

use runnel_chassis::{Clock, Metrics, observe::causes};
use runnel_model::TenantName;
use runnel_storage::{Backlog, CompactOptions, CompactionReport, Store};

use crate::erase;

/// How long the loop rests when nothing is due.
const REST: Duration = Duration::from_millis(250);
/// How often the janitor sweeps, in milliseconds.
const SWEEP_MS: i64 = 60_000;

/// Compacts what is due and erases what is to be erased until the task is dropped. A failure of one tenant is logged and does not hold up the others.
pub async fn run(store: Store, clock: Clock, options: CompactOptions, metrics: Metrics) {
    tokio::join!(erase::run(&store, &clock), compact(&store, &clock, options, metrics));
}

async fn compact(store: &Store, clock: &Clock, options: CompactOptions, metrics: Metrics) {
    let mut swept_ms = None;
    let mut unfinished: HashSet<TenantName> = HashSet::new();
    loop {
        let now_ms = clock.now_ms();
        // At once at first: since nobody swept, what appends write to may not have been made ahead.
        if swept_ms.is_none_or(|swept_ms| now_ms.saturating_sub(swept_ms) > SWEEP_MS) {
            swept_ms = Some(now_ms);
            if let Err(fault) = store.janitor(now_ms).await {
                metrics.compacted("failed", 0);
                tracing::error!(fault = causes(&fault), "the janitor failed");
            }
        }
        let mut more = false;
        match store.backlog().await {
            Ok(backlog) => {
                measure(&backlog, clock.now_ms(), &metrics);
                for tenant in due(backlog, std::mem::take(&mut unfinished), &options, clock.now_ms()) {
                    match store.compact(&tenant, options.clone(), clock.now_ms()).await {
                        Ok(report) => {
                            if report != CompactionReport::default() {
                                metrics.compacted("done", report.bytes);
                                tracing::debug!(?report, "compacted");
                            }
                            if report.more {
                                more = true;
                                unfinished.insert(tenant);
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
            Err(fault) => {
                metrics.compacted("failed", 0);
                tracing::error!(fault = causes(&fault), "the backlog could not be listed");
            }
        }
        if !more {
            tokio::time::sleep(REST).await;
        }
    }
}

/// The tenants that are worth a round: those of the backlog first, then those who have only blocks left to merge. The many of whom little waits cost nothing.
fn due(
    backlog: Vec<Backlog>,
    mut unfinished: HashSet<TenantName>,
    options: &CompactOptions,
    now_ms: i64,
) -> Vec<TenantName> {
    let mut due = Vec::new();
    for waiting in backlog {
        if unfinished.remove(&waiting.tenant) || options.may_be_due(&waiting, now_ms) {
            due.push(waiting.tenant);
        }
    }
    due.extend(unfinished);
    due
}

fn measure(backlog: &[Backlog], now_ms: i64, metrics: &Metrics) {
    let bytes = backlog.iter().map(|waiting| waiting.bytes).sum();
    let oldest = backlog.iter().map(|waiting| waiting.oldest_ms).min().unwrap_or(now_ms);
    let age_ms = u64::try_from(now_ms.saturating_sub(oldest)).unwrap_or(0);
    metrics.backlog(bytes, Duration::from_millis(age_ms));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_little_waiting_is_left_alone_and_who_was_not_finished_is_not() {
        let options = CompactOptions::default();
        let now_ms = 1_000_000_000;
        let waiting = |tenant: &str, bytes, oldest_ms| Backlog {
            tenant: TenantName::parse(tenant).unwrap(),
            bytes,
            events: 1,
            oldest_ms,
        };
        let backlog = vec![
            waiting("old", 1, now_ms - options.trigger_age_ms),
            waiting("little", 1, now_ms),
            waiting("much", options.trigger_bytes, now_ms),
            waiting("begun", 1, now_ms),
        ];
        let unfinished = ["begun", "merging"].map(|tenant| TenantName::parse(tenant).unwrap()).into();
        let due = due(backlog, unfinished, &options, now_ms);
        let names: Vec<&str> = due.iter().map(TenantName::as_str).collect();
        assert_eq!(names, ["old", "much", "begun", "merging"]);
    }
}
