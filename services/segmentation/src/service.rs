//! `SegmentationService`, and the routes of this service.

use runnel_chassis::{Clock, ContextSigner, Metrics};
use runnel_contracts::{
    proto::audience::v1::audience_service_server::AudienceServiceServer,
    proto::list::v1::list_service_server::ListServiceServer,
    proto::segmentation::v1::{
        CountOpenSessionsRequest, CountOpenSessionsResponse, CountSegmentRequest, CountSegmentResponse,
        DefineSegmentRequest, DefineSegmentResponse, DeleteSegmentRequest, DeleteSegmentResponse,
        GetSegmentRequest, GetSegmentResponse, GetVisitorRequest, GetVisitorResponse, ListMembersRequest,
        ListMembersResponse, ListSegmentsRequest, ListSegmentsResponse, ListTimelineRequest,
        ListTimelineResponse, PreviewSegmentRequest, PreviewSegmentResponse, SegmentDefinition,
        StreamMembersRequest, StreamMembersResponse, WasMemberRequest, WasMemberResponse, WatchFunnelRequest,
        WatchFunnelResponse, WatchSegmentRequest, WatchSegmentResponse,
        segmentation_service_server::{SegmentationService, SegmentationServiceServer},
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::saved::{self, Named};
use runnel_journeys::Journeys;
use runnel_model::limits;
use runnel_storage::Hot;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    audience::Audiences,
    door::{Door, Told, streamed},
    lists::Lists,
    live::Live,
    open::{OpenSessions, SegmentationOptions},
    segments::Segments,
    visitor::Visitors,
};

/// Answers `SegmentationService`. Clones share one.
#[derive(Clone, Debug)]
pub struct Segmentation {
    open: OpenSessions,
    segments: Segments,
    visitors: Visitors,
    live: Live,
    journeys: Journeys,
    door: Door,
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
        let live = Live::new(journeys.clone(), clock.clone(), options.looked);
        let open = OpenSessions::new(journeys.clone(), hot, clock.clone(), metrics, options);
        let door = Door::new(signer, clock);
        Segmentation {
            open,
            segments: Segments::new(journeys.clone()),
            visitors: Visitors::new(journeys.clone()),
            live,
            journeys,
            door,
        }
    }

    /// The service with what ad networks may be told, and with lists, as routes of a tonic server.
    pub fn routes(self) -> Routes {
        use tonic::codec::CompressionEncoding::{Gzip, Zstd};
        let (segments, journeys) = (self.segments.clone(), self.journeys.clone());
        let lists = Lists::new(journeys.store().clone(), self.door.clone());
        let audiences = Audiences::new(segments, journeys, self.door.clone());
        macro_rules! limited {
            ($server:expr) => {
                $server
                    .accept_compressed(Gzip)
                    .accept_compressed(Zstd)
                    .send_compressed(Gzip)
                    .max_decoding_message_size(limits::MESSAGE_BYTES)
            };
        }
        Routes::new(limited!(SegmentationServiceServer::new(self)))
            .add_service(limited!(AudienceServiceServer::new(audiences)))
            .add_service(limited!(ListServiceServer::new(lists)))
            .prepare()
    }

    /// Ends every stream of what is watched, and takes no more; their readers go on elsewhere.
    pub fn end_watching(&self) {
        self.live.close();
    }

    /// Ends what is watched, and lets other processes own the tenants that this one does.
    pub async fn close(&self) {
        self.end_watching();
        self.open.close().await;
    }
}

#[tonic::async_trait]
impl SegmentationService for Segmentation {
    type StreamMembersStream = Told<StreamMembersResponse>;
    type WatchSegmentStream = Told<WatchSegmentResponse>;
    type WatchFunnelStream = Told<WatchFunnelResponse>;

