//! The trace that a call belongs to, from process to process: W3C `traceparent` and `tracestate`, <https://www.w3.org/TR/trace-context/>.
//!
//! Where traces are not exported, none of this does anything: what a client sent goes on as it came.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{Status, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, name: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// Makes a span that was just made part of the trace that the headers name, if they name one.
pub(super) fn follow(span: &Span, headers: &HeaderMap) {
    if !headers.contains_key("traceparent") {
        return;
    }
    let sender = TraceContextPropagator::new().extract(&Headers(headers));
    if sender.span().span_context().is_valid() {
        // Without exported traces there is nothing to be part of.
        drop(span.set_parent(sender));
    }
}

/// Tells the next process which trace a call belongs to, and of which span it is a part.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    let context = span.context();
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(&context, &mut HeadersMut(headers));
    }
}

/// What the work that is under way is called elsewhere, such as in a database's own views: `runnel` and the `traceparent` of the span, 62 bytes. `None` where no
/// trace is recorded.
#[must_use]
pub fn call_name() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let known = span.span_context();
    known.is_sampled().then(|| format!("runnel 00-{}-{}-01", known.trace_id(), known.span_id()))
}

/// Says more of a span to whom traces go, which log lines do not show.
pub(super) fn describe<const N: usize>(span: &Span, more: [(&'static str, &'static str); N]) {
    for (key, value) in more {
        span.set_attribute(key, value);
    }
}

/// Says how the call that a span stands for ended, with its gRPC code.
pub(super) fn end(span: &Span, code: i32, fault: bool) {
    span.set_attribute("rpc.grpc.status_code", i64::from(code));
    if fault {
        span.set_status(Status::error(""));
    }
}
