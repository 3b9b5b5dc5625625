//! The client of all services.

use runnel_contracts::proto::{
    admin::v1::admin_service_client::AdminServiceClient,
    audience::v1::audience_service_client::AudienceServiceClient,
    catalog::v1::catalog_service_client::CatalogServiceClient,
    effect::v1::effect_service_client::EffectServiceClient,
    funnel::v1::funnel_service_client::FunnelServiceClient,
    identity::v1::identity_service_client::IdentityServiceClient,
    ingest::v1::ingest_service_client::IngestServiceClient,
    insight::v1::insight_service_client::InsightServiceClient,
    list::v1::list_service_client::ListServiceClient,
    segmentation::v1::segmentation_service_client::SegmentationServiceClient,
    subject::v1::subject_service_client::SubjectServiceClient,
};
use tonic::transport::Channel;

use crate::{Bearer, ConnectError, KeyError, Keyed, RetryPolicy, Transport, endpoint};

/// Largest answer that is read, in bytes: a verdict on each of 10,000 events with the longest texts.
pub(crate) const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A client of one tenant with one key. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client<S> {
    pub(crate) transport: Keyed<S>,
    pub(crate) policy: RetryPolicy,
}

impl Client<Channel> {
    /// Connects to a server at `http://host:port`. Fails when nobody answers; later the connection heals itself.
    pub async fn connect(endpoint: &str, key: &str) -> Result<Client<Channel>, ConnectError> {
        let bearer = Bearer::new(key)?;
        let settings = self::endpoint(endpoint)?;
        let channel = settings
            .connect()
            .await
            .map_err(|source| ConnectError::Unreachable { endpoint: endpoint.to_owned(), source })?;
        Ok(Client { transport: Keyed::new(channel, bearer), policy: RetryPolicy::default() })
    }

    /// As [`connect`](Client::connect), but the connection is made by the first call. Must be called inside a tokio runtime.
    pub fn connect_lazy(endpoint: &str, key: &str) -> Result<Client<Channel>, ConnectError> {
        let bearer = Bearer::new(key)?;
        let channel = self::endpoint(endpoint)?.connect_lazy();
        Ok(Client { transport: Keyed::new(channel, bearer), policy: RetryPolicy::default() })
    }
}

impl<S: Transport> Client<S> {
    /// A client over any transport, for example a server in the same process.
    pub fn over(service: S, key: &str) -> Result<Client<S>, KeyError> {
        Ok(Client { transport: Keyed::new(service, Bearer::new(key)?), policy: RetryPolicy::default() })
    }

    /// Changes when and how long appends are sent again.
    #[must_use]
    pub fn with_policy(mut self, policy: RetryPolicy) -> Client<S> {
        self.policy = policy;
        self
    }

    /// Lets a function add headers to every call, in the task that makes it. This is how a call becomes part of a trace, with whatever records yours; with
    /// OpenTelemetry:
    ///
    /// ```ignore
    /// let client = client.with_headers(|headers| {
    ///     let context = opentelemetry::Context::current();
    ///     let propagator = opentelemetry_sdk::propagation::TraceContextPropagator::new();
    ///     propagator.inject_context(&context, &mut opentelemetry_http::HeaderInjector(headers));
    /// });
    /// ```
    ///
    /// A `runnel-request-id` of letters, digits, `-`, `_` and `.` becomes the call's identifier in answers and in the server's log.
    #[must_use]
    pub fn with_headers(mut self, hook: impl Fn(&mut http::HeaderMap) + Send + Sync + 'static) -> Client<S> {
        self.transport = self.transport.hooked(std::sync::Arc::new(hook));
        self
    }

    /// When and how long appends are sent again.
    #[must_use]
    pub fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// The generated client of the ingest service.
    #[must_use]
    pub fn ingest(&self) -> IngestServiceClient<Keyed<S>> {
        IngestServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The generated client of appends that tell their effects, which need a key of the tenant to read with beside this client's key to write with.
    pub fn effect(&self, read_key: &str) -> Result<EffectServiceClient<Keyed<S>>, KeyError> {
        let transport = self.transport.clone().reading(Bearer::new(read_key)?);
        Ok(EffectServiceClient::new(transport).max_decoding_message_size(ANSWER_BYTES))
    }

    /// The generated client of who is who.
    #[must_use]
    pub fn identity(&self) -> IdentityServiceClient<Keyed<S>> {
        IdentityServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The generated client of persons' rights.
    #[must_use]
    pub fn subject(&self) -> SubjectServiceClient<Keyed<S>> {
        SubjectServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The generated client of the funnel service.
    #[must_use]
    pub fn funnel(&self) -> FunnelServiceClient<Keyed<S>> {
        FunnelServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The generated client of the segmentation service.
    #[must_use]
    pub fn segmentation(&self) -> SegmentationServiceClient<Keyed<S>> {
        SegmentationServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The generated client of what ad networks may be told.
    #[must_use]
    pub fn audience(&self) -> AudienceServiceClient<Keyed<S>> {
        AudienceServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The generated client of lists of visitors.
    #[must_use]
    pub fn list(&self) -> ListServiceClient<Keyed<S>> {
        ListServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The generated client of the catalogue.
    #[must_use]
    pub fn catalog(&self) -> CatalogServiceClient<Keyed<S>> {
        CatalogServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The generated client of insights.
    #[must_use]
    pub fn insight(&self) -> InsightServiceClient<Keyed<S>> {
        InsightServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The generated client of the control plane.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Keyed<S>> {
        AdminServiceClient::new(self.transport.clone()).max_decoding_message_size(ANSWER_BYTES)
    }
}
