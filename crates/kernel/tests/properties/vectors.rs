//! The golden vectors of SEMANTICS.md §4, read from `tests/vectors.txt`.

use runnel_kernel::{
    Choices, Exclusion, ExclusionEffect, Plan, Profile, Question, Rule, State, Step, Tie, Unit, twin,
};

use crate::journeys::{Event, Journeys, Widths};

/// What is expected under one profile, or under one choice made on top of RUNNEL.
#[derive(Debug, Clone, Default)]
struct Expectation {
    name: String,
    level: usize,
    gone: bool,
    entry_ms: Option<i64>,
    ttc_ms: Option<i64>,
    entered: Option<usize>,
    state: Option<State>,
    attempts: Vec<State>,
}

#[test]
fn golden_vectors() {
    let text = include_str!("../vectors.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let count = lines.map(vector).count();
    assert!(count >= 23, "every vector of the page is in the file, found {count}");
}

fn vector(line: &str) {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [journey, window, steps, expectations @ ..] = fields.as_slice() else {
        panic!("too few fields: {line}");
    };
    let mut events: Vec<Event> = journey
        .split_whitespace()
        .map(|event| Event {
            kind: kind(event.as_bytes()[0]),
            time: seconds(&event[1..]),
            scope: true,
            ..Event::default()
        })
        .collect();
    events.sort_by_key(|event| event.time);
    let window_ms = window.strip_prefix('w').map(seconds);
    let expectations: Vec<Expectation> = expectations.iter().map(|text| expectation(text)).collect();
    let runnel = &expectations[0];
    assert_eq!(runnel.name, "RUNNEL", "{line}");
    for expected in &expectations {
        let profile = profile(&expected.name).unwrap_or(Profile::Runnel);
        check(line, &events, window_ms, steps, profile, expected);
    }
    for profile in Profile::ALL {
        let name = format!("{profile:?}").to_uppercase();
        if !expectations.iter().any(|expected| expected.name == name) {
            let gone = profile == Profile::Posthog && runnel.state == Some(State::Excluded);
            let expected = Expectation { name, gone, ..runnel.clone() };
            check(line, &events, window_ms, steps, profile, &expected);
        }
    }
}

fn check(
    line: &str,
    events: &[Event],
    window_ms: Option<i64>,
    steps: &str,
    profile: Profile,
    expected: &Expectation,
) {
    let given = window_ms.or((profile == Profile::Clickhouse).then_some(3_600_000));
    let choices = Choices { window_ms: given, ..Choices::default() };
    let resolved = profile.resolve(&choices).expect("the window is given");
    let (letters, excluded) = steps.split_once(' ').unwrap_or((steps, ""));
    let rules = letters.bytes().map(|letter| Step::of_kind(kind(letter)));
    // The range and the instant of knowledge lie far beyond every window, so nothing is open.
    let far = 400 * 86_400_000;
    let mut question = Question::new(rules.collect(), resolved.window_ms, 0, far, 2 * far);
    question.reentry = resolved.reentry;
    question.tie = resolved.tie;
    question.grace_ms = resolved.grace_ms;
    question.grain_ms = resolved.grain_ms;
    question.reuse = resolved.reuse;
    question.exclusion_effect = resolved.exclusion_effect;
    question.steps_until = resolved.steps_until;
    if let Some((letter, span)) = excluded.split_once(':') {
        let (after, before) = span.split_once('-').expect("a span of steps");
        let step = |text: &str| text.parse::<usize>().expect("a step number") - 1;
        let rule = Rule::of_kind(kind(letter.as_bytes()[0]));
        question.exclusions.push(Exclusion { rule, after_step: step(after), before_step: step(before) });
    }
    match expected.name.as_str() {
        "STRICTLY_AFTER" => question.tie = Tie::StrictlyAfter,
        "DIRECT" => question.steps.iter_mut().skip(1).for_each(|step| step.direct = true),
        "ANY_ORDER" => question.groups = std::iter::once(0..question.steps.len()).collect(),
        "REMOVE_VISITOR" => question.exclusion_effect = ExclusionEffect::RemoveVisitor,
        "OPEN" => question.open = true,
        "ATTEMPTS" => question.unit = Unit::Entry,
        name => assert!(self::profile(name).is_some(), "unknown expectation {name} in {line}"),
    }
    let plan = Plan::new(question).expect("vectors are defined");
    let journeys = Journeys::new(&[events.to_vec()]);
    for wide_times in [false, true] {
        let slice = journeys.slice(Widths { wide_kinds: wide_times, wide_times });
        journeys.columns(false, |columns| {
            let outcomes = plan.outcomes(&slice, columns, 0).expect("vectors are cheap");
            assert_eq!(
                twin::outcomes(&plan, &slice, columns, 0).expect("vectors are small"),
                outcomes,
                "{line}"
            );
            let counts = plan.run(&slice, columns).expect("vectors are cheap");
            assert_eq!(twin::counts(&plan, &slice, columns).expect("vectors are small"), counts, "{line}");
            let context = format!("{} of {line}: {outcomes:?}", expected.name);
            let Some(outcome) = outcomes.first() else {
                return assert_eq!(expected.level, 0, "{context}");
            };
            if !expected.attempts.is_empty() {
                let states: Vec<State> = outcomes.iter().map(|outcome| outcome.state).collect();
                return assert_eq!(states, expected.attempts, "{context}");
            }
            assert_eq!(outcome.removed, expected.gone, "{context}");
            if expected.gone {
                return assert_eq!((counts.removed, counts.levels.units()), (1, 0), "{context}");
            }
            assert_eq!(outcome.level, expected.level, "{context}");
            assert_eq!(expected.entry_ms.unwrap_or(outcome.entry_ms), outcome.entry_ms, "{context}");
            assert_eq!(expected.state.unwrap_or(outcome.state), outcome.state, "{context}");
            assert_eq!(expected.entered.unwrap_or(outcome.entered_step), outcome.entered_step, "{context}");
            let ttc_ms = outcome.completion_ms - outcome.entry_ms;
            assert_eq!(expected.ttc_ms.unwrap_or(ttc_ms), ttc_ms, "{context}");
        });
    }
}

fn expectation(text: &str) -> Expectation {
    let mut words = text.split_whitespace();
    let name = words.next().expect("a name").to_owned();
    let mut expectation = Expectation { name, ..Expectation::default() };
    if expectation.name == "ATTEMPTS" {
        expectation.attempts = words.map(state).collect();
        return expectation;
    }
    let level = words.next().expect("a level");
    expectation.gone = level == "gone";
    if !expectation.gone {
        expectation.level = level.parse().expect("a level");
    }
    while let Some(word) = words.next() {
        let mut number = || words.next().expect("a number");
        match word {
            "entry" => expectation.entry_ms = Some(seconds(number())),
            "ttc" => expectation.ttc_ms = Some(seconds(number())),
            "at" => expectation.entered = Some(number().parse::<usize>().expect("a step number") - 1),
            _ => expectation.state = Some(state(word)),
        }
    }
    expectation
}

fn state(word: &str) -> State {
    match word {
        "excluded" => State::Excluded,
        "dropped" => State::Dropped,
        _ => panic!("unknown word {word}"),
    }
}

fn profile(name: &str) -> Option<Profile> {
    Profile::ALL.into_iter().find(|profile| format!("{profile:?}").to_uppercase() == name)
}

fn kind(letter: u8) -> u16 {
    u16::from(letter - b'A')
}

fn seconds(text: &str) -> i64 {
    let (whole, tenths) = text.split_once('.').unwrap_or((text, "0"));
    let number = |text: &str| text.parse::<i64>().expect("a number of seconds");
    number(whole) * 1_000 + number(tenths) * 100
}
