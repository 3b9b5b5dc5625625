//! `AudienceService`: what ad networks may be told, read from journeys shard by shard.

mod conversions;
mod identifier;
mod members;
mod person;

use runnel_chassis::{Caller, Clock, ContextSigner};
use runnel_contracts::{
    proto::audience::v1::{
        ExportAudienceRequest, ExportAudienceResponse, ExportConversionsRequest, ExportConversionsResponse,
        audience_service_server::AudienceService,
    },
    refusal::Refusal,
};
use runnel_definitions::refusal::{counting, stopped};
use runnel_journeys::{CountError, Journeys};
use runnel_model::{TenantName, limits};
use runnel_storage::compute;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::{
    segments::Segments,
    service::{PARTS, Told},
};

/// Answers `AudienceService`. Clones share one.
#[derive(Clone, Debug)]
pub(crate) struct Audiences {
    segments: Segments,
    journeys: Journeys,
    signer: ContextSigner,
    clock: Clock,
}

impl Audiences {
    pub(crate) fn new(
        segments: Segments,
        journeys: Journeys,
        signer: ContextSigner,
        clock: Clock,
    ) -> Audiences {
        Audiences { segments, journeys, signer, clock }
    }

    /// The caller's tenant, the request, and the time.
    fn opened<T>(&self, request: Request<T>) -> Result<(TenantName, T, i64), Refusal> {
        let now_ms = self.clock.now_ms();
        let Caller { tenant, .. } = self.signer.caller(request.metadata(), now_ms)?;
        Ok((tenant, request.into_inner(), now_ms))
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
        let (tenant, request, now_ms) = self.opened(request)?;
        let (parts, answer) = mpsc::channel(PARTS);
        let audiences = self.clone();
        let work = async move {
            if let Err(refusal) = audiences.members(&tenant, request, now_ms, &parts).await {
                drop(parts.send(Err(refusal.into())).await);
            }
        };
        tokio::spawn(work.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(answer))))
    }

    async fn export_conversions(
        &self,
        request: Request<ExportConversionsRequest>,
    ) -> Result<Response<Self::ExportConversionsStream>, Status> {
        let (tenant, request, now_ms) = self.opened(request)?;
        let (parts, answer) = mpsc::channel(PARTS);
        let audiences = self.clone();
        let work = async move {
            if let Err(refusal) = audiences.conversions(&tenant, request, now_ms, &parts).await {
                drop(parts.send(Err(refusal.into())).await);
            }
        };
        tokio::spawn(work.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(answer))))
    }
}
