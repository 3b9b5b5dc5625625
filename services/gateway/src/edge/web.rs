//! The outermost layer: only gRPC's content types are taken, and calls of browsers only from origins that are named exactly.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use runnel_chassis::Upstream;
use tonic::body::Body;
use tower::{Layer, ServiceExt};

/// What a browser may send, and what it may read of an answer.
const REQUEST_HEADERS: &str = "authorization,content-type,grpc-timeout,read-authorization,traceparent,tracestate,x-grpc-web,x-user-agent";
const RESPONSE_HEADERS: &str = "grpc-status,grpc-message,grpc-status-details-bin,runnel-request-id";

/// The origins whose pages may call, such as `https://console.example.com`. None: no browser may.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<[HeaderValue]>);

/// An origin that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is no origin; it is written https://HOST or https://HOST:PORT, without a path, and never as a pattern"
)]
pub struct OriginError(pub String);

impl Origins {
    /// Reads origins. Patterns, `null` and paths are refused.
    pub fn parse<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Origins, OriginError> {
        let parse = |origin: &str| {
            let wrong = || OriginError(origin.to_owned());
            let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let authority: http::uri::Authority =
                authority.ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
            if authority.as_str().contains(['*', '@']) {
                return Err(wrong());
            }
            HeaderValue::from_str(origin).map_err(|_| wrong())
        };
        Ok(Origins(origins.into_iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// Whether browsers may call at all.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

/// How a request is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    Web,
}

fn kind(headers: &HeaderMap) -> Option<Kind> {
    let content = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let is = |name: &str| {
        content.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
    };
    if is("application/grpc") {
        Some(Kind::Grpc)
    } else if is("application/grpc-web") || is("application/grpc-web-text") {
        Some(Kind::Web)
    } else {
        None
    }
}

/// Refuses what is not gRPC, and origins that are not named; translates gRPC-Web.
pub(super) async fn only_grpc(origins: Origins, request: Request<Body>, next: Upstream) -> Response<Body> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    if let Some(origin) = &origin
        && !origins.0.contains(origin)
    {
        return plain(StatusCode::FORBIDDEN);
    }
    let mut response = match (origin.as_ref(), request.method(), kind(request.headers())) {
        (Some(_), &Method::OPTIONS, _) => preflight(),
        (_, &Method::POST, Some(Kind::Grpc)) => next.answer(request).await,
        (_, &Method::POST, Some(Kind::Web)) if origins.any() => {
            match tonic_web::GrpcWebLayer::new().layer(next).oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
        _ => return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// What a browser asks before it calls.
fn preflight() -> Response<Body> {
    let mut response = plain(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    response
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact() {
        for bad in [
            "*",
            "null",
            "example.com",
            "https://*.example.com",
            "https://a@b",
            "https://",
            "ftp://a",
            "https://a/b",
        ] {
            assert!(Origins::parse([bad]).is_err(), "{bad}");
        }
        assert!(Origins::parse(["https://example.com", "http://localhost:3000"]).unwrap().any());
        assert!(!Origins::default().any());
    }

    #[test]
    fn only_the_content_types_of_grpc_are_known() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            kind(&headers)
        };
        assert_eq!(of("application/grpc"), Some(Kind::Grpc));
        assert_eq!(of("application/grpc+proto"), Some(Kind::Grpc));
        assert_eq!(of("application/grpc;charset=utf-8"), Some(Kind::Grpc));
        assert_eq!(of("application/grpc-web+proto"), Some(Kind::Web));
        assert_eq!(of("application/grpc-web-text"), Some(Kind::Web));
        for other in
            ["text/plain", "application/json", "application/grpcx", "application/x-www-form-urlencoded", ""]
        {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(kind(&HeaderMap::new()), None);
    }
}
