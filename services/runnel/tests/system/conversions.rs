//! Conversions: declared, counted, declared otherwise; the same answers wherever things are and however events come.

use runnel_client::{
    Client, Refusal,
    proto::{
        catalog::v1::{
            ApplyCatalogRequest, CatalogAction, CatalogDocument, ChannelSettings, Conversion, Counting,
            DefineConversionRequest, DeleteConversionRequest, EventRule, GetCatalogRequest,
            PreviewConversionRequest, Role, Rule, SessionRule, Settings, VisitRule, rule,
            session_rule::AtLeast, visit_rule::Visit,
        },
        event::v1::{Campaign, Event, Money, OffSite, Value, value::Kind},
        funnel::v1::{
            BreakDown, FunnelDefinition, QueryFunnelRequest, Step, VerifyRequest, query_funnel_request,
        },
        insight::v1::{
            FrequencyOf, Interval, QueryConversionsRequest, QueryFrequencyRequest, QueryMicroToMacroRequest,
            QueryPagesRequest, QueryRetentionRequest, QuerySessionsRequest, QueryTrendRequest, SessionRow,
        },
        query::v1::{Dimension, EventMatch, Selector, Split, TimeRange, selector::Column, split_value},
    },
};
use runnel_harness::Deployment;
use tonic::transport::Channel;

use crate::{
    places::everywhere,
    server::{Random, conversion},
};

everywhere!(conversions);

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn event(visitor: &str, minute: i64, name: &str) -> Event {
    Event {
        visitor_id: visitor.to_owned(),
        time_ms: Some(START + minute * MINUTE),
        name: name.to_owned(),
        ..Event::default()
    }
}

fn page(visitor: &str, minute: i64, page: &str) -> Event {
    let mut event = event(visitor, minute, "page_view");
    event.properties.insert("page".to_owned(), Value { kind: Some(Kind::StringValue(page.to_owned())) });
    event
}

fn away(visitor: &str, minute: i64, name: &str, kind: OffSite) -> Event {
    Event { off_site: kind as i32, ..event(visitor, minute, name) }
}

/// Three visitors. The sessions of a: 0 to 5, 60 to 62; of b: 0 to 3, 70; of c: 10.
fn events() -> Vec<Event> {
    let paid = Money { micros: 30_000_000, currency: "EUR".to_owned() };
    vec![
        page("a", 0, "/home"),
        event("a", 1, "view_item"),
        event("a", 5, "add_to_cart"),
        page("a", 60, "/home"),
        Event { value: Some(paid), ..event("a", 62, "purchase") },
        away("a", 63, "refund", OffSite::Refund),
        page("b", 0, "/home"),
        page("b", 2, "/item"),
        page("b", 3, "/faq"),
        event("b", 3, "view_item"),
        away("b", 20, "email_opened", OffSite::EmailOpened),
        away("b", 40, "email_opened", OffSite::EmailOpened),
        event("b", 70, "view_item"),
        event("c", 10, "add_to_cart"),
        away("c", 12, "call", OffSite::Call),
    ]
}

fn named(event: &str) -> EventMatch {
    EventMatch { event: event.to_owned(), ..EventMatch::default() }
}

fn conversion_of(name: &str) -> EventMatch {
    EventMatch { conversion: name.to_owned(), ..EventMatch::default() }
}

fn at(events: &[&str]) -> rule::Rule {
    rule::Rule::Event(EventRule { any_of: events.iter().map(|name| named(name)).collect() })
}

fn catalogue() -> CatalogDocument {
    let session = |at_least| rule::Rule::Session(SessionRule { at_least: Some(at_least) });
    let second = rule::Rule::Visit(VisitRule { visit: Some(Visit::Number(2)) });
    let back = rule::Rule::Visit(VisitRule { visit: Some(Visit::ReturningWithinMs(HOUR)) });
    let purchase = Conversion {
        name: "purchase".to_owned(),
        role: Role::Macro as i32,
        rule: Some(Rule { rule: Some(at(&["purchase"])) }),
        ..Conversion::default()
    };
    CatalogDocument {
        conversions: vec![
            conversion("back", back, Counting::EveryTime),
            conversion("cart", at(&["add_to_cart"]), Counting::EveryTime),
            conversion("five_minutes", session(AtLeast::DurationMs(5 * MINUTE)), Counting::EveryTime),
            conversion("looks", at(&["view_item"]), Counting::OnceAVisitor),
            conversion("opened", at(&["email_opened"]), Counting::OnceASession),
            purchase,
            conversion("second_visit", second, Counting::EveryTime),
            conversion("three_pages", session(AtLeast::Pages(3)), Counting::EveryTime),
        ],
        ..CatalogDocument::default()
    }
}