    async fn define_segment(
        &self,
        request: Request<DefineSegmentRequest>,
    ) -> Result<Response<DefineSegmentResponse>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        let Some(definition) = request.definition else {
            return Err(Refusal::field(Reason::FieldMissing, "definition", "definition is missing.").into());
        };
        self.segments.check_named(&tenant, &request.name, &definition).await?;
        let (store, named) = (self.journeys.store(), (request.name.as_str(), &definition));
        let segment = saved::save(store, &tenant, named, request.expected_version, now_ms).await?;
        Ok(Response::new(DefineSegmentResponse { segment: Some(segment.into()) }))
    }

    async fn get_segment(
        &self,
        request: Request<GetSegmentRequest>,
    ) -> Result<Response<GetSegmentResponse>, Status> {
        let (tenant, request, _) = self.door.opened(request)?;
        let store = self.journeys.store();
        let segment: Named<SegmentDefinition> =
            saved::get(store, &tenant, &request.name, request.version).await?;
        Ok(Response::new(GetSegmentResponse { segment: Some(segment.into()) }))
    }

    async fn list_segments(
        &self,
        request: Request<ListSegmentsRequest>,
    ) -> Result<Response<ListSegmentsResponse>, Status> {
        let (tenant, ListSegmentsRequest { page_size, page_token }, _) = self.door.opened(request)?;
        let store = self.journeys.store();
        let (segments, next_page_token) =
            saved::list::<SegmentDefinition>(store, &tenant, page_size, &page_token).await?;
        let segments = segments.into_iter().map(Into::into).collect();
        Ok(Response::new(ListSegmentsResponse { segments, next_page_token }))
    }

    async fn delete_segment(
        &self,
        request: Request<DeleteSegmentRequest>,
    ) -> Result<Response<DeleteSegmentResponse>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        let store = self.journeys.store();
        saved::delete::<SegmentDefinition>(store, &tenant, &request.name, now_ms).await?;
        Ok(Response::new(DeleteSegmentResponse {}))
    }

    async fn count_segment(
        &self,
        request: Request<CountSegmentRequest>,
    ) -> Result<Response<CountSegmentResponse>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        Ok(Response::new(self.segments.count(&tenant, request, now_ms).await?))
    }

    async fn preview_segment(
        &self,
        request: Request<PreviewSegmentRequest>,
    ) -> Result<Response<PreviewSegmentResponse>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        Ok(Response::new(self.segments.preview(&tenant, request, now_ms).await?))
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        Ok(Response::new(self.segments.list(&tenant, request, now_ms).await?))
    }

    async fn stream_members(
        &self,
        request: Request<StreamMembersRequest>,
    ) -> Result<Response<Self::StreamMembersStream>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        let segments = self.segments.clone();
        Ok(streamed(|parts| async move { segments.stream(&tenant, request, now_ms, parts).await }))
    }

    async fn was_member(
        &self,
        request: Request<WasMemberRequest>,
    ) -> Result<Response<WasMemberResponse>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        Ok(Response::new(self.segments.was_member(&tenant, request, now_ms).await?))
    }

    async fn get_visitor(
        &self,
        request: Request<GetVisitorRequest>,
    ) -> Result<Response<GetVisitorResponse>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        Ok(Response::new(self.visitors.get(&tenant, request, now_ms).await?))
    }

    async fn list_timeline(
        &self,
        request: Request<ListTimelineRequest>,
    ) -> Result<Response<ListTimelineResponse>, Status> {
        let (tenant, request, now_ms) = self.door.opened(request)?;
        Ok(Response::new(self.visitors.timeline(&tenant, request, now_ms).await?))
    }

    async fn watch_segment(
        &self,
        request: Request<WatchSegmentRequest>,
    ) -> Result<Response<Self::WatchSegmentStream>, Status> {
        let (tenant, request, _) = self.door.opened(request)?;
        let parts = self.live.segment(tenant, request).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }

    async fn watch_funnel(
        &self,
        request: Request<WatchFunnelRequest>,
    ) -> Result<Response<Self::WatchFunnelStream>, Status> {
        let (tenant, request, _) = self.door.opened(request)?;
        let parts = self.live.funnel(tenant, request).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }

    async fn count_open_sessions(
        &self,
        request: Request<CountOpenSessionsRequest>,
    ) -> Result<Response<CountOpenSessionsResponse>, Status> {
        let (tenant, ..) = self.door.opened(request)?;
        let counted = self.open.count(&tenant).await?;
        Ok(Response::new(CountOpenSessionsResponse {
            open_sessions: counted.open,
            as_of_ms: counted.as_of_ms,
            revision: Some(counted.revision),
            source: counted.source as i32,
        }))
    }
}
