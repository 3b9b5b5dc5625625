//! What is counted and measured: every name, and the instruments that services use.
//!
//! A [`Metrics`] belongs to one server: it is made where the server is wired and handed to whoever measures, so that two servers in one process do not see
//! each other's numbers. Its numbers are read as Prometheus text ([`Metrics::text`]) and, where telemetry is exported, sent over OTLP as well.
//!
//! A label's values come from a closed list of this program. None is ever a tenant, a visitor, an event's name or a key.

mod process;
mod reader;
mod text;

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _, UpDownCounter},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider, exporter::PushMetricExporter},
};
use runnel_contracts::{proto::ingest::v1::AppendResponse, refusal::Reason};
use tonic::Code;

pub(crate) use text::MEDIA_TYPE;

use reader::OnDemand;

/// How long calls took: label [`SERVICE`], [`METHOD`], [`CODE`].
pub const RPC_DURATION: &str = "runnel_rpc_duration_seconds";
/// Calls that are not answered to the end: label [`SERVICE`].
pub const RPC_IN_FLIGHT: &str = "runnel_rpc_in_flight";
/// Refusals, where they were made: label [`REASON`].
pub const REFUSALS: &str = "runnel_refusals_total";
/// Events of batches that were answered: label [`VERDICT`].
pub const INGEST_EVENTS: &str = "runnel_ingest_events_total";
/// Bytes of those batches before compression.
pub const INGEST_BYTES: &str = "runnel_ingest_bytes_total";
/// Transactions that appended batches: label [`OUTCOME`].
pub const COMMITS: &str = "runnel_commits_total";
/// How long they took.
pub const COMMIT_DURATION: &str = "runnel_commit_duration_seconds";
/// What waits for compaction, over all tenants.
pub const BACKLOG_BYTES: &str = "runnel_journal_backlog_bytes";
/// How long the oldest of it has been waiting.
pub const BACKLOG_AGE: &str = "runnel_journal_backlog_age_seconds";
/// Rounds of compaction that had something to do: label [`OUTCOME`].
pub const COMPACTION_ROUNDS: &str = "runnel_compaction_rounds_total";
/// Bytes of the blocks that they wrote.
pub const COMPACTION_BYTES: &str = "runnel_compaction_bytes_total";
/// Journal rows that were set aside because they are damaged.
pub const QUARANTINED_ROWS: &str = "runnel_quarantined_rows_total";
/// Memory that journeys take.
pub const JOURNEYS_BYTES: &str = "runnel_journeys_resident_bytes";
/// How often a tenant's journeys were loaded from the store.
pub const JOURNEYS_LOADS: &str = "runnel_journeys_loads_total";
/// Calls that were held back for a limit of their tenant: label [`LIMIT`].
pub const EDGE_THROTTLED: &str = "runnel_edge_throttled_total";
/// Calls that were turned away because the server has too much to do.
pub const EDGE_SHED: &str = "runnel_edge_shed_total";
/// Whether hot state is given up on for the moment: 1 or 0.
pub const HOT_CIRCUIT_OPEN: &str = "runnel_hot_circuit_open";
/// Failures of hot state.
pub const HOT_ERRORS: &str = "runnel_hot_errors_total";
/// How often hot state was made anew from the truth.
pub const HOT_REBUILDS: &str = "runnel_hot_rebuilds_total";
/// Always 1: label [`VERSION`].
pub const BUILD_INFO: &str = "runnel_build_info";
/// Memory of this process, as far as it is in RAM.
pub const PROCESS_MEMORY: &str = "process_resident_memory_bytes";
/// Time that processors spent on this process.
pub const PROCESS_CPU: &str = "process_cpu_seconds_total";

