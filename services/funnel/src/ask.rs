//! Asks the kernel: journeys brought up to date, names turned into codes, counted in parallel.

use std::sync::Arc;

use runnel_contracts::{
    proto::query::v1 as query,
    refusal::{Reason, Refusal},
};
use runnel_journeys::{Derived, Journeys, Loaded};
use runnel_kernel::{Counts, Plan};
use runnel_model::TenantName;
use runnel_storage::compute;
use tracing::Instrument;

use crate::{
    definition::{Checked, Range},
    refusal::{counting, loading, planning, unavailable},
};

/// A question that was brought before loaded journeys.
pub(crate) struct Posed {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) plan: Plan,
    pub(crate) derived: Derived,
    pub(crate) definition: u64,
}

/// What the kernel counted.
pub(crate) struct Counted {
    pub(crate) counts: Counts,
    /// Over entries whose window is over; `None` when these are all.
    pub(crate) matured: Option<Counts>,
}

/// Brings a checked question before the journeys of every batch that was committed before.
pub(crate) async fn pose(
    journeys: &Journeys,
    tenant: &TenantName,
    checked: &Checked,
    range: Range,
) -> Result<Posed, Refusal> {
    let columns = checked.columns.selectors();
    let at = journeys.with_sessions(tenant, &columns, &checked.columns.settings);
    let at = at.instrument(tracing::info_span!("journeys"));
    let (loaded, definition) = tokio::join!(at, journeys.store().definition_version(tenant));
    let loaded = loaded.map_err(|fault| loading(&fault))?;
    let definition = definition.map_err(|fault| unavailable(&fault))?;
    Posed::new(loaded, checked, range, definition)
}

/// Counts on the computing threads.
pub(crate) async fn count(journeys: &Journeys, posed: Arc<Posed>) -> Result<Counted, Refusal> {
    let pool = journeys.pool().clone();
    let span = tracing::info_span!("count");
    let work = move || {
        let _counting = span.entered();
        pool.install(|| {
            let (counts, matured) = posed.derived.count(&posed.loaded, &posed.plan)?;
            Ok(Counted { counts, matured })
        })
    };
    let counted = compute(work).await;
    counted.map_err(|_| crate::refusal::stopped())?.map_err(|fault| counting(&fault))
}

impl Posed {
    /// Brings a checked question before journeys that have its columns.
    pub(crate) fn new(
        loaded: Arc<Loaded>,
        checked: &Checked,
        range: Range,
        definition: u64,
    ) -> Result<Posed, Refusal> {
        let plan = Plan::new(checked.question(&loaded.names, range)).map_err(|fault| planning(&fault))?;
        let derived = checked
            .columns
            .derive(&loaded, range.as_of_ms)
            .map_err(|fault| Refusal::field(Reason::PredicateInvalid, "definition", format!("{fault}.")))?;
        Ok(Posed { loaded, plan, derived, definition })
    }

    /// As of when, and by which definition.
    pub(crate) fn provenance(&self, version: u64, range: Range, notes: Vec<String>) -> query::Provenance {
        let told = provenance(&self.loaded, self.definition, range.as_of_ms, notes);
        query::Provenance { definition_version: version, ..told }
    }
}

/// What an answer that no saved definition asked for is made of: these journeys, and the tenant's definitions of that version.
pub(crate) fn provenance(
    loaded: &Loaded,
    definition: u64,
    as_of_ms: i64,
    notes: Vec<String>,
) -> query::Provenance {
    let (sequence, alias) = (loaded.sequence, loaded.people.version());
    let revision = query::Revision { sequence, definition, alias, erasure: 0 };
    query::Provenance { definition_version: 0, as_of_ms, revision: Some(revision), notes }
}
