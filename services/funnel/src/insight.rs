//! `InsightService` as a tonic server: counts of conversions, sessions and visitors, over time.

pub(crate) mod asked;
mod conversions;
mod frequency;
mod micro_to_macro;
mod pages;
mod retention;
mod sessions;
mod split;
mod trend;

use runnel_chassis::{Clock, ContextSigner};
use runnel_contracts::{
    proto::{
        insight::v1::{
            ListRestatementsRequest, ListRestatementsResponse, QueryConversionsRequest,
            QueryConversionsResponse, QueryFrequencyRequest, QueryFrequencyResponse,
            QueryMicroToMacroRequest, QueryMicroToMacroResponse, QueryPagesRequest, QueryPagesResponse,
            QueryRetentionRequest, QueryRetentionResponse, QuerySessionsRequest, QuerySessionsResponse,
            QueryTrendRequest, QueryTrendResponse, insight_service_server::InsightService,
        },
        query::v1::TimeRange,
    },
    refusal::Refusal,
};
use runnel_definitions::{
    catalogue::Catalogue,
    funnel::{self, Range},
};
use runnel_journeys::Journeys;
use runnel_model::TenantName;
use tonic::{Request, Response, Status};

pub(crate) use self::{
    asked::{Asked, Over, Subject, resolved},
    split::Splitting,
    trend::too_many,
};
use crate::{
    aggregates::{self, Aggregator},
    calendar::Calendar,
};

/// Answers `InsightService`.
#[derive(Clone, Debug)]
pub(crate) struct Insights {
    journeys: Journeys,
    aggregator: Aggregator,
    signer: ContextSigner,
    clock: Clock,
}

/// Who asks, and over what.
pub(crate) struct Scene {
    pub(crate) tenant: TenantName,
    pub(crate) catalogue: Catalogue,
    pub(crate) range: Range,
    /// Which ends of the range were given.
    pub(crate) given: (bool, bool),
    without_bots: bool,
}

impl Insights {
    /// Insights over journeys.
    #[must_use]
    pub(crate) fn new(journeys: Journeys, signer: ContextSigner, clock: Clock) -> Insights {
        let aggregator = Aggregator::new(journeys.clone(), clock.clone());
        Insights { journeys, aggregator, signer, clock }
    }

    async fn scene<T>(
        &self,
        request: &Request<T>,
        (asked, as_of_ms, without_bots): (Option<&TimeRange>, Option<i64>, bool),
    ) -> Result<Scene, Refusal> {
        let now_ms = self.clock.now_ms();
        let tenant = self.signer.caller(request.metadata(), now_ms)?.tenant;
        let range = funnel::range(asked, as_of_ms, now_ms)?;
        let given = asked.map_or((false, false), |one| (one.from_ms.is_some(), one.until_ms.is_some()));
        let catalogue = Catalogue::read(self.journeys.store(), &tenant).await?;
        Ok(Scene { tenant, catalogue, range, given, without_bots })
    }
}

impl Scene {
    /// What a question is about.
    fn over(&self) -> Over<'_> {
        let Scene { tenant, catalogue, range, without_bots, .. } = self;
        Over { tenant, catalogue, range: *range, without_bots: *without_bots }
    }

    /// The calendar of a request, or else of the tenant.
    pub(crate) fn calendar(&self, asked: &str) -> Result<Calendar, Refusal> {
        let name = if asked.is_empty() { &self.catalogue.settings.time_zone } else { asked };
        Calendar::of("time_zone", name)
    }

    /// The range, where an end that was not given lies at the first or behind the last event.
    pub(crate) fn spanned(&self, span_ms: Option<(i64, i64)>) -> Range {
        let mut range = self.range;
        let (first, last) = span_ms.unwrap_or((range.until_ms, range.until_ms));
        if !self.given.1 {
            range.until_ms = range.until_ms.min(last.saturating_add(1)).max(range.from_ms);
        }
        if !self.given.0 {
            range.from_ms = range.from_ms.max(first).min(range.until_ms);
        }
        range
    }
}

macro_rules! answers {
    ($self:ident, trend) => {
        $self
    };
    ($self:ident, $module:ident) => {
        &$self.journeys
    };
    ($($method:ident: $request:ident -> $response:ident, $module:ident::$answer:ident;)*) => {
        #[tonic::async_trait]
        impl InsightService for Insights {
            $(async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                let asked = request.get_ref();
                let over = (asked.range.as_ref(), asked.as_of_ms, asked.without_bots);
                let scene = self.scene(&request, over).await?;
                let answer = $module::$answer(answers!(self, $module), &scene, request.into_inner()).await?;
                Ok(Response::new(answer))
            })*

            async fn list_restatements(
                &self,
                request: Request<ListRestatementsRequest>,
            ) -> Result<Response<ListRestatementsResponse>, Status> {
                let tenant = self.signer.caller(request.metadata(), self.clock.now_ms())?.tenant;
                Ok(Response::new(aggregates::list(&self.aggregator, &tenant, request.get_ref()).await?))
            }
        }
    };
}

answers! {
    query_conversions: QueryConversionsRequest -> QueryConversionsResponse, conversions::answer;
    query_sessions: QuerySessionsRequest -> QuerySessionsResponse, sessions::answer;
    query_pages: QueryPagesRequest -> QueryPagesResponse, pages::answer;
    query_trend: QueryTrendRequest -> QueryTrendResponse, trend::answer;
    query_retention: QueryRetentionRequest -> QueryRetentionResponse, retention::answer;
    query_frequency: QueryFrequencyRequest -> QueryFrequencyResponse, frequency::answer;
    query_micro_to_macro: QueryMicroToMacroRequest -> QueryMicroToMacroResponse, micro_to_macro::answer;
}
