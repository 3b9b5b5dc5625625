//! Every refusal is typed, names what was wrong, and stands in the place of a wrong answer.

use runnel_kernel::plan::OpenWith;
use runnel_kernel::{
    BreakDown, Choices, Columns, Exclusion, Kinds, Layout, Plan, PlanError, Profile, Question, Rule,
    RunError, Slice, SliceError, Step, Tie, Times, Trend, Unit, Values, WindowMissing,
};

use crate::fast_path::common_question;
use crate::generate::{Random, Size, cases, first_seed, question};
use crate::journeys::{Event, Journeys, Widths};

fn refused(change: impl FnOnce(&mut Question)) -> PlanError {
    let steps = (0..4).map(Step::of_kind).collect();
    let mut question = Question::new(steps, 60_000, 0, 1_000_000, 2_000_000);
    assert!(Plan::new(question.clone()).is_ok(), "the question is defined before the change");
    change(&mut question);
    Plan::new(question).expect_err("the change is refused")
}

fn exclusion(after_step: usize, before_step: usize) -> Exclusion {
    Exclusion { rule: Rule::of_kind(9), after_step, before_step }
}

#[test]
fn limits_name_the_value() {
    assert_eq!(refused(|q| q.steps.truncate(1)), PlanError::Steps { value: 1 });
    let step = || Step::of_kind(1);
    assert_eq!(refused(|q| q.steps.resize_with(33, step)), PlanError::Steps { value: 33 });
    let many = vec![exclusion(0, 1); 17];
    assert_eq!(refused(|q| q.exclusions = many), PlanError::Exclusions { value: 17 });
    let window = |value_ms| PlanError::Duration { of: "window", value_ms };
    assert_eq!(refused(|q| q.window_ms = -1), window(-1));
    assert_eq!(refused(|q| q.window_ms = 366 * 86_400_000 + 1), window(366 * 86_400_000 + 1));
    assert!(matches!(refused(|q| q.grace_ms = -1), PlanError::Duration { of: "grace", .. }));
    assert!(matches!(refused(|q| q.grain_ms = 0), PlanError::Duration { of: "grain", .. }));
    assert!(matches!(refused(|q| q.unit = Unit::Session { gap_ms: -1 }), PlanError::Duration { .. }));
    assert!(matches!(refused(|q| q.steps[1].max_ms = Some(-1)), PlanError::Duration { .. }));
    let trend = Trend { origin_ms: 0, bucket_ms: 0 };
    assert!(matches!(refused(|q| q.trend = Some(trend)), PlanError::Duration { of: "trend bucket", .. }));
    assert!(matches!(refused(|q| q.from_ms = 1_000_001), PlanError::Range { .. }));
    assert_eq!(refused(|q| q.break_down = Some(BreakDown::AtStep(4))), PlanError::BreakDownStep { step: 4 });
}

#[test]
fn what_is_undefined_is_refused() {
    let group = |groups: &[(usize, usize)]| groups.iter().map(|(start, end)| *start..*end).collect();
    assert_eq!(refused(|q| q.groups = group(&[(0, 1)])), PlanError::Group { group: 0 });
    assert_eq!(refused(|q| q.groups = group(&[(3, 5)])), PlanError::Group { group: 0 });
    assert_eq!(refused(|q| q.groups = group(&[(0, 2), (1, 3)])), PlanError::Group { group: 1 });
    assert_eq!(refused(|q| q.steps[0].optional = true), PlanError::OptionalAtEnd { step: 0 });
    assert_eq!(refused(|q| q.steps[3].optional = true), PlanError::OptionalAtEnd { step: 3 });
    let timed_optional = |q: &mut Question| {
        q.steps[1].optional = true;
        q.steps[1].max_ms = Some(1);
    };
    assert_eq!(refused(timed_optional), PlanError::OptionalConstrained { step: 1 });
    let direct_after = |q: &mut Question| {
        q.steps[1].optional = true;
        q.steps[2].direct = true;
    };
    assert_eq!(refused(direct_after), PlanError::DirectAfterOptional { step: 2 });
    let optional_inside = |q: &mut Question| {
        q.groups = group(&[(1, 3)]);
        q.steps[1].optional = true;
    };
    assert_eq!(refused(optional_inside), PlanError::OptionalConstrained { step: 1 });
    let direct_inside = |q: &mut Question| {
        q.groups = group(&[(1, 3)]);
        q.steps[2].direct = true;
    };
    assert_eq!(refused(direct_inside), PlanError::EdgeInGroup { step: 2 });
    let shared = |q: &mut Question| {
        q.groups = group(&[(1, 3)]);
        q.steps[0] = Step::of_kind(2);
    };
    assert_eq!(refused(shared), PlanError::SharedWithGroup { inside: 2, outside: 0 });
    assert_eq!(refused(|q| q.exclusions.push(exclusion(1, 1))), PlanError::ExclusionSteps { exclusion: 0 });
    assert_eq!(refused(|q| q.exclusions.push(exclusion(1, 4))), PlanError::ExclusionSteps { exclusion: 0 });
    for (after, before, step) in [(1, 3, 1), (0, 2, 2)] {
        let splits = |q: &mut Question| {
            q.groups = group(&[(1, 3)]);
            q.exclusions.push(exclusion(after, before));
        };
        assert_eq!(refused(splits), PlanError::ExclusionEndpoint { exclusion: 0, step });
    }
}

