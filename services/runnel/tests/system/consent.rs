//! People who deny consent to analytics: nothing is kept of them but how often what happened in which hour, answers say what they do not know, and the truth lies
//! within the bounds that they give.

use std::collections::BTreeSet;

use runnel_client::{
    Client,
    proto::{
        catalog::v1::{
            Counting, DefineConversionRequest, EventRule, SessionRule, VisitRule, rule,
            session_rule::AtLeast, visit_rule::Visit,
        },
        event::v1::{Consent, ConsentState, Event},
        funnel::v1::{
            AnyOrderGroup, Exclusion, FunnelDefinition, Occurrence, QueryFunnelRequest, QueryFunnelResponse,
            Reentry, Step, query_funnel_request,
        },
        insight::v1::{
            Interval, QueryConversionsRequest, QueryConversionsResponse, QueryFrequencyRequest,
            QueryPagesRequest, QueryRetentionRequest, QuerySessionsRequest, QueryTrendRequest,
        },
        query::v1::{
            Bounds, Comparison, Dimension, EventMatch, Operator, Predicate, Selector, TimeRange,
            predicate::Node, selector::Column,
        },
    },
};
use runnel_harness::Deployment;
use tonic::transport::Channel;

use crate::{
    places::everywhere,
    scan,
    server::{Random, conversion},
};

everywhere!(consent);

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
const WORLDS: u64 = 6;

fn named(event: &str) -> EventMatch {
    EventMatch { event: event.to_owned(), ..EventMatch::default() }
}

