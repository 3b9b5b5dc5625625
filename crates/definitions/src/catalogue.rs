//! The catalogue as it is stored: what questions need of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use runnel_contracts::{
    conversion,
    proto::{catalog::v1 as wire, query::v1::EventMatch},
    refusal::{Reason, Refusal},
};
use runnel_model::{Conversion, Settings, TenantName, limits};
use runnel_storage::{DefinitionRecord, Store};

use crate::{funnel::patterns, refusal::unavailable};

/// The kind under which conversions are stored.
pub const CONVERSION: &str = "conversion";
/// The kind and name under which settings are stored.
pub const SETTINGS: &str = "settings";

/// A tenant's catalogue of conversions, with its settings.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// By name.
    pub conversions: BTreeMap<String, Known>,
    /// What holds for all answers.
    pub settings: Settings,
    /// The settings as they were set; `None` when they never were.
    pub set: Option<wire::Settings>,
}

/// One conversion.
#[derive(Debug, Clone)]
pub struct Known {
    /// As its author said it, with its version.
    pub wire: wire::Conversion,
    /// As counting needs it.
    pub conversion: Conversion,
}

impl Catalogue {
    /// Reads a tenant's catalogue.
    pub async fn read(store: &Store, tenant: &TenantName) -> Result<Catalogue, Refusal> {
        let conversions = async {
            let found = store.list_definitions(tenant, CONVERSION, None, limits::CONVERSIONS).await;
            found.map_err(|fault| unavailable(&fault))
        };
        let (conversions, (settings, set)) = tokio::try_join!(conversions, stored_settings(store, tenant))?;
        let mut catalogue = Catalogue { settings, set, ..Catalogue::default() };
        for record in conversions {
            let wire = stored(record)?;
            let conversion = conversion::conversion("conversion", &wire).map_err(|_| damaged())?;
            catalogue.conversions.insert(wire.name.clone(), Known { wire, conversion });
        }
        Ok(catalogue)
    }

    /// What an event of a request is: a conversion, as it counts, or every event of a name and a condition. `at` is the field that names it. Regular expressions are
    /// compiled once here, so that a bad one is refused before anything is loaded.
    pub fn happening(&self, at: &str, event: &EventMatch) -> Result<Conversion, Refusal> {
        if event.conversion.is_empty() {
            let one = conversion::event_match(at, event)?;
            if let Some(condition) = &one.condition {
                patterns(&format!("{at}.where"), condition)?;
            }
            return Ok(Conversion::of_event(one));
        }
        let field = format!("{at}.conversion");
        if !event.event.is_empty() || event.r#where.is_some() {
            let text = "Name either a conversion or an event with a condition, not both.";
            return Err(Refusal::field(Reason::ConversionInvalid, field, text));
        }
        Ok(self.conversion(&field, &event.conversion)?.conversion.clone())
    }

    /// A conversion by name; `at` is the field that names it.
    pub fn conversion(&self, at: &str, name: &str) -> Result<&Known, Refusal> {
        self.conversions.get(name).ok_or_else(|| {
            let text = format!("The catalogue has no conversion {name:?}.");
            Refusal::field(Reason::ConversionUnknown, at, text)
        })
    }
}

/// What holds for all answers of a tenant.
pub async fn settings(store: &Store, tenant: &TenantName) -> Result<Settings, Refusal> {
    Ok(stored_settings(store, tenant).await?.0)
}

/// The same, and as it was set.
async fn stored_settings(
    store: &Store,
    tenant: &TenantName,
) -> Result<(Settings, Option<wire::Settings>), Refusal> {
    let found = store.list_definitions(tenant, SETTINGS, None, 1).await;
    let Some(record) = found.map_err(|fault| unavailable(&fault))?.into_iter().next() else {
        return Ok(Default::default());
    };
    let set = wire::Settings::decode(record.body).map_err(|_| damaged())?;
    let settings = conversion::settings("settings", &set).map_err(|_| damaged())?;
    Ok((settings, Some(set)))
}

/// The bytes of a conversion at rest: what its author said, without what the server adds.
pub fn body(conversion: &wire::Conversion) -> Bytes {
    let own = wire::Conversion { version: 0, saved_ms: 0, ..conversion.clone() };
    own.encode_to_vec().into()
}

/// A stored conversion with its version.
pub fn stored(record: DefinitionRecord) -> Result<wire::Conversion, Refusal> {
    let conversion = wire::Conversion::decode(record.body).map_err(|_| damaged())?;
    Ok(wire::Conversion { version: record.version, saved_ms: record.saved_ms, ..conversion })
}

/// What is stored is not what was saved.
pub fn damaged() -> Refusal {
    Refusal::new(Reason::DataDamaged, "The stored catalogue cannot be read.")
}
