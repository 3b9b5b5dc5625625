//! Who is who: journeys that are split over anonymous and known ids give the answers of the joined journeys, whatever comes first, in every place.

use runnel_client::{
    Client,
    proto::{
        admin::v1::KeyKind,
        event::v1::Event,
        funnel::v1::{
            ExplainVisitorRequest, FunnelDefinition, QueryFunnelRequest, QueryFunnelResponse, Step, Unit,
            explain_visitor_request, query_funnel_request,
        },
        identity::v1::{
            GetIdentityRequest, GetIdentityResponse, Identification, IdentifyRequest, IdentifyResponse,
            IdentityVerdict as Verdict, Link, MergeRequest,
        },
        insight::v1::{
            Interval, QueryFrequencyRequest, QueryRetentionRequest, QuerySessionsRequest, QueryTrendRequest,
            QueryTrendResponse,
        },
        query::v1::{Dimension, EventMatch, Selector, Split, TimeRange, selector::Column},
        segmentation::v1::CountOpenSessionsRequest,
    },
};
use runnel_harness::Deployment;
use tonic::transport::Channel;

use crate::{places::everywhere, server::Random};

everywhere!(identity);

/// 2026-01-01T00:00:00Z.
pub(crate) const START: i64 = 1_767_225_600_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
pub(crate) const PERSONS: u64 = 40;

/// The ids of a person: a known one, up to two anonymous ones, and perhaps an older known one that is merged into it.
pub(crate) fn ids(person: u64) -> Vec<String> {
    let mut ids = vec![format!("customer-{person}")];
    ids.extend((0..person % 3).map(|device| format!("cookie-{person}-{device}")));
    ids.extend((person.is_multiple_of(4)).then(|| format!("account-{person}")));
    ids
}

/// Events of persons, each with the id that sent it. Some persons do several things in one millisecond, on several devices.
pub(crate) fn events() -> Vec<Event> {
    let mut random = Random(11);
    let mut events = Vec::new();
    for person in 0..PERSONS {
        let ids = ids(person);
        for at in 0..2 + random.below(12) {
            let name = ["look", "cart", "buy", "page_view"][random.below(4) as usize];
            let minute = random.below(4) as i64 * 24 * 60 + random.below(90) as i64;
            events.push(Event {
                event_id: format!("{person}-{at}"),
                visitor_id: ids[random.below(ids.len() as u64) as usize].clone(),
                time_ms: Some(START + minute * MINUTE),
                name: name.to_owned(),
                ..Event::default()
            });
        }
    }
    events
}

/// The same events as if every person had one id.
fn joined() -> Vec<Event> {
    let person = |id: &str| id.split('-').nth(1).unwrap().to_owned();
    events()
        .into_iter()
        .map(|event| Event { visitor_id: format!("customer-{}", person(&event.visitor_id)), ..event })
        .collect()
}

pub(crate) fn identification(anonymous: &str, known: &str, time_ms: i64) -> Identification {
    Identification { anonymous_id: anonymous.to_owned(), known_id: known.to_owned(), time_ms: Some(time_ms) }
}

pub(crate) async fn identify(
    client: &Client<Channel>,
    identifications: Vec<Identification>,
) -> IdentifyResponse {
    client.identity().identify(IdentifyRequest { identifications }).await.unwrap().into_inner()
}

fn named(event: &str) -> EventMatch {
    EventMatch { event: event.to_owned(), ..EventMatch::default() }
}

fn funnel() -> FunnelDefinition {
    let step = |name: &&str| Step { any_of: vec![named(name)], ..Step::default() };
    FunnelDefinition {
        steps: ["look", "cart", "buy"].iter().map(step).collect(),
        window_ms: Some(2 * DAY),
        ..FunnelDefinition::default()
    }
}

