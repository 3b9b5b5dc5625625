//! Segments that are brought before journeys: who belongs.

use std::{collections::BTreeSet, sync::Arc};

use runnel_contracts::{
    proto::query::v1 as query,
    refusal::{Reason, Refusal},
};
use runnel_journeys::{CountError, Derived, Journeys, Loaded, Marks, Run, View};
use runnel_kernel::{Plan, Question, members::Who};
use runnel_model::{Selector, TenantName, limits};

use crate::{
    funnel::Range,
    list::{Visitors, among},
    posed::{kept, loaded, provenance, shown},
    refusal::planning,
    segment::{Asked, Checked},
};

/// A segment as of an instant, over a tenant's journeys.
#[derive(Debug)]
pub struct Members {
    /// The journeys.
    pub loaded: Arc<Loaded>,
    /// What is asked.
    pub checked: Checked,
    /// Events before this instant exist, in milliseconds since the Unix epoch.
    pub as_of_ms: i64,
    marks: Marks,
    /// What each condition needs beside marks.
    needs: Vec<Needs>,
}

/// What a condition needs of journeys beside marks.
#[derive(Debug)]
enum Needs {
    /// Nothing.
    Nothing,
    /// What the kernel is to follow of a funnel.
    Plan(Box<(Plan, Derived)>),
    /// The visitors that stand on a list.
    Visitors(Arc<Visitors>),
}

/// What was found of the visitors of a run, a bit each.
#[derive(Debug, Default)]
pub struct Found {
    /// Who belongs.
    pub members: Vec<u64>,
    /// Who exists.
    pub present: Vec<u64>,
    /// Of whom each condition holds.
    pub conditions: Vec<Vec<u64>>,
}

impl Found {
    /// Of whom a combination of conditions holds.
    #[must_use]
    pub fn of(&self, who: &Who) -> Vec<u64> {
        who.members(&self.conditions, &self.present)
    }
}

/// The columns that a segment looks at.
#[must_use]
pub fn selectors(checked: &Checked) -> BTreeSet<Selector> {
    let mut selectors = checked.marks.selectors();
    for condition in &checked.conditions {
        if let Asked::Reached { funnel, .. } = condition {
            selectors.extend(funnel.columns.selectors());
        }
    }
    selectors
}

/// The journeys of every batch that was committed before, with what these segments look at; and the version of the tenant's definitions.
pub async fn journeys_for(
    journeys: &Journeys,
    tenant: &TenantName,
    segments: &[&Checked],
) -> Result<(Arc<Loaded>, u64), Refusal> {
    let columns = segments.iter().flat_map(|checked| selectors(checked)).collect();
    let settings = segments.first().map(|checked| checked.marks.settings.clone()).unwrap_or_default();
    loaded(journeys, tenant, columns, &settings, false).await
}

impl Members {
    /// Brings a checked segment before journeys that have what it looks at.
    pub fn new(loaded: Arc<Loaded>, checked: Checked, as_of_ms: i64) -> Result<Members, Refusal> {
        let bad = |fault| Refusal::field(Reason::PredicateInvalid, "segment", format!("{fault}."));
        let marks = checked.marks.derive(&loaded, as_of_ms).map_err(bad)?;
        let needs = |condition: &Asked| {
            let (funnel, within_ms) = match condition {
                Asked::Reached { funnel, within_ms, .. } => (funnel, within_ms),
                Asked::OnList(list) => return Ok(Needs::Visitors(list.visitors(&loaded))),
                _ => return Ok(Needs::Nothing),
            };
            let first_ms = *limits::TIME_RANGE_MS.start();
            let from_ms = within_ms.map_or(first_ms, |within_ms| as_of_ms.saturating_sub(within_ms));
            let range = Range { from_ms, until_ms: as_of_ms.max(from_ms), as_of_ms };
            let question = funnel.question(&loaded.names, range);
            let question = Question { break_down: None, trend: None, step_times: false, ..question };
            let plan = Plan::new(question).map_err(|fault| planning(&fault))?;
            let derived = funnel.columns.derive(&loaded, as_of_ms).map_err(bad)?;
            Ok(Needs::Plan(Box::new((plan, derived))))
        };
        let needs = checked.conditions.iter().map(needs).collect::<Result<_, Refusal>>()?;
        Ok(Members { loaded, checked, as_of_ms, marks, needs })
    }

