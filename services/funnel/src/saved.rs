//! Saved funnels: named, versioned definitions of a tenant.

use prost::Message;
use runnel_contracts::{
    conversion::chosen_name,
    proto::funnel::v1::{self as wire, FunnelDefinition},
    refusal::{Reason, Refusal},
};
use runnel_model::{TenantName, limits};
use runnel_storage::{DefinitionRecord, SaveDefinitionError, Store};

use crate::{catalog::Catalogue, definition, refusal::unavailable};

/// The kind under which definitions of funnels are stored.
pub(crate) const KIND: &str = "funnel";

fn unknown() -> Refusal {
    Refusal::field(Reason::NotFound, "name", "There is no such funnel.")
}

fn read(record: DefinitionRecord) -> Result<wire::Funnel, Refusal> {
    let definition = FunnelDefinition::decode(record.body)
        .map_err(|_| Refusal::new(Reason::DataDamaged, "The stored funnel cannot be read."))?;
    Ok(wire::Funnel {
        name: record.name,
        version: record.version,
        definition: Some(definition),
        saved_ms: record.saved_ms,
    })
}

/// Saves a definition after checking it.
pub(crate) async fn save(
    store: &Store,
    tenant: &TenantName,
    request: wire::DefineFunnelRequest,
    now_ms: i64,
) -> Result<wire::Funnel, Refusal> {
    let name = request.name;
    chosen_name("name", "a funnel", &name, limits::FUNNEL_NAME_BYTES)?;
    let Some(definition) = request.definition else {
        return Err(Refusal::field(Reason::FieldMissing, "definition", "definition is missing."));
    };
    let catalogue = needed(store, tenant, &definition, None).await?;
    definition::check(&definition, None, wire::TrendInterval::Unspecified, &catalogue)?;
    let saved = store
        .list_definitions(tenant, KIND, None, limits::FUNNELS)
        .await
        .map_err(|fault| unavailable(&fault))?;
    if saved.len() >= limits::FUNNELS && saved.iter().all(|one| one.name != name) {
        let text = format!("A tenant saves at most {} funnels.", limits::FUNNELS);
        return Err(Refusal::new(Reason::LimitReached, text));
    }
    let body = definition.encode_to_vec().into();
    let record = store.save_definition(tenant, KIND, &name, body, request.expected_version, now_ms).await;
    read(record.map_err(|fault| match fault {
        SaveDefinitionError::Unavailable(fault) => unavailable(&fault),
        conflict => Refusal::field(
            Reason::VersionConflict,
            "expected_version",
            format!("The funnel was not saved: {conflict}."),
        ),
    })?)
}

/// The catalogue, where a question needs it; else an empty one.
pub(crate) async fn needed(
    store: &Store,
    tenant: &TenantName,
    definition: &FunnelDefinition,
    break_down: Option<&wire::BreakDown>,
) -> Result<Catalogue, Refusal> {
    if definition::needs_catalogue(definition, break_down) {
        return Catalogue::read(store, tenant).await;
    }
    Ok(Catalogue::default())
}

/// All saved funnels by name.
pub(crate) async fn all(
    store: &Store,
    tenant: &TenantName,
) -> Result<Vec<(String, FunnelDefinition)>, Refusal> {
    let found = store
        .list_definitions(tenant, KIND, None, limits::FUNNELS)
        .await
        .map_err(|fault| unavailable(&fault))?;
    let named = |record| read(record).map(|one| (one.name, one.definition.unwrap_or_default()));
    found.into_iter().map(named).collect()
}

/// A version of a saved funnel; 0 is the newest.
pub(crate) async fn get(
    store: &Store,
    tenant: &TenantName,
    name: &str,
    version: u64,
) -> Result<wire::Funnel, Refusal> {
    let record =
        store.get_definition(tenant, KIND, name, version).await.map_err(|fault| unavailable(&fault))?;
    read(record.ok_or_else(unknown)?)
}

/// A page of saved funnels by name.
pub(crate) async fn list(
    store: &Store,
    tenant: &TenantName,
    request: &wire::ListFunnelsRequest,
) -> Result<wire::ListFunnelsResponse, Refusal> {
    let size = page_size(request.page_size)?;
    let after = (!request.page_token.is_empty()).then_some(request.page_token.as_str());
    let mut found =
        store.list_definitions(tenant, KIND, after, size + 1).await.map_err(|fault| unavailable(&fault))?;
    let more = found.len() > size;
    found.truncate(size);
    let next_page_token = found.last().filter(|_| more).map(|last| last.name.clone()).unwrap_or_default();
    let funnels = found.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(wire::ListFunnelsResponse { funnels, next_page_token })
}

/// Deletes a saved funnel.
pub(crate) async fn delete(
    store: &Store,
    tenant: &TenantName,
    name: &str,
    now_ms: i64,
) -> Result<(), Refusal> {
    let deleted =
        store.delete_definition(tenant, KIND, name, now_ms).await.map_err(|fault| unavailable(&fault))?;
    if deleted { Ok(()) } else { Err(unknown()) }
}

/// A page's size within its limits.
pub(crate) fn page_size(asked: u32) -> Result<usize, Refusal> {
    match asked as usize {
        0 => Ok(limits::PAGE_DEFAULT),
        size if size <= limits::PAGE => Ok(size),
        size => {
            let text = format!("page_size is at most {}; it is {size}.", limits::PAGE);
            Err(Refusal::field(Reason::NumberOutOfRange, "page_size", text))
        }
    }
}