/// Events, visitors and sessions of a conversion, with all visitors and sessions.
async fn counts(client: &Client<Channel>, name: &str, all: (u64, u64)) -> (u64, u64, u64) {
    let request =
        QueryConversionsRequest { conversions: vec![name.to_owned()], ..QueryConversionsRequest::default() };
    let answer = client.insight().query_conversions(request).await.unwrap().into_inner();
    assert_eq!((answer.visitors, answer.sessions), all);
    let found = &answer.conversions[0];
    (found.events, found.visitors, found.sessions)
}

async fn reached(client: &Client<Channel>, steps: &[&str], direct: bool) -> Vec<u64> {
    let step = |name: &&str| Step { any_of: vec![conversion_of(name)], direct, ..Step::default() };
    let definition =
        FunnelDefinition { steps: steps.iter().map(step).collect(), ..FunnelDefinition::default() };
    let request = QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        ..QueryFunnelRequest::default()
    };
    let answer = client.funnel().query_funnel(request).await.unwrap().into_inner();
    answer.steps.iter().map(|step| step.reached).collect()
}

async fn conversions(server: Deployment) {
    let (write, read) = server.tenant("shop").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let client = Client::connect(&server.endpoint, &read).await.unwrap();
    // In any order, some twice, in several batches.
    let mut events = events();
    let mut random = Random(7);
    events.extend_from_within(3..7);
    for at in (1..events.len()).rev() {
        events.swap(at, random.below(at as u64 + 1) as usize);
    }
    for batch in events.chunks(4) {
        writer.append(batch.to_vec(), None).await.unwrap();
    }
    apply(&client).await;
    count(&client).await;
    over_time(&client).await;
    sessions(&client).await;
    channels(&client, &writer).await;
    redefine(&client).await;
    refuse(&client).await;
    devices(&server).await;
}

async fn apply(client: &Client<Channel>) {
    let mut catalog = client.catalog();
    let apply = |dry_run| ApplyCatalogRequest {
        document: Some(catalogue()),
        dry_run,
        ..ApplyCatalogRequest::default()
    };
    let tried = catalog.apply_catalog(apply(true)).await.unwrap().into_inner();
    assert_eq!((tried.changes.len(), tried.version), (8, 0));
    let applied = catalog.apply_catalog(apply(false)).await.unwrap().into_inner();
    assert_eq!(applied.version, 1, "all at once");
    assert!(applied.changes.iter().all(|change| change.action() == CatalogAction::Added));
    let again = catalog.apply_catalog(apply(false)).await.unwrap().into_inner();
    assert_eq!(again.version, 1, "nothing changed");
    assert!(again.changes.iter().all(|change| change.action() == CatalogAction::Unchanged));
    let stored = catalog.get_catalog(GetCatalogRequest {}).await.unwrap().into_inner();
    assert_eq!(stored.document, Some(catalogue()));
}

