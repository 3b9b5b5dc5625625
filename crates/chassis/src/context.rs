//! Who is calling, as the gateway found out: signed, short-lived, and the only source of the tenant behind it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use runnel_contracts::refusal::{Reason, Refusal};
use runnel_model::TenantName;
use tonic::metadata::MetadataMap;

use crate::seal::{Seal, hex, unhex};

/// The header that carries the context.
pub const CONTEXT_HEADER: HeaderName = HeaderName::from_static("runnel-context");

/// How long a context is good for, in milliseconds; longer than any deadline would be pointless.
const LIFETIME_MS: i64 = 60_000;
/// When a call whose context is too old may be sent again: it may meet other processes.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's tenant.
    pub tenant: TenantName,
    /// The public identifier of the caller's key.
    pub key_id: String,
}

/// The tenant that a context names, unchecked: good for choosing among processes, for nothing else.
pub(crate) fn tenant_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTEXT_HEADER)?.to_str().ok()?.split('.').nth(1)
}

/// Signs and checks contexts. The gateway and the services share its secret.
#[derive(Clone, Debug)]
pub struct ContextSigner {
    seal: Seal,
}

impl ContextSigner {
    /// A signer with a seal.
    #[must_use]
    pub fn new(seal: Seal) -> ContextSigner {
        ContextSigner { seal }
    }

    /// Puts the caller's context in the place of any that is there.
    pub fn sign(&self, caller: &Caller, now_ms: i64, headers: &mut HeaderMap) {
        headers.remove(CONTEXT_HEADER);
        let text = format!("v1.{}.{}.{}", caller.tenant, caller.key_id, now_ms.saturating_add(LIFETIME_MS));
        let signed = format!("{text}.{}", hex(&self.seal.hash(text.as_bytes())));
        if let Ok(value) = HeaderValue::from_str(&signed) {
            headers.insert(CONTEXT_HEADER, value);
        }
    }

    /// The caller of a request that came through the gateway.
    pub fn caller(&self, metadata: &MetadataMap, now_ms: i64) -> Result<Caller, Refusal> {
        let refusal = || Refusal::new(Reason::KeyMissing, "The call did not come through the gateway.");
        let text = metadata
            .get(CONTEXT_HEADER.as_str())
            .and_then(|value| value.to_str().ok())
            .ok_or_else(refusal)?;
        let (signed, hash) = text.rsplit_once('.').ok_or_else(refusal)?;
        if !self.seal.holds(signed.as_bytes(), &unhex(hash).ok_or_else(refusal)?) {
            return Err(refusal());
        }
        let mut parts = signed.split('.');
        let (Some("v1"), Some(tenant), Some(key_id), Some(expires)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refusal());
        };
        let expires: i64 = expires.parse().map_err(|_| refusal())?;
        if expires < now_ms {
            // The caller's key is good; the call was held up, or the clock of the process that let it in is behind this one's.
            let text = "The call took too long to get here, or the clocks of the servers differ.";
            return Err(Refusal::new(Reason::ServiceUnavailable, text).retry_after(RETRY_AFTER));
        }
        let tenant = TenantName::parse(tenant).map_err(|_| refusal())?;
        Ok(Caller { tenant, key_id: key_id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_and_genuine_context_is_believed() {
        let signer = ContextSigner::new(Seal::generate().unwrap());
        let caller = Caller { tenant: TenantName::parse("shop").unwrap(), key_id: "k1".into() };
        let mut headers = HeaderMap::new();
        signer.sign(&caller, 1_000, &mut headers);
        let read = |signer: &ContextSigner, headers: &HeaderMap, now| {
            signer.caller(&MetadataMap::from_headers(headers.clone()), now)
        };
        assert_eq!(read(&signer, &headers, 2_000), Ok(caller));
        let late = read(&signer, &headers, 1_000 + LIFETIME_MS + 1).unwrap_err();
        assert_eq!((late.reason, late.retry_after), (Reason::ServiceUnavailable, Some(RETRY_AFTER)));
        assert!(read(&ContextSigner::new(Seal::generate().unwrap()), &headers, 2_000).is_err());
        let forged = headers[CONTEXT_HEADER].to_str().unwrap().replace("shop", "shoq");
        headers.insert(CONTEXT_HEADER, forged.parse().unwrap());
        assert!(read(&signer, &headers, 2_000).is_err());
        assert!(read(&signer, &HeaderMap::new(), 2_000).is_err());
    }
}
