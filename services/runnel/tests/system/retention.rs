//! Keeping events for so long: what is older is refused, no byte of it is left, nothing is counted too low in silence, and counts by day, week and month stay.

use std::{collections::BTreeSet, time::Duration};

use runnel_chassis::Clock;
use runnel_client::{
    Client, Refusal,
    proto::{
        admin::v1::{GetRetentionRequest, KeyKind, Retention, SetRetentionRequest},
        catalog::v1::{ApplyCatalogRequest, CatalogDocument, Counting, EventRule, Settings, rule},
        event::v1::{Event, Value, value::Kind},
        funnel::v1::{FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request::Funnel},
        ingest::v1::{AppendResponse, Verdict},
        insight::v1::{
            Interval, ListRestatementsRequest, QueryConversionsRequest, QueryTrendRequest,
            QueryTrendResponse, RestatementCause as Cause,
        },
        query::v1::{Dimension, EventMatch, Selector, Split, TimeRange, selector::Column},
    },
};
use runnel_harness::Deployment;
use tonic::{Status, transport::Channel};

use crate::{places::everywhere, scan, server::conversion};

everywhere!(retention);

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// Days that have events, and for how many they are kept.
const DAYS: i64 = 75;
const KEPT: u32 = 35;

/// The time zone: its midnights are not those of UTC, and there is no summer time.
const ZONE: &str = "Asia/Kolkata";
const AHEAD_MS: i64 = 330 * MINUTE;

struct Shop {
    writer: Client<Channel>,
    reader: Client<Channel>,
    admin: Client<Channel>,
    /// The midnight that begins today.
    today: i64,
}

async fn shop(server: &Deployment) -> Shop {
    let (write, read) = server.tenant("shop").await.unwrap();
    let admin = server.key("shop", KeyKind::Admin).await.unwrap();
    let connect = async |key: &str| Client::connect(&server.endpoint, key).await.unwrap();
    // Not around midnight.
    let midnight = |now: i64| (now + AHEAD_MS).div_euclid(DAY) * DAY - AHEAD_MS;
    let mut now = Clock::default().now_ms();
    while midnight(now + 5 * MINUTE) != midnight(now) {
        tokio::time::sleep(Duration::from_secs(10)).await;
        now = Clock::default().now_ms();
    }
    Shop {
        writer: connect(&write).await,
        reader: connect(&read).await,
        admin: connect(&admin).await,
        today: midnight(now),
    }
}

impl Shop {
    /// When the day begins that was so many days ago.
    fn day(&self, ago: i64) -> i64 {
        self.today - ago * DAY
    }

