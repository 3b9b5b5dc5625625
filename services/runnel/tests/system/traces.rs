//! Telemetry as a collector gets it: one trace from the client's span to the commit in the database, wherever the services are.

use std::{path::Path, sync::Arc, time::Duration};

use runnel_client::{
    Client,
    proto::ingest::v1::{
        AppendStreamRequest,
        append_stream_request::{Batch, Message, Open},
    },
};
use runnel_harness::{Collector, Deployment, Extra, Placement, Postgres, SeenSpan, Stores};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::{measured::batch, server::once};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The span of the client, as any tracing library would send it.
const SPAN: &str = "00f067aa0ba902b7";

/// Everything in its place, exporting to a collector.
struct Exporting {
    all: Deployment,
    database: Option<Arc<Postgres>>,
    collector: Collector,
}

async fn exporting(placement: Placement) -> Exporting {
    let collector = Collector::start().await.unwrap();
    let options = "-c log_statement=all -c log_line_prefix=%a:";
    let database = (placement != Placement::Folder).then(|| Arc::new(Postgres::start(options).unwrap()));
    let extra = Extra { variables: collector.variables(), ..Extra::default() };
    let binary = Path::new(env!("CARGO_BIN_EXE_runnel"));
    let all = Deployment::start_with(binary, placement, database.clone(), &extra).unwrap();
    Exporting { all, database, collector }
}

/// A client whose calls belong to a trace.
async fn traced(endpoint: &str, key: &str, trace: &str) -> Client<Channel> {
    let client = Client::connect(endpoint, key).await.unwrap().with_policy(once());
    let parent: http::HeaderValue = format!("00-{trace}-{SPAN}-01").parse().unwrap();
    client.with_headers(move |headers| {
        headers.insert("traceparent", parent.clone());
        headers.insert("tracestate", http::HeaderValue::from_static("vendor=1"));
        headers.insert("runnel-request-id", http::HeaderValue::from_static("a-call-of-mine"));
    })
}

impl Exporting {
    /// The spans of a trace, once there are as many of a name as wanted.
    async fn spans(&self, trace: &str, name: &str, wanted: usize) -> Vec<SeenSpan> {
        let found = || -> Vec<SeenSpan> {
            self.collector.spans().into_iter().filter(|span| span.trace == trace).collect()
        };
        let waited = async {
            while found().iter().filter(|span| span.name == name).count() < wanted {
                sleep(Duration::from_millis(50)).await;
            }
            // The last to be ended are the outermost.
            while !found().iter().any(|span| span.parent == SPAN) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("{wanted} of {name}: {:#?}", found()));
        found()
    }
}

/// From a span to the root, names with what tells spans of one name apart.
fn line<'a>(spans: &'a [SeenSpan], from: &'a SeenSpan) -> Vec<String> {
    let told = |span: &SeenSpan| format!("{} {} {}", span.service, span.kind, span.name);
    let mut line = vec![told(from)];
    let mut at = from;
    while let Some(parent) = spans.iter().find(|span| span.id == at.parent) {
        line.push(told(parent));
        at = parent;
    }
    assert_eq!(at.parent, SPAN, "the outermost span is the client's child: {line:?}");
    line
}

const APPEND: &str = "runnel.ingest.v1.IngestService/Append";
const STREAM: &str = "runnel.ingest.v1.IngestService/AppendStream";

/// What lies between a commit and the client, innermost first.
fn path(placement: Placement, method: &str) -> Vec<String> {
    match placement {
        Placement::Folder => vec![
            "runnel-serve 3 ingest append".to_owned(),
            "runnel-serve 1 batch".to_owned(),
            format!("runnel-serve 1 {method}"),
            format!("runnel-serve 2 {method}"),
        ],
        _ => vec![
            "runnel-ingest 3 ingest append".to_owned(),
            "runnel-ingest 1 batch".to_owned(),
            format!("runnel-ingest 2 {method}"),
            "runnel-gateway 3 send".to_owned(),
            format!("runnel-gateway 2 {method}"),
        ],
    }
}

