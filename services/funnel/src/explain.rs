//! One visitor against a funnel: every event, and why it counted or not.

use runnel_contracts::{
    proto::funnel::v1::{ExplainVisitorResponse, ExplainedEvent, ExplainedUnit, StepTime, UnitState},
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    funnel::{Checked, Range},
    posed::Posed,
    refusal::counting,
};
use runnel_journeys::{CountError, Run};
use runnel_kernel::{Rule, State, UnitOutcome};
use runnel_model::limits;

/// The visitor's units and events. A visitor who never sent an event is not found.
pub(crate) fn explain(
    checked: &Checked,
    posed: &Posed,
    visitor: &str,
    version: u64,
    range: Range,
) -> Result<ExplainVisitorResponse, Refusal> {
    let (run, at) = posed.loaded.find(visitor).ok_or_else(|| {
        Refusal::field(Reason::NotFound, "visitor_id", "There are no events of this visitor.")
    })?;
    let columns = posed.derived.columns(run, None).map_err(|fault| counting(&fault.into()))?;
    let predicates = columns.predicates();
    let outcomes = run
        .slice(None)
        .map_err(CountError::from)
        .and_then(|slice| Ok(posed.plan.outcomes(&slice, &columns.kernel(&predicates), at)?))
        .map_err(|fault| counting(&fault))?;
    let mut story =
        Story { checked, posed, run, predicates: &predicates, outcomes: &outcomes, told: Vec::new(), range };
    let events = run.range(at).take(limits::EXPLAINED_EVENTS).map(|event| story.event(event)).collect();
    let mut notes = checked.notes(&posed.loaded);
    let counts_as = posed.loaded.people.moved(visitor);
    notes.extend(counts_as.map(|known| format!("{visitor} counts as {known}, whose journey this is.")));
    Ok(ExplainVisitorResponse {
        units: outcomes.iter().map(|outcome| unit(checked, posed, outcome)).collect(),
        events,
        resolved: Some(checked.resolved().clone()),
        provenance: Some(posed.provenance(version, range, notes)),
    })
}

fn unit(checked: &Checked, posed: &Posed, outcome: &UnitOutcome) -> ExplainedUnit {
    let required = checked
        .resolved()
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| !step.optional)
        .map(|(at, _)| at as u32 + 1);
    let state = match (outcome.removed, outcome.state) {
        (true, _) => UnitState::Removed,
        (_, State::Converted) => UnitState::Converted,
        (_, State::Dropped) => UnitState::Dropped,
        (_, State::Excluded) => UnitState::Excluded,
        (_, State::Open) => UnitState::Open,
    };
    let times = outcome.step_ms.iter().enumerate();
    ExplainedUnit {
        reached: required.clone().nth(outcome.level.saturating_sub(1)).unwrap_or(0),
        entered: outcome.entered_step as u32 + 1,
        state: state as i32,
        entry_ms: outcome.entry_ms,
        completion_ms: outcome.completion_ms,
        step_times: times
            .filter_map(|(at, time)| Some(StepTime { step: at as u32 + 1, time_ms: (*time)? }))
            .collect(),
        deadline_ms: outcome.entry_ms.saturating_add(posed.plan.question().window_ms),
    }
}

/// What is needed to say why an event counted.
struct Story<'a> {
    checked: &'a Checked,
    posed: &'a Posed,
    run: &'a Run,
    predicates: &'a [&'a [u64]],
    outcomes: &'a [UnitOutcome],
    /// Steps of units that an earlier event was named for.
    told: Vec<(usize, usize)>,
    range: Range,
}

impl Story<'_> {
    fn event(&mut self, event: usize) -> ExplainedEvent {
        let time_ms = self.run.time(event);
        let question = self.posed.plan.question();
        let steps = question.steps.iter().enumerate();
        let matches: Vec<u32> =
            steps.filter(|(_, step)| self.matches(&step.rule, event)).map(|(at, _)| at as u32 + 1).collect();
        let (counted_step, why) = self.why(event, time_ms, &matches);
        ExplainedEvent {
            time_ms,
            name: self.posed.loaded.names.name(self.run.kind(event)),
            matches,
            counted_step,
            why,
        }
    }

    fn matches(&self, rule: &Rule, event: usize) -> bool {
        let kind = self.run.kind(event);
        rule.any_of.iter().any(|one| {
            let bit = |predicate: u16| {
                let word = self.predicates.get(usize::from(predicate)).and_then(|bits| bits.get(event / 64));
                word.is_some_and(|word| word >> (event % 64) & 1 == 1)
            };
            one.kind.is_none_or(|wanted| wanted == kind) && one.predicate.is_none_or(bit)
        })
    }

    fn why(&mut self, event: usize, time_ms: i64, matches: &[u32]) -> (u32, String) {
        if time_ms >= self.range.as_of_ms {
            return (0, "It lies at or after as_of.".to_owned());
        }
        let question = self.posed.plan.question();
        if matches.is_empty() {
            let excluded = question.exclusions.iter().find(|exclusion| self.matches(&exclusion.rule, event));
            return match excluded {
                Some(between) => {
                    let (after, before) = (between.after_step + 1, between.before_step + 1);
                    (0, format!("It is excluded between steps {after} and {before}."))
                }
                None => (0, "It matches no step.".to_owned()),
            };
        }
        for (unit, outcome) in self.outcomes.iter().enumerate() {
            for &step in matches {
                let at = step as usize - 1;
                if outcome.step_ms.get(at) == Some(&Some(question.read(time_ms)))
                    && !self.told.contains(&(unit, at))
                {
                    self.told.push((unit, at));
                    let label = &self.checked.resolved().steps[at].label;
                    return (step, format!("It did step {step}, {label}."));
                }
            }
        }
        (0, self.why_not(time_ms, matches))
    }

    fn why_not(&self, time_ms: i64, matches: &[u32]) -> String {
        let time_ms = self.posed.plan.question().read(time_ms);
        let steps: Vec<String> = matches.iter().map(u32::to_string).collect();
        let steps = steps.join(" and ");
        let in_range = (self.range.from_ms..self.range.until_ms).contains(&time_ms);
        if matches.contains(&1) && !in_range {
            return format!("It matches step {steps} but lies outside the range of entries.");
        }
        let window_ms = self.posed.plan.question().window_ms;
        let Some(nearest) =
            self.outcomes.iter().rev().find(|outcome| outcome.entry_ms <= time_ms).or(self.outcomes.first())
        else {
            return format!("It matches step {steps}, but there is no entry in the range.");
        };
        if time_ms < nearest.entry_ms {
            return format!("It matches step {steps} but lies before the chosen entry.");
        }
        if time_ms > nearest.entry_ms.saturating_add(window_ms) {
            return format!("It matches step {steps} but comes after the window of the chosen entry.");
        }
        format!(
            "It matches step {steps}, but another event did that step, or the step before it was not done yet."
        )
    }
}
