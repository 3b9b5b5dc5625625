//! Durable counts: the same as those from journeys, whatever came late, was joined or was defined anew; and every change of the past is told.

use std::collections::BTreeMap;

use runnel::{
    node::{Node, NodeOptions},
    target::{Wire, over},
};
use runnel_chassis::Clock;
use runnel_client::{
    Client,
    proto::{
        catalog::v1::{
            ApplyCatalogRequest, CatalogDocument, Counting, DefineConversionRequest, EventRule, SessionRule,
            Settings, VisitRule, rule, session_rule::AtLeast, visit_rule::Visit,
        },
        event::v1::{Consent, Event, Money, OffSite, Value, value::Kind},
        identity::v1::{Identification, IdentifyRequest, MergeRequest},
        insight::v1::{
            Counts, Interval, ListRestatementsRequest, QueryTrendRequest, QueryTrendResponse, Restatement,
            RestatementCause as Cause,
        },
        query::v1::{Dimension, EventMatch, Selector, Split, TimeRange, selector::Column},
        subject::v1::EraseRequest,
    },
};
use runnel_harness::Deployment;
use runnel_model::TenantName;

use crate::{
    places::everywhere,
    server::{Random, conversion},
};

everywhere!(restated);

/// 2026-01-05T00:00:00Z, a Monday.
const START: i64 = 1_767_571_200_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
const DAYS: u64 = 40;

fn named(event: &str) -> EventMatch {
    EventMatch { event: event.to_owned(), ..EventMatch::default() }
}

fn on(events: &[&str]) -> rule::Rule {
    rule::Rule::Event(EventRule { any_of: events.iter().map(|name| named(name)).collect() })
}

const NAMES: [&str; 5] = ["back", "bought", "cart", "long", "second"];

fn catalogue() -> CatalogDocument {
    let long = rule::Rule::Session(SessionRule { at_least: Some(AtLeast::DurationMs(20 * MINUTE)) });
    let second = rule::Rule::Visit(VisitRule { visit: Some(Visit::Number(2)) });
    let back = rule::Rule::Visit(VisitRule { visit: Some(Visit::ReturningWithinMs(3 * DAY)) });
    CatalogDocument {
        conversions: vec![
            conversion("back", back, Counting::EveryTime),
            conversion("bought", on(&["buy"]), Counting::OnceAVisitor),
            conversion("cart", on(&["cart"]), Counting::OnceASession),
            conversion("long", long, Counting::EveryTime),
            conversion("second", second, Counting::EveryTime),
        ],
        settings: Some(Settings { time_zone: "Europe/Berlin".to_owned(), ..Settings::default() }),
        ..CatalogDocument::default()
    }
}

fn event(random: &mut Random, days: std::ops::Range<u64>, id: usize) -> Event {
    // Many of them shortly before or after midnight.
    let day = days.start + random.below(days.end - days.start);
    let minute = match random.below(3) {
        0 => 23 * 60 + random.below(60),
        1 => random.below(60),
        _ => random.below(24 * 60),
    };
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let mut properties = BTreeMap::new();
    if random.below(3) == 0 {
        properties
            .insert("channel".to_owned(), text(["Email", "Direct", "Referral"][random.below(3) as usize]));
    }
    if random.below(4) == 0 {
        properties.insert("device".to_owned(), text(["mobile", "desktop"][random.below(2) as usize]));
    }
    let denied = (random.below(12) == 0).then(|| Consent { analytics: 2, ..Consent::default() });
    let off_site = if random.below(8) == 0 { OffSite::Call } else { OffSite::Unspecified };
    let value = (random.below(2) == 0)
        .then(|| Money { micros: random.below(100) as i64, currency: "EUR".to_owned() });
    Event {
        event_id: format!("e{id}"),
        visitor_id: format!("v{}", random.below(12)),
        time_ms: Some(START + (day * 24 * 60 + minute) as i64 * MINUTE),
        name: ["cart", "buy", "look", "page_view"][random.below(4) as usize].to_owned(),
        properties: properties.into_iter().collect(),
        off_site: off_site as i32,
        consent: denied,
        value,
        ..Event::default()
    }
}

fn question(interval: Interval, dimension: Option<Dimension>, range: Option<TimeRange>) -> QueryTrendRequest {
    let of = |name: &&str| EventMatch { conversion: (*name).to_owned(), ..EventMatch::default() };
    let column = |dimension| Selector { column: Some(Column::Dimension(dimension as i32)) };
    QueryTrendRequest {
        of: NAMES.iter().map(of).collect(),
        interval: interval as i32,
        split: dimension.map(|dimension| Split { column: Some(column(dimension)), top: 20 }),
        range,
        buckets_only: true,
        ..QueryTrendRequest::default()
    }
}

