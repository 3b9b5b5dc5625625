//! API keys: `rk_<kind>_<id>_<secret><check>`. The store has only keyed hashes of them.

use std::{fmt, time::Duration};

use moka::future::Cache;
use runnel_chassis::{
    Caller,
    seal::{NoRandomness, Seal, hex, random},
};
use runnel_contracts::refusal::{Reason, Refusal};
use runnel_model::TenantName;
use runnel_storage::{KeyKind, KeyRecord, PutKeyError, Store};
use sha2::{Digest, Sha256};

/// How long a key's record is believed. Bounds how long a revoked key works.
const BELIEVED: Duration = Duration::from_secs(30);
/// How many records are kept at hand, unknown ids included.
const AT_HAND: u64 = 100_000;
/// The id of the operator's first key: of several processes that start together, one can make it.
const FIRST: &str = "first";
/// Hexadecimal digits of the check.
const CHECK: usize = 6;

/// A key in plain text. Its debug form shows only the public part.
#[derive(Clone)]
pub struct ApiKey {
    text: String,
    id: String,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}, ..)", self.id)
    }
}

impl ApiKey {
    /// A new key with 160 random bits.
    pub fn generate(kind: KeyKind) -> Result<ApiKey, NoRandomness> {
        ApiKey::with_id(hex(&random::<6>()?), kind)
    }

    fn with_id(id: String, kind: KeyKind) -> Result<ApiKey, NoRandomness> {
        let secret = hex(&random::<20>()?);
        let body = format!("rk_{}_{id}_{secret}", kind_name(kind));
        Ok(ApiKey { text: format!("{body}{}", check(&body)), id })
    }

    /// Reads a key. `None` when its form or its check is wrong, which needs no look at the store.
    #[must_use]
    pub fn parse(text: &str) -> Option<ApiKey> {
        if !text.is_ascii() || text.len() > 128 || text.len() <= CHECK {
            return None;
        }
        let (body, sum) = text.split_at(text.len() - CHECK);
        let mut parts = body.split('_');
        let (Some("rk"), Some(_), Some(id), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        (sum == check(body) && !id.is_empty() && secret.len() == 40)
            .then(|| ApiKey { text: text.to_owned(), id: id.to_owned() })
    }

    /// The public identifier.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key itself, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

/// The kind's name in keys.
#[must_use]
pub fn kind_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Write => "write",
        KeyKind::Read => "read",
        KeyKind::Admin => "admin",
        KeyKind::Erase => "erase",
    }
}

fn no_randomness(fault: NoRandomness) -> Refusal {
    Refusal::new(Reason::Internal, format!("{fault}."))
}

fn check(body: &str) -> String {
    hex(&Sha256::digest(body.as_bytes())[..CHECK / 2])
}

/// Makes keys and tells who a key belongs to.
#[derive(Clone, Debug)]
pub struct Keys {
    store: Store,
    pepper: Seal,
    records: Cache<String, Option<KeyRecord>>,
}

impl Keys {
    /// Keys of a store. The pepper lives outside the store, so that a stolen store opens nothing.
    #[must_use]
    pub fn new(store: Store, pepper: Seal) -> Keys {
        Keys { store, pepper, records: Cache::builder().max_capacity(AT_HAND).time_to_live(BELIEVED).build() }
    }

