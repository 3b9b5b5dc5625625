//! The catalogue as one document: read as a whole, applied as a whole.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use runnel_channels::{Hosts, RulesError};
use runnel_contracts::{
    conversion::{self, chosen_name},
    proto::{
        catalog::v1::{
            self as wire, ApplyCatalogRequest, ApplyCatalogResponse, CatalogAction, CatalogChange,
            CatalogDocument, CatalogPart, NamedFunnel,
        },
        funnel::v1::{FunnelDefinition, TrendInterval},
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::{CONVERSION, Catalogue, Known, SETTINGS, body},
    funnel,
    refusal::unavailable,
    saved::{self, Named, Saved},
};
use runnel_journeys::channel_rules;
use runnel_model::{ChannelSettings, TenantName, limits};
use runnel_storage::{DefinitionChange, SaveDefinitionError, Store};

use super::conversions;
use crate::calendar::Calendar;

/// How often what somebody else changed meanwhile is looked at again.
const ATTEMPTS: usize = 8;

/// What a document has of one name of one part.
type Parts = BTreeMap<(CatalogPart, String), Part>;

/// One thing of a catalogue, alone in a document, and its bytes at rest.
#[derive(Clone)]
struct Part {
    alone: CatalogDocument,
    body: Bytes,
}

/// The whole catalogue, with the version of the tenant's definitions.
pub(crate) async fn document(store: &Store, tenant: &TenantName) -> Result<(CatalogDocument, u64), Refusal> {
    let version = || async { store.definition_version(tenant).await.map_err(|fault| unavailable(&fault)) };
    let mut before = version().await?;
    for _ in 0..ATTEMPTS {
        let (catalogue, funnels) =
            tokio::try_join!(Catalogue::read(store, tenant), saved::all(store, tenant))?;
        let after = version().await?;
        if before == after {
            let own = |known: Known| wire::Conversion { version: 0, saved_ms: 0, ..known.wire };
            let funnel = |Named { name, definition, .. }| NamedFunnel { name, definition: Some(definition) };
            let document = CatalogDocument {
                settings: catalogue.set,
                conversions: catalogue.conversions.into_values().map(own).collect(),
                funnels: funnels.into_iter().map(funnel).collect(),
            };
            return Ok((document, after));
        }
        before = after;
    }
    Err(Refusal::new(Reason::VersionConflict, "The catalogue changes faster than it can be read."))
}

/// Makes the catalogue what a document says.
pub(crate) async fn apply(
    store: &Store,
    tenant: &TenantName,
    request: ApplyCatalogRequest,
    now_ms: i64,
) -> Result<ApplyCatalogResponse, Refusal> {
    let Some(wanted) = request.document else {
        return Err(Refusal::field(Reason::FieldMissing, "document", "document is missing."));
    };
    let parts = parts(&wanted)?;
    let mut found = 0;
    for _ in 0..ATTEMPTS {
        let (current, version) = document(store, tenant).await?;
        if request.expected_version.is_some_and(|expected| expected != version) {
            found = version;
            break;
        }
        keeps_time_zone(store, tenant, &current, &wanted).await?;
        let (changes, after) = changes(&self::parts(&current)?, &parts, request.prune);
        most("document.conversions", after.conversions.len(), limits::CONVERSIONS)?;
        most("document.funnels", after.funnels.len(), limits::FUNNELS)?;
        check_funnels(&wanted, &after.conversions)?;
        let writes: Vec<DefinitionChange> =
            changes.iter().filter_map(|(change, body)| write(change, body)).collect();
        let changes = changes.into_iter().map(|(change, _)| change).collect();
        if request.dry_run || writes.is_empty() {
            return Ok(ApplyCatalogResponse { changes, version });
        }
        match store.change_definitions(tenant, writes, version, now_ms).await {
            Ok(version) => return Ok(ApplyCatalogResponse { changes, version }),
            Err(SaveDefinitionError::VersionConflict { found: other }) => found = other,
            Err(SaveDefinitionError::Unavailable(fault)) => return Err(unavailable(&fault)),
            Err(fault @ SaveDefinitionError::TenantUnknown(_)) => {
                return Err(Refusal::new(Reason::NotFound, format!("Nothing was applied: {fault}.")));
            }
        }
    }
    let text = format!("Nothing was applied: the tenant's definitions have version {found} by now.");
    Err(Refusal::field(Reason::VersionConflict, "expected_version", text))
}

/// Refuses another time zone where counts of days are kept of which the events are not: they cannot be counted anew.
async fn keeps_time_zone(
    store: &Store,
    tenant: &TenantName,
    current: &CatalogDocument,
    wanted: &CatalogDocument,
) -> Result<(), Refusal> {
    let zone = |document: &CatalogDocument| {
        let set = document.settings.clone().unwrap_or_default();
        conversion::settings("document.settings", &set).map(|settings| settings.time_zone)
    };
    if wanted.settings.is_none() || zone(current)? == zone(wanted)? {
        return Ok(());
    }
    let retention = store.retention(tenant).await.map_err(|fault| unavailable(&fault))?;
    match retention.and_then(|retention| retention.kept_from_ms) {
        Some(_) => {
            let text = format!(
                "The time zone stays {}: days of which the events are not kept cannot be counted in another.",
                zone(current)?
            );
            Err(Refusal::field(Reason::SettingsInvalid, "document.settings.time_zone", text))
        }
        None => Ok(()),
    }
}

/// Takes a document apart, after checking everything in it that stands alone.
fn parts(document: &CatalogDocument) -> Result<Parts, Refusal> {
    most("document.conversions", document.conversions.len(), limits::CONVERSIONS)?;
    most("document.funnels", document.funnels.len(), limits::FUNNELS)?;
    let mut parts = Parts::new();
    if let Some(settings) = &document.settings {
        let checked = conversion::settings("document.settings", settings)?;
        Calendar::of("document.settings.time_zone", &checked.time_zone)?;
        check_channels("document.settings.channels", &checked.channels)?;
        let alone = CatalogDocument { settings: Some(settings.clone()), ..CatalogDocument::default() };
        let body = settings.encode_to_vec().into();
        parts.insert((CatalogPart::Settings, String::new()), Part { alone, body });
    }
    for (at, one) in document.conversions.iter().enumerate() {
        let field = format!("document.conversions[{at}]");
        conversions::check(&field, one)?;
        let own = wire::Conversion { version: 0, saved_ms: 0, ..one.clone() };
        let body = body(one);
        let alone = CatalogDocument { conversions: vec![own], ..CatalogDocument::default() };
        let known = parts.insert((CatalogPart::Conversion, one.name.clone()), Part { alone, body });
        twice(&field, &one.name, known.is_some())?;
    }
    for (at, one) in document.funnels.iter().enumerate() {
        let field = format!("document.funnels[{at}]");
        chosen_name(&format!("{field}.name"), "a funnel", &one.name, limits::FUNNEL_NAME_BYTES)?;
        let Some(definition) = &one.definition else {
            let field = format!("{field}.definition");
            return Err(Refusal::field(Reason::FieldMissing, &field, format!("{field} is missing.")));
        };
        let body = definition.encode_to_vec().into();
        let alone = CatalogDocument { funnels: vec![one.clone()], ..CatalogDocument::default() };
        let known = parts.insert((CatalogPart::Funnel, one.name.clone()), Part { alone, body });
        twice(&field, &one.name, known.is_some())?;
    }
    Ok(parts)
}

/// Rules and hosts are read once here, so that what is wrong with them is said with its line.
fn check_channels(at: &str, channels: &ChannelSettings) -> Result<(), Refusal> {
    let wrong = |field: &str, fault: RulesError| {
        Refusal::field(Reason::SettingsInvalid, format!("{at}.{field}"), format!("{fault}."))
    };
    channel_rules(channels).map_err(|fault| wrong("rules", fault))?;
    Hosts::new(&channels.own_hosts).map_err(|fault| wrong("own_hosts", fault)).map(drop)
}

fn most(at: &str, found: usize, most: usize) -> Result<(), Refusal> {
    if found <= most {
        return Ok(());
    }
    let text = format!("A tenant has at most {most} of these; with {at} there would be {found}.");
    Err(Refusal::field(Reason::LimitReached, at, text))
}

fn twice(at: &str, name: &str, known: bool) -> Result<(), Refusal> {
    if !known {
        return Ok(());
    }
    let text = format!("The document has {name:?} twice.");
    Err(Refusal::field(Reason::NameInvalid, format!("{at}.name"), text))
}

/// What has to change, each with its bytes at rest, and the catalogue that there is afterwards.
fn changes(current: &Parts, wanted: &Parts, prune: bool) -> (Vec<(CatalogChange, Bytes)>, CatalogDocument) {
    let keys: BTreeSet<_> = current.keys().chain(wanted.keys()).collect();
    let mut changes = Vec::new();
    let mut afterwards = CatalogDocument::default();
    for key @ (part, name) in keys {
        let (before, after) = (current.get(key), wanted.get(key));
        let kept = match (before, after) {
            // Settings are set or left alone; nothing is set by taking them away.
            (Some(before), None) if !prune || *part == CatalogPart::Settings => Some(before),
            (_, after) => after,
        };
        if let Some(kept) = kept {
            afterwards.conversions.extend_from_slice(&kept.alone.conversions);
            afterwards.funnels.extend_from_slice(&kept.alone.funnels);
        }
        if after.is_none() && kept.is_some() {
            continue;
        }
        let action = match (before, after) {
            (Some(before), Some(after)) if before.body == after.body => CatalogAction::Unchanged,
            (Some(_), Some(_)) => CatalogAction::Changed,
            (None, _) => CatalogAction::Added,
            (_, None) => CatalogAction::Removed,
        };
        let change = CatalogChange {
            part: *part as i32,
            name: name.clone(),
            action: action as i32,
            before: before.map(|part| part.alone.clone()),
            after: after.map(|part| part.alone.clone()),
        };
        changes.push((change, after.map(|part| part.body.clone()).unwrap_or_default()));
    }
    (changes, afterwards)
}

fn write(change: &CatalogChange, body: &Bytes) -> Option<DefinitionChange> {
    let (kind, name) = match change.part() {
        CatalogPart::Settings => (SETTINGS, SETTINGS),
        CatalogPart::Funnel => (FunnelDefinition::KIND, change.name.as_str()),
        CatalogPart::Conversion | CatalogPart::Unspecified => (CONVERSION, change.name.as_str()),
    };
    let body = match change.action() {
        CatalogAction::Added | CatalogAction::Changed => Some(body.clone()),
        CatalogAction::Removed => None,
        CatalogAction::Unchanged | CatalogAction::Unspecified => return None,
    };
    Some(DefinitionChange { kind: kind.to_owned(), name: name.to_owned(), body, only_newest: false })
}

/// Funnels are checked against the conversions that there are afterwards.
fn check_funnels(wanted: &CatalogDocument, conversions: &[wire::Conversion]) -> Result<(), Refusal> {
    let mut catalogue = Catalogue::default();
    for wire in conversions {
        let conversion = conversion::conversion("conversion", wire)?;
        catalogue.conversions.insert(wire.name.clone(), Known { wire: wire.clone(), conversion });
    }
    let none = FunnelDefinition::default();
    for (at, funnel) in wanted.funnels.iter().enumerate() {
        let definition = funnel.definition.as_ref().unwrap_or(&none);
        funnel::check(definition, None, TrendInterval::Unspecified, &catalogue).map_err(|refusal| {
            let field = format!("document.funnels[{at}].{}", refusal.field);
            Refusal { field, ..refusal }
        })?;
    }
    Ok(())
}
