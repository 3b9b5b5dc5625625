//! Conversions: named, versioned definitions of a tenant.

use runnel_contracts::{
    conversion,
    proto::catalog::v1::{
        self as wire, DefineConversionRequest, GetConversionRequest, ListConversionsRequest,
        ListConversionsResponse,
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::{CONVERSION, body, stored},
    funnel::patterns,
    refusal::unavailable,
    saved::page_size,
};
use runnel_model::{TenantName, limits};
use runnel_storage::{SaveDefinitionError, Store};

fn unknown() -> Refusal {
    Refusal::field(Reason::NotFound, "name", "There is no such conversion.")
}

/// Checks everything about a conversion, its regular expressions too.
pub(crate) fn check(at: &str, wire: &wire::Conversion) -> Result<runnel_model::Conversion, Refusal> {
    let checked = conversion::conversion(at, wire)?;
    for condition in checked.matches().iter().filter_map(|event| event.condition.as_ref()) {
        patterns(&format!("{at}.rule"), condition)?;
    }
    Ok(checked)
}

/// Saves a conversion after checking it.
pub(crate) async fn define(
    store: &Store,
    tenant: &TenantName,
    request: DefineConversionRequest,
    now_ms: i64,
) -> Result<wire::Conversion, Refusal> {
    let Some(conversion) = request.conversion else {
        return Err(Refusal::field(Reason::FieldMissing, "conversion", "conversion is missing."));
    };
    check("conversion", &conversion)?;
    let saved = store
        .list_definitions(tenant, CONVERSION, None, limits::CONVERSIONS)
        .await
        .map_err(|fault| unavailable(&fault))?;
    if saved.len() >= limits::CONVERSIONS && saved.iter().all(|one| one.name != conversion.name) {
        let text = format!("A tenant has at most {} conversions.", limits::CONVERSIONS);
        return Err(Refusal::new(Reason::LimitReached, text));
    }
    let (name, body) = (&conversion.name, body(&conversion));
    let record =
        store.save_definition(tenant, CONVERSION, name, body, request.expected_version, now_ms).await;
    stored(record.map_err(|fault| match fault {
        SaveDefinitionError::Unavailable(fault) => unavailable(&fault),
        conflict => Refusal::field(
            Reason::VersionConflict,
            "expected_version",
            format!("The conversion was not saved: {conflict}."),
        ),
    })?)
}

/// A version of a conversion; 0 is the newest.
pub(crate) async fn get(
    store: &Store,
    tenant: &TenantName,
    request: &GetConversionRequest,
) -> Result<wire::Conversion, Refusal> {
    let record = store
        .get_definition(tenant, CONVERSION, &request.name, request.version)
        .await
        .map_err(|fault| unavailable(&fault))?;
    stored(record.ok_or_else(unknown)?)
}

/// A page of conversions by name.
pub(crate) async fn list(
    store: &Store,
    tenant: &TenantName,
    request: &ListConversionsRequest,
) -> Result<ListConversionsResponse, Refusal> {
    let size = page_size(request.page_size)?;
    let after = (!request.page_token.is_empty()).then_some(request.page_token.as_str());
    let mut found = store
        .list_definitions(tenant, CONVERSION, after, size + 1)
        .await
        .map_err(|fault| unavailable(&fault))?;
    let more = found.len() > size;
    found.truncate(size);
    let next_page_token = found.last().filter(|_| more).map(|last| last.name.clone()).unwrap_or_default();
    let conversions = found.into_iter().map(stored).collect::<Result<_, _>>()?;
    Ok(ListConversionsResponse { conversions, next_page_token })
}

/// Deletes a conversion.
pub(crate) async fn delete(
    store: &Store,
    tenant: &TenantName,
    name: &str,
    now_ms: i64,
) -> Result<(), Refusal> {
    let deleted = store
        .delete_definition(tenant, CONVERSION, name, now_ms)
        .await
        .map_err(|fault| unavailable(&fault))?;
    if deleted { Ok(()) } else { Err(unknown()) }
}