/// What a tenant's visitors are told to have done.
pub(crate) async fn answers(client: &Client<Channel>) -> Vec<String> {
    let range = Some(TimeRange { from_ms: Some(START), until_ms: Some(START + 5 * DAY) });
    let mut told = Vec::new();
    for unit in [Unit::Visitor, Unit::Session, Unit::Entry] {
        let asked = FunnelDefinition { unit: unit as i32, ..funnel() };
        let request = QueryFunnelRequest {
            funnel: Some(query_funnel_request::Funnel::Inline(asked)),
            range,
            as_of_ms: Some(START + 9 * DAY),
            ..QueryFunnelRequest::default()
        };
        let answer = client.funnel().query_funnel(request).await.unwrap().into_inner();
        told.push(format!("{:?}", QueryFunnelResponse { provenance: None, ..answer }));
    }
    let visit = Selector { column: Some(Column::Dimension(Dimension::Visit as i32)) };
    let split = Some(Split { column: Some(visit), top: 5 });
    let request = QuerySessionsRequest { range, split: split.clone(), ..QuerySessionsRequest::default() };
    let mut sessions = client.insight().query_sessions(request).await.unwrap().into_inner();
    sessions.provenance = None;
    told.push(format!("{sessions:?}"));
    let request = QueryTrendRequest {
        of: vec![named("look"), named("buy")],
        range,
        interval: Interval::Day as i32,
        split,
        ..QueryTrendRequest::default()
    };
    let trend = client.insight().query_trend(request).await.unwrap().into_inner();
    told.push(format!("{:?}", QueryTrendResponse { provenance: None, ..trend }));
    let request =
        QueryRetentionRequest { range, interval: Interval::Day as i32, ..QueryRetentionRequest::default() };
    let mut retention = client.insight().query_retention(request).await.unwrap().into_inner();
    retention.provenance = None;
    told.push(format!("{retention:?}"));
    let of = Some(named("look"));
    let request = QueryFrequencyRequest { of, range, ..QueryFrequencyRequest::default() };
    let mut frequency = client.insight().query_frequency(request).await.unwrap().into_inner();
    frequency.provenance = None;
    told.push(format!("{frequency:?}"));
    told
}

async fn get(client: &Client<Channel>, id: &str) -> GetIdentityResponse {
    client.identity().get_identity(GetIdentityRequest { id: id.to_owned() }).await.unwrap().into_inner()
}

async fn identity(server: Deployment) {
    let mut random = Random(5);
    let (write, read) = server.tenant("joined").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    writer.append(joined(), None).await.unwrap();
    let expected = answers(&reader).await;

    let (write, read) = server.tenant("split").await.unwrap();
    let admin = server.key("split", KeyKind::Admin).await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    let admin = Client::connect(&server.endpoint, &admin).await.unwrap();
    let (mut events, mut said) = (events(), Vec::new());
    for person in 0..PERSONS {
        for id in &ids(person)[1..] {
            said.push((id.clone(), format!("customer-{person}")));
        }
    }
    // Events and what is said of their senders in any order, with questions in between.
    for at in (1..events.len()).rev() {
        events.swap(at, random.below(at as u64 + 1) as usize);
    }
    for at in (1..said.len()).rev() {
        said.swap(at, random.below(at as u64 + 1) as usize);
    }
    let (mut batches, mut said) = (events.chunks(9).peekable(), said.chunks(5).peekable());
    while batches.peek().is_some() || said.peek().is_some() {
        match random.below(3) {
            0 => {
                if let Some(batch) = batches.next() {
                    writer.append(batch.to_vec(), None).await.unwrap();
                }
            }
            1 => {
                for (id, known) in said.next().unwrap_or_default() {
                    if id.starts_with("account") {
                        let request = MergeRequest { from_id: id.clone(), into_id: known.clone() };
                        let merged = admin.identity().merge(request).await.unwrap().into_inner();
                        assert_eq!((&*merged.visitor_id, merged.already_merged), (&**known, false));
                    } else {
                        let outcome = identify(&writer, vec![identification(id, known, START)]).await;
                        assert_eq!(outcome.outcomes[0].verdict(), Verdict::Linked);
                    }
                }
            }
            _ => drop(answers(&reader).await),
        }
    }
    assert_eq!(answers(&reader).await, expected);
    explained(&reader, &writer).await;
    refused(&reader, &writer, &admin).await;
    open_sessions(&reader, &writer).await;
}

