//! The services as parts that a process is wired of.

use std::time::Duration;

use runnel_chassis::{Clock, ContextSigner, Metrics, Observe, Upstream, serve::asked_to_stop};
use runnel_contracts::{
    proto::admin::v1::admin_service_server::AdminServiceServer,
    refusal::{Reason, Refusal},
};
use runnel_funnel::Funnels;
use runnel_gateway::{Admin, Effects, Keys};
use runnel_ingest::Ingest;
use runnel_journeys::Journeys;
use runnel_segmentation::Segmentation;
use runnel_storage::{Hot, Store};
use tonic::Status;
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Layer;

use crate::node::NodeError;

/// The ingest service, with who is who.
pub(crate) fn ingest(store: Store, signer: ContextSigner, clock: Clock, metrics: &Metrics) -> Upstream {
    let routes = Ingest::new(store, signer, clock, metrics.clone()).routes();
    Upstream::new(Observe::new("ingest", metrics).layer(routes))
}

/// The funnel service, with the catalogue and insights.
pub(crate) fn funnel(journeys: Journeys, signer: ContextSigner, clock: Clock, metrics: &Metrics) -> Upstream {
    let routes = Funnels::new(journeys, signer, clock).routes();
    Upstream::new(Observe::new("funnel", metrics).layer(routes))
}

/// The segmentation service, with what ad networks may be told, and with lists.
pub(crate) fn segmentation(segmentation: &Segmentation, metrics: &Metrics) -> Upstream {
    Upstream::new(Observe::new("segmentation", metrics).layer(segmentation.clone().routes()))
}

/// Appends between two looks at the visitors that they name.
pub(crate) fn effects(
    ingest: Upstream,
    segmentation: Upstream,
    signer: ContextSigner,
    clock: Clock,
    metrics: &Metrics,
) -> Upstream {
    let server = Effects::new(ingest, segmentation, signer, clock).server();
    Upstream::new(Observe::new("effects", metrics).layer(server))
}

/// Ends the streams of what is watched once the process is asked to stop: they would go on for as long as a drain may take.
pub(crate) async fn end_watching_when_stopping(segmentation: Segmentation) {
    asked_to_stop().await;
    segmentation.end_watching();
}

/// From now on, metrics tell of the journeys of this process.
pub(crate) fn watch_journeys(journeys: &Journeys, metrics: &Metrics) {
    // The store tells the metrics of its commits, so they may not keep the store in turn.
    let (resident, loaded) = (journeys.weak(), journeys.weak());
    metrics.watch_journeys(
        move || resident.get().map_or(0, |journeys| journeys.resident_bytes()),
        move || loaded.get().map_or(0, |journeys| journeys.loads()),
    );
}

/// From now on, metrics tell how hot state does.
pub(crate) fn watch_hot(hot: &Hot, metrics: &Metrics) {
    let (away, failures) = (hot.clone(), hot.clone());
    metrics.watch_hot(move || away.is_away(), move || failures.failures());
}

/// The control plane.
pub(crate) fn admin(store: Store, keys: Keys, signer: ContextSigner, clock: Clock) -> Upstream {
    Upstream::new(AdminServiceServer::new(Admin::new(store, keys, signer, clock)))
}

/// Health of a process, and the way to say that it will not serve for long.
pub(crate) async fn health() -> (HealthReporter, Upstream) {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    (reporter, Upstream::new(health))
}

/// A service of which every caller can be sent away at once, at points where a test wants that; otherwise the service as it is.
pub(crate) fn cancellable(service: Upstream) -> Upstream {
    if !runnel_failpoints::ARMED {
        return service;
    }
    Upstream::from_fn(move |request| {
        let service = service.clone();
        async move {
            let answer = runnel_failpoints::cancellable(service.answer(request)).await;
            answer.unwrap_or_else(|| {
                let refusal = Refusal::new(Reason::ServiceUnavailable, "A test sent the caller away.");
                Status::from(refusal.retry_after(Duration::from_millis(100))).into_http()
            })
        }
    })
}

/// Reflection over the whole contract, with the standard error details, in both versions of the protocol.
pub(crate) fn reflection() -> Result<Upstream, NodeError> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(runnel_contracts::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let fault = |fault: tonic_reflection::server::Error| NodeError::Start(fault.to_string());
    let routes = tonic::service::Routes::new(builder().build_v1().map_err(fault)?);
    Ok(Upstream::new(routes.add_service(builder().build_v1alpha().map_err(fault)?).prepare()))
}