/// An event of a visitor who was there before.
fn returning(event: &str) -> EventMatch {
    let column = Some(Selector { column: Some(Column::Dimension(Dimension::Visit as i32)) });
    let operator = Operator::Equal as i32;
    let comparison = Comparison { column, operator, values: vec![text("returning")] };
    EventMatch { r#where: Some(Predicate { node: Some(Node::Comparison(comparison)) }), ..named(event) }
}

/// The same events with and without what was denied. Some people deny everything, some part of what they do.
fn world(seed: u64) -> (Vec<Event>, Vec<Event>) {
    let mut random = Random(seed);
    let (mut truth, mut sent) = (Vec::new(), Vec::new());
    for person in 0..60 {
        let denies = [0, 0, 0, 100, 100, 30][random.below(6) as usize];
        for at in 0..1 + random.below(12) {
            let minute = random.below(3) as i64 * 24 * 60 + random.below(200) as i64;
            let event = Event {
                // Ids of events are a visitor's own: others have the same ones.
                event_id: format!("happening-{at}"),
                visitor_id: format!("person-{seed}-{person}"),
                time_ms: Some(START + minute * MINUTE + random.below(60_000) as i64),
                name: ["look", "cart", "buy", "leave"][random.below(4) as usize].to_owned(),
                ..Event::default()
            };
            truth.push(event.clone());
            let denied = random.below(100) < denies;
            let analytics = if denied { ConsentState::Denied } else { ConsentState::Granted } as i32;
            sent.push(Event { consent: Some(Consent { analytics, ..Consent::default() }), ..event });
        }
    }
    (truth, sent)
}

async fn tenant(server: &Deployment, name: &str, events: &[Event]) -> Client<Channel> {
    let (write, read) = server.tenant(name).await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    for batch in events.chunks(40) {
        writer.append(batch.to_vec(), None).await.unwrap();
    }
    // Copies, which count once whether they have a visitor or not.
    let outcome = writer.append(events[..30].to_vec(), None).await.unwrap().response;
    let denied =
        |event: &&Event| event.consent.is_some_and(|consent| consent.analytics() == ConsentState::Denied);
    assert_eq!(outcome.unobserved as usize, events[..30].iter().filter(denied).count());
    let on = |name: &str| rule::Rule::Event(EventRule { any_of: vec![named(name)] });
    let second = rule::Rule::Visit(VisitRule { visit: Some(Visit::Number(2)) });
    let returning = rule::Rule::Event(EventRule { any_of: vec![returning("buy")] });
    let long = rule::Rule::Session(SessionRule { at_least: Some(AtLeast::DurationMs(30 * MINUTE)) });
    for conversion in [
        conversion("looks", on("look"), Counting::EveryTime),
        conversion("buys", on("buy"), Counting::OnceASession),
        conversion("first cart", on("cart"), Counting::OnceAVisitor),
        conversion("stays", long, Counting::EveryTime),
        conversion("second visit", second, Counting::EveryTime),
        conversion("buys again", returning, Counting::EveryTime),
    ] {
        let request = DefineConversionRequest { conversion: Some(conversion), ..Default::default() };
        reader.catalog().define_conversion(request).await.unwrap();
    }
    reader
}

async fn conversions(reader: &Client<Channel>, range: TimeRange) -> QueryConversionsResponse {
    let request = QueryConversionsRequest { range: Some(range), ..QueryConversionsRequest::default() };
    reader.insight().query_conversions(request).await.unwrap().into_inner()
}

/// Funnels of which some lose visitors by what is done besides.
fn funnels() -> Vec<FunnelDefinition> {
    let step = |name: &str| Step { any_of: vec![named(name)], ..Step::default() };
    let plain = FunnelDefinition {
        steps: ["look", "cart", "buy"].map(step).to_vec(),
        window_ms: Some(DAY),
        ..FunnelDefinition::default()
    };
    let leaving = Exclusion { event: Some(named("leave")), ..Exclusion::default() };
    let excluded = FunnelDefinition { exclusions: vec![leaving], ..plain.clone() };
    let first = FunnelDefinition { reentry: Reentry::FirstEntry as i32, ..plain.clone() };
    let mut direct = plain.clone();
    direct.steps[1].direct = true;
    let mut ever = plain.clone();
    ever.steps[2].occurrence = Occurrence::FirstEver as i32;
    let any_order = vec![AnyOrderGroup { first: 1, last: 3 }];
    let any = FunnelDefinition { any_order, ..plain.clone() };
    let mut again = plain.clone();
    again.steps[2].any_of = vec![returning("buy")];
    let mut visits = plain.clone();
    visits.steps[1].any_of =
        vec![EventMatch { conversion: "second visit".to_owned(), ..EventMatch::default() }];
    vec![plain, excluded, first, direct, ever, any, again, visits]
}

async fn funnel(reader: &Client<Channel>, asked: &FunnelDefinition, range: TimeRange) -> QueryFunnelResponse {
    let request = QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(asked.clone())),
        range: Some(range),
        as_of_ms: Some(START + 9 * DAY),
        ..QueryFunnelRequest::default()
    };
    reader.funnel().query_funnel(request).await.unwrap().into_inner()
}

/// Where there are no bounds, what is observed is the truth.
fn within(bounds: Option<Bounds>, observed: f64, truth: f64, what: &str) {
    let bounds = bounds.unwrap_or(Bounds { low: observed, high: observed });
    assert!(bounds.low <= truth && truth <= bounds.high, "{what}: {truth} is not within {bounds:?}");
}

