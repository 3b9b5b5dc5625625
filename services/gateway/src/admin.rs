//! The control plane: tenants and keys.

use runnel_chassis::{Caller, Clock, ContextSigner, observe::causes};
use runnel_contracts::{
    proto::admin::v1::{
        self as wire, CreateKeyRequest, CreateKeyResponse, CreateTenantRequest, CreateTenantResponse,
        GetRetentionRequest, GetRetentionResponse, ListKeysRequest, ListKeysResponse, ListTenantsRequest,
        ListTenantsResponse, RevokeKeyRequest, RevokeKeyResponse, SetRetentionRequest, SetRetentionResponse,
        admin_service_server::AdminService,
    },
    refusal::{Reason, Refusal},
};
use runnel_model::{TenantName, limits};
use runnel_storage::{CreateTenantError, KeyKind, KeyRecord, Retention, Store, TenantRecord, Unavailable};
use tonic::{Request, Response, Status};

use crate::keys::Keys;

/// Answers `AdminService`.
#[derive(Clone, Debug)]
pub struct Admin {
    store: Store,
    keys: Keys,
    signer: ContextSigner,
    clock: Clock,
}

impl Admin {
    /// A control plane over a store.
    #[must_use]
    pub fn new(store: Store, keys: Keys, signer: ContextSigner, clock: Clock) -> Admin {
        Admin { store, keys, signer, clock }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        self.signer.caller(request.metadata(), self.clock.now_ms())
    }

    /// The tenant that a request is about: the caller's own, or any for the operator. Others do not exist for the caller.
    async fn tenant(&self, caller: &Caller, named: &str) -> Result<TenantName, Refusal> {
        if named.is_empty() || named == caller.tenant.as_str() {
            return Ok(caller.tenant.clone());
        }
        let unknown = || Refusal::field(Reason::NotFound, "tenant", "There is no such tenant.");
        let tenant = TenantName::parse(named).map_err(|_| unknown())?;
        if !caller.tenant.is_operator() || self.store.get_tenant(&tenant).await.map_err(refused)?.is_none() {
            return Err(unknown());
        }
        Ok(tenant)
    }

    async fn retention(&self, tenant: &TenantName) -> Result<wire::Retention, Refusal> {
        let Retention { days, refused_before_ms, kept_from_ms, deleting } =
            self.store.retention(tenant).await.map_err(refused)?.unwrap_or_default();
        Ok(wire::Retention { days, refused_before_ms, kept_from_ms, deleting })
    }
}

fn tenant_to_wire(record: TenantRecord) -> wire::Tenant {
    let TenantRecord { name, created_ms, retention_days } = record;
    wire::Tenant { name: name.to_string(), created_ms, retention_days }
}

fn operator(caller: &Caller) -> Result<(), Refusal> {
    if caller.tenant.is_operator() {
        return Ok(());
    }
    Err(Refusal::new(Reason::ScopeMissing, "Managing tenants needs an admin key of the operator tenant."))
}

/// A store's fault as a refusal.
pub(crate) fn refused(fault: Unavailable) -> Refusal {
    unavailable(&fault)
}

/// A store's fault as a refusal, by reference.
pub(crate) fn unavailable(fault: &Unavailable) -> Refusal {
    tracing::error!(fault = causes(fault), "the store failed");
    Refusal::new(Reason::StoreUnavailable, "The store does not answer.")
        .retry_after(std::time::Duration::from_secs(1))
}

fn key_to_wire(record: KeyRecord) -> wire::Key {
    let kind = match record.kind {
        KeyKind::Write => wire::KeyKind::Write,
        KeyKind::Read => wire::KeyKind::Read,
        KeyKind::Admin => wire::KeyKind::Admin,
        KeyKind::Erase => wire::KeyKind::Erase,
    };
    wire::Key {
        id: record.id,
        kind: kind as i32,
        label: record.label,
        created_ms: record.created_ms,
        expires_ms: record.expires_ms,
        revoked_ms: record.revoked_ms,
    }
}

