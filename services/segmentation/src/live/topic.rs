//! What somebody watches, with what was told of it lately.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runnel_contracts::{
    proto::{
        funnel::v1::{FunnelDefinition, TrendInterval, Unit},
        segmentation::v1::{SegmentDefinition, SegmentRef, WatchedFunnel, segment_ref, watched_funnel},
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::Catalogue,
    funnel,
    saved::{self, Named},
    segment,
};
use runnel_model::{Identities, TenantName};
use runnel_storage::Store;
use tokio::sync::broadcast;

use super::{
    advance::Change,
    cursor::Cursor,
    what::{Legend, Tally, What},
};

/// Steps that a watcher may be behind before it is told that it lags.
const BEHIND: usize = 256;
/// Steps that can be told again.
const KEPT_STEPS: usize = 1_024;
/// Changes that can be told again.
const KEPT_CHANGES: usize = 65_536;
/// More changes of one step than this are not told one by one.
pub(super) const CHANGES: usize = 100_000;

/// What somebody asks to watch.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    /// A segment.
    Segment(SegmentRef),
    /// A funnel, of which entries from an instant on count, in milliseconds since the Unix epoch; and whether what is at stake is told.
    Funnel(WatchedFunnel, i64, bool),
}

impl Asked {
    /// Checks it with everything that it names.
    pub(super) async fn check(
        &self,
        store: &Store,
        tenant: &TenantName,
        catalogue: &Catalogue,
    ) -> Result<What, Refusal> {
        match self {
            Asked::Segment(SegmentRef { segment }) => {
                let (field, definition) = match segment {
                    None => return Err(missing("segment")),
                    Some(segment_ref::Segment::Inline(inline)) => ("segment.inline", inline.clone()),
                    Some(segment_ref::Segment::Name(name)) => {
                        let found: Option<Named<SegmentDefinition>> =
                            saved::find(store, tenant, name, 0).await?;
                        let found = found.ok_or_else(|| unknown("segment", name))?;
                        ("segment.name", found.definition)
                    }
                };
                let checked = segment::check(store, tenant, catalogue, field, &definition).await?;
                Ok(What::Segment(Box::new(checked)))
            }
            Asked::Funnel(WatchedFunnel { funnel }, from_ms, values) => {
                let (field, definition) = match funnel {
                    None => return Err(missing("funnel")),
                    Some(watched_funnel::Funnel::Inline(inline)) => ("funnel.inline", inline.clone()),
                    Some(watched_funnel::Funnel::Name(name)) => {
                        let found: Option<Named<FunnelDefinition>> =
                            saved::find(store, tenant, name, 0).await?;
                        let found = found.ok_or_else(|| unknown("funnel", name))?;
                        ("funnel.name", found.definition)
                    }
                };
                let checked = watchable(field, &definition, catalogue)?;
                Ok(What::Funnel { checked: Box::new(checked), from_ms: *from_ms, values: *values })
            }
        }
    }
}

fn missing(what: &str) -> Refusal {
    let text = format!("The request names no {what} and has none inline.");
    Refusal::field(Reason::FieldMissing, what, text)
}

fn unknown(what: &str, name: &str) -> Refusal {
    Refusal::field(Reason::NotFound, format!("{what}.name"), format!("There is no {what} {name:?}."))
}

/// A funnel that can be watched: what becomes of its units is told by their events and by time to the millisecond.
fn watchable(
    field: &str,
    definition: &FunnelDefinition,
    catalogue: &Catalogue,
) -> Result<funnel::Checked, Refusal> {
    let checked =
        funnel::check(definition, None, TrendInterval::Unspecified, catalogue).map_err(|refusal| {
            let inner = refusal.field.strip_prefix("definition").unwrap_or_default().to_owned();
            Refusal { field: format!("{field}{inner}"), ..refusal }
        })?;
    let unfit = |text: &str| Err(Refusal::field(Reason::FunnelInvalid, field, text));
    if definition.open {
        return unfit("An open funnel cannot be watched; close it, or ask it from time to time.");
    }
    if !definition.counted.is_empty() {
        return unfit("A funnel with counted steps cannot be watched: nobody knows whom they are of.");
    }
    if checked.resolved().unit() != Unit::Visitor {
        return unfit("A funnel that is watched counts visitors.");
    }
    if checked.choices.grain_ms > 1 {
        return unfit(
            "The funnel reads instants to the second and cannot be watched; choose another profile.",
        );
    }
    Ok(checked)
}

