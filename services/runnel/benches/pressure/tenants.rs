//! Many tenants of which few are active.

use runnel_client::{
    Client,
    proto::{
        admin::v1::CreateTenantRequest,
        funnel::v1::{FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request::Funnel},
        query::v1::EventMatch,
    },
};
use std::time::Duration;

use crate::{World, events::Template};

/// Tenants that send and ask.
const ACTIVE: usize = 100;

pub(crate) async fn run(tenants: usize) {
    let few = memory(ACTIVE).await;
    let many = memory(tenants).await;
    println!(
        "tenants              {ACTIVE} active: {few:.0} MiB in all processes; among {tenants}: {many:.0} MiB ({:+.0} MiB)",
        many - few
    );
}

/// Megabytes of all processes when the active ones of so many tenants have sent and asked, round after round.
async fn memory(tenants: usize) -> f64 {
    let world = World::start(false, &[]).await;
    let operator = world.deployment.operator().await.unwrap();
    for at in ACTIVE..tenants {
        let name = format!("idle-{at}");
        operator.admin().create_tenant(CreateTenantRequest { name }).await.unwrap();
    }
    let mut clients = Vec::new();
    for at in 0..ACTIVE {
        let (write, read) = world.deployment.tenant(&format!("active-{at}")).await.unwrap();
        let connect = |key: &str| Client::connect_lazy(&world.deployment.endpoint, key).unwrap();
        clients.push((connect(&write), connect(&read)));
    }
    let (mut template, mut number) = (Template::new(), 0);
    for _ in 0..5 {
        for (writer, reader) in &clients {
            number += 1;
            let (batch, id) = template.batch(number);
            writer.append_encoded(batch, &id).await.unwrap();
            let step = Step {
                any_of: vec![EventMatch { event: "view_item".into(), ..EventMatch::default() }],
                ..Step::default()
            };
            let definition =
                FunnelDefinition { steps: vec![step.clone(), step], ..FunnelDefinition::default() };
            let request = QueryFunnelRequest {
                funnel: Some(Funnel::Inline(definition)),
                ..QueryFunnelRequest::default()
            };
            reader.funnel().query_funnel(request).await.unwrap();
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.all_resident()
}
