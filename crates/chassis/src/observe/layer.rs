//! Watches the calls of a service: a span, the request's identifier, how long it took, how it ended.
//!
//! The layer goes around a service as its outermost one, wherever the service is: in one process a call meets two of them, the edge's and that of the service
//! behind it, and in several processes each meets its own. Spans then hang together alike. A refusal is counted and logged by the layer that meets it first;
//! that one writes the request's identifier into the answer, from which the others know.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use super::{
    body::Watched,
    ending::Ending,
    methods, propagation,
    request_id::{self, REQUEST_ID_HEADER},
};
use crate::{
    clock::Stopwatch,
    metrics::{Metrics, code_name},
};

/// The target of spans that stand for calls. They are there whatever is logged, because lines of a call show its identifier.
pub(super) const CALLS: &str = "runnel::call";

/// Puts [`Observed`] around a service.
#[derive(Clone, Debug)]
pub struct Observe {
    service: &'static str,
    metrics: Metrics,
}

impl Observe {
    /// Watches calls of a service of Runnel, for example `ingest`.
    #[must_use]
    pub fn new(service: &'static str, metrics: &Metrics) -> Observe {
        Observe { service, metrics: metrics.clone() }
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observe: self.clone() }
    }
}

/// A service whose calls are watched.
#[derive(Clone, Debug)]
pub struct Observed<S> {
    inner: S,
    observe: Observe,
}

/// Notes on a request that it met a layer of this process already.
#[derive(Clone, Copy)]
struct Met;

impl<S> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let call = Call::begin(&self.observe, &mut request);
        let span = call.span.clone();
        let answer = span.in_scope(|| self.inner.call(request));
        Box::pin(async move { answer.await.map(|response| call.answered(response)) }.instrument(span))
    }
}

/// A call that is not answered to the end. If it never is, its caller went away.
#[derive(Debug)]
pub(super) struct Call {
    observe: Observe,
    method: &'static str,
    request_id: HeaderValue,
    watch: Stopwatch,
    pub(super) span: Span,
    /// Whether refusals are this layer's to count.
    meets_first: bool,
    over: bool,
}

impl Call {
    fn begin(observe: &Observe, request: &mut Request<Body>) -> Call {
        let method = methods::name(request.uri().path());
        let request_id = request_id::of(request.headers_mut());
        let outermost = request.extensions_mut().insert(Met).is_none();
        let id = request_id.to_str().unwrap_or_default();
        let span = match outermost {
            true => {
                let span = tracing::error_span!(
                    target: CALLS, "call", otel.name = method, otel.kind = "server", request_id = id
                );
                propagation::follow(&span, request.headers());
                span
            }
            false => tracing::info_span!(
                target: CALLS, "call", otel.name = method, otel.kind = "internal", request_id = id
            ),
        };
        let (rpc_service, rpc_method) = methods::parts(method);
        propagation::describe(
            &span,
            [
                ("rpc.system", "grpc"),
                ("rpc.service", rpc_service),
                ("rpc.method", rpc_method),
                ("runnel.service", observe.service),
            ],
        );
        observe.metrics.rpc_began(observe.service);
        let (observe, watch) = (observe.clone(), Stopwatch::start());
        Call { observe, method, request_id, watch, span, meets_first: true, over: false }
    }

    /// The service answered; how the call ends may be said by the trailers.
    fn answered(mut self, mut response: Response<Body>) -> Response<Body> {
        let ours = response.headers_mut().insert(REQUEST_ID_HEADER, self.request_id.clone());
        self.meets_first = ours.is_none();
        if response.status() != StatusCode::OK {
            self.ended(Ending::of_http(response.status()));
            return response;
        }
        if response.headers().contains_key(Status::GRPC_STATUS) {
            self.ended_by(response.headers_mut());
            return response;
        }
        response.map(|body| Body::new(Watched::new(body, self)))
    }

    /// The call ended as these headers or trailers say.
    pub(super) fn ended_by(&mut self, headers: &mut HeaderMap) {
        let ending = Ending::of_headers(headers, &self.request_id);
        self.ended(ending.unwrap_or(Ending::BROKEN));
    }

    /// The call ended. Only the first time counts.
    pub(super) fn ended(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let (Ending { code, reason, fault }, took) = (ending, self.watch.elapsed());
        self.observe.metrics.rpc_ended(self.observe.service, self.method, code, took);
        propagation::end(&self.span, code as i32, fault);
        let refused = ending != Ending::OK && ending != Ending::CANCELLED && self.meets_first;
        if refused {
            self.observe.metrics.refused(reason);
        }
        let (service, method) = (self.observe.service, self.method);
        let (code, took_ms) = (code_name(code), took.as_secs_f64() * 1e3);
        let reason = reason.map(|reason| reason.name());
        let _in = self.span.enter();
        match refused {
            true if fault => tracing::error!(service, method, code, reason, took_ms, "a call failed"),
            true => tracing::info!(service, method, code, reason, took_ms, "a call was refused"),
            false => tracing::debug!(service, method, code, took_ms, "a call ended"),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.ended(Ending::CANCELLED);
    }
}

#[cfg(test)]
mod tests {
    use runnel_contracts::refusal::{Reason, Refusal};
    use tonic_types::StatusExt;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// A body that never says anything.
    struct Endless;

    impl http_body::Body for Endless {
        type Data = bytes::Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
            Poll::Pending
        }
    }

    const PATH: &str = "/runnel.ingest.v1.IngestService/AppendStream";

    fn request() -> Request<Body> {
        Request::builder().uri(PATH).body(Body::empty()).unwrap()
    }

    fn has(metrics: &Metrics, line: &str) -> bool {
        metrics.text().lines().any(|found| found == line)
    }

    #[tokio::test]
    async fn a_refusal_is_counted_once_and_carries_the_identifier_that_the_answer_has() {
        let metrics = Metrics::new();
        let refuse = service_fn(async |_: Request<Body>| {
            Ok::<_, Infallible>(Status::from(Refusal::new(Reason::NotFound, "No.")).into_http())
        });
        let (inner, outer) = (Observe::new("ingest", &metrics), Observe::new("gateway", &metrics));
        let answer = outer.layer(inner.layer(refuse)).oneshot(request()).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        let details = status.get_error_details();
        let told = &details.error_info().unwrap().metadata["request_id"];
        assert_eq!(answer.headers()[REQUEST_ID_HEADER], *told);
        assert!(has(&metrics, "runnel_refusals_total{reason=\"NOT_FOUND\"} 1"));
        for service in ["ingest", "gateway"] {
            assert!(has(&metrics, &format!("runnel_rpc_in_flight{{service=\"{service}\"}} 0")));
        }
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_ends_the_call() {
        let metrics = Metrics::new();
        let endless =
            service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::new(Endless))));
        let answer = Observe::new("ingest", &metrics).layer(endless).oneshot(request()).await.unwrap();
        assert!(has(&metrics, "runnel_rpc_in_flight{service=\"ingest\"} 1"));
        drop(answer);
        assert!(has(&metrics, "runnel_rpc_in_flight{service=\"ingest\"} 0"));
        assert!(metrics.text().contains("code=\"CANCELLED\""));
        assert!(!metrics.text().contains("runnel_refusals_total{"), "nobody was refused");
    }
}