/// What is told to everybody who watches the same.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Everything up to here is told.
    pub(super) until: Cursor,
    pub(super) told: Told,
    /// The counts then.
    pub(super) tally: Tally,
    /// What is needed of what is watched, as it is understood then.
    pub(super) legend: Arc<Legend>,
    /// Who is who then, where that has changed with this step. Kept steps have none: every generation of it would be held.
    pub(super) people: Option<Arc<Identities>>,
}

/// What a step tells.
#[derive(Debug, Clone)]
pub(super) enum Told {
    /// These changed, in order; each may be nobody.
    Changes(Vec<Change>),
    /// So much changed that it is not told one by one.
    TooMuch,
    /// It cannot be watched any more.
    Over(Refusal),
}

/// What somebody watches.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) asked: Asked,
    sender: broadcast::Sender<Arc<Step>>,
    state: Mutex<State>,
}

/// What is known of a topic.
#[derive(Debug)]
struct State {
    what: Arc<What>,
    fingerprint: u64,
    tally: Tally,
    /// The latest steps, each with where it begins, which is where the one before ends.
    kept: VecDeque<(Cursor, Arc<Step>)>,
    /// Everything up to here was told; `None` before anything was.
    until: Option<Cursor>,
    /// Changes in them.
    changes: usize,
}

impl Topic {
    pub(super) fn new(asked: Asked, what: What) -> Topic {
        let state = State {
            fingerprint: what.fingerprint(),
            what: Arc::new(what),
            tally: Tally::default(),
            kept: VecDeque::new(),
            until: None,
            changes: 0,
        };
        Topic { asked, sender: broadcast::Sender::new(BEHIND), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is understood now, with what tells that apart.
    pub(super) fn what(&self) -> (Arc<What>, u64) {
        let state = self.state();
        (state.what.clone(), state.fingerprint)
    }

    /// It is understood so from now on.
    pub(super) fn redefine(&self, what: Arc<What>, fingerprint: u64) {
        let mut state = self.state();
        (state.what, state.fingerprint) = (what, fingerprint);
    }

    /// The counts of what was told last.
    pub(super) fn tally(&self) -> Tally {
        self.state().tally.clone()
    }

    /// It counts so, and what is told begins here.
    pub(super) fn begin(&self, now: Cursor, tally: Tally) {
        let mut state = self.state();
        (state.until, state.tally) = (Some(now), tally);
    }

    /// It counts so, though nothing is told yet.
    pub(super) fn keep(&self, tally: Tally) {
        self.state().tally = tally;
    }

    /// Tells everybody.
    pub(super) fn tell(&self, step: Step, forget: bool) {
        let mut state = self.state();
        state.tally = step.tally.clone();
        let step = Arc::new(step);
        let from = state.until.replace(step.until);
        if forget {
            (state.kept, state.changes) = (VecDeque::new(), 0);
        } else if let Some(from) = from {
            state.changes += step.changes();
            let kept = Step { people: None, ..(*step).clone() };
            state.kept.push_back((from, if step.people.is_none() { step.clone() } else { Arc::new(kept) }));
        }
        while (state.kept.len() > KEPT_STEPS || state.changes > KEPT_CHANGES)
            && let Some((_, oldest)) = state.kept.pop_front()
        {
            state.changes -= oldest.changes();
        }
        // Nobody may be there.
        drop(self.sender.send(step));
    }

    /// The steps from here on; `None` when they are not kept any more, or never were.
    pub(super) fn since(&self, cursor: &Cursor) -> Option<Vec<Arc<Step>>> {
        let state = self.state();
        if state.until.as_ref() == Some(cursor) {
            return Some(Vec::new());
        }
        let first = state.kept.iter().position(|(from, _)| from == cursor)?;
        Some(state.kept.iter().skip(first).map(|(_, step)| step.clone()).collect())
    }

    /// What is told from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Arc<Step>> {
        self.sender.subscribe()
    }

    /// Whether somebody listens.
    pub(super) fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }
}

impl Step {
    fn changes(&self) -> usize {
        match &self.told {
            Told::Changes(changes) => changes.len(),
            Told::TooMuch | Told::Over(_) => 0,
        }
    }
}
