//! The golden vectors, asked over a socket under every profile.

use std::collections::HashMap;

use runnel_client::{
    Client,
    proto::{
        event::v1::{Event, Value, value::Kind},
        funnel::v1::{
            AnyOrderGroup, BreakDown, Exclusion, ExclusionEffect, FunnelDefinition, Profile,
            QueryFunnelRequest, Step, Tie, VerifyRequest, break_down_row::Group, query_funnel_request,
        },
        query::v1::{EventMatch, Selector, selector::Column},
    },
};

use runnel_harness::Deployment;

use crate::places::everywhere;

/// Events as letters with seconds, window in seconds, steps, what is special, level under RUNNEL, POSTHOG, MIXPANEL and CLICKHOUSE; -1 is gone.
const VECTORS: &[(&str, i64, &str, &str, [i64; 4])] = &[
    ("A0 A30 B45 C75", 60, "ABC", "", [3, 3, 2, 3]),
    ("A0 A10 B20", 60, "AB", "", [2, 2, 2, 2]),
    ("A0 B60", 60, "AB", "", [2, 2, 2, 2]),
    ("A0 B61", 60, "AB", "", [1, 1, 1, 1]),
    ("A5 B5", 60, "AB", "", [2, 2, 2, 2]),
    ("B5 A5", 60, "AB", "", [2, 2, 2, 2]),
    ("A5 B5", 60, "AB", "strict", [1, 1, 1, 1]),
    ("A5", 60, "AA", "", [1, 1, 1, 2]),
    ("A0 A10", 50, "AA", "", [2, 2, 2, 2]),
    ("A0 A100", 50, "AA", "", [1, 1, 1, 2]),
    ("A1 B2 X3 C4", 60, "ABC", "", [3, 3, 3, 3]),
    ("A1 B2 X3 C4", 60, "ABC", "direct", [2, 2, 2, 2]),
    ("A1 C2 B3 C4", 60, "ABC", "", [3, 3, 3, 3]),
    ("A1 B2 A3 B4 C5", 60, "ABC", "", [3, 3, 3, 3]),
    ("A1 B2 X3 A4 B5 C6", 60, "ABC", "", [3, 3, 3, 3]),
    ("A1 B2 X3 A4 B5 C6", 60, "ABC", "direct", [3, 3, 2, 3]),
    ("A0 B10 A50 C65", 60, "ABC", "", [2, 2, 2, 2]),
    ("A0 B10 A50 C65", 60, "ABC", "any", [3, 3, 0, 3]),
    ("A0 B10 A50 B55 C65", 60, "ABC", "", [3, 3, 2, 3]),
    ("A1 A2 B2", 60, "AB", "", [2, 2, 2, 2]),
    ("A1 A2 B2", 60, "AB", "strict", [2, 2, 2, 2]),
    ("C1 B2 A3", 60, "ABC", "", [1, 1, 1, 1]),
    ("C1 B2 A3", 60, "ABC", "any", [3, 3, 0, 3]),
    ("B1", 60, "AB", "", [0, 0, 0, 0]),
    ("A0 X5 B10", 60, "AB", "exclude", [1, -1, 1, 1]),
    ("A0 X5 B10", 60, "AB", "remove", [-1, -1, -1, -1]),
    ("A0 X5 A10 B12", 60, "AB", "exclude", [2, 2, 1, 2]),
    ("A0 B5 A10 X12", 60, "AB", "exclude", [2, 2, 2, 2]),
    ("A0 A100 X105", 60, "AB", "exclude", [1, 1, 1, 1]),
    ("A0 B5 A10 X12 C15", 60, "ABC", "exclude12", [3, 3, 3, 3]),
    ("A0 X70", 60, "AB", "exclude", [1, 1, 1, 1]),
];

/// Each with the place of its level.
const PROFILES: [(Profile, usize); 6] = [
    (Profile::Runnel, 0),
    (Profile::Posthog, 1),
    (Profile::Mixpanel, 2),
    (Profile::Clickhouse, 3),
    // On whole seconds and with a window that is given, these count as RUNNEL does.
    (Profile::Amplitude, 0),
    (Profile::Ga4, 0),
];
const START: i64 = 1_700_000_000_000;

fn events(text: &str, visitor: &str) -> Vec<Event> {
    let event = |word: &str| Event {
        visitor_id: visitor.into(),
        name: word[..1].into(),
        time_ms: Some(START + word[1..].parse::<i64>().unwrap() * 1_000),
        ..Event::default()
    };
    text.split(' ').map(event).collect()
}

