//! Erasing a person: from the moment that it is answered everything is as if there had never been that person, and in the end no byte is left.

use std::time::Duration;

use runnel_chassis::Clock;
use runnel_client::{
    Client, Refusal,
    proto::{
        admin::v1::KeyKind,
        catalog::v1::{
            Conversion, DefineConversionRequest, EventRule, Family, Part, Role, Rule, Stage, rule,
        },
        event::v1::Event,
        identity::v1::{IdentityVerdict as Verdict, MergeRequest},
        ingest::v1::GetIngestReportRequest,
        insight::v1::{Interval, ListRestatementsRequest, QueryTrendRequest, RestatementCause as Cause},
        query::v1::{EventMatch, TimeRange},
        segmentation::v1::CountOpenSessionsRequest,
        subject::v1::{EraseRequest, ErasureState, ExportSubjectRequest, GetErasureRequest},
    },
};
use runnel_harness::Deployment;
use tonic::transport::Channel;

use crate::{
    identity::{PERSONS, START, answers, events, identification, identify, ids},
    places::everywhere,
    scan,
    server::Random,
};

everywhere!(erasure);

const DAY: i64 = 24 * 3_600_000;

fn is_gone(person: u64) -> bool {
    person % 5 == 2
}

fn person_of(event: &Event) -> u64 {
    event.visitor_id.split('-').nth(1).unwrap().parse().unwrap()
}

async fn who_is_who(writer: &Client<Channel>, admin: &Client<Channel>, persons: impl Iterator<Item = u64>) {
    for person in persons {
        for id in &ids(person)[1..] {
            let known = format!("customer-{person}");
            if id.starts_with("account") {
                let request = MergeRequest { from_id: id.clone(), into_id: known };
                admin.identity().merge(request).await.unwrap();
            } else {
                identify(writer, vec![identification(id, &known, START)]).await;
            }
        }
    }
}

struct Clients {
    writer: Client<Channel>,
    reader: Client<Channel>,
    admin: Client<Channel>,
    eraser: Client<Channel>,
}

async fn tenant(server: &Deployment, name: &str) -> Clients {
    let (write, read) = server.tenant(name).await.unwrap();
    let connect = async |key: &str| Client::connect(&server.endpoint, key).await.unwrap();
    let admin = server.key(name, KeyKind::Admin).await.unwrap();
    let erase = server.key(name, KeyKind::Erase).await.unwrap();
    Clients {
        writer: connect(&write).await,
        reader: connect(&read).await,
        admin: connect(&admin).await,
        eraser: connect(&erase).await,
    }
}

async fn define(reader: &Client<Channel>) {
    let of = EventMatch { event: "buy".to_owned(), ..EventMatch::default() };
    let bought = Conversion {
        name: "bought".to_owned(),
        role: Role::Micro as i32,
        part: Part::Step as i32,
        family: Family::Interaction as i32,
        stage: Stage::Engagement as i32,
        rule: Some(Rule { rule: Some(rule::Rule::Event(EventRule { any_of: vec![of] })) }),
        ..Conversion::default()
    };
    let request = DefineConversionRequest { conversion: Some(bought), ..Default::default() };
    reader.catalog().define_conversion(request).await.unwrap();
}

/// Events of a conversion by day, from aggregates where they are told to be made of them.
async fn bought(reader: &Client<Channel>, buckets_only: bool) -> Vec<u64> {
    let request = QueryTrendRequest {
        of: vec![EventMatch { conversion: "bought".to_owned(), ..EventMatch::default() }],
        range: Some(TimeRange { from_ms: Some(START), until_ms: Some(START + 5 * DAY) }),
        interval: Interval::Day as i32,
        buckets_only,
        ..QueryTrendRequest::default()
    };
    let answer = reader.insight().query_trend(request).await.unwrap().into_inner();
    answer.series[0].points.iter().map(|point| point.events).collect()
}

async fn open_sessions(reader: &Client<Channel>) -> u64 {
    let request = CountOpenSessionsRequest {};
    reader.segmentation().count_open_sessions(request).await.unwrap().into_inner().open_sessions
}

/// An event that just happened.
fn now(visitor: &str) -> Event {
    Event {
        visitor_id: visitor.to_owned(),
        time_ms: Some(Clock::default().now_ms()),
        name: "look".to_owned(),
        ..Event::default()
    }
}

async fn exported(eraser: &Client<Channel>, id: &str) -> (usize, Vec<Event>) {
    let request = ExportSubjectRequest { visitor_id: id.to_owned() };
    let mut parts = eraser.subject().export_subject(request).await.unwrap().into_inner();
    let (mut ids, mut events) = (0, Vec::new());
    while let Some(part) = parts.message().await.unwrap() {
        ids += part.identity.map_or(0, |identity| identity.ids.len());
        events.extend(part.events);
    }
    (ids, events)
}

