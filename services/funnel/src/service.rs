//! `FunnelService` as a tonic server.

use std::sync::Arc;

use runnel_chassis::{Caller, Clock, ContextSigner};
use runnel_contracts::{
    proto::{
        catalog::v1::catalog_service_server::CatalogServiceServer,
        funnel::v1::{
            self as wire, DefineFunnelRequest, DefineFunnelResponse, DeleteFunnelRequest,
            DeleteFunnelResponse, ExplainVisitorRequest, ExplainVisitorResponse, GetFunnelRequest,
            GetFunnelResponse, ListFunnelsRequest, ListFunnelsResponse, QueryFunnelRequest,
            QueryFunnelResponse, VerifyRequest, VerifyResponse, explain_visitor_request,
            funnel_service_server::{FunnelService, FunnelServiceServer},
            query_funnel_request,
        },
        insight::v1::insight_service_server::InsightServiceServer,
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::Catalogue,
    funnel,
    posed::{Posed, pose},
    refusal,
    saved::{self, Named},
};
use runnel_journeys::Journeys;
use runnel_model::{TenantName, limits};
use runnel_storage::compute;
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    answer::answer,
    ask::{Counted, count},
    catalog::Catalog,
    counted, explain,
    insight::Insights,
    verify,
};

/// Answers `FunnelService`.
#[derive(Clone, Debug)]
pub struct Funnels {
    journeys: Journeys,
    signer: ContextSigner,
    clock: Clock,
}

/// An answer together with what it was made of.
struct Answered {
    posed: Arc<Posed>,
    counted: Counted,
    response: QueryFunnelResponse,
}

impl Funnels {
    /// A funnel service over journeys.
    #[must_use]
    pub fn new(journeys: Journeys, signer: ContextSigner, clock: Clock) -> Funnels {
        Funnels { journeys, signer, clock }
    }

    /// The service as tonic servers behind one another: funnels, the catalogue, and insights.
    #[must_use]
    pub fn routes(self) -> Routes {
        use tonic::codec::CompressionEncoding::{Gzip, Zstd};
        let (journeys, signer, clock) = (&self.journeys, &self.signer, &self.clock);
        let catalog = Catalog::new(journeys.clone(), signer.clone(), clock.clone());
        let insights = Insights::new(journeys.clone(), signer.clone(), clock.clone());
        macro_rules! limited {
            ($server:expr) => {
                $server
                    .accept_compressed(Gzip)
                    .accept_compressed(Zstd)
                    .send_compressed(Gzip)
                    .max_decoding_message_size(limits::MESSAGE_BYTES)
            };
        }
        Routes::new(limited!(FunnelServiceServer::new(self)))
            .add_service(limited!(CatalogServiceServer::new(catalog)))
            .add_service(limited!(InsightServiceServer::new(insights)))
            .prepare()
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        self.signer.caller(request.metadata(), self.clock.now_ms())
    }

    /// A definition with its version; 0 for an inline one.
    async fn named(&self, tenant: &TenantName, name: &str) -> Result<(wire::FunnelDefinition, u64), Refusal> {
        let funnel = saved::get(self.journeys.store(), tenant, name, 0).await?;
        Ok((funnel.definition, funnel.version))
    }

    async fn query(&self, tenant: &TenantName, request: &QueryFunnelRequest) -> Result<Answered, Refusal> {
        let (asked, version) = match &request.funnel {
            Some(query_funnel_request::Funnel::Name(name)) => self.named(tenant, name).await?,
            Some(query_funnel_request::Funnel::Inline(inline)) => (inline.clone(), 0),
            None => return Err(no_funnel()),
        };
        if wire::TrendInterval::try_from(request.trend).is_err() {
            let text = format!("trend has no value number {}.", request.trend);
            return Err(Refusal::field(Reason::EnumUnknown, "trend", text));
        }
        let store = self.journeys.store();
        let catalogue = match request.without_bots {
            true => Catalogue::read(store, tenant).await?,
            false => saved::needed(store, tenant, &asked, request.break_down.as_ref()).await?,
        };
        let checked = funnel::check(&asked, request.break_down.as_ref(), request.trend(), &catalogue)?;
        let range = funnel::range(request.range.as_ref(), request.as_of_ms, self.clock.now_ms())?;
        let posed = Arc::new(pose(&self.journeys, tenant, &checked, range, request.without_bots).await?);
        let counted = count(&self.journeys, posed.clone()).await?;
        let top = request.break_down.as_ref().map_or(0, |asked| asked.top as usize);
        let top = if top == 0 { limits::BREAK_DOWN_ROWS_DEFAULT } else { top };
        let mut response = answer(&checked, &posed, &counted, version, range, top)?;
        let begins_ms = posed.loaded.span_ms().map(|(first_ms, _)| first_ms);
        let over = (range, begins_ms.max(posed.loaded.kept_from_ms));
        counted::tell(store, tenant, &catalogue.settings.time_zone, over, &mut response).await?;
        Ok(Answered { posed, counted, response })
    }
}

