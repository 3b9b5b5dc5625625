//! Segments: defined, counted, listed, explained; the same wherever things are, and right at every instant.

use runnel_client::{
    Client, Refusal, Transport,
    proto::{
        catalog::v1::{Conversion, Counting, DefineConversionRequest, EventRule, Part, Role, Stage, rule},
        event::v1::{Campaign, Event, Money, Value, value::Kind},
        funnel::v1::{DefineFunnelRequest, FunnelDefinition, Step, UnitState},
        identity::v1::{Identification, IdentifyRequest},
        query::v1::{Comparison, Dimension, EventMatch, Operator, Selector, selector::Column},
        segmentation::v1::{
            Absent, Condition, Conditions, ConversionsOf, CountSegmentRequest, DefineSegmentRequest,
            DeleteSegmentRequest, GetSegmentRequest, GetVisitorRequest, Happened, Has, InStage,
            ListMembersRequest, ListSegmentsRequest, ListTimelineRequest, Occurrence, PreviewSegmentRequest,
            Reached, SegmentDefinition, SegmentRef, StreamMembersRequest, WasMemberRequest, condition::Node,
            occurrence::What, reached, segment_ref,
        },
    },
};
use runnel_harness::Deployment;
use tonic::Code;

use crate::{places::everywhere, server::conversion};

everywhere!(segments);

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;
const MINUTE: i64 = 60_000;

fn event(visitor: &str, minute: i64, name: &str) -> Event {
    Event {
        visitor_id: visitor.to_owned(),
        time_ms: Some(START + minute * MINUTE),
        name: name.to_owned(),
        ..Event::default()
    }
}

fn twelve() -> Money {
    Money { micros: 12_000_000, currency: "EUR".to_owned() }
}

fn node(node: Node) -> Condition {
    Condition { node: Some(node) }
}

fn not(condition: Condition) -> Condition {
    node(Node::Not(Box::new(condition)))
}

fn all(parts: Vec<Condition>) -> Condition {
    node(Node::All(Conditions { parts }))
}

fn conversion_of(name: &str) -> Occurrence {
    let event = EventMatch { conversion: name.to_owned(), ..EventMatch::default() };
    Occurrence { what: Some(What::Event(event)) }
}

fn happened(name: &str) -> Condition {
    node(Node::Happened(Happened { any_of: vec![conversion_of(name)], ..Happened::default() }))
}

fn in_stage(stage: Stage) -> Condition {
    node(Node::InStage(InStage { stage: stage as i32, within_ms: None }))
}

fn named(name: &str) -> Option<SegmentRef> {
    Some(SegmentRef { segment: Some(segment_ref::Segment::Name(name.to_owned())) })
}

fn inline(condition: Condition) -> Option<SegmentRef> {
    let definition = SegmentDefinition { condition: Some(condition), ..SegmentDefinition::default() };
    Some(SegmentRef { segment: Some(segment_ref::Segment::Inline(definition)) })
}

async fn members<S: Transport>(client: &Client<S>, segment: Option<SegmentRef>, minute: i64) -> Vec<String> {
    let as_of_ms = Some(START + minute * MINUTE);
    let request = StreamMembersRequest { segment: segment.clone(), as_of_ms };
    let mut parts = client.segmentation().stream_members(request).await.unwrap().into_inner();
    let mut ids = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        ids.extend(part.visitor_ids);
    }
    let request = ListMembersRequest { segment: segment.clone(), as_of_ms, ..ListMembersRequest::default() };
    let listed = client.segmentation().list_members(request).await.unwrap().into_inner();
    assert_eq!((&listed.visitor_ids, &*listed.next_page_token), (&ids, ""));
    let request = CountSegmentRequest { segment, as_of_ms };
    let counted = client.segmentation().count_segment(request).await.unwrap().into_inner();
    assert_eq!(counted.members, ids.len() as u64);
    ids.sort_unstable();
    ids
}

async fn define<S: Transport>(client: &Client<S>, name: &str, condition: Condition) -> u64 {
    let definition = SegmentDefinition { condition: Some(condition), description: "For a test.".to_owned() };
    let request =
        DefineSegmentRequest { name: name.to_owned(), definition: Some(definition), expected_version: None };
    let saved = client.segmentation().define_segment(request).await.unwrap().into_inner();
    saved.segment.unwrap().version
}

/// What becomes of a definition that is not right: the reason and the field.
async fn refused<S: Transport>(client: &Client<S>, condition: Condition) -> (String, String) {
    let definition = SegmentDefinition { condition: Some(condition), ..SegmentDefinition::default() };
    let request = DefineSegmentRequest {
        name: "wrong".to_owned(),
        definition: Some(definition),
        expected_version: None,
    };
    let status = client.segmentation().define_segment(request).await.unwrap_err();
    let refusal = Refusal::from(status);
    (refusal.reason, refusal.violations.into_iter().map(|one| one.field).collect())
}