    /// Who belongs among the visitors of a run.
    pub fn of(&self, run: &Run, skip: Option<&[u64]>) -> Result<Found, CountError> {
        let view = self.marks.view(run, skip)?;
        let conditions = self.checked.conditions.iter().zip(&self.needs);
        let conditions = conditions.map(|(asked, needs)| self.condition(asked, needs, &view, skip));
        let conditions = conditions.collect::<Result<Vec<_>, CountError>>()?;
        let present = view.as_of().present();
        let members = self.checked.who.members(&conditions, &present);
        Ok(Found { members, present, conditions })
    }

    fn condition(
        &self,
        asked: &Asked,
        needs: &Needs,
        view: &View<'_>,
        skip: Option<&[u64]>,
    ) -> Result<Vec<u64>, CountError> {
        let as_of = view.as_of();
        let marks = |any_of: &[usize]| {
            let mut places = any_of.iter().map(|place| view.conversion(*place));
            let mut marks = places.next().unwrap_or_default();
            for more in places {
                marks.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
            }
            marks
        };
        Ok(match asked {
            Asked::Happened { any_of, times, within_ms, sessions } => {
                let marks = marks(any_of);
                match sessions {
                    true => as_of.happened_in_sessions(view.sessions(), &marks, *within_ms, times.clone()),
                    false => as_of.happened(&marks, *within_ms, times.clone()),
                }
            }
            Asked::Absent { after, without, for_ms, within_ms } => {
                as_of.absent(&marks(after), &marks(without), *for_ms, *within_ms)
            }
            Asked::Has { has, holds, touch, or } => {
                as_of.touched((&marks(&[*has]), &marks(&[*holds])), *touch, *or)
            }
            Asked::Reached { levels, states, .. } => {
                let Needs::Plan(needs) = needs else { return Ok(Vec::new()) };
                let (plan, derived) = &**needs;
                let columns = derived.columns(view.run(), skip)?;
                let predicates = columns.predicates();
                as_of.reached(plan, &columns.kernel(&predicates), levels.clone(), states)?
            }
            Asked::OnList(_) => {
                let Needs::Visitors(visitors) = needs else { return Ok(Vec::new()) };
                among(visitors, view.run())
            }
        })
    }

    /// A remark on a condition that looks back less far than to the latest event, so that nobody can satisfy it.
    fn nothing_new(&self) -> Option<String> {
        let within = |asked: &Asked| match asked {
            Asked::Happened { within_ms, .. }
            | Asked::Absent { within_ms, .. }
            | Asked::Reached { within_ms, .. } => *within_ms,
            Asked::Has { .. } | Asked::OnList(_) => None,
        };
        let within_ms = self.checked.conditions.iter().filter_map(within).min()?;
        let (_, last_ms) = self.loaded.span_ms()?;
        (last_ms < self.as_of_ms.saturating_sub(within_ms)).then(|| {
            let last = shown(last_ms);
            format!("The latest event is of {last}, before the time that a condition looks back to; ask as of an earlier instant.")
        })
    }

    /// As of when, and by which definition.
    pub fn provenance(&self, definition: u64, version: u64) -> Result<query::Provenance, Refusal> {
        let mut notes = self.checked.notes(&self.loaded);
        notes.extend(self.nothing_new());
        notes.extend(kept(&self.loaded, *limits::TIME_RANGE_MS.start())?);
        let told = provenance(&self.loaded, definition, self.as_of_ms, notes);
        Ok(query::Provenance { definition_version: version, ..told })
    }
}