/// A service of Runnel: `gateway`, `ingest`, `funnel`, `segmentation`.
pub const SERVICE: &str = "service";
/// A method of the contract, for example `runnel.ingest.v1.IngestService/Append`; `other` for every other path.
pub const METHOD: &str = "method";
/// A gRPC code, for example `OK` or `INVALID_ARGUMENT`.
pub const CODE: &str = "code";
/// The reason of a refusal, or `OTHER` when it has none.
pub const REASON: &str = "reason";
/// `accepted`, `duplicate`, `conflict` or `rejected`.
pub const VERDICT: &str = "verdict";
/// How something ended.
pub const OUTCOME: &str = "outcome";
/// Which limit was reached.
pub const LIMIT: &str = "limit";
/// The program's version.
pub const VERSION: &str = "version";

/// What kind of numbers a metric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// Every metric: name, kind, and what it says.
pub const FAMILIES: [(&str, Kind, &str); 22] = [
    (RPC_DURATION, Kind::Histogram, "Time from a call's arrival to the end of its answer."),
    (RPC_IN_FLIGHT, Kind::Gauge, "Calls that are not answered to the end."),
    (REFUSALS, Kind::Counter, "Refusals, counted by the service that made them."),
    (INGEST_EVENTS, Kind::Counter, "Events by verdict; of repeated batches they are not counted again."),
    (INGEST_BYTES, Kind::Counter, "Bytes of these batches as they were received, before compression."),
    (COMMITS, Kind::Counter, "Transactions that appended batches."),
    (COMMIT_DURATION, Kind::Histogram, "Time from the begin of such a transaction to the end of its commit."),
    (BACKLOG_BYTES, Kind::Gauge, "Stored bytes of the journal that wait for compaction, over all tenants."),
    (BACKLOG_AGE, Kind::Gauge, "Age of the oldest batch that waits for compaction."),
    (COMPACTION_ROUNDS, Kind::Counter, "Rounds of compaction that had something to do."),
    (COMPACTION_BYTES, Kind::Counter, "Bytes of blocks written by compaction."),
    (QUARANTINED_ROWS, Kind::Counter, "Journal rows set aside because they are damaged."),
    (JOURNEYS_BYTES, Kind::Gauge, "Memory of journeys, approximately."),
    (JOURNEYS_LOADS, Kind::Counter, "Full loads of a tenant's journeys from the store."),
    (EDGE_THROTTLED, Kind::Counter, "Calls held back for a limit of their tenant."),
    (EDGE_SHED, Kind::Counter, "Calls turned away for overload."),
    (HOT_CIRCUIT_OPEN, Kind::Gauge, "Whether hot state is given up on for the moment."),
    (HOT_ERRORS, Kind::Counter, "Failures of hot state."),
    (HOT_REBUILDS, Kind::Counter, "Rebuilds of hot state from the truth."),
    (BUILD_INFO, Kind::Gauge, "The running version."),
    (PROCESS_MEMORY, Kind::Gauge, "Resident memory of this process."),
    (PROCESS_CPU, Kind::Counter, "Processor time of this process, user and system."),
];