    /// Each visitor comes on five days in a row, looks on all of them and buys on two.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for ago in 1..=DAYS {
            for back in 0..5 {
                let visitor = format!("visitor-of-day-{}", ago + back);
                let minutes = 60 + (ago * 37 + back * 11) % (20 * 60);
                let at = |name: &str, minutes: i64| Event {
                    event_id: format!("{name}-{ago}-{back}"),
                    visitor_id: visitor.clone(),
                    time_ms: Some(self.day(ago) + minutes * MINUTE),
                    name: name.to_owned(),
                    properties: [
                        ("page".to_owned(), text(&page(ago))),
                        ("channel".to_owned(), text(["Email", "Direct", "Referral"][back as usize % 3])),
                    ]
                    .into(),
                    ..Event::default()
                };
                events.push(at("look", minutes));
                if [0, 3].contains(&back) {
                    events.push(at("buy", minutes + 5));
                }
            }
        }
        events
    }

    async fn trend(
        &self,
        interval: Interval,
        (from_ms, until_ms): (Option<i64>, Option<i64>),
        split: bool,
    ) -> Result<QueryTrendResponse, Status> {
        let dimension = Column::Dimension(Dimension::Channel as i32);
        let request = QueryTrendRequest {
            of: ["bought", "first"].map(named).into(),
            interval: interval as i32,
            range: Some(TimeRange { from_ms, until_ms }),
            buckets_only: true,
            split: split.then_some(Split { column: Some(Selector { column: Some(dimension) }), top: 20 }),
            ..QueryTrendRequest::default()
        };
        Ok(self.reader.insight().query_trend(request).await?.into_inner())
    }

    async fn retention(&self) -> Retention {
        let answer = self.admin.admin().get_retention(GetRetentionRequest::default()).await.unwrap();
        answer.into_inner().retention.unwrap()
    }

    async fn append(&self, events: Vec<Event>) -> AppendResponse {
        self.writer.append(events, None).await.unwrap().response
    }

    async fn apply(&self, zone: &str) -> Result<(), Status> {
        let on = |event: &str| {
            let of = EventMatch { event: event.to_owned(), ..EventMatch::default() };
            rule::Rule::Event(EventRule { any_of: vec![of] })
        };
        let document = CatalogDocument {
            conversions: vec![
                conversion("bought", on("buy"), Counting::EveryTime),
                conversion("first", on("look"), Counting::OnceAVisitor),
            ],
            settings: Some(Settings { time_zone: zone.to_owned(), ..Settings::default() }),
            ..CatalogDocument::default()
        };
        let request = ApplyCatalogRequest { document: Some(document), ..ApplyCatalogRequest::default() };
        self.reader.catalog().apply_catalog(request).await.map(drop)
    }
}