async fn count(client: &Client<Channel>) {
    for (name, expected) in [
        ("back", (1, 1, 1)),
        ("cart", (2, 2, 2)),
        ("five_minutes", (1, 1, 1)),
        ("looks", (2, 2, 2)),
        // One in b's first session; the other lies outside sessions.
        ("opened", (2, 1, 1)),
        ("purchase", (1, 1, 1)),
        ("second_visit", (2, 2, 2)),
        ("three_pages", (1, 1, 1)),
    ] {
        assert_eq!(counts(client, name, (3, 5)).await, expected, "{name}");
    }
    let all = client.insight().query_conversions(QueryConversionsRequest::default()).await.unwrap();
    let all = all.into_inner();
    let first = &all.conversions[0];
    assert_eq!(first.conversion.as_ref().unwrap().name, "purchase", "macros first");
    assert_eq!(first.values, [Money { micros: 30_000_000, currency: "EUR".to_owned() }]);
    assert_eq!(first.of_visitors.as_ref().map(|rate| (rate.n, rate.point)), Some((3, 1.0 / 3.0)));

    assert_eq!(reached(client, &["looks", "cart", "purchase"], false).await, [2, 1, 1]);
    // Between a's look and purchase lies a conversion.
    assert_eq!(reached(client, &["looks", "purchase"], true).await, [2, 0]);
    assert_eq!(reached(client, &["cart", "second_visit", "purchase"], false).await, [2, 1, 1]);

    let request = QueryMicroToMacroRequest {
        r#macro: "purchase".to_owned(),
        horizon_ms: Some(HOUR),
        ..QueryMicroToMacroRequest::default()
    };
    let answer = client.insight().query_micro_to_macro(request).await.unwrap().into_inner();
    let told = |name: &str| {
        let found = answer.micros.iter().find(|one| one.micro.as_ref().unwrap().name == name).unwrap();
        let median = found.time_to_macro.as_ref().and_then(|times| times.p50_ms);
        (found.visitors, found.reached, median.map_or(-1, |ms| (ms + MINUTE / 2) / MINUTE))
    };
    assert_eq!(answer.micros.len(), 7);
    assert_eq!(told("second_visit"), (2, 1, 2));
    assert_eq!((told("cart").0, told("cart").1), (2, 1));
    // An hour and a minute after the first look.
    assert_eq!(told("looks"), (2, 0, -1));
}

async fn over_time(client: &Client<Channel>) {
    let range = Some(TimeRange { from_ms: Some(START), until_ms: Some(START + 2 * HOUR) });
    let request = QueryTrendRequest {
        of: vec![named("view_item"), conversion_of("cart"), named("page_view")],
        range,
        interval: Interval::Hour as i32,
        compare: true,
        ..QueryTrendRequest::default()
    };
    let answer = client.insight().query_trend(request.clone()).await.unwrap().into_inner();
    let events: Vec<Vec<u64>> =
        answer.series.iter().map(|series| series.points.iter().map(|point| point.events).collect()).collect();
    assert_eq!(events, [[2, 1], [2, 0], [4, 1]]);
    let total = answer.series[0].total.as_ref().unwrap();
    assert_eq!((total.events, total.visitors, total.sessions), (3, 2, 3), "b looks twice");
    assert_eq!(answer.series[0].previous_total.as_ref().unwrap().events, 0);
    assert_eq!(answer.time_zone, "UTC");
    // Midnight of New York is five hours later.
    let local = QueryTrendRequest {
        time_zone: "America/New_York".to_owned(),
        interval: Interval::Day as i32,
        ..request.clone()
    };
    let days = client.insight().query_trend(local).await.unwrap().into_inner().buckets;
    assert_eq!(days.len(), 1);
    let column = Some(Selector { column: Some(Column::Property("page".to_owned())) });
    let split =
        QueryTrendRequest { of: vec![named("page_view")], split: Some(Split { column, top: 1 }), ..request };
    let split = client.insight().query_trend(split).await.unwrap().into_inner();
    let totals: Vec<u64> = split.series.iter().map(|one| one.total.as_ref().unwrap().events).collect();
    assert_eq!(totals, [5, 3, 2], "all, /home, Other");

    let request =
        QueryRetentionRequest { range, interval: Interval::Hour as i32, ..QueryRetentionRequest::default() };
    let answer = client.insight().query_retention(request).await.unwrap().into_inner();
    let came: Vec<u64> =
        answer.cohorts[0].again.iter().map(|rate| (rate.point * rate.n as f64).round() as u64).collect();
    assert_eq!((answer.cohorts[0].visitors, came), (3, vec![3, 2]));
    assert_eq!(answer.cohorts[1].visitors, 0);

    for (per, expected) in [
        (FrequencyOf::Times, [(1, 1), (2, 1)].as_slice()),
        (FrequencyOf::Sessions, &[(1, 1), (2, 1)]),
        (FrequencyOf::Days, &[(1, 2)]),
    ] {
        let request = QueryFrequencyRequest {
            of: Some(named("view_item")),
            per: per as i32,
            ..QueryFrequencyRequest::default()
        };
        let answer = client.insight().query_frequency(request).await.unwrap().into_inner();
        let found: Vec<_> = answer.buckets.iter().map(|bucket| (bucket.times, bucket.visitors)).collect();
        assert_eq!(found, expected, "{per:?}");
    }
}