#[test]
fn choices_that_exclude_each_other_are_refused() {
    let open = |with| PlanError::Open { with };
    let groups = |q: &mut Question| {
        q.open = true;
        q.groups = std::iter::once(0..2).collect();
    };
    assert_eq!(refused(groups), open(OpenWith::Groups));
    let optional = |q: &mut Question| {
        q.open = true;
        q.steps[1].optional = true;
    };
    assert_eq!(refused(optional), open(OpenWith::OptionalSteps));
    let entry = |q: &mut Question| {
        q.open = true;
        q.unit = Unit::Entry;
    };
    assert_eq!(refused(entry), open(OpenWith::EntryUnit));
    assert_eq!(refused(|q| (q.open, q.grace_ms) = (true, 1)), open(OpenWith::Grace));
    assert_eq!(refused(|q| q.unit = Unit::Held), PlanError::HeldWithoutHold);
    assert_eq!(refused(|q| (q.unit, q.hold) = (Unit::Entry, true)), PlanError::EntryWithHold);
    assert_eq!(refused(|q| (q.unit, q.grace_ms) = (Unit::Entry, 1)), PlanError::GraceWithEntry);
    assert_eq!(refused(|q| (q.tie, q.grace_ms) = (Tie::StrictlyAfter, 1)), PlanError::GraceWithStrictlyAfter);
    let grace_and_groups = |q: &mut Question| {
        q.grace_ms = 1;
        q.groups = std::iter::once(0..2).collect();
    };
    assert_eq!(refused(grace_and_groups), PlanError::GraceWithGroups);
    let missing = WindowMissing { profile: Profile::Clickhouse };
    assert_eq!(Profile::Clickhouse.resolve(&Choices::default()), Err(missing));
}

#[test]
fn slices_and_columns_are_checked() {
    let layout = Layout {
        offsets: &[0, 1],
        kinds: Kinds::U8(&[0]),
        times: Times::Wide(&[0]),
        span_ms: (0, 0),
        kind_sets: &[1],
        ties: &[0],
        skip: None,
    };
    let error = |layout| Slice::new(layout).expect_err("a broken layout");
    assert_eq!(error(Layout { offsets: &[], ..layout }), SliceError::Offsets { index: 0 });
    assert_eq!(error(Layout { offsets: &[0, 2, 1], ..layout }), SliceError::Offsets { index: 2 });
    let length = |column, got, want| SliceError::Length { column, got, want };
    assert_eq!(error(Layout { kinds: Kinds::U16(&[]), ..layout }), length("kinds", 0, 1));
    assert_eq!(error(Layout { times: Times::Wide(&[1, 2]), ..layout }), length("times", 2, 1));
    assert_eq!(error(Layout { kind_sets: &[], ..layout }), length("kind_sets", 0, 1));
    assert_eq!(error(Layout { ties: &[], ..layout }), length("ties", 0, 1));
    assert_eq!(error(Layout { skip: Some(&[]), ..layout }), length("skip", 0, 1));

    let slice = Slice::new(layout).expect("a valid layout");
    let steps = || (0..2).map(Step::of_kind).collect();
    let mut question = Question::new(steps(), 1, 0, 1, 1);
    question.break_down = Some(BreakDown::FirstTouch);
    let plan = Plan::new(question).expect("a defined question");
    let missing = RunError::Column { column: "break_down", got: 0, want: 1 };
    assert_eq!(plan.run(&slice, &Columns::default()), Err(missing));
    assert_eq!(plan.outcomes(&slice, &Columns::default(), 0), Err(missing));
    let mut question = Question::new(steps(), 1, 0, 1, 1);
    question.steps[1].rule.any_of[0].predicate = Some(1);
    let plan = Plan::new(question).expect("a defined question");
    let missing = RunError::Column { column: "predicates", got: 0, want: 2 };
    assert_eq!(plan.run(&slice, &Columns::default()), Err(missing));
}

