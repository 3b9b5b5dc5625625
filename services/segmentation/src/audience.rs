//! `AudienceService`: what ad networks may be told, read from journeys shard by shard.

mod conversions;
mod identifier;
mod members;
mod person;

use runnel_contracts::{
    proto::audience::v1::{
        ExportAudienceRequest, ExportAudienceResponse, ExportConversionsRequest, ExportConversionsResponse,
        audience_service_server::AudienceService,
    },
    refusal::Refusal,
};
use runnel_definitions::refusal::{counting, stopped};
use runnel_journeys::{CountError, Journeys};
use runnel_model::limits;
use runnel_storage::compute;
use tonic::{Request, Response, Status};

use crate::{
    door::{Door, Told, streamed},
    segments::Segments,
};

/// Answers `AudienceService`. Clones share one.
#[derive(Clone, Debug)]
pub(crate) struct Audiences {
    segments: Segments,
    journeys: Journeys,
    door: Door,
}

impl Audiences {
    pub(crate) fn new(segments: Segments, journeys: Journeys, door: Door) -> Audiences {
        Audiences { segments, journeys, door }
    }

    /// Does something on the computing threads.
    async fn computed<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, CountError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let pool = self.journeys.pool().clone();
        let done = compute(move || pool.install(work)).await.map_err(|_| stopped())?;
        done.map_err(|fault| counting(&fault))
    }
}

/// Cuts rows into messages.
fn messages<T>(rows: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut rows = rows.into_iter();
    std::iter::from_fn(move || {
        let next: Vec<T> = rows.by_ref().take(limits::PAGE).collect();
        (!next.is_empty()).then_some(next)
    })
}

#[tonic::async_trait]
impl AudienceService for Audiences {
    type ExportAudienceStream = Told<ExportAudienceResponse>;
    type ExportConversionsStream = Told<ExportConversionsResponse>;

    async fn export_audience(
        &self,
        request: Request<ExportAudienceRequest>,
    ) -> Result<Response<Self::ExportAudienceStream>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        let audiences = self.clone();
        Ok(streamed(|parts| async move { audiences.members(&tenant, request, now_ms, &parts).await }))
    }

    async fn export_conversions(
        &self,
        request: Request<ExportConversionsRequest>,
    ) -> Result<Response<Self::ExportConversionsStream>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        let audiences = self.clone();
        Ok(streamed(|parts| async move { audiences.conversions(&tenant, request, now_ms, &parts).await }))
    }
}