async fn sessions(client: &Client<Channel>) {
    let answer = client.insight().query_sessions(QuerySessionsRequest::default()).await.unwrap().into_inner();
    let total = answer.total.unwrap();
    assert_eq!((total.sessions, total.single_event, total.bounced), (5, 2, 4));
    assert_eq!((total.events, total.pages), (11, 5));
    assert_eq!((total.visitors, total.new_visitors, total.returning_visitors), (3, 3, 2));
    let visits: Vec<_> = total.visit_numbers.iter().map(|visit| (visit.number, visit.sessions)).collect();
    assert_eq!(visits, [(1, 3), (2, 2)]);
    // As of minute 61 a's second session has one event, and b's does not exist.
    let earlier =
        QuerySessionsRequest { as_of_ms: Some(START + 61 * MINUTE), ..QuerySessionsRequest::default() };
    let total = client.insight().query_sessions(earlier).await.unwrap().into_inner().total.unwrap();
    assert_eq!((total.sessions, total.single_event), (4, 2));

    let answer = client.insight().query_pages(QueryPagesRequest::default()).await.unwrap().into_inner();
    let pages: Vec<_> = answer
        .pages
        .iter()
        .map(|page| (page.page.clone().unwrap(), page.landings, page.exits, page.bounces))
        .collect();
    assert_eq!(pages, [("/home".to_owned(), 3, 2, 2), ("/faq".to_owned(), 0, 1, 0)]);
    assert_eq!((answer.sessions, answer.without_page), (3, 2));
}

/// Sessions by a dimension, most first.
async fn by_dimension(client: &Client<Channel>, dimension: Dimension) -> Vec<(String, u64)> {
    let column = Some(Selector { column: Some(Column::Dimension(dimension as i32)) });
    let split = Some(Split { column, top: 0 });
    let request = QuerySessionsRequest { split, ..QuerySessionsRequest::default() };
    let answer = client.insight().query_sessions(request).await.unwrap().into_inner();
    let row = |row: SessionRow| {
        let value = match row.value.and_then(|value| value.part) {
            Some(split_value::Part::Value(Value { kind: Some(Kind::StringValue(text)) })) => text,
            other => format!("{other:?}"),
        };
        (value, row.counts.unwrap_or_default().sessions)
    };
    answer.rows.into_iter().map(row).collect()
}

/// Devices are told from what was sent, else from the user agent; who is a bot shows.
async fn devices(server: &Deployment) {
    let (write, read) = server.tenant("devices").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    let phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/17.4 Mobile/15E148 Safari/604.1";
    let crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    let with = |visitor: &str, minute: i64, properties: &[(&str, &str)]| {
        let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let mut event = page(visitor, minute, "/home");
        let told = properties.iter().map(|(name, text)| ((*name).to_owned(), value(text)));
        event.properties.extend(told);
        event
    };
    let events = vec![
        with("phone", 0, &[("user_agent", phone)]),
        with("phone", 1, &[("user_agent", crawler)]),
        with("crawler", 0, &[("user_agent", crawler)]),
        with("kiosk", 0, &[("user_agent", phone), ("device", "kiosk"), ("browser", "Own")]),
        with("silent", 0, &[]),
    ];
    writer.append(events, None).await.unwrap();
    let unset = format!("{:?}", Some(split_value::Part::Unset(true)));
    for (dimension, expected) in [
        (Dimension::Device, [("bot", 1), ("kiosk", 1), ("mobile", 1), (&*unset, 1)].as_slice()),
        (Dimension::Os, &[("iOS", 2), (&*unset, 2)]),
        (Dimension::Browser, &[("Own", 1), ("Safari", 1), (&*unset, 2)]),
    ] {
        let found = by_dimension(&reader, dimension).await;
        let found: Vec<(&str, u64)> = found.iter().map(|(name, sessions)| (&**name, *sessions)).collect();
        assert_eq!(found, expected, "{dimension:?}");
    }
    // The phone that once said that it is a crawler is told by what it said first.
    let request = QuerySessionsRequest { without_bots: true, ..QuerySessionsRequest::default() };
    let total = reader.insight().query_sessions(request).await.unwrap().into_inner().total.unwrap();
    assert_eq!((total.sessions, total.visitors, total.events), (3, 3, 4));
    for (without_bots, visitors) in [(false, 4), (true, 3)] {
        let request = QueryTrendRequest {
            of: vec![named("page_view")],
            interval: Interval::Day as i32,
            without_bots,
            ..QueryTrendRequest::default()
        };
        let answer = reader.insight().query_trend(request).await.unwrap().into_inner();
        assert_eq!(answer.series[0].total.as_ref().unwrap().visitors, visitors);
        let step = || Step { any_of: vec![named("page_view")], ..Step::default() };
        let definition = FunnelDefinition { steps: vec![step(), step()], ..FunnelDefinition::default() };
        let request = QueryFunnelRequest {
            funnel: Some(query_funnel_request::Funnel::Inline(definition)),
            without_bots,
            ..QueryFunnelRequest::default()
        };
        let verified = reader.funnel().verify(VerifyRequest { query: Some(request) }).await.unwrap();
        let verified = verified.into_inner();
        assert!(verified.holds, "{:?}", verified.checks);
        let reached: Vec<u64> = verified.answer.unwrap().steps.iter().map(|step| step.reached).collect();
        assert_eq!(reached, [visitors, 1]);
    }
}

