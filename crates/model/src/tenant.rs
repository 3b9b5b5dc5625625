//! Names of tenants.

use std::{fmt, sync::Arc};

/// The name of an isolated customer: 1 to 63 lower-case letters, digits and hyphens, starting with a letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(Arc<str>);

/// The name breaks the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tenant's name has 1 to 63 lower-case letters, digits and hyphens and starts with a letter; {0:?} does not"
)]
pub struct TenantNameError(pub String);

impl TenantName {
    /// The tenant whose admin keys manage all tenants.
    #[must_use]
    pub fn operator() -> TenantName {
        TenantName("operator".into())
    }

    /// Whether this is the operator's tenant.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        &*self.0 == "operator"
    }

    /// Checks a name.
    pub fn parse(name: &str) -> Result<TenantName, TenantNameError> {
        let good = (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good { Ok(TenantName(name.into())) } else { Err(TenantNameError(name.chars().take(80).collect())) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["shop", "a", "shop-2"] {
            assert_eq!(TenantName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "Shop", "2shop", "-shop", "sh op", "läden", &"a".repeat(64)] {
            assert!(TenantName::parse(bad).is_err(), "{bad}");
        }
    }
}
