//! The control plane's records: tenants, keys and saved definitions.

use bytes::Bytes;
use runnel_model::TenantName;

use crate::Unavailable;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its name.
    pub name: TenantName,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// For how many days events are kept; `None`: for ever.
    pub retention_days: Option<u32>,
}

/// What a name stands for. The numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NameKind {
    /// Events.
    Event = 1,
    /// Properties.
    Property = 2,
}

/// Why a tenant was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateTenantError {
    /// The name is taken.
    #[error("the tenant {0} exists already")]
    AlreadyExists(TenantName),
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What a key may do. The numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyKind {
    /// Send events.
    Write = 1,
    /// Ask questions and save definitions.
    Read = 2,
    /// Manage the tenant's keys.
    Admin = 3,
    /// Erase and export data subjects.
    Erase = 4,
}

impl KeyKind {
    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<KeyKind> {
        [KeyKind::Write, KeyKind::Read, KeyKind::Admin, KeyKind::Erase]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Whose key it is.
    pub tenant: TenantName,
    /// Public identifier; unique over all tenants.
    pub id: String,
    /// What it may do.
    pub kind: KeyKind,
    /// Keyed hash of the secret.
    pub hash: [u8; 32],
    /// A remark by its creator.
    pub label: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it stops working; `None` means never.
    pub expires_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

/// Why a key was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutKeyError {
    /// A key with this identifier exists, perhaps of another tenant.
    #[error("a key with this identifier exists already")]
    AlreadyExists,
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// One version of a saved definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionRecord {
    /// Its name.
    pub name: String,
    /// Counts from 1 for each name.
    pub version: u64,
    /// What was saved, as it was given.
    pub body: Bytes,
    /// When this version was saved, in milliseconds since the Unix epoch.
    pub saved_ms: i64,
}

/// A change to one definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionChange {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The body of its next version; `None` deletes it.
    pub body: Option<Bytes>,
    /// Whether earlier versions are deleted, because nobody will ask for them.
    pub only_newest: bool,
}

/// Why a definition was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveDefinitionError {
    /// The newest version, of the definition or of all definitions, is another one than the caller expected; 0 when there is none.
    #[error("the newest version is {found}")]
    VersionConflict {
        /// The newest version.
        found: u64,
    },
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    TenantUnknown(TenantName),
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