async fn an_append_is_one_trace(placement: Placement) {
    let exporting = exporting(placement).await;
    let (write, _) = exporting.all.tenant("shop").await.unwrap();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let client = traced(&exporting.all.endpoint, &write, trace).await;
    client.append(batch(1), Some("first".into())).await.unwrap();
    let spans = exporting.spans(trace, "ingest append", 1).await;
    let commit = spans.iter().find(|span| span.name == "ingest append").unwrap();
    assert_eq!(line(&spans, commit), path(placement, APPEND));
    let system = if placement == Placement::Folder { "sqlite" } else { "postgresql" };
    assert_eq!(commit.attributes["db.system.name"], system);
    assert_eq!(commit.attributes["db.operation.batch.size"], "1");
    assert_eq!(commit.state, "vendor=1", "what the client's own tracing adds travels along");
    let call = spans.iter().find(|span| span.name == APPEND && span.kind == 2).unwrap();
    for (name, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "runnel.ingest.v1.IngestService"),
        ("rpc.method", "Append"),
        ("rpc.grpc.status_code", "0"),
        ("request_id", "a-call-of-mine"),
    ] {
        assert_eq!(call.attributes.get(name).map(String::as_str), Some(value), "{name} of {call:?}");
    }
    if let Some(database) = &exporting.database {
        // The server's own log names the span that the transaction is.
        let named = format!("runnel 00-{trace}-{}-01:", commit.id);
        let log = database.log().unwrap();
        let of_it = log.lines().filter(|line| line.contains(&named)).collect::<Vec<_>>();
        assert!(of_it.iter().any(|line| line.contains("INSERT INTO journal")), "{named} in {of_it:#?}");
    }

    // A mistake of the client: a line at level info, in the same trace, with the same identifier as the answer.
    let refused = client.append(Vec::new(), None).await.unwrap_err();
    assert_eq!(refused.refusal().reason, "BATCH_EMPTY");
    assert_eq!(refused.refusal().request_id, "a-call-of-mine");
    let waited = async {
        loop {
            let lines = exporting.collector.lines();
            if let Some(line) = lines.into_iter().find(|line| line.text == "a call was refused") {
                return line;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let line = timeout(PATIENCE, waited).await.unwrap();
    assert_eq!((line.severity.as_str(), line.trace.as_str()), ("INFO", trace));
    assert_eq!(line.attributes["request_id"], "a-call-of-mine");
    assert_eq!(line.attributes["reason"], "BATCH_EMPTY");

    let sent = async {
        while !exporting.collector.metrics().contains_key(runnel_chassis::metrics::INGEST_EVENTS) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, sent).await.unwrap();
    let metrics = exporting.collector.metrics();
    let service = if placement == Placement::Folder { "runnel-serve" } else { "runnel-ingest" };
    for name in [runnel_chassis::metrics::COMMITS, runnel_chassis::metrics::RPC_DURATION] {
        assert!(metrics[name].contains(service), "{name} of {metrics:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_one_trace_in_a_process_for_each_service() {
    an_append_is_one_trace(Placement::Split).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_one_trace_in_one_process() {
    an_append_is_one_trace(Placement::Folder).await;
}

async fn batches_of_a_stream_are_its_children(placement: Placement) {
    let exporting = exporting(placement).await;
    let (write, _) = exporting.all.tenant("shop").await.unwrap();
    let trace = "5bf92f3577b34da6a3ce929d0e0e4736";
    let client = traced(&exporting.all.endpoint, &write, trace).await;
    let open = Message::Open(Open { stream_id: "s".into() });
    let messages = std::iter::once(open)
        .chain((1..=3).map(|sequence| Message::Batch(Batch { sequence, events: batch(sequence as usize) })));
    let requests = tokio_stream::iter(messages.map(|message| AppendStreamRequest { message: Some(message) }));
    let answers = client.ingest().append_stream(requests).await.unwrap();
    let answers: Vec<_> = answers.into_inner().collect().await;
    assert_eq!(answers.len(), 4, "{answers:?}");
    let spans = exporting.spans(trace, "batch", 3).await;
    let stream = spans
        .iter()
        .filter(|span| span.name == STREAM)
        .find(|span| span.service != "runnel-gateway" && (placement == Placement::Split || span.kind == 1))
        .unwrap();
    let batches: Vec<&SeenSpan> = spans.iter().filter(|span| span.name == "batch").collect();
    assert!(batches.iter().all(|batch| batch.parent == stream.id), "{batches:#?} of {stream:?}");
    for commit in spans.iter().filter(|span| span.name == "ingest append") {
        assert_eq!(line(&spans, commit), path(placement, STREAM));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_a_stream_are_its_children_in_a_process_for_each_service() {
    batches_of_a_stream_are_its_children(Placement::Split).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_a_stream_are_its_children_in_one_process() {
    batches_of_a_stream_are_its_children(Placement::Folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_several_batches_is_linked_with_all_of_them() {
    let exporting = exporting(Placement::Shared).await;
    let (write, _) = exporting.all.tenant("shop").await.unwrap();
    let client = Client::connect(&exporting.all.endpoint, &write).await.unwrap();
    let shared = async {
        for round in 0.. {
            let appends = (0..32).map(|number| tokio::spawn(client.append(batch(round * 32 + number), None)));
            for append in appends.collect::<Vec<_>>() {
                append.await.unwrap().unwrap();
            }
            sleep(Duration::from_millis(300)).await;
            let spans = exporting.collector.spans();
            let commit = spans.iter().find(|span| span.name == "ingest append" && !span.links.is_empty());
            if let Some(commit) = commit {
                return (commit.clone(), spans);
            }
        }
        unreachable!("the loop has no end")
    };
    let (commit, spans) = timeout(PATIENCE, shared).await.unwrap();
    assert_eq!(commit.attributes["db.operation.batch.size"], (commit.links.len() + 1).to_string());
    for (trace, id) in &commit.links {
        assert_ne!(*trace, commit.trace, "every call is a trace of its own");
        let batch = spans.iter().find(|span| span.id == *id);
        // A batch ends after its commit, so it may be on its way.
        if let Some(batch) = batch {
            assert_eq!((batch.name.as_str(), &batch.trace), ("batch", trace));
            assert!(batch.links.contains(&(commit.trace.clone(), commit.id.clone())), "{batch:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_sent_before_the_end_and_nothing_waits_for_a_collector_that_is_gone() {
    let collector = Collector::start().await.unwrap();
    let trace = "6bf92f3577b34da6a3ce929d0e0e4736";
    // Nothing is sent by itself for an hour.
    let mut variables = collector.variables();
    variables.iter_mut().skip(1).for_each(|(_, delay)| *delay = "3600000".to_owned());
    let extra = Extra { variables, ..Extra::default() };
    let binary = Path::new(env!("CARGO_BIN_EXE_runnel"));
    let mut all = Deployment::start_with(binary, Placement::Folder, Stores::default(), &extra).unwrap();
    let (write, _) = all.tenant("shop").await.unwrap();
    traced(&all.endpoint, &write, trace).await.append(batch(1), None).await.unwrap();
    assert!(collector.spans().is_empty());
    let process = all.processes.get_mut("serve").unwrap();
    process.signal("TERM").unwrap();
    assert!(process.wait().unwrap());
    assert!(collector.spans().iter().any(|span| span.trace == trace && span.name == "ingest append"));
    assert!(collector.metrics().contains_key(runnel_chassis::metrics::INGEST_EVENTS));

    let gone = collector.endpoint.clone();
    drop(collector);
    let extra = Extra { variables: vec![("OTEL_EXPORTER_OTLP_ENDPOINT".into(), gone)], ..Extra::default() };
    let mut all = Deployment::start_with(binary, Placement::Folder, Stores::default(), &extra).unwrap();
    let (write, _) = all.tenant("shop").await.unwrap();
    traced(&all.endpoint, &write, trace).await.append(batch(1), None).await.unwrap();
    let process = all.processes.get_mut("serve").unwrap();
    process.signal("TERM").unwrap();
    assert!(process.wait().unwrap(), "it ends well all the same");
}
