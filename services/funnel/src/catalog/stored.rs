//! The catalogue as it is stored: what questions need of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use runnel_contracts::{
    conversion,
    proto::catalog::v1 as wire,
    refusal::{Reason, Refusal},
};
use runnel_model::{Conversion, Settings, TenantName, limits};
use runnel_storage::{DefinitionRecord, Store};

use crate::refusal::unavailable;

/// The kind under which conversions are stored.
pub(crate) const CONVERSION: &str = "conversion";
/// The kind and name under which settings are stored.
pub(crate) const SETTINGS: &str = "settings";

/// A tenant's catalogue of conversions, with its settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    /// By name.
    pub(crate) conversions: BTreeMap<String, Known>,
    /// What holds for all answers.
    pub(crate) settings: Settings,
    /// The settings as they were set; `None` when they never were.
    pub(crate) set: Option<wire::Settings>,
}

/// One conversion.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// As its author said it, with its version.
    pub(crate) wire: wire::Conversion,
    /// As counting needs it.
    pub(crate) conversion: Conversion,
}

impl Catalogue {
    /// Reads a tenant's catalogue.
    pub(crate) async fn read(store: &Store, tenant: &TenantName) -> Result<Catalogue, Refusal> {
        let list = |kind, most| async move {
            store.list_definitions(tenant, kind, None, most).await.map_err(|fault| unavailable(&fault))
        };
        let (conversions, settings) =
            tokio::try_join!(list(CONVERSION, limits::CONVERSIONS), list(SETTINGS, 1))?;
        let mut catalogue = Catalogue::default();
        for record in conversions {
            let wire = stored(record)?;
            let conversion = conversion::conversion("conversion", &wire).map_err(|_| damaged())?;
            catalogue.conversions.insert(wire.name.clone(), Known { wire, conversion });
        }
        if let Some(record) = settings.into_iter().next() {
            let set = wire::Settings::decode(record.body).map_err(|_| damaged())?;
            catalogue.settings = conversion::settings("settings", &set).map_err(|_| damaged())?;
            catalogue.set = Some(set);
        }
        Ok(catalogue)
    }

    /// A conversion by name; `at` is the field that names it.
    pub(crate) fn conversion(&self, at: &str, name: &str) -> Result<&Known, Refusal> {
        self.conversions.get(name).ok_or_else(|| {
            let text = format!("The catalogue has no conversion {name:?}.");
            Refusal::field(Reason::ConversionUnknown, at, text)
        })
    }
}

/// The bytes of a conversion at rest: what its author said, without what the server adds.
pub(crate) fn body(conversion: &wire::Conversion) -> Bytes {
    let own = wire::Conversion { version: 0, saved_ms: 0, ..conversion.clone() };
    own.encode_to_vec().into()
}

/// A stored conversion with its version.
pub(crate) fn stored(record: DefinitionRecord) -> Result<wire::Conversion, Refusal> {
    let conversion = wire::Conversion::decode(record.body).map_err(|_| damaged())?;
    Ok(wire::Conversion { version: record.version, saved_ms: record.saved_ms, ..conversion })
}

pub(crate) fn damaged() -> Refusal {
    Refusal::new(Reason::DataDamaged, "The stored catalogue cannot be read.")
}
