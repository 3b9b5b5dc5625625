//! Questions that are brought before journeys: these are up to date, and names have become codes.

use std::{collections::BTreeSet, sync::Arc};

use runnel_contracts::{
    proto::query::v1 as query,
    refusal::{Reason, Refusal},
};
use runnel_journeys::{Derived, Journeys, Loaded};
use runnel_kernel::{BreakDown, Plan, Question};
use runnel_model::{Dimension, Selector, Settings, TenantName, limits};
use runnel_storage::compute;
use tracing::Instrument;

use crate::{
    funnel::{Checked, Range},
    refusal::{loading, planning, stopped, unavailable},
};

/// A question that was brought before loaded journeys.
pub struct Posed {
    /// The journeys.
    pub loaded: Arc<Loaded>,
    /// What the kernel is to count.
    pub plan: Plan,
    /// The same for the values at later steps, where each step has its own.
    pub later: Vec<(usize, Plan)>,
    /// What events have to satisfy, as tests of codes.
    pub derived: Derived,
    /// The version of the tenant's definitions.
    pub definition: u64,
    /// A remark on what is not kept.
    not_kept: Option<String>,
}

/// Brings a checked question before the journeys of every batch that was committed before.
pub async fn pose(
    journeys: &Journeys,
    tenant: &TenantName,
    checked: &Checked,
    range: Range,
    without_bots: bool,
) -> Result<Posed, Refusal> {
    let (columns, settings) = (checked.columns.selectors(), &checked.columns.settings);
    let (loaded, definition) = loaded(journeys, tenant, columns, settings, without_bots).await?;
    Posed::new(loaded, checked, range, definition)
}

/// A tenant's journeys of every batch that was committed before, with these columns, of all visitors or of those who are no bots; and the version of the tenant's definitions.
pub async fn loaded(
    journeys: &Journeys,
    tenant: &TenantName,
    mut columns: BTreeSet<Selector>,
    settings: &Settings,
    without_bots: bool,
) -> Result<(Arc<Loaded>, u64), Refusal> {
    let device = Selector::Session(Dimension::Device);
    columns.extend(without_bots.then(|| device.clone()));
    let at = journeys.with_sessions(tenant, &columns, settings).instrument(tracing::info_span!("journeys"));
    let (loaded, definition) = tokio::join!(at, journeys.store().definition_version(tenant));
    let loaded = loaded.map_err(|fault| loading(&fault))?;
    let definition = definition.map_err(|fault| unavailable(&fault))?;
    if !without_bots {
        return Ok((loaded, definition));
    }
    let pool = journeys.pool().clone();
    let people = compute(move || pool.install(|| loaded.without(&device, "bot"))).await;
    Ok((Arc::new(people.map_err(|_| stopped())?), definition))
}

impl Posed {
    /// Brings a checked question before journeys that have its columns.
    pub fn new(
        loaded: Arc<Loaded>,
        checked: &Checked,
        range: Range,
        definition: u64,
    ) -> Result<Posed, Refusal> {
        let not_kept = kept(&loaded, range.from_ms)?;
        let question = checked.question(&loaded.names, range);
        let plan_of = |question| Plan::new(question).map_err(|fault| planning(&fault));
        let later = checked.steps_of_their_own().map(|step| {
            let break_down = Some(BreakDown::AtStep(step));
            Ok((step, plan_of(Question { break_down, trend: None, step_times: false, ..question.clone() })?))
        });
        let later = later.collect::<Result<_, Refusal>>()?;
        let plan = plan_of(question)?;
        let derived = checked
            .columns
            .derive(&loaded, range.as_of_ms)
            .map_err(|fault| Refusal::field(Reason::PredicateInvalid, "definition", format!("{fault}.")))?;
        Ok(Posed { loaded, plan, later, derived, definition, not_kept })
    }

    /// As of when, and by which definition.
    pub fn provenance(&self, version: u64, range: Range, mut notes: Vec<String>) -> query::Provenance {
        notes.extend(self.not_kept.clone());
        let told = provenance(&self.loaded, self.definition, range.as_of_ms, notes);
        query::Provenance { definition_version: version, ..told }
    }
}

/// Refuses what begins before events are kept, since its counts would be too low. A remark for all others, where not all events are kept.
pub fn kept(loaded: &Loaded, from_ms: i64) -> Result<Option<String>, Refusal> {
    let Some(kept_from_ms) = loaded.kept_from_ms else { return Ok(None) };
    if from_ms < kept_from_ms && from_ms != *limits::TIME_RANGE_MS.start() {
        return Err(not_kept(kept_from_ms));
    }
    Ok(Some(not_known(kept_from_ms)))
}

/// A remark on an event that never occurred.
#[must_use]
pub fn never_occurred(name: &str) -> String {
    format!("There is no event named {name:?}; runnel catalog events lists those there are.")
}

/// A remark on what is not kept.
pub fn not_known(kept_from_ms: i64) -> String {
    let kept_from = shown(kept_from_ms);
    format!(
        "What happened before {kept_from} is not kept; who came or did something only then counts as new."
    )
}

/// A question about a time of which events are not kept.
pub fn not_kept(kept_from_ms: i64) -> Refusal {
    let text = format!(
        "What happened before {} is not kept, and this cannot be told from the counts that are.",
        shown(kept_from_ms)
    );
    Refusal::field(Reason::NotAvailableAfterRetention, "range.from_ms", text)
}

/// An instant for people, and for the next request.
pub fn shown(instant_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(instant_ms) {
        Ok(instant) => format!("{instant} ({instant_ms})"),
        Err(_) => instant_ms.to_string(),
    }
}

/// What an answer that no saved definition asked for is made of: these journeys, and the tenant's definitions of that version.
pub fn provenance(loaded: &Loaded, definition: u64, as_of_ms: i64, notes: Vec<String>) -> query::Provenance {
    let (sequence, alias, erasure) = (loaded.sequence, loaded.people.version(), loaded.erasure);
    let revision = query::Revision { sequence, definition, alias, erasure };
    query::Provenance { definition_version: 0, as_of_ms, revision: Some(revision), notes }
}