fn no_funnel() -> Refusal {
    Refusal::field(Reason::FieldMissing, "funnel", "The request names no funnel and has none inline.")
}

#[tonic::async_trait]
impl FunnelService for Funnels {
    async fn define_funnel(
        &self,
        request: Request<DefineFunnelRequest>,
    ) -> Result<Response<DefineFunnelResponse>, Status> {
        let Caller { tenant, .. } = self.caller(&request)?;
        let (request, store) = (request.into_inner(), self.journeys.store());
        let Some(definition) = request.definition else {
            return Err(Refusal::field(Reason::FieldMissing, "definition", "definition is missing.").into());
        };
        let catalogue = saved::needed(store, &tenant, &definition, None).await?;
        funnel::check(&definition, None, wire::TrendInterval::Unspecified, &catalogue)?;
        let named = (request.name.as_str(), &definition);
        let funnel =
            saved::save(store, &tenant, named, request.expected_version, self.clock.now_ms()).await?;
        Ok(Response::new(DefineFunnelResponse { funnel: Some(funnel.into()) }))
    }

    async fn get_funnel(
        &self,
        request: Request<GetFunnelRequest>,
    ) -> Result<Response<GetFunnelResponse>, Status> {
        let caller = self.caller(&request)?;
        let request = request.into_inner();
        let funnel: Named<wire::FunnelDefinition> =
            saved::get(self.journeys.store(), &caller.tenant, &request.name, request.version).await?;
        Ok(Response::new(GetFunnelResponse { funnel: Some(funnel.into()) }))
    }

    async fn list_funnels(
        &self,
        request: Request<ListFunnelsRequest>,
    ) -> Result<Response<ListFunnelsResponse>, Status> {
        let caller = self.caller(&request)?;
        let ListFunnelsRequest { page_size, page_token } = request.get_ref();
        let store = self.journeys.store();
        let (funnels, next_page_token) =
            saved::list::<wire::FunnelDefinition>(store, &caller.tenant, *page_size, page_token).await?;
        let funnels = funnels.into_iter().map(Into::into).collect();
        Ok(Response::new(ListFunnelsResponse { funnels, next_page_token }))
    }

    async fn delete_funnel(
        &self,
        request: Request<DeleteFunnelRequest>,
    ) -> Result<Response<DeleteFunnelResponse>, Status> {
        let caller = self.caller(&request)?;
        let (store, name) = (self.journeys.store(), &request.get_ref().name);
        saved::delete::<wire::FunnelDefinition>(store, &caller.tenant, name, self.clock.now_ms()).await?;
        Ok(Response::new(DeleteFunnelResponse {}))
    }

    async fn query_funnel(
        &self,
        request: Request<QueryFunnelRequest>,
    ) -> Result<Response<QueryFunnelResponse>, Status> {
        let caller = self.caller(&request)?;
        Ok(Response::new(self.query(&caller.tenant, request.get_ref()).await?.response))
    }

    async fn explain_visitor(
        &self,
        request: Request<ExplainVisitorRequest>,
    ) -> Result<Response<ExplainVisitorResponse>, Status> {
        let caller = self.caller(&request)?;
        let request = request.into_inner();
        let (asked, version) = match &request.funnel {
            Some(explain_visitor_request::Funnel::Name(name)) => self.named(&caller.tenant, name).await?,
            Some(explain_visitor_request::Funnel::Inline(inline)) => (inline.clone(), 0),
            None => return Err(no_funnel().into()),
        };
        let catalogue = saved::needed(self.journeys.store(), &caller.tenant, &asked, None).await?;
        let checked = funnel::check(&asked, None, wire::TrendInterval::Unspecified, &catalogue)?;
        let range = funnel::range(request.range.as_ref(), request.as_of_ms, self.clock.now_ms())?;
        let posed = pose(&self.journeys, &caller.tenant, &checked, range, false).await?;
        let told = move || explain::explain(&checked, &posed, &request.visitor_id, version, range);
        let response = compute(told).await.map_err(|_| refusal::stopped())??;
        Ok(Response::new(response))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        let caller = self.caller(&request)?;
        let query = request.into_inner().query.ok_or_else(no_funnel)?;
        let answered = self.query(&caller.tenant, &query).await?;
        let Answered { posed, counted, response } = answered;
        Ok(Response::new(verify::verify(&self.journeys, posed, &counted, response).await?))
    }
}