fn definition(window: i64, steps: &str, special: &str, profile: Profile) -> FunnelDefinition {
    let event = |name: &str| EventMatch { event: name.into(), ..EventMatch::default() };
    let step = |(at, name): (usize, char)| Step {
        any_of: vec![event(&name.to_string())],
        direct: special == "direct" && at > 0,
        ..Step::default()
    };
    let mut definition = FunnelDefinition {
        steps: steps.chars().enumerate().map(step).collect(),
        window_ms: Some(window * 1_000),
        profile: profile as i32,
        ..FunnelDefinition::default()
    };
    match special {
        "strict" => definition.set_tie(Tie::StrictlyAfter),
        "any" => definition.any_order = vec![AnyOrderGroup { first: 1, last: steps.len() as u32 }],
        "exclude" | "remove" | "exclude12" => {
            let before_step = if special == "exclude12" { 2 } else { 0 };
            definition.exclusions = vec![Exclusion { event: Some(event("X")), after_step: 1, before_step }];
        }
        _ => {}
    }
    if special == "remove" {
        definition.set_exclusion_effect(ExclusionEffect::RemoveVisitor);
    }
    definition
}

everywhere!(golden_vectors);

async fn golden_vectors(server: Deployment) {
    // One tenant a vector.
    for (at, &(text, window, steps, special, levels)) in VECTORS.iter().enumerate() {
        let (write, read) = server.tenant(&format!("vector-{at}")).await.unwrap();
        let client = Client::connect(&server.endpoint, &write).await.unwrap();
        client.append(events(text, "v"), None).await.unwrap();
        let reader = Client::connect(&server.endpoint, &read).await.unwrap();
        for (profile, at) in PROFILES {
            let level = levels[at];
            let request = QueryFunnelRequest {
                funnel: Some(query_funnel_request::Funnel::Inline(definition(
                    window, steps, special, profile,
                ))),
                ..QueryFunnelRequest::default()
            };
            let answer = reader.funnel().query_funnel(request).await;
            if profile == Profile::Mixpanel && special == "any" {
                let refused = answer.unwrap_err();
                assert!(refused.message().contains("grace"), "{refused:?}");
                continue;
            }
            let answer = answer.unwrap().into_inner();
            let totals = answer.totals.unwrap();
            let found = answer.steps.iter().map(|step| step.reached as i64).sum::<i64>();
            let found = if totals.removed > 0 { -1 } else { found };
            assert_eq!(found, level, "{text} w{window} {steps} {special} under {profile:?}");
        }
    }
    each_step(&server).await;
}

/// As GA4 breaks down: each step counts under the value at its own event.
async fn each_step(server: &Deployment) {
    let (write, read) = server.tenant("each-step").await.unwrap();
    let client = Client::connect(&server.endpoint, &write).await.unwrap();
    let on = |visitor: &str, text: &str, device: &str| Event {
        properties: HashMap::from([(
            "device".to_owned(),
            Value { kind: Some(Kind::StringValue(device.into())) },
        )]),
        ..events(text, visitor).remove(0)
    };
    let sent = vec![
        on("v", "A0", "phone"),
        on("v", "B5", "desktop"),
        on("w", "A1", "desktop"),
        events("A2", "x").remove(0),
    ];
    client.append(sent, None).await.unwrap();
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    let break_down = BreakDown {
        column: Some(Selector { column: Some(Column::Property("device".into())) }),
        ..BreakDown::default()
    };
    let definition = definition(60, "AB", "", Profile::Ga4);
    let request = QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition.clone())),
        break_down: Some(break_down),
        ..QueryFunnelRequest::default()
    };
    let answer = reader.funnel().query_funnel(request.clone()).await.unwrap().into_inner();
    let rows: Vec<_> = answer
        .rows
        .iter()
        .map(|row| {
            let totals = row.totals.clone().unwrap();
            let name = match &row.group {
                Some(Group::Value(Value { kind: Some(Kind::StringValue(text)) })) => text.clone(),
                other => format!("{other:?}"),
            };
            (name, row.reached.clone(), totals.entered, totals.converted, totals.dropped)
        })
        .collect();
    let unset = format!("{:?}", Some(Group::Unset(true)));
    assert_eq!(
        rows,
        [
            ("desktop".to_owned(), vec![1, 1], 1, 1, 1),
            ("phone".to_owned(), vec![1, 0], 1, 0, 0),
            (unset, vec![1, 0], 1, 0, 1),
        ]
    );
    let verified = reader.funnel().verify(VerifyRequest { query: Some(request) }).await.unwrap().into_inner();
    assert!(verified.checks.iter().all(|check| check.holds), "{:?}", verified.checks);
}