async fn explained(reader: &Client<Channel>, writer: &Client<Channel>) {
    let told = get(reader, "cookie-8-1").await;
    let ids: Vec<_> = told.ids.iter().map(|one| (&*one.id, one.link(), &*one.belongs_to)).collect();
    let known = "customer-8";
    let expected = [
        ("account-8", Link::Merged, known),
        ("cookie-8-0", Link::Identified, known),
        ("cookie-8-1", Link::Identified, known),
        (known, Link::Own, ""),
    ];
    assert_eq!((&*told.visitor_id, &ids[..]), (known, &expected[..]));
    assert!(told.ignored.is_empty() && !told.truncated && told.alias > 0);
    let stranger = get(reader, "nobody").await;
    assert_eq!((&*stranger.visitor_id, stranger.ids.len()), ("nobody", 1));
    // Somebody else signed in on the same device, later.
    let later = identify(writer, vec![identification("cookie-8-1", "customer-1", START + DAY)]).await;
    assert_eq!(later.outcomes[0].verdict(), Verdict::Taken);
    assert_eq!((&*later.outcomes[0].belongs_to, &*later.outcomes[0].reason), (known, "IDENTITY_TAKEN"));
    let told = get(reader, "customer-8").await;
    assert_eq!((told.ids.len(), told.ignored.len()), (4, 1));
    assert_eq!(told.ignored[0].known_id, "customer-1");
    let request = ExplainVisitorRequest {
        funnel: Some(explain_visitor_request::Funnel::Inline(funnel())),
        visitor_id: "cookie-8-1".to_owned(),
        ..ExplainVisitorRequest::default()
    };
    let explained = reader.funnel().explain_visitor(request).await.unwrap().into_inner();
    let provenance = explained.provenance.unwrap();
    assert_eq!(provenance.revision.unwrap().alias, later.alias);
    assert!(provenance.notes.iter().any(|note| note.contains("cookie-8-1 counts as customer-8")));
    let all = joined().iter().filter(|event| event.visitor_id == known).count();
    assert_eq!(explained.events.len(), all);
}

async fn refused(reader: &Client<Channel>, writer: &Client<Channel>, admin: &Client<Channel>) {
    let bad = vec![
        identification("", "k", 1),
        identification("a", &"k".repeat(257), 1),
        identification("same", "same", 1),
        Identification { time_ms: None, ..identification("a", "k", 1) },
        identification("customer-1", "customer-2", 1),
        identification("fresh", "customer-2", 1),
        identification("fresh", "customer-2", 2),
    ];
    let outcome = identify(writer, bad).await;
    let told: Vec<_> =
        outcome.outcomes.iter().map(|one| (one.verdict(), &*one.reason, &*one.field)).collect();
    assert_eq!(
        told,
        [
            (Verdict::Rejected, "FIELD_MISSING", "anonymous_id"),
            (Verdict::Rejected, "TEXT_TOO_LONG", "known_id"),
            (Verdict::Rejected, "IDENTITY_INVALID", "known_id"),
            (Verdict::Rejected, "FIELD_MISSING", "time_ms"),
            (Verdict::Known, "IDENTITY_KNOWN", "anonymous_id"),
            (Verdict::Linked, "", ""),
            (Verdict::AlreadyLinked, "", ""),
        ]
    );
    let merge = async |from: &str, into: &str| {
        let request = MergeRequest { from_id: from.to_owned(), into_id: into.to_owned() };
        admin.identity().merge(request).await
    };
    let anonymous = merge("cookie-8-0", "customer-1").await.unwrap_err();
    assert_eq!(anonymous.code(), tonic::Code::FailedPrecondition);
    assert!(anonymous.message().contains("merge whom it belongs to instead"), "{anonymous}");
    assert_eq!(merge("x", "x").await.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert!(merge("account-8", "customer-8").await.unwrap().into_inner().already_merged);
    // Each needs its kind of key.
    let request = MergeRequest { from_id: "a".to_owned(), into_id: "b".to_owned() };
    let denied = writer.identity().merge(request).await.unwrap_err();
    assert_eq!(denied.code(), tonic::Code::PermissionDenied);
    let request = IdentifyRequest { identifications: vec![identification("a", "k", 1)] };
    let denied = reader.identity().identify(request).await.unwrap_err();
    assert_eq!(denied.code(), tonic::Code::PermissionDenied);
}

/// Who is there on two devices is there once.
async fn open_sessions(reader: &Client<Channel>, writer: &Client<Channel>) {
    let now_ms = runnel_chassis::Clock::default().now_ms();
    let here = |visitor: &str| Event {
        visitor_id: visitor.to_owned(),
        time_ms: Some(now_ms),
        name: "look".to_owned(),
        ..Event::default()
    };
    let present = ["cookie-8-0", "cookie-8-1", "account-8", "new-device", "alone"].map(here);
    writer.append(present.to_vec(), None).await.unwrap();
    let count = async || {
        let answer = reader.segmentation().count_open_sessions(CountOpenSessionsRequest {}).await.unwrap();
        answer.into_inner().open_sessions
    };
    assert_eq!(count().await, 3);
    identify(writer, vec![identification("new-device", "alone", now_ms)]).await;
    assert_eq!(count().await, 2);
}
