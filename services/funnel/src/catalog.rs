//! `CatalogService` as a tonic server.

mod apply;
mod conversions;
pub(crate) mod daily;
mod preview;
mod seen;
mod template;

use std::{collections::BTreeSet, sync::Arc};

use runnel_chassis::{Clock, ContextSigner};
use runnel_contracts::{
    proto::{
        catalog::v1::{
            ApplyCatalogRequest, ApplyCatalogResponse, DefineConversionRequest, DefineConversionResponse,
            DeleteConversionRequest, DeleteConversionResponse, FitTemplateRequest, FitTemplateResponse,
            GetCatalogRequest, GetCatalogResponse, GetConversionRequest, GetConversionResponse,
            ListConversionsRequest, ListConversionsResponse, ListDailyCountsRequest, ListDailyCountsResponse,
            ListEventNamesRequest, ListEventNamesResponse, ListPropertiesRequest, ListPropertiesResponse,
            PreviewConversionRequest, PreviewConversionResponse, PutDailyCountsRequest,
            PutDailyCountsResponse, catalog_service_server::CatalogService,
        },
        query::v1 as query,
    },
    refusal::Refusal,
};
use runnel_definitions::{
    catalogue::Catalogue,
    posed,
    refusal::{loading, unavailable},
};
use runnel_journeys::{Journeys, Loaded};
use runnel_model::{Selector, TenantName};
use tonic::{Request, Response, Status};

/// Answers `CatalogService`.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    journeys: Journeys,
    signer: ContextSigner,
    clock: Clock,
}

impl Catalog {
    /// A catalogue over journeys.
    #[must_use]
    pub(crate) fn new(journeys: Journeys, signer: ContextSigner, clock: Clock) -> Catalog {
        Catalog { journeys, signer, clock }
    }

    /// The caller's tenant, the request, and the time.
    fn open<T>(&self, request: Request<T>) -> Result<(TenantName, T, i64), Refusal> {
        let now_ms = self.clock.now_ms();
        let caller = self.signer.caller(request.metadata(), now_ms)?;
        Ok((caller.tenant, request.into_inner(), now_ms))
    }

    async fn load(&self, tenant: &TenantName, columns: &BTreeSet<Selector>) -> Result<Arc<Loaded>, Refusal> {
        self.journeys.at(tenant, columns).await.map_err(|fault| loading(&fault))
    }

    async fn provenance(
        &self,
        tenant: &TenantName,
        loaded: &Loaded,
        now_ms: i64,
    ) -> Result<query::Provenance, Refusal> {
        let definition =
            self.journeys.store().definition_version(tenant).await.map_err(|fault| unavailable(&fault))?;
        Ok(posed::provenance(loaded, definition, now_ms, Vec::new()))
    }
}

#[tonic::async_trait]
impl CatalogService for Catalog {
    async fn list_event_names(
        &self,
        request: Request<ListEventNamesRequest>,
    ) -> Result<Response<ListEventNamesResponse>, Status> {
        let (tenant, request, now_ms) = self.open(request)?;
        Ok(Response::new(self.event_names(&tenant, request, now_ms).await?))
    }

    async fn list_properties(
        &self,
        request: Request<ListPropertiesRequest>,
    ) -> Result<Response<ListPropertiesResponse>, Status> {
        let (tenant, request, now_ms) = self.open(request)?;
        Ok(Response::new(self.properties(&tenant, request, now_ms).await?))
    }

    async fn define_conversion(
        &self,
        request: Request<DefineConversionRequest>,
    ) -> Result<Response<DefineConversionResponse>, Status> {
        let (tenant, request, now_ms) = self.open(request)?;
        let conversion = conversions::define(self.journeys.store(), &tenant, request, now_ms).await?;
        Ok(Response::new(DefineConversionResponse { conversion: Some(conversion) }))
    }

    async fn get_conversion(
        &self,
        request: Request<GetConversionRequest>,
    ) -> Result<Response<GetConversionResponse>, Status> {
        let (tenant, request, _) = self.open(request)?;
        let conversion = conversions::get(self.journeys.store(), &tenant, &request).await?;
        Ok(Response::new(GetConversionResponse { conversion: Some(conversion) }))
    }

    async fn list_conversions(
        &self,
        request: Request<ListConversionsRequest>,
    ) -> Result<Response<ListConversionsResponse>, Status> {
        let (tenant, request, _) = self.open(request)?;
        Ok(Response::new(conversions::list(self.journeys.store(), &tenant, &request).await?))
    }

    async fn delete_conversion(
        &self,
        request: Request<DeleteConversionRequest>,
    ) -> Result<Response<DeleteConversionResponse>, Status> {
        let (tenant, request, now_ms) = self.open(request)?;
        conversions::delete(self.journeys.store(), &tenant, &request.name, now_ms).await?;
        Ok(Response::new(DeleteConversionResponse {}))
    }

    async fn preview_conversion(
        &self,
        request: Request<PreviewConversionRequest>,
    ) -> Result<Response<PreviewConversionResponse>, Status> {
        let (tenant, request, now_ms) = self.open(request)?;
        Ok(Response::new(preview::preview(&self.journeys, &tenant, request, now_ms).await?))
    }

    async fn get_catalog(
        &self,
        request: Request<GetCatalogRequest>,
    ) -> Result<Response<GetCatalogResponse>, Status> {
        let (tenant, _, _) = self.open(request)?;
        let (document, version) = apply::document(self.journeys.store(), &tenant).await?;
        Ok(Response::new(GetCatalogResponse { document: Some(document), version }))
    }

    async fn apply_catalog(
        &self,
        request: Request<ApplyCatalogRequest>,
    ) -> Result<Response<ApplyCatalogResponse>, Status> {
        let (tenant, request, now_ms) = self.open(request)?;
        Ok(Response::new(apply::apply(self.journeys.store(), &tenant, request, now_ms).await?))
    }

    async fn fit_template(
        &self,
        request: Request<FitTemplateRequest>,
    ) -> Result<Response<FitTemplateResponse>, Status> {
        let (tenant, request, now_ms) = self.open(request)?;
        let loaded = self.load(&tenant, &BTreeSet::new()).await?;
        let settings = Catalogue::read(self.journeys.store(), &tenant).await?.settings;
        let mut fitted = template::fit(&request.template, &loaded, &settings)?;
        fitted.provenance = Some(self.provenance(&tenant, &loaded, now_ms).await?);
        Ok(Response::new(fitted))
    }

    async fn put_daily_counts(
        &self,
        request: Request<PutDailyCountsRequest>,
    ) -> Result<Response<PutDailyCountsResponse>, Status> {
        let (tenant, request, now_ms) = self.open(request)?;
        Ok(Response::new(daily::put(self.journeys.store(), &tenant, request, now_ms).await?))
    }

    async fn list_daily_counts(
        &self,
        request: Request<ListDailyCountsRequest>,
    ) -> Result<Response<ListDailyCountsResponse>, Status> {
        let (tenant, request, _) = self.open(request)?;
        Ok(Response::new(daily::list(self.journeys.store(), &tenant, &request).await?))
    }
}
