//! Who is who, as the store keeps it: what was said about ids, and what became of saying it.

use runnel_model::{Claim, Standing, TenantName, limits};

use crate::Unavailable;

/// That an anonymous id belongs to a known one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identification {
    /// The anonymous id.
    pub anonymous: String,
    /// The known one, which is another.
    pub known: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// What became of an identification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Whether it was noted: it says what was not known.
    pub new: bool,
    /// It was not noted because one of the ids was erased since.
    pub erased: bool,
    /// How it stands; `None` when it was not noted because of that, or because too much was said of the anonymous id.
    pub standing: Option<Standing>,
    /// The known id that the anonymous one belongs to, or itself.
    pub belongs_to: String,
}

/// What became of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The visitor that both are.
    pub visitor: String,
    /// Whether they were two before.
    pub new: bool,
    /// The version of the identities in which they are one.
    pub version: u64,
}

/// What was said about the ids of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// By number.
    pub claims: Vec<Claim>,
    /// The version of the identities.
    pub version: u64,
}

/// Why an identification was not noted.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    TenantUnknown(TenantName),
    /// So much was said that no more fits.
    #[error("a tenant has at most {} identifications and merges", limits::CLAIMS)]
    Full,
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why two ids were not merged.
#[derive(Debug, thiserror::Error)]
pub enum IdentityMergeError {
    /// One of them is an anonymous id of somebody.
    #[error(
        "the id is an anonymous id of somebody; merge whom it belongs to instead, which GetIdentity tells"
    )]
    Anonymous {
        /// Which.
        id: String,
        /// Whose.
        belongs_to: String,
    },
    /// They have more ids together than anything should.
    #[error("a person has at most {} ids", limits::IDS_OF_A_PERSON)]
    TooManyIds,
    /// It could not be noted.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

impl From<Unavailable> for IdentityMergeError {
    fn from(fault: Unavailable) -> IdentityMergeError {
        IdentityMergeError::Claim(ClaimError::Unavailable(fault))
    }
}