async fn consent(server: Deployment) {
    let mut persons = BTreeSet::new();
    for seed in 1..=WORLDS {
        let (truth, sent) = world(seed);
        let real = tenant(&server, &format!("truth-{seed}"), &truth).await;
        let seen = tenant(&server, &format!("seen-{seed}"), &sent).await;
        let denied =
            |event: &Event| event.consent.is_some_and(|consent| consent.analytics() == ConsentState::Denied);
        let of = |name: &str| sent.iter().filter(|event| denied(event) && event.name == name).count() as u64;
        let granted: BTreeSet<&String> =
            sent.iter().filter(|event| !denied(event)).map(|event| &event.visitor_id).collect();
        persons.extend(sent.iter().map(|event| event.visitor_id.clone()).filter(|id| !granted.contains(id)));
        for range in [
            TimeRange { from_ms: Some(START), until_ms: Some(START + 5 * DAY) },
            TimeRange { from_ms: Some(START + 45 * MINUTE), until_ms: Some(START + DAY + 100 * MINUTE) },
        ] {
            let whole = range.from_ms == Some(START);
            let (known, told) = (conversions(&real, range).await, conversions(&seen, range).await);
            assert!(told.visitors <= known.visitors && (!whole || told.visitors < known.visitors));
            for truth in &known.conversions {
                let name = &truth.conversion.as_ref().unwrap().name;
                let mut all = told.conversions.iter();
                let found = all.find(|one| one.conversion.as_ref().unwrap().name == *name).unwrap();
                let (visitors, events) = (found.visitors as f64, found.events as f64);
                within(found.visitors_with_unobserved, visitors, truth.visitors as f64, name);
                if ["stays", "second visit", "buys again"].contains(&name.as_str()) {
                    assert_eq!(
                        found.events_with_unobserved, None,
                        "one event may change any number of {name}"
                    );
                } else {
                    within(found.events_with_unobserved, events, truth.events as f64, name);
                }
                assert_eq!(truth.unobserved, None);
                if name == "looks" && whole {
                    let unobserved = found.unobserved.unwrap();
                    assert_eq!((unobserved.events, unobserved.certain), (of("look"), of("look")));
                    assert_eq!(found.events + unobserved.events, truth.events, "events are counted exactly");
                }
            }
            for asked in funnels() {
                let (known, told) = (funnel(&real, &asked, range).await, funnel(&seen, &asked, range).await);
                for (truth, found) in known.steps.iter().zip(&told.steps) {
                    let (observed, truth) = (found.reached as f64, truth.reached as f64);
                    within(found.reached_with_unobserved, observed, truth, &format!("{asked:?}"));
                }
                let rate = |answer: &QueryFunnelResponse| {
                    answer.totals.as_ref().unwrap().rate.as_ref().map_or(0.0, |rate| rate.point)
                };
                within(told.rate_with_unobserved, rate(&told), rate(&known), &format!("{asked:?}"));
                assert!(told.unobserved.unwrap().share > 0.0);
            }
        }
        let range = Some(TimeRange { from_ms: Some(START), until_ms: Some(START + 5 * DAY) });
        let request = QuerySessionsRequest { range, ..QuerySessionsRequest::default() };
        let sessions = seen.insight().query_sessions(request).await.unwrap().into_inner();
        let all = sent.iter().filter(|event| denied(event)).count() as u64;
        assert_eq!(sessions.unobserved.unwrap().events, all);
        assert_eq!(sessions.total.unwrap().events + all, sent.len() as u64);
        over_time(&seen, &sent, range).await;
    }
    // The tenants that know everything have them; of the others' own, nothing is left.
    assert!(!persons.is_empty());
    strictly(&server).await;
    besides(&server).await;
}

/// Where only what no step asks for is denied, steps that are told from sessions may have more visitors all the same.
async fn besides(server: &Deployment) {
    let (mut truth, mut sent) = world(WORLDS + 1);
    // Who returns, though of the first visit nothing is known.
    for (name, minutes) in [("leave", 10), ("look", 24 * 60), ("cart", 24 * 60 + 1), ("buy", 24 * 60 + 2)] {
        let event = Event {
            event_id: name.to_owned(),
            visitor_id: "person-who-returns".to_owned(),
            time_ms: Some(START + minutes * MINUTE),
            name: name.to_owned(),
            ..Event::default()
        };
        truth.push(event.clone());
        sent.push(event);
    }
    for event in &mut sent {
        let denied = event.name == "leave";
        let analytics = if denied { ConsentState::Denied } else { ConsentState::Granted } as i32;
        event.consent = Some(Consent { analytics, ..Consent::default() });
    }
    let real = tenant(server, "truth-besides", &truth).await;
    let seen = tenant(server, "seen-besides", &sent).await;
    let range = TimeRange { from_ms: Some(START), until_ms: Some(START + 5 * DAY) };
    let mut more = 0;
    for asked in funnels() {
        let (known, told) = (funnel(&real, &asked, range).await, funnel(&seen, &asked, range).await);
        for (truth, found) in known.steps.iter().zip(&told.steps) {
            let (observed, truth) = (found.reached as f64, truth.reached as f64);
            within(found.reached_with_unobserved, observed, truth, &format!("{asked:?}"));
            let of_sessions = asked.steps[2].any_of[0] == returning("buy");
            more += u32::from(of_sessions && truth > observed);
        }
    }
    assert!(more > 0, "no step that is told from sessions has more visitors in truth");
}

