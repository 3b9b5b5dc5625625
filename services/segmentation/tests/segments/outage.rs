//! An outage: whoever was due meanwhile is told of once, as soon as somebody looks again.

use std::{collections::BTreeMap, time::Duration};

use runnel_contracts::proto::{
    query::v1::EventMatch,
    segmentation::v1::{
        Absent, ChangeCause, Condition, Occurrence, SegmentDefinition, SegmentRef, WatchSegmentRequest,
        condition::Node, occurrence::What, segment_ref, segmentation_service_server::SegmentationService,
    },
};
use runnel_model::{EventBatch, EventRef};
use runnel_segmentation::Segmentation;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use crate::world::{GAP, SECOND, START, World};

/// How long nobody looks, and how many carts are due meanwhile.
const OUTAGE: i64 = 10 * 60 * SECOND;
const CARTS: i64 = 1_000;
/// For how long somebody stays in the segment that people leave again.
const STAY: i64 = 2 * 60 * SECOND;

/// Whoever left a cart for half an hour, and if asked for not much longer.
fn left(within_ms: Option<i64>) -> SegmentRef {
    let occurrence = |name: &str| {
        let event = EventMatch { event: name.to_owned(), ..EventMatch::default() };
        vec![Occurrence { what: Some(What::Event(event)) }]
    };
    let absent = Absent { after: occurrence("cart"), without: occurrence("pay"), for_ms: GAP, within_ms };
    let condition = Some(Condition { node: Some(Node::Absent(absent)) });
    let definition = SegmentDefinition { condition, ..SegmentDefinition::default() };
    SegmentRef { segment: Some(segment_ref::Segment::Inline(definition)) }
}

/// What was told of each visitor: how often it came, and how often it went.
type Told = BTreeMap<String, (usize, usize)>;

type Stream = <Segmentation as SegmentationService>::WatchSegmentStream;

/// Watches, from a cursor on.
async fn watch(world: &World, segment: SegmentRef, cursor: &str) -> Stream {
    let request = WatchSegmentRequest {
        segment: Some(segment),
        cursor: cursor.to_owned(),
        totals_every_ms: Some(100),
        ..WatchSegmentRequest::default()
    };
    world.service.watch_segment(world.request(request)).await.unwrap().into_inner()
}

/// Takes in what is told up to now, and says where that ends.
async fn follow(world: &World, stream: &mut Stream, told: &mut Told) -> String {
    loop {
        let message = timeout(Duration::from_secs(60), stream.next()).await.unwrap().unwrap().unwrap();
        for change in message.changes {
            assert_eq!(change.cause(), ChangeCause::Time, "{change:?}");
            let (came, went) = told.entry(change.visitor_id).or_default();
            *(if change.member { came } else { went }) += 1;
        }
        if message.as_of_ms == world.clock.now_ms() && !message.cursor.is_empty() {
            return message.cursor;
        }
    }
}

/// A shop in which a cart is due every 600 milliseconds from now on.
async fn shop() -> World {
    let world = World::new().await;
    let mut batch = EventBatch::default();
    for cart in 0..CARTS {
        batch.push(&EventRef {
            visitor: &format!("visitor-{cart}"),
            time_ms: START - GAP + cart * OUTAGE / CARTS,
            name: "cart",
            event_id: &format!("{cart:08}"),
            sequence: 0,
            fields: &[],
            properties: &[],
        });
    }
    world.admit(batch).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_due_in_an_outage_is_told_once() {
    for (within_ms, restarts) in
        [(None, false), (None, true), (Some(GAP + STAY), false), (Some(GAP + STAY), true)]
    {
        let mut world = shop().await;
        let mut told = Told::new();
        let mut stream = watch(&world, left(within_ms), "").await;
        let cursor = follow(&world, &mut stream, &mut told).await;
        assert!(told.is_empty(), "nobody is due yet: {told:?}");
        if restarts {
            world.restart().await;
        }
        world.clock.set(START + OUTAGE + SECOND);
        if restarts {
            stream = watch(&world, left(within_ms), &cursor).await;
        }
        follow(&world, &mut stream, &mut told).await;
        let mut members = world.streamed(left(within_ms), world.clock.now_ms()).await.unwrap();
        members.sort_unstable();
        assert_eq!(told.len() as i64, CARTS, "restarts {restarts}");
        for (visitor, (came, went)) in &told {
            let is_member = members.binary_search(visitor).is_ok();
            assert_eq!((*came, *went), (1, usize::from(!is_member)), "{visitor}, restarts {restarts}");
        }
        let stay = within_ms.map_or(CARTS, |_| CARTS * STAY / OUTAGE);
        assert!((members.len() as i64 - stay).abs() < 10, "{} members", members.len());
    }
}
