//! A transport that carries a key on every call.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION};
use tonic::body::Body;
use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What calls travel over: a network channel, a generated tonic server in the same process, or either under tower layers.
///
/// It is implemented for every fitting service; `Wire` is the body of its responses.
pub trait Transport:
    Service<
        Request<Body>,
        Response = Response<<Self as Transport>::Wire>,
        Error: Into<BoxError> + Send,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
    /// The body of responses.
    type Wire: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static;
}

impl<S, B> Transport for S
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Wire = B;
}

/// The key cannot be sent as metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has only visible ASCII characters, as `runnel keys create` shows it; this one has others")]
pub struct KeyError;

/// The metadata `authorization: Bearer rk_…`. Never shown.
#[derive(Clone)]
pub struct Bearer(HeaderValue);

impl Bearer {
    /// Takes a key as it was shown when it was made. Surrounding white space, such as the end of a file's line, is dropped.
    pub fn new(key: &str) -> Result<Bearer, KeyError> {
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError);
        }
        let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| KeyError)?;
        value.set_sensitive(true);
        Ok(Bearer(value))
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}

/// Adds headers to a call.
type HeaderHook = Arc<dyn Fn(&mut HeaderMap) + Send + Sync>;

/// A transport with a key.
#[derive(Clone)]
pub struct Keyed<S> {
    inner: S,
    bearer: Bearer,
    /// A key to read with, beside one to write with.
    reader: Option<Bearer>,
    hook: Option<HeaderHook>,
}

impl<S: std::fmt::Debug> std::fmt::Debug for Keyed<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyed").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S> Keyed<S> {
    /// Puts the key on every call over `inner`.
    pub fn new(inner: S, bearer: Bearer) -> Keyed<S> {
        Keyed { inner, bearer, reader: None, hook: None }
    }

    /// Puts a key to read with on every call as well.
    pub(crate) fn reading(self, key: Bearer) -> Keyed<S> {
        Keyed { reader: Some(key), ..self }
    }

    /// Lets a function add headers to every call, before the key.
    pub(crate) fn hooked(self, hook: HeaderHook) -> Keyed<S> {
        Keyed { hook: Some(hook), ..self }
    }
}

impl<S, B> Service<Request<Body>> for Keyed<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        if let Some(hook) = &self.hook {
            hook(request.headers_mut());
        }
        request.headers_mut().insert(AUTHORIZATION, self.bearer.0.clone());
        if let Some(reader) = &self.reader {
            request.headers_mut().insert("read-authorization", reader.0.clone());
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked_and_never_shown() {
        let bearer = Bearer::new(" rk_write_x\n").unwrap();
        assert_eq!(bearer.0, "Bearer rk_write_x");
        assert_eq!(format!("{bearer:?} {:?}", bearer.0), "Bearer(…) Sensitive");
        for bad in ["", "  ", "rk_ä", "rk a", "rk\nb"] {
            assert_eq!(Bearer::new(bad).unwrap_err(), KeyError, "{bad:?}");
        }
    }
}
