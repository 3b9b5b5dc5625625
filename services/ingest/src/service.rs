//! `IngestService` as a tonic server over undecoded frames.

use std::{pin::Pin, sync::Arc};

use prost::Message;
use runnel_chassis::{Caller, Clock, ContextSigner, Metrics};
use runnel_contracts::{
    frame::Frame,
    frames::ingest_service_server::{IngestService, IngestServiceServer},
    proto::{
        identity::v1::identity_service_server::IdentityServiceServer,
        ingest::v1::{AppendResponse, AppendStreamResponse, GetIngestReportRequest, GetIngestReportResponse},
        subject::v1::subject_service_server::SubjectServiceServer,
    },
    refusal::{Reason, Refusal},
};
use runnel_model::limits;
use runnel_storage::{Notice, Store, Turns};
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use crate::{
    append::{append, stopped},
    names::Names,
    persons::Persons,
    report, stream,
};

/// Answers `IngestService`, `IdentityService` and `SubjectService`.
#[derive(Clone, Debug)]
pub struct Ingest {
    pub(crate) store: Store,
    pub(crate) names: Names,
    pub(crate) persons: Persons,
    pub(crate) signer: ContextSigner,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// Reports that may be made at a time: each reads all of a tenant and keeps some 128 MB of it.
    reports: Arc<Semaphore>,
    /// Whose report it is: a tenant that asks for many waits for itself.
    reporting: Arc<Turns>,
    /// Bytes of streamed batches that may be under way. Who has none is not read from.
    pub(crate) streamed: Arc<Semaphore>,
}

/// See [`Ingest`].
const REPORTS: usize = 2;
pub(crate) const STREAMED_BYTES: usize = 128 << 20;

impl Ingest {
    /// An ingest service over a store. What it does and what the store's commits do is measured.
    #[must_use]
    pub fn new(store: Store, signer: ContextSigner, clock: Clock, metrics: Metrics) -> Ingest {
        let told = metrics.clone();
        store.on_notice(move |notice| match notice {
            Notice::Commit { outcome, took, .. } => told.committed(outcome.name(), took),
            Notice::Quarantined => told.quarantined(),
        });
        let (reports, streamed) = (Semaphore::new(REPORTS), Semaphore::new(STREAMED_BYTES));
        let (reports, streamed) = (Arc::new(reports), Arc::new(streamed));
        Ingest {
            store,
            names: Names::default(),
            persons: Persons::default(),
            signer,
            clock,
            metrics,
            reports,
            reporting: Arc::default(),
            streamed,
        }
    }

    /// The service as tonic servers behind one another: events, who is who, and persons' rights.
    #[must_use]
    pub fn routes(self) -> Routes {
        use tonic::codec::CompressionEncoding::{Gzip, Zstd};
        macro_rules! limited {
            ($server:expr) => {
                $server
                    .accept_compressed(Gzip)
                    .accept_compressed(Zstd)
                    .send_compressed(Gzip)
                    .max_decoding_message_size(limits::MESSAGE_BYTES)
            };
        }
        Routes::new(limited!(IngestServiceServer::new(self.clone())))
            .add_service(limited!(IdentityServiceServer::new(self.clone())))
            .add_service(limited!(SubjectServiceServer::new(self)))
            .prepare()
    }

    pub(crate) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        self.signer.caller(request.metadata(), self.clock.now_ms())
    }
}

#[tonic::async_trait]
impl IngestService for Ingest {
    type AppendStreamStream = Pin<Box<dyn Stream<Item = Result<AppendStreamResponse, Status>> + Send>>;

    async fn append(&self, request: Request<Frame>) -> Result<Response<AppendResponse>, Status> {
        let caller = self.caller(&request)?;
        let Frame(message) = request.into_inner();
        Ok(Response::new(append(self, &caller.tenant, message, self.clock.now_ms()).await?))
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let caller = self.caller(&request)?;
        let answers = stream::run(self.clone(), caller.tenant, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_ingest_report(
        &self,
        request: Request<Frame>,
    ) -> Result<Response<GetIngestReportResponse>, Status> {
        let caller = self.caller(&request)?;
        let Frame(message) = request.into_inner();
        let asked = GetIngestReportRequest::decode(message).map_err(|_| {
            Refusal::new(Reason::MessageMalformed, "The message is not a GetIngestReportRequest.")
        })?;
        let _own = self.reporting.take(&caller.tenant, true).await;
        let _turn = self.reports.acquire().await.map_err(|_| stopped())?;
        Ok(Response::new(report::report(&self.store, &caller.tenant, &asked.request_id).await?))
    }
}
