//! What tenants save under names, in versions: funnels and segments.

use prost::Message;
use runnel_contracts::{
    conversion::chosen_name,
    proto::{
        funnel::v1::{self as funnels, FunnelDefinition},
        segmentation::v1::{self as segments, SegmentDefinition},
    },
    refusal::{Reason, Refusal},
};
use runnel_model::{TenantName, limits};
use runnel_storage::{DefinitionRecord, SaveDefinitionError, Store};

use crate::{catalogue::Catalogue, funnel, refusal::unavailable};

/// A kind of thing that tenants save.
pub trait Saved: Message + Default {
    /// The kind under which it is stored.
    const KIND: &'static str;
    /// What people call it.
    const WHAT: &'static str;
    /// How many a tenant saves.
    const MOST: usize;
}

impl Saved for FunnelDefinition {
    const KIND: &'static str = "funnel";
    const WHAT: &'static str = "funnel";
    const MOST: usize = limits::FUNNELS;
}

impl Saved for SegmentDefinition {
    const KIND: &'static str = "segment";
    const WHAT: &'static str = "segment";
    const MOST: usize = limits::SEGMENTS;
}

/// One version of a saved definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<D> {
    /// Its name.
    pub name: String,
    /// From 1.
    pub version: u64,
    /// What it says.
    pub definition: D,
    /// When it was saved, in milliseconds since the Unix epoch.
    pub saved_ms: i64,
}

impl From<Named<FunnelDefinition>> for funnels::Funnel {
    fn from(saved: Named<FunnelDefinition>) -> funnels::Funnel {
        let Named { name, version, definition, saved_ms } = saved;
        funnels::Funnel { name, version, definition: Some(definition), saved_ms }
    }
}

impl From<Named<SegmentDefinition>> for segments::Segment {
    fn from(saved: Named<SegmentDefinition>) -> segments::Segment {
        let Named { name, version, definition, saved_ms } = saved;
        segments::Segment { name, version, definition: Some(definition), saved_ms }
    }
}

fn unknown<D: Saved>() -> Refusal {
    Refusal::field(Reason::NotFound, "name", format!("There is no such {}.", D::WHAT))
}

fn read<D: Saved>(record: DefinitionRecord) -> Result<Named<D>, Refusal> {
    let definition = D::decode(record.body)
        .map_err(|_| Refusal::new(Reason::DataDamaged, format!("The stored {} cannot be read.", D::WHAT)))?;
    Ok(Named { name: record.name, version: record.version, definition, saved_ms: record.saved_ms })
}

/// Saves a definition, which was checked before.
pub async fn save<D: Saved>(
    store: &Store,
    tenant: &TenantName,
    (name, definition): (&str, &D),
    expected_version: Option<u64>,
    now_ms: i64,
) -> Result<Named<D>, Refusal> {
    chosen_name("name", &format!("a {}", D::WHAT), name, limits::FUNNEL_NAME_BYTES)?;
    let saved =
        store.list_definitions(tenant, D::KIND, None, D::MOST).await.map_err(|fault| unavailable(&fault))?;
    if saved.len() >= D::MOST && saved.iter().all(|one| one.name != name) {
        let text = format!("A tenant saves at most {} {}s.", D::MOST, D::WHAT);
        return Err(Refusal::new(Reason::LimitReached, text));
    }
    let body = definition.encode_to_vec().into();
    let record = store.save_definition(tenant, D::KIND, name, body, expected_version, now_ms).await;
    read(record.map_err(|fault| match fault {
        SaveDefinitionError::Unavailable(fault) => unavailable(&fault),
        conflict => Refusal::field(
            Reason::VersionConflict,
            "expected_version",
            format!("The {} was not saved: {conflict}.", D::WHAT),
        ),
    })?)
}

/// The catalogue, where a question needs it; else an empty one.
pub async fn needed(
    store: &Store,
    tenant: &TenantName,
    definition: &FunnelDefinition,
    break_down: Option<&funnels::BreakDown>,
) -> Result<Catalogue, Refusal> {
    if funnel::needs_catalogue(definition, break_down) {
        return Catalogue::read(store, tenant).await;
    }
    Ok(Catalogue::default())
}

/// The newest version of all of a kind, by name.
pub async fn all<D: Saved>(store: &Store, tenant: &TenantName) -> Result<Vec<Named<D>>, Refusal> {
    let found = store.list_definitions(tenant, D::KIND, None, D::MOST).await;
    found.map_err(|fault| unavailable(&fault))?.into_iter().map(read).collect()
}

/// A version of a saved definition, if there is one; 0 is the newest.
pub async fn find<D: Saved>(
    store: &Store,
    tenant: &TenantName,
    name: &str,
    version: u64,
) -> Result<Option<Named<D>>, Refusal> {
    let record = store.get_definition(tenant, D::KIND, name, version).await;
    record.map_err(|fault| unavailable(&fault))?.map(read).transpose()
}

/// As [`find`], for a request that names it.
pub async fn get<D: Saved>(
    store: &Store,
    tenant: &TenantName,
    name: &str,
    version: u64,
) -> Result<Named<D>, Refusal> {
    find(store, tenant, name, version).await?.ok_or_else(unknown::<D>)
}

/// A page of a kind by name, and the token of the next one, which is empty behind the last.
pub async fn list<D: Saved>(
    store: &Store,
    tenant: &TenantName,
    asked_size: u32,
    page_token: &str,
) -> Result<(Vec<Named<D>>, String), Refusal> {
    let size = page_size(asked_size)?;
    let after = (!page_token.is_empty()).then_some(page_token);
    let mut found = store
        .list_definitions(tenant, D::KIND, after, size + 1)
        .await
        .map_err(|fault| unavailable(&fault))?;
    let more = found.len() > size;
    found.truncate(size);
    let next_page_token = found.last().filter(|_| more).map(|last| last.name.clone()).unwrap_or_default();
    Ok((found.into_iter().map(read).collect::<Result<_, _>>()?, next_page_token))
}

/// Deletes all versions of a saved definition.
pub async fn delete<D: Saved>(
    store: &Store,
    tenant: &TenantName,
    name: &str,
    now_ms: i64,
) -> Result<(), Refusal> {
    let deleted = store.delete_definition(tenant, D::KIND, name, now_ms).await;
    if deleted.map_err(|fault| unavailable(&fault))? { Ok(()) } else { Err(unknown::<D>()) }
}

/// A page token that does not fit the question.
#[must_use]
pub fn foreign_token() -> Refusal {
    let text = "page_token is none that this method has given for this question.";
    Refusal::field(Reason::PageTokenInvalid, "page_token", text)
}

/// A page's size within its limits.
pub fn page_size(asked: u32) -> Result<usize, Refusal> {
    match asked as usize {
        0 => Ok(limits::PAGE_DEFAULT),
        size if size <= limits::PAGE => Ok(size),
        size => {
            let text = format!("page_size is at most {}; it is {size}.", limits::PAGE);
            Err(Refusal::field(Reason::NumberOutOfRange, "page_size", text))
        }
    }
}