/// Each hour of a trend tells what is unobserved in it, and what others were in all; so do the other counts.
async fn over_time(seen: &Client<Channel>, sent: &[Event], range: Option<TimeRange>) {
    const HOUR: i64 = 60 * MINUTE;
    let denied =
        |event: &&Event| event.consent.is_some_and(|consent| consent.analytics() == ConsentState::Denied);
    let looks = sent.iter().filter(|event| event.name == "look").filter(denied);
    let mut expected = vec![0; (5 * DAY / HOUR) as usize];
    looks.for_each(|event| expected[((event.time_ms.unwrap() - START) / HOUR) as usize] += 1);
    let all: u64 = expected.iter().sum();
    let request = QueryTrendRequest {
        of: vec![named("look")],
        interval: Interval::Hour as i32,
        range,
        ..QueryTrendRequest::default()
    };
    let answer = seen.insight().query_trend(request).await.unwrap().into_inner();
    let found: Vec<u64> = answer.series[0].points.iter().map(|point| point.unobserved).collect();
    assert_eq!(found, expected);
    assert_eq!(answer.series[0].total.as_ref().unwrap().unobserved, all);
    let request = QueryRetentionRequest { first: Some(named("look")), range, ..Default::default() };
    assert_eq!(seen.insight().query_retention(request).await.unwrap().into_inner().unobserved, all);
    let request = QueryFrequencyRequest { of: Some(named("look")), range, ..Default::default() };
    assert_eq!(seen.insight().query_frequency(request).await.unwrap().into_inner().unobserved, all);
    let request = QueryPagesRequest { range, ..Default::default() };
    let pages = seen.insight().query_pages(request).await.unwrap().into_inner();
    assert_eq!(pages.unobserved, sent.iter().filter(denied).count() as u64);
}

/// Whoever denied consent is nowhere.
async fn strictly(server: &Deployment) {
    let denied: Vec<Event> = (0..50)
        .map(|at| Event {
            event_id: if at % 2 == 0 { format!("secret-happening-{at}") } else { String::new() },
            visitor_id: format!("secret-person-{at}"),
            time_ms: Some(START + at * MINUTE),
            name: "look".to_owned(),
            properties: [("mail".to_owned(), text(&format!("secret-mail-{at}@example.org")))].into(),
            consent: Some(Consent { analytics: ConsentState::Denied as i32, ..Consent::default() }),
            ..Event::default()
        })
        .collect();
    let (write, read) = server.tenant("denied").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    let outcome = writer.append(denied.clone(), Some("denied".to_owned())).await.unwrap().response;
    assert_eq!((outcome.accepted, outcome.unobserved), (50, 50));
    assert!(writer.append(denied, Some("denied".to_owned())).await.unwrap().response.repeated);
    let range = TimeRange { from_ms: Some(START), until_ms: Some(START + DAY) };
    assert_eq!(conversions(&reader, range).await.visitors, 0);
    let texts: Vec<String> = ["secret-happening", "secret-person", "secret-mail"].map(str::to_owned).to_vec();
    let found = scan::found(server, &texts);
    assert!(found.is_empty(), "{found:?}");
}

fn text(value: &str) -> runnel_client::proto::event::v1::Value {
    use runnel_client::proto::event::v1::{Value, value::Kind};
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}
