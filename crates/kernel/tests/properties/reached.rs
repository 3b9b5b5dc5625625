//! Who has come how far in a funnel: against the outcomes, and when that can change.

use runnel_kernel::{
    Plan, Question, Reentry, State, Step, Unit,
    members::{AsOf, turns},
};

use crate::generate::{Random, Size, cases, first_seed, journey, question};
use crate::journeys::{Journeys, Widths};

/// Level, state, entry and instant of the furthest step.
type Stands = (usize, State, i64, i64);

/// A question about visitors whose entries of the last while count.
fn asked(question: &Question, as_of_ms: i64, within_ms: Option<i64>) -> Option<Plan> {
    let from_ms = within_ms.map_or(question.from_ms.min(0), |within_ms| as_of_ms - within_ms);
    let question = Question {
        unit: Unit::Visitor,
        open: false,
        grain_ms: 1,
        steps_until: true,
        from_ms,
        until_ms: as_of_ms.max(from_ms),
        as_of_ms,
        ..question.clone()
    };
    Plan::new(question).ok()
}

/// The same steps and window, as the fast path takes them.
fn common_shape(question: Question) -> Question {
    let steps = question.steps.iter().map(|step| Step {
        rule: step.rule.clone(),
        optional: false,
        direct: false,
        max_ms: None,
        first_ever: false,
    });
    Question {
        steps: steps.collect(),
        reentry: Reentry::BestChain,
        groups: Vec::new(),
        exclusions: Vec::new(),
        grace_ms: 0,
        reuse: false,
        hold: false,
        ..question
    }
}

#[test]
fn who_reached_a_step_is_as_outcomes_say_and_changes_only_at_its_turn() {
    let (mut compared, mut changed) = (0, 0);
    for seed in first_seed()..first_seed() + cases() {
        let mut random = Random::new(seed);
        let mut size =
            Size { events: random.within(1, 10), kinds: random.within(2, 4), horizon: random.within(3, 24) };
        let mut question = question(&mut random, size);
        let common = random.chance(50);
        if common {
            question = common_shape(question);
            size.events = if random.chance(10) { 90 } else { size.events };
        }
        let within_ms = random.chance(60).then(|| random.within(0, size.horizon));
        let start_ms = random.within(-1, 2 * size.horizon);
        let visitors: Vec<_> = (0..3).map(|_| journey(&mut random, size)).collect();
        let journeys = Journeys::new(&visitors);
        let slice = journeys.slice(Widths { wide_kinds: false, wide_times: random.chance(50) });
        let mut durations = vec![question.window_ms];
        durations.extend(within_ms);
        durations.extend(question.steps.iter().filter_map(|step| step.max_ms));
        let turns = turns(&slice, &durations, start_ms);
        journeys.columns(random.chance(60), |columns| {
            let states_at = |as_of_ms: i64| -> Option<Vec<Option<Stands>>> {
                let plan = asked(&question, as_of_ms, within_ms)?;
                let states: Vec<Option<Stands>> = (0..visitors.len())
                    .map(|visitor| {
                        let outcomes = plan.outcomes(&slice, columns, visitor).expect("cheap");
                        let unit = outcomes.first().filter(|unit| !unit.removed);
                        unit.map(|unit| (unit.level, unit.state, unit.entry_ms, unit.completion_ms))
                    })
                    .collect();
                for level in 1..=plan.required_steps() {
                    for state in State::ALL {
                        let as_of = AsOf::new(slice, as_of_ms);
                        let found = as_of.reached(&plan, columns, level..=level, &[state]).expect("cheap");
                        for (visitor, is) in states.iter().enumerate() {
                            let belongs = found[0] >> visitor & 1 == 1;
                            let is = is.map(|(level, state, ..)| (level, state));
                            assert_eq!(belongs, is == Some((level, state)), "seed {seed}");
                        }
                    }
                }
                Some(states)
            };
            let Some(before) = states_at(start_ms) else { return };
            for later_ms in start_ms + 1..start_ms + 30 {
                let Some(after) = states_at(later_ms) else { return };
                for (visitor, turn_ms) in turns.iter().enumerate() {
                    if later_ms < *turn_ms {
                        compared += 1;
                        let what = format!("seed {seed}: {visitor} at {later_ms}, not before {turn_ms}");
                        assert_eq!(before[visitor], after[visitor], "{what}, {within_ms:?}, {question:#?}");
                    } else if before[visitor] != after[visitor] {
                        changed += 1;
                    }
                }
            }
        });
    }
    assert!(compared > cases() && changed > cases(), "{compared} compared, {changed} changed");
}