/// A fourth visitor comes twice, from a newsletter and from a search, and once without saying whence.
async fn channels(client: &Client<Channel>, writer: &Client<Channel>) {
    let campaign = Campaign { source: "news".to_owned(), medium: "email".to_owned(), ..Campaign::default() };
    let mut searched = page("d", 200, "/item");
    let referrer = Value { kind: Some(Kind::StringValue("https://www.google.com/".to_owned())) };
    searched.properties.insert("referrer".to_owned(), referrer);
    let events = vec![
        Event { campaign: Some(campaign), ..page("d", 0, "/home") },
        page("d", 1, "/item"),
        searched,
        page("d", 300, "/item"),
    ];
    writer.append(events, None).await.unwrap();
    let found = by_dimension(client, Dimension::Channel).await;
    let expected = [("Direct", 6), ("Email", 1), ("Organic Search", 1)];
    assert_eq!(found, expected.map(|(name, sessions)| (name.to_owned(), sessions)));
    let found = by_dimension(client, Dimension::FirstChannel).await;
    assert_eq!(found, [("Direct", 5), ("Email", 3)].map(|(name, sessions)| (name.to_owned(), sessions)));
    let found = by_dimension(client, Dimension::LastChannel).await;
    assert_eq!(found, [("Direct", 8)].map(|(name, sessions)| (name.to_owned(), sessions)));
    let found = by_dimension(client, Dimension::Visit).await;
    assert_eq!(found, [("new", 4), ("returning", 4)].map(|(name, sessions)| (name.to_owned(), sessions)));
    // A rule of the tenant stands before the usual ones, for all stored events, and takes nothing from what was sent.
    let settings = |rules: &str| {
        let channels = Some(ChannelSettings { rules: rules.to_owned(), ..ChannelSettings::default() });
        let settings = Some(Settings { channels, ..Settings::default() });
        let document = Some(CatalogDocument { settings, ..CatalogDocument::default() });
        ApplyCatalogRequest { document, ..ApplyCatalogRequest::default() }
    };
    let mut catalog = client.catalog();
    catalog.apply_catalog(settings("channel Own Letters: source = news")).await.unwrap();
    let found = by_dimension(client, Dimension::Channel).await;
    assert!(found.contains(&("Own Letters".to_owned(), 1)), "{found:?}");
    let status = catalog.apply_catalog(settings("channel Own: nonsense = 1")).await.unwrap_err();
    let refusal = Refusal::from(status);
    assert_eq!(refusal.violations[0].field, "document.settings.channels.rules");
    // Funnels are broken down by it as well.
    let step = |name: &str| Step { any_of: vec![named(name)], ..Step::default() };
    let definition = FunnelDefinition {
        steps: ["page_view", "page_view"].map(step).into(),
        ..FunnelDefinition::default()
    };
    let column = Some(Selector { column: Some(Column::Dimension(Dimension::Channel as i32)) });
    let request = QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        break_down: Some(BreakDown { column, ..BreakDown::default() }),
        ..QueryFunnelRequest::default()
    };
    let answer = client.funnel().query_funnel(request).await.unwrap().into_inner();
    assert_eq!(answer.rows.len(), 2, "{:?}", answer.rows);
}

