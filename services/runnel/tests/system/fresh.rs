//! A question sees every event that was acknowledged before it was asked.

use runnel_client::{
    Client,
    proto::{
        event::v1::Event,
        funnel::v1::{FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request},
        query::v1::EventMatch,
    },
};

use runnel_harness::Deployment;

use crate::places::everywhere;

everywhere!(next_answer);

async fn next_answer(server: Deployment) {
    let (write, read) = server.tenant("shop").await.unwrap();
    let client = Client::connect(&server.endpoint, &write).await.unwrap();
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    let step = |name: &str| Step {
        any_of: vec![EventMatch { event: name.into(), ..EventMatch::default() }],
        ..Step::default()
    };
    let definition = FunnelDefinition { steps: ["a", "b"].map(step).into(), ..FunnelDefinition::default() };
    for round in 0..200u64 {
        // Half of the visitors come back, so that journeys in memory are extended as well as added.
        let event = |name: &str, visitor: u64, at: u64| Event {
            visitor_id: format!("v{visitor}"),
            name: name.into(),
            time_ms: Some(1_700_000_000_000 + at as i64),
            ..Event::default()
        };
        let events = vec![event("a", round, round), event("b", round / 2, 1_000 + round)];
        client.append(events, None).await.unwrap();
        let request = QueryFunnelRequest {
            funnel: Some(query_funnel_request::Funnel::Inline(definition.clone())),
            ..QueryFunnelRequest::default()
        };
        let answer = reader.funnel().query_funnel(request).await.unwrap().into_inner();
        let reached: Vec<u64> = answer.steps.iter().map(|step| step.reached).collect();
        assert_eq!(reached, [round + 1, round / 2 + 1], "round {round}");
    }
}
