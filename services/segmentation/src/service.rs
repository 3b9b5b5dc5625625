//! `SegmentationService` as a tonic server.

use runnel_chassis::{Caller, Clock, ContextSigner, Metrics};
use runnel_contracts::{
    proto::{
        query::v1::Revision,
        segmentation::v1::{
            CountOpenSessionsRequest, CountOpenSessionsResponse, ListSegmentsRequest, ListSegmentsResponse,
            segmentation_service_server::{SegmentationService, SegmentationServiceServer},
        },
    },
    refusal::{Reason, Refusal},
};
use runnel_journeys::Journeys;
use runnel_model::limits;
use runnel_storage::Hot;
use tonic::{Request, Response, Status};

use crate::open::{OpenSessions, SegmentationOptions};

/// Answers `SegmentationService`. Clones share one.
#[derive(Clone, Debug)]
pub struct Segmentation {
    open: OpenSessions,
    signer: ContextSigner,
    clock: Clock,
}

impl Segmentation {
    /// A segmentation service over journeys and hot state.
    #[must_use]
    pub fn new(
        journeys: Journeys,
        hot: Hot,
        signer: ContextSigner,
        clock: Clock,
        metrics: Metrics,
        options: SegmentationOptions,
    ) -> Segmentation {
        let open = OpenSessions::new(journeys, hot, clock.clone(), metrics, options);
        Segmentation { open, signer, clock }
    }

    /// The service as a tonic server.
    #[must_use]
    pub fn server(self) -> SegmentationServiceServer<Segmentation> {
        use tonic::codec::CompressionEncoding::{Gzip, Zstd};
        let server = SegmentationServiceServer::new(self).accept_compressed(Gzip).accept_compressed(Zstd);
        server.send_compressed(Gzip).max_decoding_message_size(limits::MESSAGE_BYTES)
    }

    /// Lets other processes own the tenants that this one does.
    pub async fn close(&self) {
        self.open.close().await;
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        self.signer.caller(request.metadata(), self.clock.now_ms())
    }
}

#[tonic::async_trait]
impl SegmentationService for Segmentation {
    async fn list_segments(
        &self,
        request: Request<ListSegmentsRequest>,
    ) -> Result<Response<ListSegmentsResponse>, Status> {
        self.caller(&request)?;
        let size = request.get_ref().page_size as usize;
        if size > limits::PAGE {
            let text = format!("page_size is at most {}; it is {size}.", limits::PAGE);
            return Err(Refusal::field(Reason::NumberOutOfRange, "page_size", text).into());
        }
        Ok(Response::new(ListSegmentsResponse::default()))
    }

    async fn count_open_sessions(
        &self,
        request: Request<CountOpenSessionsRequest>,
    ) -> Result<Response<CountOpenSessionsResponse>, Status> {
        let caller = self.caller(&request)?;
        let counted = self.open.count(&caller.tenant).await?;
        Ok(Response::new(CountOpenSessionsResponse {
            open_sessions: counted.open,
            as_of_ms: counted.as_of_ms,
            revision: Some(Revision { sequence: counted.sequence, ..Revision::default() }),
            source: counted.source as i32,
        }))
    }
}