async fn redefine(client: &Client<Channel>) {
    let mut catalog = client.catalog();
    let wider = conversion("cart", at(&["add_to_cart", "view_item"]), Counting::EveryTime);
    let preview = PreviewConversionRequest {
        conversion: Some(wider.clone()),
        examples: 2,
        ..PreviewConversionRequest::default()
    };
    let preview = catalog.preview_conversion(preview).await.unwrap().into_inner();
    assert_eq!((preview.events, preview.visitors, preview.sessions), (5, 3, 4));
    let latest: Vec<_> = preview
        .examples
        .iter()
        .map(|one| (one.visitor_id.as_str(), (one.time_ms - START) / MINUTE, one.event.as_str()))
        .collect();
    assert_eq!(latest, [("b", 70, "view_item"), ("c", 10, "add_to_cart")]);
    assert_eq!(counts(client, "cart", (4, 8)).await, (2, 2, 2), "a preview changes nothing");
    let define = DefineConversionRequest { conversion: Some(wider), expected_version: Some(1) };
    let defined = catalog.define_conversion(define.clone()).await.unwrap().into_inner().conversion.unwrap();
    assert_eq!(defined.version, 2);
    assert_eq!(
        counts(client, "cart", (4, 8)).await,
        (5, 3, 4),
        "all that was ever stored counts by the new rule"
    );
    let conflict = catalog.define_conversion(define).await.unwrap_err();
    assert_eq!(conflict.code(), tonic::Code::Aborted, "version 2 is the newest");
    let pruned =
        ApplyCatalogRequest { document: Some(catalogue()), prune: true, ..ApplyCatalogRequest::default() };
    let applied = catalog.apply_catalog(pruned).await.unwrap().into_inner();
    let changed: Vec<_> = applied
        .changes
        .iter()
        .filter(|change| change.action() != CatalogAction::Unchanged)
        .map(|change| (change.name.as_str(), change.action()))
        .collect();
    assert_eq!(changed, [("cart", CatalogAction::Changed)]);
}

async fn refuse(client: &Client<Channel>) {
    let mut catalog = client.catalog();
    let refused = |status: tonic::Status, field: &str, reason: &str| {
        let refusal = Refusal::from(status);
        let fields: Vec<&str> = refusal.violations.iter().map(|one| one.field.as_str()).collect();
        assert_eq!((fields, refusal.reason.as_str()), (vec![field], reason));
    };
    let bad = conversion("x", at(&[]), Counting::EveryTime);
    let define = DefineConversionRequest { conversion: Some(bad), expected_version: None };
    let status = catalog.define_conversion(define).await.unwrap_err();
    refused(status, "conversion.rule.event.any_of", "CONVERSION_INVALID");
    // What is there already counts towards the limit.
    let many = (0..1_000)
        .map(|more| conversion(&format!("more {more}"), at(&["add_to_cart"]), Counting::EveryTime))
        .collect();
    let document = Some(CatalogDocument { conversions: many, ..CatalogDocument::default() });
    let request = ApplyCatalogRequest { document, ..ApplyCatalogRequest::default() };
    let status = catalog.apply_catalog(request).await.unwrap_err();
    refused(status, "document.conversions", "LIMIT_REACHED");
    let request = DeleteConversionRequest { name: "never".to_owned() };
    refused(catalog.delete_conversion(request).await.unwrap_err(), "name", "NOT_FOUND");
    let request = QueryConversionsRequest {
        conversions: vec!["never".to_owned()],
        ..QueryConversionsRequest::default()
    };
    let status = client.insight().query_conversions(request).await.unwrap_err();
    refused(status, "conversions", "CONVERSION_UNKNOWN");
    let request =
        QueryMicroToMacroRequest { r#macro: "cart".to_owned(), ..QueryMicroToMacroRequest::default() };
    let status = client.insight().query_micro_to_macro(request).await.unwrap_err();
    refused(status, "macro", "CONVERSION_INVALID");
    let request = QueryTrendRequest {
        of: vec![named("view_item")],
        time_zone: "Mars/Olympus".to_owned(),
        ..QueryTrendRequest::default()
    };
    let status = client.insight().query_trend(request).await.unwrap_err();
    refused(status, "time_zone", "SETTINGS_INVALID");
}