async fn erasure(server: Deployment) {
    let mut random = Random(17);
    let without = tenant(&server, "without").await;
    let rest: Vec<Event> = events().into_iter().filter(|event| !is_gone(person_of(event))).collect();
    without.writer.append(rest.clone(), None).await.unwrap();
    without.writer.append(vec![now("customer-1")], None).await.unwrap();
    who_is_who(&without.writer, &without.admin, (0..PERSONS).filter(|person| !is_gone(*person))).await;
    define(&without.reader).await;
    let expected = answers(&without.reader).await;
    let expected_days = bought(&without.reader, false).await;

    let all = tenant(&server, "all").await;
    let batches: Vec<Vec<Event>> = events().chunks(11).map(<[Event]>::to_vec).collect();
    for (at, batch) in batches.iter().enumerate() {
        all.writer.append(batch.clone(), Some(format!("batch {at}"))).await.unwrap();
    }
    let there = vec![now("customer-1"), now("customer-2"), now("cookie-7-0")];
    all.writer.append(there, None).await.unwrap();
    who_is_who(&all.writer, &all.admin, 0..PERSONS).await;
    define(&all.reader).await;
    assert_ne!(answers(&all.reader).await, expected);
    bought(&all.reader, true).await;
    all.reader.insight().list_restatements(ListRestatementsRequest::default()).await.unwrap();
    assert_eq!(open_sessions(&all.reader).await, 3);

    let mut erasures = Vec::new();
    for person in (0..PERSONS).filter(|person| is_gone(*person)) {
        let ids = ids(person);
        let visitor_id = ids[random.below(ids.len() as u64) as usize].clone();
        let erased = all.eraser.subject().erase(EraseRequest { visitor_id }).await.unwrap().into_inner();
        assert_eq!(erased.ids as usize, ids.len());
        erasures.push(erased);
    }
    // At once, whatever is still to be deleted.
    assert_eq!(answers(&all.reader).await, expected);
    assert_eq!(bought(&all.reader, true).await, expected_days);
    assert_eq!(open_sessions(&all.reader).await, 1);
    for erased in &erasures {
        let request = GetErasureRequest { erasure: erased.erasure };
        while all.eraser.subject().get_erasure(request).await.unwrap().into_inner().state()
            != ErasureState::Done
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(answers(&all.reader).await, expected);
    assert_eq!(open_sessions(&all.reader).await, 1);
    restated(&all, &expected_days).await;
    late(&all, &batches, &rest).await;
    assert_eq!(answers(&all.reader).await, expected);
    anew(&all, erasures[0].erased_until_ms).await;
    exports(&all).await;
    let report = all.writer.ingest().get_ingest_report(GetIngestReportRequest::default()).await.unwrap();
    assert!(report.into_inner().erased > 0);

    let texts = |gone: bool| -> Vec<String> {
        (0..PERSONS).filter(|person| is_gone(*person) == gone && *person != 2).flat_map(ids).collect()
    };
    let found = scan::found(&server, &texts(true));
    assert!(found.is_empty(), "{found:?}");
    assert!(!scan::found(&server, &texts(false)).is_empty(), "the others are there, and are found");
}

/// The ledger tells which counts changed, and why.
async fn restated(all: &Clients, expected_days: &[u64]) {
    let request = ListRestatementsRequest::default();
    let ledger = all.reader.insight().list_restatements(request).await.unwrap().into_inner();
    let causes: Vec<Cause> =
        ledger.restatements.iter().flat_map(|one| &one.cells).flat_map(|cell| cell.causes()).collect();
    assert!(causes.contains(&Cause::Erasure), "{causes:?}");
    assert_eq!(bought(&all.reader, true).await, expected_days);
}

/// What is sent again is refused as far as it is of the erased, and changes nothing.
async fn late(all: &Clients, batches: &[Vec<Event>], rest: &[Event]) {
    let mut taken = 0;
    for (at, batch) in batches.iter().enumerate() {
        let gone = batch.iter().filter(|event| is_gone(person_of(event))).count();
        let outcome = all.writer.append(batch.clone(), Some(format!("batch {at}"))).await.unwrap().response;
        if gone == 0 {
            assert!(outcome.repeated);
            taken += batch.len();
            continue;
        }
        assert!(!outcome.repeated, "what was kept of the request is gone");
        assert_eq!((outcome.rejected as usize, outcome.accepted as usize), (gone, batch.len() - gone));
        assert!(outcome.verdicts.iter().all(|verdict| verdict.reason == "SUBJECT_ERASED"));
        taken += batch.len() - gone;
    }
    assert_eq!(taken, rest.len());
    let told = identify(&all.writer, vec![identification("cookie-7-0", "customer-7", START)]).await;
    let outcome = &told.outcomes[0];
    assert_eq!((outcome.verdict(), &*outcome.reason), (Verdict::Rejected, "SUBJECT_ERASED"));
}

/// What happens later is a new visitor's.
async fn anew(all: &Clients, erased_until_ms: i64) {
    let later = Event { time_ms: Some(erased_until_ms + 60_000), ..now("customer-2") };
    let outcome = all.writer.append(vec![later], None).await.unwrap().response;
    assert_eq!(outcome.accepted, 1);
    let (ids, events) = exported(&all.eraser, "customer-2").await;
    assert_eq!((ids, events.len()), (1, 1));
}

async fn exports(all: &Clients) {
    let own: Vec<Event> = events().into_iter().filter(|event| person_of(event) == 8).collect();
    let (known, mut found) = exported(&all.eraser, "cookie-8-1").await;
    assert_eq!(known, ids(8).len());
    // Batches that were sent again are there twice.
    found.sort_by(|left, right| left.event_id.cmp(&right.event_id));
    found.dedup();
    let mut own: Vec<Event> = own;
    own.sort_by(|left, right| left.event_id.cmp(&right.event_id));
    assert_eq!(found, own);
    let nobody = exported(&all.eraser, "nobody at all").await;
    assert_eq!((nobody.0, nobody.1.len()), (1, 0));
    let unknown = all.eraser.subject().get_erasure(GetErasureRequest { erasure: 999 }).await.unwrap_err();
    assert_eq!(Refusal::from(unknown).reason, "NOT_FOUND");
    let empty = all.eraser.subject().erase(EraseRequest::default()).await.unwrap_err();
    assert_eq!(Refusal::from(empty).reason, "FIELD_MISSING");
}
