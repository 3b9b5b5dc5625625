//! Whoever reads nothing takes nothing from others, also where a gateway carries the calls of all over one connection to a service.

use std::time::Duration;

use runnel_chassis::Clock;
use runnel_client::{
    Client,
    proto::{
        event::v1::Event,
        query::v1::EventMatch,
        segmentation::v1::{
            Condition, Happened, Occurrence, SegmentDefinition, SegmentRef, StreamMembersRequest,
            WatchSegmentRequest, condition::Node, occurrence::What, segment_ref,
            segmentation_service_client::SegmentationServiceClient,
        },
    },
};
use runnel_harness::Placement;
use tokio::time::timeout;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::server::{deployment, once};

/// HTTP/2's own, which is the least that a client can do with.
const WINDOW: u32 = 65_535;

fn looked() -> Option<SegmentRef> {
    let event = EventMatch { event: "look".to_owned(), ..EventMatch::default() };
    let any_of = vec![Occurrence { what: Some(What::Event(event)) }];
    let happened = Node::Happened(Happened { any_of, at_least: Some(1), ..Happened::default() });
    let condition = Some(Condition { node: Some(happened) });
    let definition = SegmentDefinition { condition, ..SegmentDefinition::default() };
    Some(SegmentRef { segment: Some(segment_ref::Segment::Inline(definition)) })
}

fn with_key<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

async fn connect(endpoint: &str) -> SegmentationServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).unwrap();
    let endpoint = endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    SegmentationServiceClient::new(endpoint.connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_ends_nobody_elses_calls() {
    let deployment = deployment(Placement::Split);
    let (write, read) = deployment.tenant("shop").await.unwrap();
    let sender = Client::connect_lazy(&deployment.endpoint, &write).unwrap().with_policy(once());
    let clock = Clock::default();
    let event = |number: usize| Event {
        // Long, so that the answer does not fit what lies between the service and the client.
        visitor_id: format!("visitor-{number:0200}"),
        name: "look".to_owned(),
        time_ms: Some(clock.now_ms()),
        ..Event::default()
    };
    for batch in 0..10 {
        let events = (0..1_000).map(|at| event(batch * 1_000 + at)).collect();
        assert_eq!(sender.append(events, None).await.unwrap().response.accepted, 1_000);
    }
    let request = WatchSegmentRequest { segment: looked(), ..WatchSegmentRequest::default() };
    let mut watching = connect(&deployment.endpoint).await;
    let mut watched = watching.watch_segment(with_key(request, &read)).await.unwrap().into_inner();
    watched.message().await.unwrap().unwrap();

    let request = StreamMembersRequest { segment: looked(), ..StreamMembersRequest::default() };
    let mut reading = connect(&deployment.endpoint).await;
    let mut unread = reading.stream_members(with_key(request, &read)).await.unwrap().into_inner();
    // Longer than a piece of an answer may wait for a client, and than it takes to notice.
    let ended =
        timeout(Duration::from_secs(45), async { while let Ok(Some(_)) = watched.message().await {} });
    assert!(ended.await.is_err(), "another one's call ended");
    sender.append(vec![event(10_000)], None).await.unwrap();
    let told = timeout(Duration::from_secs(20), async {
        while watched.message().await.unwrap().unwrap().changes.is_empty() {}
    });
    told.await.unwrap();
    // Of the answer that nobody read comes what lay there, and no end.
    let mut came = 0;
    let end = loop {
        match unread.message().await {
            Ok(Some(message)) => came += message.visitor_ids.len(),
            end => break end,
        }
    };
    assert!(end.is_err() && came < 10_000, "{came} members came, and then {end:?}");
}
