//! The same events in any order, batching, duplication and lateness, compacted at any moment, give the same answer.

use runnel::{
    node::{Node, NodeOptions},
    target::{Wire, over},
};
use runnel_chassis::Clock;
use runnel_client::{
    Client,
    proto::{
        event::v1::{Event, Value, value::Kind},
        funnel::v1::{
            BreakDown, Exclusion, FunnelDefinition, QueryFunnelRequest, QueryFunnelResponse, Step,
            TrendInterval, VerifyRequest, query_funnel_request,
        },
        query::v1::{EventMatch, Selector, selector::Column},
    },
};
use runnel_harness::Deployment;
use runnel_model::TenantName;

use crate::{places::everywhere, server::Random};

const NOW: i64 = 1_700_000_000_000;

fn event(random: &mut Random, at: u64) -> Event {
    let names = ["a", "b", "c", "x"];
    let channel = Value { kind: Some(Kind::StringValue(format!("channel-{}", random.below(4)))) };
    Event {
        event_id: if random.below(10) == 0 { String::new() } else { format!("e{at}") },
        visitor_id: format!("visitor-{}", random.below(60)),
        time_ms: Some(NOW - 40 * 86_400_000 + (random.below(2_000) * 60_000) as i64 + random.below(2) as i64),
        name: names[random.below(4) as usize].into(),
        sequence: (random.below(3) == 0).then(|| random.below(3) as i64),
        properties: if random.below(5) == 0 { [].into() } else { [("channel".to_owned(), channel)].into() },
        ..Event::default()
    }
}

fn question() -> QueryFunnelRequest {
    let event = |name: &str| EventMatch { event: name.into(), ..EventMatch::default() };
    let step = |name: &str| Step { any_of: vec![event(name)], ..Step::default() };
    let definition = FunnelDefinition {
        steps: ["a", "b", "c"].map(step).into(),
        window_ms: Some(5 * 3_600_000),
        exclusions: vec![Exclusion { event: Some(event("x")), after_step: 2, before_step: 3 }],
        ..FunnelDefinition::default()
    };
    QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        as_of_ms: Some(NOW - 39 * 86_400_000),
        break_down: Some(BreakDown {
            column: Some(Selector { column: Some(Column::Property("channel".into())) }),
            top: 2,
            ..BreakDown::default()
        }),
        trend: TrendInterval::Hour as i32,
        ..QueryFunnelRequest::default()
    }
}

/// Sends the events in some order, in batches of some size, some of them again, with questions and compactions in between.
async fn deliver(node: &Node, tenant: &TenantName, events: &[Event], random: &mut Random) -> Client<Wire> {
    node.ensure_tenant(tenant).await.unwrap();
    let client = over(node.trusted(tenant)).unwrap();
    let mut all = events.to_vec();
    for _ in 0..events.len() / 5 {
        all.push(events[random.below(events.len() as u64) as usize].clone());
    }
    for at in (1..all.len()).rev() {
        all.swap(at, random.below(at as u64 + 1) as usize);
    }
    let mut rest = all.as_slice();
    while !rest.is_empty() {
        let (batch, later) = rest.split_at((1 + random.below(150) as usize).min(rest.len()));
        rest = later;
        client.append(batch.to_vec(), None).await.unwrap();
        match random.below(4) {
            0 => node.settle(tenant).await,
            1 => drop(client.funnel().query_funnel(question()).await.unwrap()),
            _ => {}
        }
    }
    client
}

fn comparable(mut answer: QueryFunnelResponse) -> QueryFunnelResponse {
    answer.provenance = None;
    answer
}

/// The same events sent to three tenants, each time in another order and in other batches, some of them again, by two senders at once.
async fn any_delivery_gives_the_same_answer(deployment: Deployment) {
    let mut random = Random(7);
    let events: Vec<Event> = (0..600).map(|at| event(&mut random, at)).collect();
    let mut answers = Vec::new();
    for name in ["first", "second", "third"] {
        let (write, read) = deployment.tenant(name).await.unwrap();
        let writer = Client::connect(&deployment.endpoint, &write).await.unwrap();
        let reader = Client::connect(&deployment.endpoint, &read).await.unwrap();
        let senders = [random.below(u64::MAX), random.below(u64::MAX)].map(|seed| {
            let (events, writer, mut random) = (events.clone(), writer.clone(), Random(seed));
            async move {
                let mut rest = events;
                for at in (1..rest.len()).rev() {
                    rest.swap(at, random.below(at as u64 + 1) as usize);
                }
                while !rest.is_empty() {
                    let count = (1 + random.below(150) as usize).min(rest.len());
                    writer.append(rest.drain(..count).collect(), None).await.unwrap();
                }
            }
        });
        let [one, other] = senders;
        tokio::join!(one, other, async { drop(reader.funnel().query_funnel(question()).await) });
        let checked =
            reader.funnel().verify(VerifyRequest { query: Some(question()) }).await.unwrap().into_inner();
        assert!(checked.holds, "{name}: {:?}", checked.checks);
        answers.push(comparable(checked.answer.unwrap()));
    }
    assert!(answers[0].totals.as_ref().unwrap().entered > 0);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

everywhere!(any_delivery_gives_the_same_answer);

#[tokio::test(flavor = "multi_thread")]
async fn order_batching_duplication_and_lateness_change_nothing() {
    let worlds = std::env::var("RUNNEL_WORLDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100u64);
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path(), NodeOptions::default(), Clock::fixed(NOW)).await.unwrap();
    for seed in 1..=worlds {
        let mut random = Random(seed);
        let count = 50 + random.below(500);
        let events: Vec<Event> = (0..count).map(|at| event(&mut random, at)).collect();
        let mut answers = Vec::new();
        for copy in 0..2 {
            let tenant = TenantName::parse(&format!("world-{seed}-{copy}")).unwrap();
            let client = deliver(&node, &tenant, &events, &mut random).await;
            let checked =
                client.funnel().verify(VerifyRequest { query: Some(question()) }).await.unwrap().into_inner();
            assert!(checked.holds, "seed {seed}: {:?}", checked.checks);
            answers.push(comparable(checked.answer.unwrap()));
            let audit = node.store().audit(&tenant).await.unwrap();
            assert_eq!(audit.conflicts, 0, "seed {seed}");
            assert_eq!(audit.accepted, audit.counted + audit.duplicates, "seed {seed}");
        }
        assert_eq!(answers[0], answers[1], "seed {seed}");
        assert!(answers[0].totals.as_ref().unwrap().entered > 0, "seed {seed}");
    }
    node.close().await;
}