#[test]
fn grace_refuses_a_visitor_that_costs_too_much_and_no_other() {
    // Every event matches both steps and may begin a chain, so the search is quadratic in each of the entries.
    let mut question =
        Question::new(vec![Step::of_kind(0), Step::of_kind(0)], 1_000_000, 0, 1_000_000, 1_000_000);
    question.grace_ms = 2_000;
    let plan = Plan::new(question).expect("a defined question");
    let visitor =
        |events: i64| (0..events).map(|time| Event { time, ..Event::default() }).collect::<Vec<_>>();
    let journeys = Journeys::new(&[visitor(50), visitor(20_000)]);
    let slice = journeys.slice(Widths { wide_kinds: false, wide_times: false });
    journeys.columns(false, |columns| {
        let first = plan.outcomes(&slice, columns, 0).expect("fifty events are cheap");
        assert_eq!(first[0].level, 2);
        assert_eq!(plan.run(&slice, columns), Err(RunError::Cost { visitor: 1, limit: 1 << 24 }));
    });
}

#[test]
fn a_slice_that_breaks_its_promises_panics_nowhere() {
    let size = Size { events: 20, kinds: 4, horizon: 30 };
    for seed in first_seed()..first_seed() + cases() / 5 {
        let mut random = Random::new(seed);
        let common = random.chance(50);
        let question = if common {
            common_question(&mut random, size, &[0, 1, 2, 3])
        } else {
            question(&mut random, size)
        };
        let Ok(plan) = Plan::new(question) else {
            continue;
        };
        // Instants out of order and out of any bounds, ties that are not told, kind sets that are wrong.
        let mut instant = || match random.within(0, 9) {
            0 => i64::MIN + random.within(0, 2),
            1 => i64::MAX - random.within(0, 2),
            _ => random.within(-5, 40),
        };
        let times: Vec<i64> = (0..40).map(|_| instant()).collect();
        let narrow: Vec<u32> = times.iter().map(|time| *time as u32).collect();
        let kinds: Vec<u8> = (0..40).map(|_| random.within(0, 4) as u8).collect();
        let (hold, bits) = ([1; 40], [random.next()]);
        let epoch_ms = if random.chance(20) { i64::MAX } else { -3 };
        for times in [Times::Wide(&times), Times::Narrow { epoch_ms, since_epoch_ms: &narrow }] {
            let layout = Layout {
                offsets: &[0, 20, 40],
                kinds: Kinds::U8(&kinds),
                times,
                span_ms: (random.within(-9, 0), random.within(0, 40)),
                kind_sets: &[u64::MAX, 3],
                ties: &[random.next()],
                skip: None,
            };
            let slice = Slice::new(layout).expect("lengths agree");
            let columns = Columns {
                predicates: &[&bits, &bits],
                hold: Some(Values::U32(&hold)),
                break_down: Some(Values::U32(&hold)),
                scope: Some(&bits),
                off_site: Some(&bits),
            };
            let answer = (plan.run(&slice, &columns), plan.run_general(&slice, &columns));
            assert!(answer.0.is_ok() && answer.1.is_ok(), "seed {seed}: {answer:?}");
        }
    }
}
