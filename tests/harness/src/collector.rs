//! A receiver of telemetry: OTLP over gRPC, as a real collector speaks it, which keeps what it gets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::HarnessError;

/// A span that arrived.
#[derive(Debug, Clone)]
pub struct SeenSpan {
    /// `service.name` of the process.
    pub service: String,
    /// In hexadecimal, as the other identifiers.
    pub trace: String,
    /// Its own.
    pub id: String,
    /// Its parent's; empty for a root.
    pub parent: String,
    /// The `tracestate` that it was made under.
    pub state: String,
    /// What it is called.
    pub name: String,
    /// 1 internal, 2 server, 3 client.
    pub kind: i32,
    /// 2 when it is an error.
    pub status: i32,
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// Trace and span of each link.
    pub links: Vec<(String, String)>,
}

/// A log line that arrived.
#[derive(Debug, Clone)]
pub struct SeenLine {
    /// `service.name` of the process.
    pub service: String,
    /// The trace that it belongs to; empty for none.
    pub trace: String,
    /// `INFO`, `ERROR` and so on.
    pub severity: String,
    /// What it says.
    pub text: String,
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
}

/// A collector on a free port. Ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens, for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: String,
    kept: Arc<Kept>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Kept {
    traces: Mutex<Vec<ExportTraceServiceRequest>>,
    logs: Mutex<Vec<ExportLogsServiceRequest>>,
    metrics: Mutex<Vec<ExportMetricsServiceRequest>>,
}

impl Collector {
    /// Listens.
    pub async fn start() -> Result<Collector, HarnessError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        Ok(Collector::serve(Server::builder(), listener, endpoint))
    }

    /// Listens with a certificate for `localhost` and its key, both in PEM.
    pub async fn start_with_tls(certificate: &str, key: &str) -> Result<Collector, HarnessError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("https://localhost:{}", listener.local_addr()?.port());
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        let refused = |fault: tonic::transport::Error| HarnessError::Failed {
            what: "a collector with TLS",
            reason: fault.to_string(),
        };
        Ok(Collector::serve(Server::builder().tls_config(tls).map_err(refused)?, listener, endpoint))
    }

    fn serve(mut server: Server, listener: TcpListener, endpoint: String) -> Collector {
        let kept = Arc::new(Kept::default());
        let server = server
            .add_service(TraceServiceServer::from_arc(kept.clone()))
            .add_service(LogsServiceServer::from_arc(kept.clone()))
            .add_service(MetricsServiceServer::from_arc(kept.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let serving = tokio::spawn(async move { drop(server.await) });
        Collector { endpoint, kept, serving }
    }

    /// The variables that let a process export here, at once rather than now and then.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.endpoint.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "100"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<SeenSpan> {
        let mut seen = Vec::new();
        for of in lock(&self.kept.traces).iter().flat_map(|request| &request.resource_spans) {
            for span in of.scope_spans.iter().flat_map(|scope| &scope.spans) {
                seen.push(SeenSpan {
                    service: service(of.resource.as_ref()),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    state: span.trace_state.clone(),
                    name: span.name.clone(),
                    kind: span.kind,
                    status: span.status.as_ref().map_or(0, |status| status.code),
                    attributes: texts(&span.attributes),
                    links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                });
            }
        }
        seen
    }

    /// The log lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<SeenLine> {
        let mut seen = Vec::new();
        for of in lock(&self.kept.logs).iter().flat_map(|request| &request.resource_logs) {
            for record in of.scope_logs.iter().flat_map(|scope| &scope.log_records) {
                seen.push(SeenLine {
                    service: service(of.resource.as_ref()),
                    trace: hex(&record.trace_id),
                    severity: record.severity_text.clone(),
                    text: text(record.body.as_ref()),
                    attributes: texts(&record.attributes),
                });
            }
        }
        seen
    }

    /// The names of the metrics so far, each with the services that sent it.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for of in lock(&self.kept.metrics).iter().flat_map(|request| &request.resource_metrics) {
            for metric in of.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                seen.entry(metric.name.clone()).or_default().insert(service(of.resource.as_ref()));
            }
        }
        seen
    }

    /// Everything that arrived, as text, to look for what should not have.
    #[must_use]
    pub fn everything(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{:?}", lock(&self.kept.traces));
        let _ = writeln!(text, "{:?}", lock(&self.kept.logs));
        let _ = writeln!(text, "{:?}", lock(&self.kept.metrics));
        text
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn service(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| texts(&resource.attributes)).unwrap_or_default();
    attributes.get("service.name").cloned().unwrap_or_default()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes.iter().map(|one| (one.key.clone(), text(one.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        lock(&self.traces).push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Kept {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        lock(&self.logs).push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Kept {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        lock(&self.metrics).push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}
