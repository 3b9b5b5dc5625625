//! Random journeys and questions from a seed.

use runnel_kernel::{
    BreakDown, Exclusion, ExclusionEffect, Match, Question, Reentry, Rule, Step, Tie, Trend, Unit,
};

use crate::journeys::Event;

/// A xorshift generator (G. Marsaglia, 2003), multiplied as in xorshift64*.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// A number in `low..=high`.
    pub(crate) fn within(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// True in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// Number of random cases asked for.
pub(crate) fn cases() -> u64 {
    std::env::var("RUNNEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(5_000)
}

/// Seed of the first random case.
pub(crate) fn first_seed() -> u64 {
    std::env::var("RUNNEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// How large the journeys and the times of a case are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) events: i64,
    pub(crate) kinds: i64,
    pub(crate) horizon: i64,
}

/// A journey, sorted by time; equal times keep the order in which they were drawn.
pub(crate) fn journey(random: &mut Random, size: Size) -> Vec<Event> {
    let events = random.within(0, size.events);
    let horizon = if random.chance(30) { size.horizon / 4 + 1 } else { size.horizon };
    let mut journey: Vec<Event> = (0..events)
        .map(|_| Event {
            time: random.within(0, horizon),
            kind: random.within(0, size.kinds - 1) as u16,
            hold: random.within(0, 2) as u32,
            value: random.within(0, 2) as u32,
            scope: random.chance(60),
            off_site: random.chance(15),
            predicates: [random.chance(70), random.chance(50)],
        })
        .collect();
    journey.sort_by_key(|event| event.time);
    journey
}

/// A question over every choice; about three quarters of them are defined.
pub(crate) fn question(random: &mut Random, size: Size) -> Question {
    let count = random.within(2, 5) as usize;
    let grouped = random.chance(30);
    let plain = random.chance(50);
    let mut steps: Vec<Step> = (0..count)
        .map(|at| Step {
            rule: if grouped { distinct_rule(random, at, size) } else { rule(random, size) },
            optional: at > 0 && at + 1 < count && random.chance(15),
            direct: random.chance(20),
            max_ms: random.chance(20).then(|| random.within(0, size.horizon / 2)),
            first_ever: random.chance(8),
        })
        .collect();
    let mut groups = Vec::new();
    if grouped {
        let start = random.within(0, count as i64 - 2) as usize;
        let end = random.within(start as i64 + 2, count as i64) as usize;
        groups.push(start..end);
        if count - end >= 2 && random.chance(30) {
            groups.push(end..count);
        }
    }
    for (at, step) in steps.iter_mut().enumerate() {
        let inside = groups.iter().any(|group| group.contains(&at));
        if plain || inside || step.optional {
            (step.direct, step.max_ms) = (false, None);
        }
        if plain || inside {
            step.optional = false;
        }
    }
    for at in 1..count {
        steps[at].direct &= !steps[at - 1].optional;
    }
    let mut question = Question::new(steps, random.within(0, size.horizon), 0, 0, 0);
    question.groups = groups;
    question.reentry = if random.chance(35) { Reentry::FirstEntry } else { Reentry::BestChain };
    question.tie = if random.chance(35) { Tie::StrictlyAfter } else { Tie::FavourOrder };
    question.reuse = random.chance(15);
    if random.chance(15) {
        question.grain_ms = random.within(2, 5);
    }
    question.open = !grouped && random.chance(20);
    question.hold = random.chance(25);
    question.unit = match random.within(0, 9) {
        0..=3 => Unit::Visitor,
        4..=5 => Unit::Session { gap_ms: random.within(0, size.horizon / 3) },
        6..=7 if !question.open => {
            question.hold = question.hold && random.chance(20);
            Unit::Entry
        }
        _ => {
            question.hold = true;
            Unit::Held
        }
    };
    if !question.open && !grouped && question.tie == Tie::FavourOrder && random.chance(25) {
        question.grace_ms = random.within(1, 4);
    }
    if !plain && random.chance(60) {
        for _ in 0..random.within(1, 3) {
            let after_step = random.within(0, count as i64 - 2) as usize;
            let before_step = random.within(after_step as i64 + 1, count as i64 - 1) as usize;
            question.exclusions.push(Exclusion {
                rule: exclusion_rule(random, size),
                after_step,
                before_step,
            });
        }
    }
    if random.chance(30) {
        question.exclusion_effect = ExclusionEffect::RemoveVisitor;
    }
    question.from_ms = if random.chance(60) { 0 } else { random.within(-1, size.horizon / 2) };
    question.until_ms = question.from_ms + random.within(0, size.horizon + 2);
    question.as_of_ms = random.within(size.horizon / 3, 2 * size.horizon + 2);
    question.steps_until = random.chance(75);
    question.step_times = random.chance(80);
    question.break_down = match random.within(0, 6) {
        0 => None,
        1 => Some(BreakDown::FirstTouch),
        2 => Some(BreakDown::LastTouch),
        3 => Some(BreakDown::FirstDefined),
        _ => Some(BreakDown::AtStep(random.within(0, count as i64 - 1) as usize)),
    };
    if random.chance(50) {
        question.trend =
            Some(Trend { origin_ms: random.within(-5, 5), bucket_ms: random.within(1, size.horizon) });
    }
    question
}

fn kind(random: &mut Random, size: Size) -> Option<u16> {
    Some(random.within(0, size.kinds - 1) as u16)
}

fn predicate(random: &mut Random) -> Option<u16> {
    random.chance(15).then(|| random.within(0, 1) as u16)
}

fn rule(random: &mut Random, size: Size) -> Rule {
    let alternatives = if random.chance(15) { 2 } else { 1 };
    let any_of = (0..alternatives).map(|_| Match {
        kind: if random.chance(4) { None } else { kind(random, size) },
        predicate: predicate(random),
    });
    Rule { any_of: any_of.collect() }
}

/// Mostly the step's own kind, so that groups do not share kinds with other steps.
fn distinct_rule(random: &mut Random, at: usize, size: Size) -> Rule {
    let kind = if random.chance(4) { kind(random, size) } else { Some(at as u16 % size.kinds as u16) };
    Rule { any_of: vec![Match { kind, predicate: predicate(random) }] }
}

fn exclusion_rule(random: &mut Random, size: Size) -> Rule {
    let kind = if random.chance(30) { None } else { kind(random, size) };
    Rule { any_of: vec![Match { kind, predicate: predicate(random) }] }
}
