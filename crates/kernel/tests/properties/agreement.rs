//! The engine, and whatever path `run` takes, against the twin on random small journeys.

use runnel_kernel::{Counts, Plan, twin};

use crate::generate::{Random, Size, cases, first_seed, journey, question};
use crate::journeys::{Journeys, Widths};

#[test]
fn the_engine_agrees_with_the_twin() {
    let (mut valid, cases) = (0, cases());
    for seed in first_seed()..first_seed() + cases {
        let mut random = Random::new(seed);
        let size =
            Size { events: random.within(1, 10), kinds: random.within(2, 5), horizon: random.within(3, 24) };
        let question = question(&mut random, size);
        let Ok(plan) = Plan::new(question) else {
            continue;
        };
        valid += 1;
        let visitors: Vec<_> = (0..2).map(|_| journey(&mut random, size)).collect();
        let journeys = Journeys::new(&visitors);
        let slice = journeys.slice(Widths { wide_kinds: random.chance(50), wide_times: random.chance(50) });
        let scoped = random.chance(60);
        journeys.columns(scoped, |columns| {
            let (counts, matured) = plan.run_with_matured(&slice, columns).expect("small journeys are cheap");
            let alone = |plan: &Plan| plan.run(&slice, columns).expect("small journeys are cheap");
            assert_eq!(counts, alone(&plan), "seed {seed}: {:#?}", plan.question());
            assert_eq!(matured, plan.matured().as_ref().map(alone), "seed {seed}: {:#?}", plan.question());
        });
        let plans = [plan.matured(), Some(plan)];
        for plan in plans.iter().flatten() {
            journeys.columns(scoped, |columns| {
                let mut summed = Counts::empty(plan);
                for (visitor, events) in visitors.iter().enumerate() {
                    let found = plan.outcomes(&slice, columns, visitor).expect("small journeys are cheap");
                    let expected = twin::outcomes(plan, &slice, columns, visitor).expect("small journeys");
                    assert_eq!(
                        found,
                        expected,
                        "seed {seed}, visitor {visitor}, scoped {scoped}: {}\n{:#?}",
                        show(events),
                        plan.question()
                    );
                    found.iter().for_each(|outcome| summed.record(plan, outcome));
                }
                let counts = plan.run(&slice, columns).expect("small journeys are cheap");
                let expected = twin::counts(plan, &slice, columns).expect("small journeys");
                assert_eq!(counts, expected, "seed {seed}: run and twin differ: {:#?}", plan.question());
                assert_eq!(counts, summed, "seed {seed}: run and outcomes differ: {:#?}", plan.question());
            });
        }
    }
    println!("{valid} of {cases} random questions are defined");
    assert!(valid * 10 >= cases * 6, "only {valid} of {cases} random questions are defined");
}

fn show(journey: &[crate::journeys::Event]) -> String {
    let event = |event: &crate::journeys::Event| {
        let bits = event.predicates.map(u8::from);
        format!(
            "k{}@{}(h{} v{} s{} p{}{})",
            event.kind,
            event.time,
            event.hold,
            event.value,
            u8::from(event.scope),
            bits[0],
            bits[1]
        )
    };
    journey.iter().map(event).collect::<Vec<_>>().join(" ")
}