async fn ask(client: &Client<Wire>, request: QueryTrendRequest) -> QueryTrendResponse {
    client.insight().query_trend(request).await.unwrap().into_inner()
}

/// Asks in both ways. Whether the first came from aggregates.
async fn both(client: &Client<Wire>, request: QueryTrendRequest, what: &str) -> bool {
    let kept = ask(client, request.clone()).await;
    let as_of_ms = kept.provenance.as_ref().map(|provenance| provenance.as_of_ms);
    let fresh = ask(client, QueryTrendRequest { as_of_ms, ..request }).await;
    assert!(!fresh.aggregated);
    assert_eq!(kept.buckets, fresh.buckets, "{what}");
    assert_eq!(kept.range, fresh.range, "{what}");
    assert_eq!(kept.series, fresh.series, "{what}");
    let told = |answer: &QueryTrendResponse| {
        let provenance = answer.provenance.clone().unwrap();
        (provenance.revision, provenance.notes, answer.time_zone.clone())
    };
    assert_eq!(told(&kept), told(&fresh), "{what}");
    kept.aggregated
}

/// Everything that was told of changes, the oldest first. It brings aggregates up to date.
async fn restatements<S: runnel_client::Transport>(client: &Client<S>) -> Vec<Restatement> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListRestatementsRequest { page_size: 3, page_token };
        let answer = client.insight().list_restatements(request).await.unwrap().into_inner();
        all.extend(answer.restatements);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            all.reverse();
            return all;
        }
    }
}

/// The counts of every conversion and day, without those of nothing.
async fn days(client: &Client<Wire>) -> BTreeMap<(String, i64), Counts> {
    let range = Some(TimeRange { from_ms: Some(START - 2 * DAY), until_ms: Some(START + 60 * DAY) });
    let answer = ask(
        client,
        QueryTrendRequest { as_of_ms: Some(START + 90 * DAY), ..question(Interval::Day, None, range) },
    )
    .await;
    let mut days = BTreeMap::new();
    for series in answer.series {
        for (bucket, counts) in answer.buckets.iter().zip(series.points) {
            days.insert((series.label.clone(), bucket.from_ms.unwrap()), counts);
        }
    }
    days.retain(|_, counts| *counts != Counts::default());
    days
}

/// Mostly what happened of late, now and then something from long ago, or one event behind another: its visit gets longer, often beyond a midnight.
fn some_events(random: &mut Random, sent: &mut Vec<Event>) -> Vec<Event> {
    if random.below(3) == 0 {
        let before = sent[random.below(sent.len() as u64) as usize].clone();
        let time_ms = before.time_ms.map(|time_ms| time_ms + (20 + random.below(9) as i64) * MINUTE);
        let behind = Event { time_ms, visitor_id: before.visitor_id, ..event(random, 0..DAYS, sent.len()) };
        sent.push(behind.clone());
        return vec![behind];
    }
    let days = if random.below(3) == 0 { 0..DAYS } else { DAYS - 4..DAYS };
    let first = sent.len();
    let some: Vec<Event> =
        (0..1 + random.below(12) as usize).map(|at| event(random, days.clone(), first + at)).collect();
    sent.extend(some.iter().cloned());
    some
}

async fn change(
    client: &Client<Wire>,
    node: &Node,
    tenant: &TenantName,
    random: &mut Random,
    sent: &mut Vec<Event>,
) {
    match random.below(10) {
        0..4 => {
            let some = some_events(random, sent);
            client.append(some, None).await.unwrap();
        }
        4 => {
            let identification = Identification {
                anonymous_id: format!("v{}", 4 + random.below(8)),
                known_id: format!("v{}", random.below(4)),
                time_ms: Some(START + random.below(50) as i64),
            };
            let request = IdentifyRequest { identifications: vec![identification] };
            client.identity().identify(request).await.unwrap();
        }
        5 => {
            let (from_id, into_id) = (format!("v{}", random.below(4)), format!("v{}", random.below(4)));
            drop(client.identity().merge(MergeRequest { from_id, into_id }).await);
        }
        6 => {
            let events =
                [&["cart"][..], &["cart", "look"], &["look"], &["nothing"]][random.below(4) as usize];
            let counting = [Counting::OnceASession, Counting::EveryTime][random.below(2) as usize];
            let conversion = Some(conversion("cart", on(events), counting));
            let request = DefineConversionRequest { conversion, ..DefineConversionRequest::default() };
            client.catalog().define_conversion(request).await.unwrap();
        }
        7 => node.settle(tenant).await,
        8 if random.below(3) == 0 => {
            // What is sent of this person afterwards is refused: it happened before.
            let visitor_id = format!("v{}", random.below(12));
            client.subject().erase(EraseRequest { visitor_id }).await.unwrap();
        }
        _ => drop(restatements(client).await),
    }
}

