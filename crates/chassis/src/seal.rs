//! Keyed hashes: HMAC-SHA-256 over short texts, written in hexadecimal.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A secret that hashes and checks. Its debug form shows nothing.
#[derive(Clone)]
pub struct Seal {
    secret: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness(#[source] pub getrandom::Error);

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

impl Seal {
    /// A seal with a given secret.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Seal {
        Seal { secret }
    }

    /// A seal with a random secret.
    pub fn generate() -> Result<Seal, NoRandomness> {
        Ok(Seal::new(random()?))
    }

    /// The hash of a text.
    #[must_use]
    pub fn hash(&self, text: &[u8]) -> [u8; 32] {
        match self.mac(text) {
            Some(mac) => mac.finalize().into_bytes().into(),
            None => [0; 32],
        }
    }

    /// Whether a hash belongs to a text, compared in constant time.
    #[must_use]
    pub fn holds(&self, text: &[u8], hash: &[u8]) -> bool {
        self.mac(text).is_some_and(|mac| mac.verify_slice(hash).is_ok())
    }

    fn mac(&self, text: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(text);
        Some(mac)
    }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal; `None` when it is none.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