/// Upper bounds of the histograms' buckets, in seconds.
const SECONDS: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The instruments of one server. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    provider: SdkMeterProvider,
    meter: Meter,
    reader: OnDemand,
    rpc_duration: Histogram<f64>,
    rpc_in_flight: UpDownCounter<i64>,
    refusals: Counter<u64>,
    ingest_events: Counter<u64>,
    ingest_bytes: Counter<u64>,
    commits: Counter<u64>,
    commit_duration: Histogram<f64>,
    backlog_bytes: Gauge<u64>,
    backlog_age: Gauge<f64>,
    compaction_rounds: Counter<u64>,
    compaction_bytes: Counter<u64>,
    quarantined: Counter<u64>,
    edge_throttled: Counter<u64>,
    edge_shed: Counter<u64>,
    hot_rebuilds: Counter<u64>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Instruments whose numbers are read as text only.
    #[must_use]
    pub fn new() -> Metrics {
        let reader = OnDemand::default();
        Metrics::over(SdkMeterProvider::builder().with_reader(reader.clone()).build(), reader)
    }

    /// Instruments whose numbers are sent as well, again and again.
    pub(crate) fn exported(exporter: impl PushMetricExporter, resource: Resource) -> Metrics {
        let reader = OnDemand::default();
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(reader.clone())
            .with_reader(PeriodicReader::builder(exporter).build())
            .build();
        Metrics::over(provider, reader)
    }

    fn over(provider: SdkMeterProvider, reader: OnDemand) -> Metrics {
        let meter = provider.meter("runnel");
        let counter = |name| meter.u64_counter(name).with_description(help(name)).build();
        let gauge = |name| meter.u64_gauge(name).with_description(help(name)).build();
        let seconds = |name| {
            let histogram = meter.f64_histogram(name).with_description(help(name)).with_unit("s");
            histogram.with_boundaries(SECONDS.to_vec()).build()
        };
        let age = meter.f64_gauge(BACKLOG_AGE).with_description(help(BACKLOG_AGE)).with_unit("s").build();
        let in_flight =
            meter.i64_up_down_counter(RPC_IN_FLIGHT).with_description(help(RPC_IN_FLIGHT)).build();
        let inner = Inner {
            rpc_duration: seconds(RPC_DURATION),
            rpc_in_flight: in_flight,
            refusals: counter(REFUSALS),
            ingest_events: counter(INGEST_EVENTS),
            ingest_bytes: counter(INGEST_BYTES),
            commits: counter(COMMITS),
            commit_duration: seconds(COMMIT_DURATION),
            backlog_bytes: gauge(BACKLOG_BYTES),
            backlog_age: age,
            compaction_rounds: counter(COMPACTION_ROUNDS),
            compaction_bytes: counter(COMPACTION_BYTES),
            quarantined: counter(QUARANTINED_ROWS),
            edge_throttled: counter(EDGE_THROTTLED),
            edge_shed: counter(EDGE_SHED),
            hot_rebuilds: counter(HOT_REBUILDS),
            provider,
            meter,
            reader,
        };
        let version = inner.meter.u64_gauge(BUILD_INFO).with_description(help(BUILD_INFO)).build();
        version.record(1, &[KeyValue::new(VERSION, env!("CARGO_PKG_VERSION"))]);
        process::watch(&inner.meter);
        // A rate over what is not there yet would miss the first rise.
        for counter in [
            &inner.ingest_bytes,
            &inner.compaction_bytes,
            &inner.quarantined,
            &inner.edge_shed,
            &inner.hot_rebuilds,
        ] {
            counter.add(0, &[]);
        }
        Metrics { inner: Arc::new(inner) }
    }

    /// Everything as Prometheus text.
    #[must_use]
    pub fn text(&self) -> String {
        text::encode(&self.inner.reader.collect())
    }

    /// Sends what is left to be sent, where numbers are sent, and ends that.
    pub(crate) fn shut_down(&self) {
        if let Err(error) = self.inner.provider.shutdown() {
            tracing::debug!(%error, "the last metrics were not sent");
        }
    }

    /// A call came in. `service` is a service of Runnel.
    pub(crate) fn rpc_began(&self, service: &'static str) {
        self.inner.rpc_in_flight.add(1, &[KeyValue::new(SERVICE, service)]);
    }

    /// A call that came in was answered to the end, or its caller went away.
    pub(crate) fn rpc_ended(&self, service: &'static str, method: &'static str, code: Code, took: Duration) {
        self.inner.rpc_in_flight.add(-1, &[KeyValue::new(SERVICE, service)]);
        let labels = [
            KeyValue::new(SERVICE, service),
            KeyValue::new(METHOD, method),
            KeyValue::new(CODE, code_name(code)),
        ];
        self.inner.rpc_duration.record(took.as_secs_f64(), &labels);
    }

    /// Something was refused. Calls are counted by the layer that watches them; this is for refusals inside an answer that succeeds.
    pub fn refused(&self, reason: Option<Reason>) {
        let reason = reason.map_or("OTHER", Reason::name);
        self.inner.refusals.add(1, &[KeyValue::new(REASON, reason)]);
    }

    /// A batch was answered for the first time; `bytes` is its size as it was received.
    pub fn ingested(&self, outcome: &AppendResponse, bytes: u64) {
        let verdicts = [
            ("accepted", outcome.accepted),
            ("duplicate", outcome.duplicate),
            ("conflict", outcome.conflict),
            ("rejected", outcome.rejected),
        ];
        for (verdict, events) in verdicts {
            self.inner.ingest_events.add(u64::from(events), &[KeyValue::new(VERDICT, verdict)]);
        }
        self.inner.ingest_bytes.add(bytes, &[]);
    }

    /// A transaction that appends batches ended.
    pub fn committed(&self, outcome: &'static str, took: Duration) {
        self.inner.commits.add(1, &[KeyValue::new(OUTCOME, outcome)]);
        self.inner.commit_duration.record(took.as_secs_f64(), &[]);
    }

    /// What waits for compaction: its bytes, and the age of the oldest.
    pub fn backlog(&self, bytes: u64, age: Duration) {
        self.inner.backlog_bytes.record(bytes, &[]);
        self.inner.backlog_age.record(age.as_secs_f64(), &[]);
    }

    /// A round of compaction ended that had something to do; `bytes` is what it wrote.
    pub fn compacted(&self, outcome: &'static str, bytes: u64) {
        self.inner.compaction_rounds.add(1, &[KeyValue::new(OUTCOME, outcome)]);
        self.inner.compaction_bytes.add(bytes, &[]);
    }

    /// A journal row went to quarantine.
    pub fn quarantined(&self) {
        self.inner.quarantined.add(1, &[]);
    }

    /// From now on, journeys are read by these whenever somebody looks: their bytes in memory, and how often a tenant's were loaded.
    pub fn watch_journeys(
        &self,
        bytes: impl Fn() -> u64 + Send + Sync + 'static,
        loads: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let meter = &self.inner.meter;
        let gauge = meter.u64_observable_gauge(JOURNEYS_BYTES).with_description(help(JOURNEYS_BYTES));
        gauge.with_callback(move |seen| seen.observe(bytes(), &[])).build();
        let counter = meter.u64_observable_counter(JOURNEYS_LOADS).with_description(help(JOURNEYS_LOADS));
        counter.with_callback(move |seen| seen.observe(loads(), &[])).build();
    }

    /// A call was held back for a limit of its tenant.
    pub fn edge_throttled(&self, limit: &'static str) {
        self.inner.edge_throttled.add(1, &[KeyValue::new(LIMIT, limit)]);
    }

    /// A call was turned away because there is too much to do.
    pub fn edge_shed(&self) {
        self.inner.edge_shed.add(1, &[]);
    }

    /// From now on, hot state is read by these whenever somebody looks: whether it is given up on for the moment, and how often it failed.
    pub fn watch_hot(
        &self,
        away: impl Fn() -> bool + Send + Sync + 'static,
        failures: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let meter = &self.inner.meter;
        let gauge = meter.u64_observable_gauge(HOT_CIRCUIT_OPEN).with_description(help(HOT_CIRCUIT_OPEN));
        gauge.with_callback(move |seen| seen.observe(u64::from(away()), &[])).build();
        let counter = meter.u64_observable_counter(HOT_ERRORS).with_description(help(HOT_ERRORS));
        counter.with_callback(move |seen| seen.observe(failures(), &[])).build();
    }

    /// Hot state was made anew from the truth.
    pub fn hot_rebuilt(&self) {
        self.inner.hot_rebuilds.add(1, &[]);
    }
}

/// What a metric says.
fn help(name: &str) -> &'static str {
    FAMILIES.iter().find(|(known, ..)| *known == name).map_or("", |(_, _, help)| help)
}

/// A code as the gRPC specification writes it.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
