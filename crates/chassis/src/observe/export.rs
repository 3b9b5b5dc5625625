//! Where telemetry goes: OTLP over gRPC, as the standard variables say.
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>

use std::{env, sync::mpsc, time::Duration};

use opentelemetry::{Key, KeyValue, trace::TracerProvider as _};
use opentelemetry_appender_tracing::layer::{OpenTelemetryTracingBridge, TracingSpanAttributes};
use opentelemetry_otlp::{ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    logs::{SdkLogger, SdkLoggerProvider},
    trace::{SdkTracer, SdkTracerProvider},
};
use tonic::transport::ClientTlsConfig;
use tracing_opentelemetry::OpenTelemetryLayer;

use crate::Metrics;

/// How long sending what is left may take, all kinds together, before the process ends without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is exported of this process.
#[derive(Debug)]
pub(super) struct Export {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    metrics: Metrics,
}

/// A variable that says something.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where a kind of telemetry, for example `TRACES`, is to be sent.
fn receiver(kind: &str) -> Option<String> {
    set(&format!("OTEL_EXPORTER_OTLP_{kind}_ENDPOINT")).or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

/// Whether a kind of telemetry is to be sent somewhere.
fn wanted(kind: &str) -> bool {
    let is = |name: &str, word: &str| set(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    receiver(kind).is_some()
        && !is("OTEL_SDK_DISABLED", "true")
        && !is(&format!("OTEL_{kind}_EXPORTER"), "none")
}

/// An exporter that believes the system's authorities, or those of `SSL_CERT_FILE`. By itself it believes nobody.
fn trusting<B: WithTonicConfig>(kind: &str, builder: B) -> B {
    let encrypted =
        |receiver: String| receiver.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    match receiver(kind).is_some_and(encrypted) {
        true => builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots()),
        false => builder,
    }
}

/// Who sends: the attributes of the variables, and a name for the process if they give none.
fn resource(service: &str) -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&Key::new("service.name"));
    let named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = match named {
        true => Resource::builder(),
        false => Resource::builder().with_service_name(format!("runnel-{service}")),
    };
    builder.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

impl Export {
    /// Makes what is wanted. Must be called inside the runtime, which the connections use.
    pub(super) fn start(service: &str) -> Result<Export, ExporterBuildError> {
        let resource = resource(service);
        let traces = match wanted("TRACES") {
            true => {
                let exporter = trusting("TRACES", SpanExporter::builder().with_tonic()).build()?;
                let builder = SdkTracerProvider::builder().with_resource(resource.clone());
                Some(builder.with_batch_exporter(exporter).build())
            }
            false => None,
        };
        let logs = match wanted("LOGS") {
            true => {
                let exporter = trusting("LOGS", LogExporter::builder().with_tonic()).build()?;
                let builder = SdkLoggerProvider::builder().with_resource(resource.clone());
                Some(builder.with_batch_exporter(exporter).build())
            }
            false => None,
        };
        let metrics = match wanted("METRICS") {
            true => {
                let exporter = trusting("METRICS", MetricExporter::builder().with_tonic());
                Metrics::exported(exporter.build()?, resource)
            }
            false => Metrics::new(),
        };
        Ok(Export { traces, logs, metrics })
    }

    /// Instruments, exported or not.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The layer that makes spans of spans.
    pub(super) fn traces<S>(&self) -> Option<OpenTelemetryLayer<S, SdkTracer>>
    where
        S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.traces.as_ref()?.tracer("runnel"));
        Some(layer.with_threads(false).with_location(false).with_target(false))
    }

    /// The layer that makes log records of events, with the identifier of the request that they belong to.
    pub(super) fn logs(&self) -> Option<OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>> {
        let bridge = OpenTelemetryTracingBridge::builder(self.logs.as_ref()?);
        Some(bridge.with_tracing_span_attributes(TracingSpanAttributes::allowlist(["request_id"])).build())
    }

    /// Sends what is left: spans, then numbers, then the lines that the rest may still have written. Ends in bounded time, also when nobody takes it.
    pub(super) fn shut_down(self) {
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || {
            if let Some(traces) = &self.traces {
                drop(traces.shutdown_with_timeout(PATIENCE));
            }
            self.metrics.shut_down();
            if let Some(logs) = &self.logs {
                drop(logs.shutdown_with_timeout(PATIENCE));
            }
            let _ = done.send(());
        });
        if ended.recv_timeout(PATIENCE).is_err() {
            tracing::warn!("telemetry that was left could not be sent in time");
        }
    }
}
