//! The identifier that a call has in answers and log lines, so that a person can find the one by the other.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, in requests and in answers.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("runnel-request-id");

/// Longest identifier that is taken from a caller.
const LONGEST: usize = 64;
/// How API keys begin. One that was sent here by mistake must not get into log lines.
const KEY: &str = "rk_";

/// What the caller calls the call, if that is a token of letters, digits, `-`, `_` and `.`; else a new identifier, which then stands in the headers.
pub(super) fn of(headers: &mut HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(token) && !bytes.starts_with(KEY.as_bytes())
    };
    if let Some(sent) = headers.get(REQUEST_ID_HEADER).filter(sane) {
        return sent.clone();
    }
    let mut text = [0; uuid::fmt::Simple::LENGTH];
    let text = uuid::Uuid::now_v7().simple().encode_lower(&mut text);
    let made = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
    headers.insert(REQUEST_ID_HEADER, made.clone());
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_token_is_kept_and_anything_else_replaced() {
        for kept in ["a", "7f3a-x_y.z", &"x".repeat(64)] {
            let mut headers = HeaderMap::from_iter([(REQUEST_ID_HEADER, kept.parse().unwrap())]);
            assert_eq!(of(&mut headers), kept);
        }
        for replaced in ["", "a b", "a\tb", "ü", "{}", "rk_write_1_2", &"x".repeat(65)] {
            let value = HeaderValue::from_bytes(replaced.as_bytes()).unwrap();
            let mut headers = HeaderMap::from_iter([(REQUEST_ID_HEADER, value)]);
            let id = of(&mut headers);
            assert_eq!(id.len(), 32, "{replaced}");
            assert_eq!(headers[REQUEST_ID_HEADER], id);
        }
        assert_ne!(of(&mut HeaderMap::new()), of(&mut HeaderMap::new()));
    }
}