    /// Makes a key and stores its hash.
    pub async fn create(
        &self,
        tenant: &TenantName,
        kind: KeyKind,
        label: &str,
        expires_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<(ApiKey, KeyRecord), Refusal> {
        let key = ApiKey::generate(kind).map_err(no_randomness)?;
        let put = self.put(tenant, kind, &key, (label, expires_ms, now_ms)).await;
        let record = put.map_err(|fault| match fault {
            PutKeyError::AlreadyExists => {
                Refusal::new(Reason::AlreadyExists, "The new key's identifier is taken.")
            }
            PutKeyError::Unavailable(fault) => crate::admin::refused(fault),
        })?;
        Ok((key, record))
    }

    /// Makes the first admin key of the operator. `None` where there is one.
    pub async fn create_first(&self, now_ms: i64) -> Result<Option<ApiKey>, Refusal> {
        let kind = KeyKind::Admin;
        let key = ApiKey::with_id(FIRST.to_owned(), kind).map_err(no_randomness)?;
        match self.put(&TenantName::operator(), kind, &key, ("first start", None, now_ms)).await {
            Ok(_) => Ok(Some(key)),
            Err(PutKeyError::AlreadyExists) => Ok(None),
            Err(PutKeyError::Unavailable(fault)) => Err(crate::admin::refused(fault)),
        }
    }

    /// Stores the hash of a key.
    async fn put(
        &self,
        tenant: &TenantName,
        kind: KeyKind,
        key: &ApiKey,
        (label, expires_ms, now_ms): (&str, Option<i64>, i64),
    ) -> Result<KeyRecord, PutKeyError> {
        let record = KeyRecord {
            tenant: tenant.clone(),
            id: key.id.clone(),
            kind,
            hash: self.pepper.hash(key.text.as_bytes()),
            label: label.to_owned(),
            created_ms: now_ms,
            expires_ms,
            revoked_ms: None,
        };
        self.store.put_key(record.clone()).await?;
        Ok(record)
    }

    /// Revokes a key here and, within the time that a record is believed, everywhere.
    pub async fn revoke(
        &self,
        tenant: &TenantName,
        id: &str,
        now_ms: i64,
    ) -> Result<Option<KeyRecord>, Refusal> {
        let record = self.store.revoke_key(tenant, id, now_ms).await.map_err(crate::admin::refused)?;
        self.records.invalidate(id).await;
        Ok(record)
    }

    /// Who the bearer of a key is, as a header has it, if the key is alive and of the needed kind. Unknown, expired, revoked and forged keys look alike.
    pub async fn authenticate(&self, bearer: &str, kind: KeyKind, now_ms: i64) -> Result<Caller, Refusal> {
        let invalid = || Refusal::new(Reason::KeyInvalid, "The key is not valid.");
        let key = bearer.strip_prefix("Bearer ").and_then(ApiKey::parse).ok_or_else(invalid)?;
        let record = self.alive(&key.id, now_ms).await?.ok_or_else(invalid)?;
        if !self.pepper.holds(key.text.as_bytes(), &record.hash) {
            return Err(invalid());
        }
        if record.kind != kind {
            let text = format!(
                "The method needs a key of kind {}; this one is of kind {}.",
                kind_name(kind),
                kind_name(record.kind)
            );
            return Err(Refusal::new(Reason::ScopeMissing, text));
        }
        Ok(Caller { tenant: record.tenant, key_id: record.id })
    }

    /// Whether the key of a caller who was let in is still alive.
    pub async fn still(&self, caller: &Caller, now_ms: i64) -> Result<(), Refusal> {
        let over = || Refusal::new(Reason::KeyInvalid, "The key is not valid any more.");
        self.alive(&caller.key_id, now_ms).await?.map(|_| ()).ok_or_else(over)
    }

    /// The record of a key that is neither revoked nor expired.
    async fn alive(&self, id: &str, now_ms: i64) -> Result<Option<KeyRecord>, Refusal> {
        let record = self.records.try_get_with(id.to_owned(), self.store.get_key(id)).await;
        let record = record.map_err(|fault| crate::admin::unavailable(&fault))?;
        Ok(record.filter(|record| {
            record.revoked_ms.is_none() && record.expires_ms.is_none_or(|expires| now_ms < expires)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_carry_a_check_and_hide_their_secret() {
        let key = ApiKey::generate(KeyKind::Read).unwrap();
        assert!(key.reveal().starts_with("rk_read_"));
        assert_eq!(ApiKey::parse(key.reveal()).unwrap().id(), key.id());
        let shown = format!("{key:?}");
        assert!(!shown.contains(&key.reveal()[25..]), "{shown}");
        let mut typo = key.reveal().to_owned();
        typo.replace_range(30..31, if &typo[30..31] == "0" { "1" } else { "0" });
        for bad in ["", "rk", "rk_read_x_y", "Bearer", &typo, &"ä".repeat(40), &"r".repeat(1_000)] {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }
}