/// Visitors: a looks, puts into the cart, and pays; b leaves the cart; c looks only; d looks, puts into the cart, and reads about jobs; e came by e-mail.
async fn segments(server: Deployment) {
    let (write, read) = server.tenant("shop").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let client = Client::connect(&server.endpoint, &read).await.unwrap();
    let email = Campaign { medium: "email".to_owned(), ..Campaign::default() };
    let events = vec![
        event("a", 0, "look"),
        event("a", 5, "cart"),
        event("a", 30, "pay"),
        event("b", 0, "look"),
        Event { value: Some(twelve()), ..event("b", 10, "cart") },
        event("c", 0, "look"),
        event("c", 50, "look"),
        event("d", 0, "cart"),
        event("d", 20, "jobs"),
        Event { campaign: Some(email), ..event("e", 100, "look") },
    ];
    writer.append(events, None).await.unwrap();
    let on = |name: &str| {
        let event = EventMatch { event: name.to_owned(), ..EventMatch::default() };
        rule::Rule::Event(EventRule { any_of: vec![event] })
    };
    let micro = |name: &str, stage: Stage| {
        let one = conversion(name, on(name), Counting::EveryTime);
        Conversion { role: Role::Micro as i32, part: Part::Step as i32, stage: stage as i32, ..one }
    };
    let pay = conversion("pay", on("pay"), Counting::EveryTime);
    let pay = Conversion { role: Role::Macro as i32, part: 0, family: 0, stage: 0, ..pay };
    for conversion in [
        micro("look", Stage::Interest),
        micro("cart", Stage::Willingness),
        micro("jobs", Stage::Negative),
        pay,
    ] {
        let request = DefineConversionRequest { conversion: Some(conversion), expected_version: None };
        client.catalog().define_conversion(request).await.unwrap();
    }
    let steps = ["look", "cart", "pay"].map(|name| Step {
        any_of: vec![EventMatch { event: name.to_owned(), ..EventMatch::default() }],
        ..Step::default()
    });
    let definition = FunnelDefinition {
        steps: steps.to_vec(),
        window_ms: Some(60 * MINUTE),
        ..FunnelDefinition::default()
    };
    let request =
        DefineFunnelRequest { name: "way".to_owned(), definition: Some(definition), expected_version: None };
    client.funnel().define_funnel(request).await.unwrap();

    // A cart and no payment for 30 minutes.
    let abandoned = Absent {
        after: vec![conversion_of("cart")],
        without: vec![conversion_of("pay")],
        for_ms: 30 * MINUTE,
        within_ms: None,
    };
    assert_eq!(define(&client, "abandoned", node(Node::Absent(abandoned.clone()))).await, 1);
    assert_eq!(define(&client, "abandoned", node(Node::Absent(abandoned.clone()))).await, 1);
    assert_eq!(members(&client, named("abandoned"), 30).await, [""; 0]);
    assert_eq!(members(&client, named("abandoned"), 40).await, ["d"]);
    assert_eq!(members(&client, named("abandoned"), 41).await, ["b", "d"]);

    // By what conversions are, by stages, by funnels, by sessions, by other segments.
    let willing =
        ConversionsOf { role: Role::Micro as i32, stage: Stage::Willingness as i32, ..Default::default() };
    let willing = Occurrence { what: Some(What::Conversions(willing)) };
    let willing = node(Node::Happened(Happened { any_of: vec![willing], ..Happened::default() }));
    assert_eq!(members(&client, inline(willing.clone()), 200).await, ["a", "b", "d"]);
    let stages = [Stage::Interest, Stage::Engagement, Stage::Willingness, Stage::Negative];
    let mut found = Vec::new();
    for stage in stages {
        found.push(members(&client, inline(in_stage(stage)), 200).await.join(""));
    }
    assert_eq!(found, ["ce", "", "ab", "d"]);
    let reached = |step: u32, not_step: u32, states: &[UnitState]| {
        node(Node::Reached(Box::new(Reached {
            funnel: Some(reached::Funnel::Name("way".to_owned())),
            step,
            not_step,
            states: states.iter().map(|state| *state as i32).collect(),
            within_ms: None,
        })))
    };
    assert_eq!(members(&client, inline(reached(0, 0, &[])), 200).await, ["a"]);
    assert_eq!(members(&client, inline(reached(2, 3, &[])), 200).await, ["b"]);
    assert_eq!(members(&client, inline(reached(1, 2, &[])), 200).await, ["c", "e"]);
    assert_eq!(members(&client, inline(reached(1, 3, &[UnitState::Open])), 60).await, ["b", "c"]);
    assert_eq!(members(&client, inline(reached(1, 3, &[UnitState::Open])), 200).await, [""; 0]);
    let channel = Comparison {
        column: Some(Selector { column: Some(Column::Dimension(Dimension::LastChannel as i32)) }),
        operator: Operator::Equal as i32,
        values: vec![Value { kind: Some(Kind::StringValue("Email".to_owned())) }],
    };
    let by_mail = node(Node::Has(Has { value: Some(channel), touch: 0 }));
    assert_eq!(members(&client, inline(by_mail.clone()), 200).await, ["e"]);
    let rest = all(vec![not(node(Node::Segment("abandoned".to_owned()))), not(by_mail)]);
    define(&client, "rest", rest).await;
    assert_eq!(members(&client, named("rest"), 200).await, ["a", "c"]);

    // A zero is never silent.
    let nothing = Occurrence {
        what: Some(What::Event(EventMatch { event: "lok".to_owned(), ..EventMatch::default() })),
    };
    let nothing = node(Node::Happened(Happened { any_of: vec![nothing], ..Happened::default() }));
    let request = CountSegmentRequest { segment: inline(nothing), as_of_ms: Some(START + 200 * MINUTE) };
    let counted = client.segmentation().count_segment(request).await.unwrap().into_inner();
    assert_eq!(counted.members, 0);
    assert!(counted.provenance.unwrap().notes[0].contains("no event named \"lok\""));

    // Whether, and why.
    let request = WasMemberRequest {
        segment: named("rest"),
        visitor_id: "d".to_owned(),
        at_ms: Some(START + 200 * MINUTE),
    };
    let told = client.segmentation().was_member(request).await.unwrap().into_inner();
    let conditions: Vec<(&str, bool)> =
        told.conditions.iter().map(|one| (one.field.as_str(), one.holds)).collect();
    assert!(!told.member);
    assert_eq!(
        conditions,
        [
            ("segment.name.condition.all[0].not.segment[abandoned].condition.absent", true),
            ("segment.name.condition.all[1].not.has", false)
        ]
    );
    let request = PreviewSegmentRequest {
        segment: named("abandoned"),
        as_of_ms: Some(START + 200 * MINUTE),
        compare_with: vec!["rest".to_owned()],
        since_ms: Some(165 * MINUTE),
        examples: 0,
    };
    let shown = client.segmentation().preview_segment(request).await.unwrap().into_inner();
    let churn = shown.churn.unwrap();
    assert_eq!((shown.members, shown.visitors, shown.overlaps[0].both), (2, 5, 0));
    assert_eq!((churn.members_before, churn.left, churn.joined), (1, 0, 1));

    // One visitor: where it stands, and what it did.
    let ask = async |id: &str, minute: i64| {
        let request = GetVisitorRequest {
            visitor_id: id.to_owned(),
            as_of_ms: Some(START + minute * MINUTE),
            segments: vec!["rest".to_owned(), "abandoned".to_owned()],
            funnels: vec!["way".to_owned()],
            values: true,
        };
        client.segmentation().get_visitor(request).await.unwrap().into_inner()
    };
    let b = ask("b", 41).await;
    let session = b.session.as_ref().unwrap();
    assert_eq!((b.events, b.sessions, b.last_ms), (2, 1, Some(START + 10 * MINUTE)));
    assert_eq!((session.open, session.events, session.number), (false, 2, 1));
    assert!(
        ask("b", 40).await.session.unwrap().open,
        "30 minutes after the last event one more would belong to it"
    );
    let conversions: Vec<(&str, u64, i64)> =
        b.conversions.iter().map(|one| (one.name.as_str(), one.times, one.last_ms - START)).collect();
    assert_eq!(conversions, [("cart", 1, 10 * MINUTE), ("look", 1, 0)]);
    assert_eq!(b.stage(), Stage::Willingness);
    assert_eq!(b.segments.iter().map(|one| one.member).collect::<Vec<_>>(), [false, true]);
    let unit = &b.funnels[0].units[0];
    assert_eq!((unit.step, &*unit.label, unit.state()), (2, "cart", UnitState::Open));
    assert_eq!((unit.entered_ms, unit.ends_ms), (START, Some(START + 60 * MINUTE)));
    assert_eq!(unit.value, Some(twelve()));
    assert_eq!(ask("b", 9).await.funnels[0].units[0].value, None, "nothing was worth anything yet");
    assert_eq!(ask("b", 61).await.funnels[0].units[0].state(), UnitState::Dropped);
    assert_eq!(ask("e", 200).await.session.unwrap().channel, "Email");
    assert_eq!(ask("d", 200).await.stage(), Stage::Negative);
    for (nobody, minute) in [(ask("nobody", 200).await, 200), (ask("b", 0).await, 0)] {
        assert_eq!((nobody.events, nobody.first_ms, nobody.session), (0, None, None), "{minute}");
        assert!(nobody.funnels[0].units.is_empty() && !nobody.segments[0].member);
    }
    let (mut told, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTimelineRequest {
            visitor_id: "a".to_owned(),
            as_of_ms: page_token.is_empty().then_some(START + 200 * MINUTE),
            page_size: 2,
            page_token,
        };
        let page = client.segmentation().list_timeline(request).await.unwrap().into_inner();
        told.extend(
            page.entries
                .into_iter()
                .map(|one| (one.time_ms - START, one.event, one.session, one.conversions)),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let entry = |minute: i64, name: &str| (minute * MINUTE, name.to_owned(), 1, vec![name.to_owned()]);
    assert_eq!(told, [entry(30, "pay"), entry(5, "cart"), entry(0, "look")]);

    // Who turns out to be one person is one member, at every instant.
    let identification =
        Identification { anonymous_id: "b".to_owned(), known_id: "a".to_owned(), time_ms: Some(START) };
    writer.identity().identify(IdentifyRequest { identifications: vec![identification] }).await.unwrap();
    assert_eq!(members(&client, named("abandoned"), 200).await, ["d"]);
    assert_eq!(members(&client, inline(happened("look")), 200).await, ["a", "c", "e"]);
    // What comes late counts as if it had been in time.
    writer.append(vec![event("d", 25, "pay")], None).await.unwrap();
    assert_eq!(members(&client, named("abandoned"), 200).await, [""; 0]);

    // Definitions: versions, and what is refused.
    assert_eq!(define(&client, "abandoned", happened("jobs")).await, 2);
    let get = |version| GetSegmentRequest { name: "abandoned".to_owned(), version };
    let first = client.segmentation().get_segment(get(1)).await.unwrap().into_inner().segment.unwrap();
    assert_eq!(first.definition.unwrap().condition.unwrap(), node(Node::Absent(abandoned.clone())));
    let listed = client.segmentation().list_segments(ListSegmentsRequest::default()).await.unwrap();
    let names: Vec<(String, u64)> =
        listed.into_inner().segments.into_iter().map(|one| (one.name, one.version)).collect();
    assert_eq!(names, [("abandoned".to_owned(), 2), ("rest".to_owned(), 1)]);
    let at = |reason: &str, field: &str| (reason.to_owned(), format!("definition.condition{field}"));
    let wrong = |absent: Absent| node(Node::Absent(absent));
    for (condition, expected) in [
        (happened("nothing"), at("CONVERSION_UNKNOWN", ".happened.any_of[0].event.conversion")),
        (node(Node::Segment("nothing".to_owned())), at("SEGMENT_UNKNOWN", ".segment")),
        (node(Node::Segment("wrong".to_owned())), at("SEGMENT_INVALID", ".segment")),
        (all(Vec::new()), at("SEGMENT_INVALID", ".all")),
        (wrong(Absent { for_ms: 0, ..abandoned.clone() }), at("NUMBER_OUT_OF_RANGE", ".absent.for_ms")),
        (
            wrong(Absent { within_ms: Some(MINUTE), ..abandoned.clone() }),
            at("SEGMENT_INVALID", ".absent.within_ms"),
        ),
        (wrong(Absent { without: Vec::new(), ..abandoned }), at("SEGMENT_INVALID", ".absent.without")),
        (in_stage(Stage::Unspecified), at("FIELD_MISSING", ".in_stage.stage")),
        (reached(4, 0, &[]), at("SEGMENT_INVALID", ".reached.step")),
        (reached(2, 2, &[]), at("SEGMENT_INVALID", ".reached.not_step")),
        (all(vec![all(vec![Condition::default()])]), at("SEGMENT_INVALID", ".all[0].all[0]")),
        ((0..8).fold(happened("pay"), |inner, _| not(inner)), { at("SEGMENT_INVALID", &".not".repeat(8)) }),
    ] {
        assert_eq!(refused(&client, condition).await, expected);
    }
    let request = DeleteSegmentRequest { name: "abandoned".to_owned() };
    client.segmentation().delete_segment(request.clone()).await.unwrap();
    assert_eq!(client.segmentation().delete_segment(request).await.unwrap_err().code(), Code::NotFound);
    let request = CountSegmentRequest { segment: named("rest"), as_of_ms: None };
    let status = client.segmentation().count_segment(request).await.unwrap_err();
    assert_eq!(Refusal::from(status).reason, "SEGMENT_UNKNOWN");
}