/// Counts are made while more and more comes that they may know or not.
async fn change_meanwhile(client: &Client<Wire>, random: &mut Random, sent: &mut Vec<Event>) {
    let batches: Vec<Vec<Event>> = (0..4).map(|_| some_events(random, sent)).collect();
    let appended = async {
        for batch in batches {
            client.append(batch, None).await.unwrap();
        }
    };
    let made = async {
        for _ in 0..4 {
            drop(restatements(client).await);
        }
    };
    tokio::join!(appended, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_midnight_changes_the_day_before() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), NodeOptions::default(), Clock::default()).await.unwrap();
    let tenant = TenantName::parse("shop").unwrap();
    node.ensure_tenant(&tenant).await.unwrap();
    let client = over(node.trusted(&tenant)).unwrap();
    let request = ApplyCatalogRequest { document: Some(catalogue()), ..ApplyCatalogRequest::default() };
    client.catalog().apply_catalog(request).await.unwrap();
    // In Berlin it is ten minutes before midnight.
    let before = Event {
        event_id: "before".to_owned(),
        visitor_id: "v".to_owned(),
        time_ms: Some(START + 22 * 60 * MINUTE + 50 * MINUTE),
        name: "cart".to_owned(),
        ..Event::default()
    };
    client.append(vec![before.clone()], None).await.unwrap();
    assert!(restatements(&client).await.is_empty(), "what is counted first changes nothing");
    // The visit goes on, and only now it is known where it came from.
    let email = Value { kind: Some(Kind::StringValue("Email".to_owned())) };
    let behind = Event {
        event_id: "behind".to_owned(),
        time_ms: before.time_ms.map(|time_ms| time_ms + 20 * MINUTE),
        name: "look".to_owned(),
        properties: [("channel".to_owned(), email)].into(),
        ..before
    };
    client.append(vec![behind], None).await.unwrap();
    for dimension in [None, Some(Dimension::Channel), Some(Dimension::Device)] {
        drop(restatements(&client).await);
        let what = format!("{dimension:?}");
        assert!(both(&client, question(Interval::Day, dimension, None), &what).await, "{what}");
    }
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_equal_recomputation() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), NodeOptions::default(), Clock::default()).await.unwrap();
    let cases: u64 = std::env::var("RUNNEL_CASES").map_or(5_000, |cases| cases.parse().unwrap());
    let (mut aggregated, mut told) = (0, 0);
    let rounds = cases.div_ceil(500);
    for seed in 0..rounds {
        let mut random = Random(seed + 1);
        let tenant = TenantName::parse(&format!("shop-{seed}")).unwrap();
        node.ensure_tenant(&tenant).await.unwrap();
        let client = over(node.trusted(&tenant)).unwrap();
        let mut sent: Vec<Event> = (0..120).map(|at| event(&mut random, 0..DAYS, at)).collect();
        client.append(sent.clone(), None).await.unwrap();
        let request = ApplyCatalogRequest { document: Some(catalogue()), ..ApplyCatalogRequest::default() };
        client.catalog().apply_catalog(request).await.unwrap();
        assert!(restatements(&client).await.is_empty(), "what is counted first changes nothing");
        let mut known = days(&client).await;
        for step in 0..14 {
            change(&client, &node, &tenant, &mut random, &mut sent).await;
            // Else they are as they happen to be: made before, or at this moment, in the background.
            if random.below(2) == 0 {
                drop(restatements(&client).await);
            }
            let interval = [Interval::Day, Interval::Week, Interval::Month][random.below(3) as usize];
            let dimension =
                [None, Some(Dimension::Channel), Some(Dimension::Device)][random.below(3) as usize];
            let weeks = random.below(5) as i64;
            let monday = START - 60 * MINUTE + weeks * 7 * DAY;
            let range = TimeRange { from_ms: Some(monday), until_ms: Some(monday + 7 * DAY) };
            let range = [None, Some(range)][random.below(2) as usize];
            let what = format!("seed {seed}, step {step}, {interval:?}, {dimension:?}, {range:?}");
            aggregated += u32::from(both(&client, question(interval, dimension, range), &what).await);
        }
        for _ in 0..8 {
            change_meanwhile(&client, &mut random, &mut sent).await;
        }
        // What was told of every change leads from what was first counted to what is counted now.
        let all = restatements(&client).await;
        for (restatement, number) in all.iter().zip(1..) {
            assert_eq!(restatement.number, number);
            for cell in &restatement.cells {
                assert!(!cell.causes.is_empty());
                if cell.interval() == Interval::Day && cell.part.is_none() {
                    let place = (cell.conversion.clone(), cell.bucket.unwrap().from_ms.unwrap());
                    let before = known.remove(&place).unwrap_or_default();
                    assert_eq!(cell.before, Some(before), "seed {seed}, {place:?}");
                    known.extend(
                        cell.after
                            .clone()
                            .filter(|after| *after != Counts::default())
                            .map(|after| (place, after)),
                    );
                    told += 1;
                }
            }
        }
        assert_eq!(known, days(&client).await, "seed {seed}");
        for interval in [Interval::Day, Interval::Week, Interval::Month] {
            for dimension in [None, Some(Dimension::Channel), Some(Dimension::Device)] {
                // Also from long before the first event that is left.
                let month = |month: i64| Some(START - 60 * MINUTE - (4 - month) * DAY);
                let all = TimeRange { from_ms: month(-31), until_ms: month(31 + 28) };
                for range in [None, Some(all)] {
                    let what = format!("seed {seed}, at last, {interval:?}, {dimension:?}, {range:?}");
                    let aggregated = both(&client, question(interval, dimension, range), &what).await;
                    assert!(aggregated || (range.is_some() && interval == Interval::Week), "{what}");
                }
            }
        }
    }
    assert!(aggregated as u64 > rounds * 3, "only {aggregated} answers came from aggregates");
    assert!(told > rounds * 10, "only {told} changes");
    node.close().await;
}