/// A page that only this day has. No two begin alike, so that compression leaves each in one piece.
fn page(ago: i64) -> String {
    format!("{:08x}-page", (ago as u32).wrapping_mul(2_654_435_761))
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn named(conversion: &str) -> EventMatch {
    EventMatch { conversion: conversion.to_owned(), ..EventMatch::default() }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    Refusal::from(answer.unwrap_err()).reason
}

/// Events of the first thing that was asked for, by when their bucket begins.
fn points(answer: &QueryTrendResponse) -> Vec<(i64, u64)> {
    let starts = answer.buckets.iter().map(|bucket| bucket.from_ms.unwrap());
    starts.zip(answer.series[0].points.iter().map(|point| point.events)).collect()
}

fn notes(answer: &QueryTrendResponse) -> String {
    answer.provenance.as_ref().unwrap().notes.join(" ")
}

async fn retention(server: Deployment) {
    let shop = shop(&server).await;
    let events = shop.events();
    for batch in events.chunks(50) {
        shop.append(batch.to_vec()).await;
    }
    shop.apply(ZONE).await.unwrap();
    let intervals = [Interval::Day, Interval::Week, Interval::Month];
    let everything = (Some(shop.day(200)), Some(shop.day(-100)));
    let mut before = Vec::new();
    for interval in intervals {
        before.push(shop.trend(interval, (None, None), true).await.unwrap());
    }
    let few = SetRetentionRequest { days: Some(34), ..SetRetentionRequest::default() };
    assert_eq!(refused(shop.admin.admin().set_retention(few).await), "NUMBER_OUT_OF_RANGE");
    assert_eq!(shop.retention().await, Retention::default());

    let request = SetRetentionRequest { days: Some(KEPT), ..SetRetentionRequest::default() };
    shop.admin.admin().set_retention(request).await.unwrap();
    let kept_from_ms = shop.day(i64::from(KEPT) - 1);
    let expected = Retention {
        days: Some(KEPT),
        refused_before_ms: Some(kept_from_ms),
        kept_from_ms: Some(kept_from_ms),
        deleting: false,
    };
    while shop.retention().await != expected {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    counts_stay(&shop, &before).await;
    nothing_is_too_low(&shop, &events, kept_from_ms).await;
    late(&shop, kept_from_ms).await;
    counted_anew(&shop, kept_from_ms).await;
    // Days that cannot be counted anew stay the days that they are; other conversions are counted by what is kept.
    assert_eq!(refused(shop.apply("Europe/Berlin").await), "SETTINGS_INVALID");
    let mut since = shop.trend(Interval::Day, everything, false).await.unwrap();
    assert!(since.aggregated, "{}", notes(&since));
    let of = EventMatch { event: "look".to_owned(), ..EventMatch::default() };
    let rule = rule::Rule::Event(EventRule { any_of: vec![of] });
    let conversion = Some(conversion("bought", rule, Counting::EveryTime));
    let request =
        runnel_client::proto::catalog::v1::DefineConversionRequest { conversion, ..Default::default() };
    shop.reader.catalog().define_conversion(request).await.unwrap();
    let answer = shop.trend(Interval::Day, everything, false).await;
    assert_eq!(refused(answer), "NOT_AVAILABLE_AFTER_RETENTION");
    since = shop.trend(Interval::Day, (Some(kept_from_ms), everything.1), false).await.unwrap();
    assert!(points(&since)[0].1 > 2);

    let of_days = |days: std::ops::RangeInclusive<i64>| -> Vec<String> { days.map(page).collect() };
    let old = of_days(i64::from(KEPT)..=DAYS);
    let found = scan::found(&server, &old);
    assert!(found.is_empty(), "{found:?}");
    assert!(!scan::found(&server, &of_days(7..=8)).is_empty(), "what is kept is there, and is found");
}

/// Days, weeks and months are as they were, and say what they are.
async fn counts_stay(shop: &Shop, before: &[QueryTrendResponse]) {
    for (interval, known) in [Interval::Day, Interval::Week, Interval::Month].into_iter().zip(before) {
        let answer = shop.trend(interval, (None, None), true).await.unwrap();
        assert!(answer.aggregated && notes(&answer).contains("known by its counts only"), "{answer:?}");
        assert_eq!(points(&answer), points(known));
        assert_eq!(answer.range, known.range, "from the first event, though it is gone");
        for (series, old) in answer.series.iter().zip(&known.series) {
            let (ends, starts) = (answer.buckets.iter(), series.points.iter().zip(&old.points));
            for (bucket, (now, then)) in ends.zip(starts) {
                assert_eq!(now, then, "{interval:?} {bucket:?} {}", series.label);
            }
        }
    }
    let request = ListRestatementsRequest::default();
    let ledger = shop.reader.insight().list_restatements(request).await.unwrap().into_inner();
    assert!(ledger.restatements.is_empty(), "{ledger:?}");
}

/// What is counted anew is counted by what is known, and the ledger says so: who came before counts as new.
async fn counted_anew(shop: &Shop, kept_from_ms: i64) {
    let request = ListRestatementsRequest::default();
    let ledger = shop.reader.insight().list_restatements(request).await.unwrap().into_inner();
    let cells: Vec<_> = ledger.restatements.iter().flat_map(|one| &one.cells).collect();
    let firsts = cells.iter().filter(|cell| cell.conversion == "first" && cell.part.is_none());
    assert!(firsts.clone().count() > 0);
    for cell in firsts {
        let causes: Vec<Cause> = cell.causes().collect();
        assert!(causes.contains(&Cause::Retention) && !causes.contains(&Cause::Erasure), "{cell:?}");
        assert!(cell.bucket.unwrap().from_ms.unwrap() >= kept_from_ms, "{cell:?}");
    }
}

/// A question about what is not kept is refused; one that gives no beginning is told.
async fn nothing_is_too_low(shop: &Shop, events: &[Event], kept_from_ms: i64) {
    let range = |from_ms| Some(TimeRange { from_ms, until_ms: None });
    let step = |event: &str| Step {
        any_of: vec![EventMatch { event: event.to_owned(), ..EventMatch::default() }],
        ..Step::default()
    };
    let funnel = |from_ms| QueryFunnelRequest {
        funnel: Some(Funnel::Inline(FunnelDefinition {
            steps: vec![step("look"), step("buy")],
            ..FunnelDefinition::default()
        })),
        range: range(from_ms),
        ..QueryFunnelRequest::default()
    };
    let early = shop.reader.funnel().query_funnel(funnel(Some(kept_from_ms - 1))).await;
    assert_eq!(refused(early), "NOT_AVAILABLE_AFTER_RETENTION");
    let kept = |event: &&Event| event.time_ms.unwrap() >= kept_from_ms;
    let visitors: BTreeSet<&str> =
        events.iter().filter(kept).map(|event| event.visitor_id.as_str()).collect();
    for from_ms in [None, Some(kept_from_ms)] {
        let answer = shop.reader.funnel().query_funnel(funnel(from_ms)).await.unwrap().into_inner();
        assert_eq!(answer.steps[0].reached, visitors.len() as u64);
        let notes = answer.provenance.unwrap().notes.join(" ");
        assert!(notes.contains("is not kept"), "{notes}");
    }
    let conversions = |from_ms| QueryConversionsRequest { range: range(from_ms), ..Default::default() };
    let early = shop.reader.insight().query_conversions(conversions(Some(kept_from_ms - DAY))).await;
    assert_eq!(refused(early), "NOT_AVAILABLE_AFTER_RETENTION");
    let answer = shop.reader.insight().query_conversions(conversions(None)).await.unwrap().into_inner();
    let bought = events.iter().filter(kept).filter(|event| event.name == "buy").count();
    let counted = answer.conversions.iter().find(|one| one.conversion.as_ref().unwrap().name == "bought");
    assert_eq!(counted.unwrap().events, bought as u64);
    // Without the counts of buckets alone, a trend is as any other question; and a part of a day is not known.
    let part = shop.trend(Interval::Day, (Some(kept_from_ms - DAY / 2), None), false).await;
    assert_eq!(refused(part), "NOT_AVAILABLE_AFTER_RETENTION");
    let totals = QueryTrendRequest {
        of: vec![named("bought")],
        range: range(Some(kept_from_ms - DAY)),
        ..QueryTrendRequest::default()
    };
    assert_eq!(refused(shop.reader.insight().query_trend(totals).await), "NOT_AVAILABLE_AFTER_RETENTION");
    let compared = QueryTrendRequest {
        of: vec![named("bought")],
        range: range(Some(kept_from_ms + DAY)),
        compare: true,
        ..QueryTrendRequest::default()
    };
    let compared = shop.reader.insight().query_trend(compared).await;
    assert_eq!(refused(compared), "NOT_AVAILABLE_AFTER_RETENTION");
}

/// What happened before is refused, by itself; what comes late and is kept counts, but not in what was before.
async fn late(shop: &Shop, kept_from_ms: i64) {
    let at = |time_ms: i64, id: &str| Event {
        event_id: id.to_owned(),
        visitor_id: "somebody-late".to_owned(),
        time_ms: Some(time_ms),
        name: "buy".to_owned(),
        ..Event::default()
    };
    let intervals = [Interval::Day, Interval::Week, Interval::Month];
    let mut before = Vec::new();
    for interval in intervals {
        before.push(points(&shop.trend(interval, (None, None), false).await.unwrap()));
    }
    let outcome = shop.append(vec![at(kept_from_ms - 1, "too late"), at(kept_from_ms, "in time")]).await;
    assert_eq!((outcome.accepted, outcome.rejected), (1, 1));
    let verdict = &outcome.verdicts[0];
    assert_eq!((verdict.verdict(), &*verdict.reason, &*verdict.field), (Verdict::Late, "LATE", "time_ms"));
    for (interval, before) in intervals.into_iter().zip(before) {
        let after = shop.trend(interval, (None, None), false).await.unwrap();
        assert_eq!(
            notes(&after).contains("A week or month that began before"),
            interval != Interval::Day,
            "{after:?}"
        );
        for ((start, now), (_, then)) in points(&after).into_iter().zip(before) {
            // Weeks and months that begin before stay as they were.
            assert_eq!(now, then + u64::from(start == kept_from_ms), "{interval:?} {start}");
        }
    }
}
