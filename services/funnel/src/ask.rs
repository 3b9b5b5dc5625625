//! Asks the kernel, on the computing threads.

use std::{collections::BTreeMap, sync::Arc};

use runnel_contracts::refusal::Refusal;
use runnel_definitions::{
    posed::Posed,
    refusal::{counting, stopped},
};
use runnel_journeys::{CountError, Journeys, Unobserved};
use runnel_kernel::{Counts, Plan, counts::BreakDownRow};
use runnel_storage::compute;

/// What the kernel counted.
pub(crate) struct Counted {
    pub(crate) counts: Counts,
    /// Over entries whose window is over; `None` when these are all.
    pub(crate) matured: Option<Counts>,
    /// For each step behind the first one that has its own values: the rows by these.
    pub(crate) later: Vec<(usize, BTreeMap<u32, BreakDownRow>)>,
    /// What is in none of them because consent was denied.
    pub(crate) unobserved: Unobserved,
}

/// Counts on the computing threads.
pub(crate) async fn count(journeys: &Journeys, posed: Arc<Posed>) -> Result<Counted, Refusal> {
    let pool = journeys.pool().clone();
    let span = tracing::info_span!("count");
    let work = move || {
        let _counting = span.entered();
        pool.install(|| {
            let (counts, matured) = posed.derived.count(&posed.loaded, &posed.plan)?;
            let rows = |(step, plan): &(usize, Plan)| {
                let (counts, _) = posed.derived.count(&posed.loaded, plan)?;
                Ok::<_, CountError>((*step, counts.break_down))
            };
            let later = posed.later.iter().map(rows).collect::<Result<_, CountError>>()?;
            Ok(Counted { counts, matured, later, unobserved: posed.loaded.unobserved() })
        })
    };
    let counted = compute(work).await;
    counted.map_err(|_| stopped())?.map_err(|fault| counting(&fault))
}