fn kind_from_wire(kind: wire::KeyKind) -> Result<KeyKind, Refusal> {
    match kind {
        wire::KeyKind::Write => Ok(KeyKind::Write),
        wire::KeyKind::Read => Ok(KeyKind::Read),
        wire::KeyKind::Admin => Ok(KeyKind::Admin),
        wire::KeyKind::Erase => Ok(KeyKind::Erase),
        wire::KeyKind::Unspecified => Err(Refusal::field(Reason::FieldMissing, "kind", "kind is missing.")),
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        operator(&self.caller(&request)?)?;
        let name = TenantName::parse(&request.get_ref().name)
            .map_err(|fault| Refusal::field(Reason::NameInvalid, "name", format!("{fault}.")))?;
        let record =
            self.store.create_tenant(&name, self.clock.now_ms()).await.map_err(|fault| match fault {
                CreateTenantError::AlreadyExists(name) => {
                    Refusal::field(Reason::AlreadyExists, "name", format!("The tenant {name} exists."))
                }
                CreateTenantError::Unavailable(fault) => refused(fault),
            })?;
        Ok(Response::new(CreateTenantResponse { tenant: Some(tenant_to_wire(record)) }))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        operator(&self.caller(&request)?)?;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let after = (!request.page_token.is_empty()).then_some(request.page_token.as_str());
        let found = self.store.list_tenants(after, size + 1).await.map_err(refused)?;
        let next_page_token = found
            .get(size)
            .and_then(|_| found.get(size - 1))
            .map(|last| last.name.to_string())
            .unwrap_or_default();
        let tenants = found.into_iter().take(size).map(tenant_to_wire).collect();
        Ok(Response::new(ListTenantsResponse { tenants, next_page_token }))
    }

    async fn set_retention(
        &self,
        request: Request<SetRetentionRequest>,
    ) -> Result<Response<SetRetentionResponse>, Status> {
        let caller = self.caller(&request)?;
        let SetRetentionRequest { tenant, days } = request.into_inner();
        let tenant = self.tenant(&caller, &tenant).await?;
        if let Some(days) = days.filter(|days| !limits::RETENTION_DAYS.contains(days)) {
            let (least, most) = limits::RETENTION_DAYS.into_inner();
            let text = format!("Events are kept for {least} to {most} days, or for ever; days is {days}.");
            return Err(Refusal::field(Reason::NumberOutOfRange, "days", text).into());
        }
        self.store.set_retention(&tenant, days).await.map_err(refused)?;
        tracing::info!(%tenant, days, by = caller.key_id, "retention set");
        Ok(Response::new(SetRetentionResponse { retention: Some(self.retention(&tenant).await?) }))
    }

    async fn get_retention(
        &self,
        request: Request<GetRetentionRequest>,
    ) -> Result<Response<GetRetentionResponse>, Status> {
        let caller = self.caller(&request)?;
        let tenant = self.tenant(&caller, &request.get_ref().tenant).await?;
        Ok(Response::new(GetRetentionResponse { retention: Some(self.retention(&tenant).await?) }))
    }

    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<CreateKeyResponse>, Status> {
        let caller = self.caller(&request)?;
        let request = request.into_inner();
        let tenant = self.tenant(&caller, &request.tenant).await?;
        let kind = kind_from_wire(request.kind())?;
        if request.label.len() > limits::ID_BYTES {
            let text =
                format!("label has at most {} bytes; it has {}.", limits::ID_BYTES, request.label.len());
            return Err(Refusal::field(Reason::TextTooLong, "label", text).into());
        }
        let live = self.store.list_keys(&tenant).await.map_err(refused)?;
        if live.iter().filter(|key| key.revoked_ms.is_none()).count() >= limits::KEYS {
            let text = format!("A tenant has at most {} live keys.", limits::KEYS);
            return Err(Refusal::new(Reason::LimitReached, text).into());
        }
        let now_ms = self.clock.now_ms();
        let (key, record) =
            self.keys.create(&tenant, kind, &request.label, request.expires_ms, now_ms).await?;
        tracing::info!(key = record.id, by = caller.key_id, "key created");
        Ok(Response::new(CreateKeyResponse {
            key: Some(key_to_wire(record)),
            secret: key.reveal().to_owned(),
        }))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let caller = self.caller(&request)?;
        let tenant = self.tenant(&caller, &request.get_ref().tenant).await?;
        let keys = self.store.list_keys(&tenant).await.map_err(refused)?;
        Ok(Response::new(ListKeysResponse {
            keys: keys.into_iter().take(limits::PAGE).map(key_to_wire).collect(),
        }))
    }

    async fn revoke_key(
        &self,
        request: Request<RevokeKeyRequest>,
    ) -> Result<Response<RevokeKeyResponse>, Status> {
        let caller = self.caller(&request)?;
        let request = request.into_inner();
        let tenant = self.tenant(&caller, &request.tenant).await?;
        let record = self.keys.revoke(&tenant, &request.id, self.clock.now_ms()).await?;
        let record = record.ok_or_else(|| Refusal::field(Reason::NotFound, "id", "There is no such key."))?;
        tracing::info!(key = record.id, by = caller.key_id, "key revoked");
        Ok(Response::new(RevokeKeyResponse { key: Some(key_to_wire(record)) }))
    }
}

fn page_size(asked: u32) -> Result<usize, Refusal> {
    match asked as usize {
        0 => Ok(limits::PAGE_DEFAULT),
        size if size <= limits::PAGE => Ok(size),
        size => {
            let text = format!("page_size is at most {}; it is {size}.", limits::PAGE);
            Err(Refusal::field(Reason::NumberOutOfRange, "page_size", text))
        }
    }
}