/// Its length, the day that it begins with, causes, and events and visitors before and after.
type Told = (Interval, i64, Vec<Cause>, (u64, u64), (u64, u64));

/// A change of the past is told with its cells and its cause, in every place.
async fn restated(server: Deployment) {
    let (write, read) = server.tenant("shop").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let client = Client::connect(&server.endpoint, &read).await.unwrap();
    let at = |visitor: &str, day: i64, name: &str| Event {
        visitor_id: visitor.to_owned(),
        time_ms: Some(START + day * DAY + 12 * 60 * MINUTE),
        name: name.to_owned(),
        ..Event::default()
    };
    writer.append(vec![at("a", 0, "cart"), at("b", 0, "cart"), at("c", 9, "look")], None).await.unwrap();
    let document = CatalogDocument {
        conversions: vec![conversion("cart", on(&["cart"]), Counting::EveryTime)],
        ..CatalogDocument::default()
    };
    let request = ApplyCatalogRequest { document: Some(document), ..ApplyCatalogRequest::default() };
    client.catalog().apply_catalog(request).await.unwrap();
    assert!(restatements(&client).await.is_empty());
    let told = |found: &Restatement| -> Vec<Told> {
        let whole = found.cells.iter().filter(|cell| cell.part.is_none());
        let of = |counts: &Option<Counts>| counts.as_ref().map(|one| (one.events, one.visitors)).unwrap();
        whole
            .map(|cell| {
                let day = (cell.bucket.unwrap().from_ms.unwrap() - START).div_euclid(DAY);
                (cell.interval(), day, cell.causes().collect(), of(&cell.before), of(&cell.after))
            })
            .collect()
    };
    // Monday, its week, and January.
    let cells = |causes: &[Cause], before: [(u64, u64); 3], after: [(u64, u64); 3]| {
        let lengths = [(Interval::Day, 0), (Interval::Week, 0), (Interval::Month, -4)];
        let numbers = before.into_iter().zip(after);
        let all = lengths.into_iter().zip(numbers);
        all.map(|((interval, day), (before, after))| (interval, day, causes.to_vec(), before, after))
            .collect::<Vec<_>>()
    };
    let late = Event { event_id: "late".to_owned(), ..at("d", 0, "cart") };
    writer.append(vec![late], None).await.unwrap();
    let found = restatements(&client).await;
    assert_eq!(told(&found[0]), cells(&[Cause::Events], [(2, 2); 3], [(3, 3); 3]));
    let identification =
        Identification { anonymous_id: "a".to_owned(), known_id: "b".to_owned(), time_ms: Some(START) };
    let request = IdentifyRequest { identifications: vec![identification] };
    let alias = writer.identity().identify(request).await.unwrap().into_inner().alias;
    let found = restatements(&client).await;
    assert_eq!(told(&found[1]), cells(&[Cause::Identity], [(3, 3); 3], [(3, 2); 3]));
    assert_eq!(found[1].after.unwrap().alias, alias);
    let conversion = Some(conversion("cart", on(&["cart"]), Counting::OnceAVisitor));
    let request = DefineConversionRequest { conversion, ..DefineConversionRequest::default() };
    client.catalog().define_conversion(request).await.unwrap();
    let found = restatements(&client).await;
    assert_eq!(told(&found[2]), cells(&[Cause::Definition], [(3, 2); 3], [(2, 2); 3]));
    assert_eq!(found.len(), 3);
}
