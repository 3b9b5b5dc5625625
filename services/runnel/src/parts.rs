//! The services as parts that a process is wired of.

use runnel_chassis::{Clock, ContextSigner, Upstream};
use runnel_contracts::proto::admin::v1::admin_service_server::AdminServiceServer;
use runnel_funnel::Funnels;
use runnel_gateway::{Admin, Keys};
use runnel_journeys::Journeys;
use runnel_storage::Store;

use crate::node::NodeError;

/// The funnel service, with the catalogue.
pub(crate) fn funnel(journeys: Journeys, signer: ContextSigner, clock: Clock) -> Upstream {
    let (funnels, catalog) = Funnels::new(journeys, signer, clock).servers();
    Upstream::new(tonic::service::Routes::new(funnels).add_service(catalog).prepare())
}

/// The control plane.
pub(crate) fn admin(store: Store, keys: Keys, signer: ContextSigner, clock: Clock) -> Upstream {
    Upstream::new(AdminServiceServer::new(Admin::new(store, keys, signer, clock)))
}

/// Health of a process that serves.
pub(crate) async fn health() -> Upstream {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    Upstream::new(health)
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
