//! Logs, traces and metrics: structured, without personal data or secrets; on standard error, and over OTLP where the standard variables say so.

mod body;
mod ending;
mod export;
mod layer;
mod methods;
mod propagation;
mod request_id;

use std::io::IsTerminal;

use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    layer::{Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::Metrics;
use export::Export;

pub use layer::{Observe, Observed};
pub use propagation::{call_name, inject};
pub use request_id::REQUEST_ID_HEADER;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// An error and what it came from, one behind the other, as a log line tells them.
#[must_use]
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

/// Telemetry cannot be sent where the variables say.
#[derive(Debug, thiserror::Error)]
#[error("telemetry cannot be exported as the OTEL_ variables say: {0}")]
pub struct TelemetryError(#[from] opentelemetry_otlp::ExporterBuildError);

/// Logs, traces and metrics of this process. To be shut down before the process ends.
#[derive(Debug)]
#[must_use = "what is left to be sent is lost unless it is shut down"]
pub struct Telemetry {
    export: Option<Export>,
    metrics: Metrics,
}

impl Telemetry {
    /// The instruments of this process, sent as well if metrics are.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends what is left, which takes at most a few seconds, also when nobody is there to take it. Not to be called on a thread of the runtime, which has to run
    /// meanwhile.
    pub fn shut_down(self) {
        if let Some(export) = self.export {
            export.shut_down();
        }
    }
}

/// Starts logging to standard error, and exporting for a server: `service` is its name, `None` is for a command that ends by itself. `RUNNEL_LOG` sets what is
/// logged, for example `info,runnel_storage=debug`; without it lines of level warning and above are, and those of level info are exported. Telemetry is exported
/// when `OTEL_EXPORTER_OTLP_ENDPOINT` says where to. Must be called inside the runtime. What a process logs and traces is set once, by the first call.
pub fn start(format: LogFormat, service: Option<&str>) -> Result<Telemetry, TelemetryError> {
    let export = service.map(Export::start).transpose()?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let ours = |metadata: &Metadata<'_>| metadata.target().starts_with("runnel");
    let spans = filter_fn(move |metadata| metadata.is_span() && ours(metadata))
        .with_max_level_hint(LevelFilter::INFO);
    // Lines of the exporter itself would be exported in turn, for ever. Of spans, lines get the identifier that calls have.
    let exported = filter_fn(move |metadata| {
        ours(metadata) && (metadata.is_event() || metadata.target() == layer::CALLS)
    });
    let layers = tracing_subscriber::registry()
        .with(lines.with_filter(logged("warn")))
        .with(export.as_ref().and_then(Export::traces).map(|traces| traces.with_filter(spans)))
        .with(
            export.as_ref().and_then(Export::logs).map(|logs| logs.with_filter(exported.and(logged("info")))),
        );
    drop(layers.try_init());
    let metrics = export.as_ref().map_or_else(Metrics::new, |export| export.metrics().clone());
    Ok(Telemetry { export, metrics })
}

/// What is logged, and the spans of calls, without which their lines would have no identifier.
fn logged<S: Subscriber>(default: &str) -> impl Filter<S> + use<S> {
    let chosen = EnvFilter::try_from_env("RUNNEL_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let calls = filter_fn(|metadata| metadata.is_span() && metadata.target() == layer::CALLS);
    chosen.or(calls.with_max_level_hint(LevelFilter::ERROR))
}
