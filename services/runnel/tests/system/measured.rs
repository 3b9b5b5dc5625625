//! The numbers of a running server: all of them are there, they move by what was done, and strangers cannot make new ones.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use runnel_chassis::metrics::{self, FAMILIES};
use runnel_client::{
    Client,
    proto::{
        event::v1::Event,
        funnel::v1::{FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request},
        ingest::v1::AppendResponse,
        query::v1::EventMatch,
    },
};
use runnel_contracts::frame::{Frame, FrameOut};
use runnel_harness::{Deployment, Extra, Placement, Postgres};
use tonic::{Code, Request, Status, client::Grpc, transport::Endpoint};

use crate::{scrape::numbers, server::once};

/// A server in one process, and where it tells its numbers.
fn watched(placement: Placement) -> Deployment {
    let arguments = ["--ops-listen", "127.0.0.1:0"].map(str::to_owned).into();
    let extra = Extra { arguments, ..Extra::default() };
    let server = (placement != Placement::Folder).then(|| Arc::new(Postgres::start("").unwrap()));
    Deployment::start_with(Path::new(env!("CARGO_BIN_EXE_runnel")), placement, server, &extra).unwrap()
}

/// Batches of one good event, a copy of it in the same batch, and one without a name.
pub(crate) fn batch(number: usize) -> Vec<Event> {
    let event = |id: &str, name: &str| Event {
        event_id: format!("{id}{number}"),
        visitor_id: "v".into(),
        time_ms: Some(1_700_000_000_000),
        name: name.into(),
        ..Event::default()
    };
    vec![event("a", "seen"), event("a", "seen"), event("b", "")]
}

pub(crate) fn question() -> QueryFunnelRequest {
    let step = |name: &str| Step {
        any_of: vec![EventMatch { event: name.into(), ..EventMatch::default() }],
        ..Step::default()
    };
    let definition =
        FunnelDefinition { steps: vec![step("seen"), step("bought")], ..FunnelDefinition::default() };
    QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        ..QueryFunnelRequest::default()
    }
}

/// Calls a path that may be no method, with a header.
pub(crate) async fn call(endpoint: &str, path: &str, request_id: &str) -> Result<(), Status> {
    let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = Request::new(Frame::default());
    request.metadata_mut().insert("runnel-request-id", request_id.parse().unwrap());
    let answered = grpc.unary(request, path.parse().unwrap(), FrameOut::<AppendResponse>::default()).await;
    answered.map(|_| ())
}

/// What has a number after one append and one question, in one process.
const MEASURED: [&str; 21] = [
    r#"runnel_rpc_duration_seconds_count{code="OK",method="runnel.ingest.v1.IngestService/Append",service="gateway"}"#,
    r#"runnel_rpc_duration_seconds_count{code="OK",method="runnel.ingest.v1.IngestService/Append",service="ingest"}"#,
    r#"runnel_rpc_duration_seconds_count{code="OK",method="runnel.funnel.v1.FunnelService/QueryFunnel",service="funnel"}"#,
    r#"runnel_rpc_in_flight{service="gateway"}"#,
    r#"runnel_ingest_events_total{verdict="accepted"}"#,
    r#"runnel_ingest_events_total{verdict="duplicate"}"#,
    r#"runnel_ingest_events_total{verdict="rejected"}"#,
    r#"runnel_ingest_events_total{verdict="conflict"}"#,
    "runnel_ingest_bytes_total",
    r#"runnel_commits_total{outcome="committed"}"#,
    "runnel_commit_duration_seconds_count",
    "runnel_journal_backlog_bytes",
    "runnel_journal_backlog_age_seconds",
    "runnel_compaction_bytes_total",
    "runnel_quarantined_rows_total",
    "runnel_journeys_resident_bytes",
    "runnel_journeys_loads_total",
    "runnel_hot_circuit_open",
    concat!("runnel_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
];

/// By how much each number rose.
fn risen(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, series: &str) -> f64 {
    after[series] - before.get(series).copied().unwrap_or(0.0)
}

async fn numbers_move_by_what_was_done(placement: Placement) {
    let server = watched(placement);
    let (write, read) = server.tenant("shop").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap().with_policy(once());
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    let ops: Vec<String> = server.processes.values().map(|process| process.ops.clone().unwrap()).collect();
    let all = || -> BTreeMap<String, f64> {
        let mut sum = BTreeMap::new();
        for (series, number) in ops.iter().flat_map(|ops| numbers(ops)) {
            *sum.entry(series).or_default() += number;
        }
        sum
    };
    writer.append(batch(0), Some("first".into())).await.unwrap();
    reader.funnel().query_funnel(question()).await.unwrap();
    let before = all();
    for series in MEASURED {
        assert!(before.contains_key(series), "{series} is not in {before:#?}");
    }
    // What a constant names is there, with a number or without.
    for (name, ..) in FAMILIES {
        let (_, text) = crate::scrape::get(&ops[0], "/metrics");
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }

    let (calls, repeats) = (7, 2);
    for number in 1..=calls {
        writer.append(batch(number), Some(format!("batch-{number}"))).await.unwrap();
    }
    for number in 1..=repeats {
        assert!(
            writer.append(batch(number), Some(format!("batch-{number}"))).await.unwrap().response.repeated
        );
    }
    let refused = writer.append(Vec::new(), None).await.unwrap_err();
    assert_eq!(refused.refusal().reason, "BATCH_EMPTY");
    for number in 0..300 {
        let told = call(&server.endpoint, &format!("/runnel.made.up.v1.Service{number}/Method"), "r").await;
        assert_eq!(told.unwrap_err().code(), Code::Unimplemented);
    }
    let after = all();
    let rose = |series: &str| risen(&before, &after, series);
    let rpcs = |service: &str, method: &str, code: &str| {
        rose(&format!(
            "runnel_rpc_duration_seconds_count{{code=\"{code}\",method=\"{method}\",service=\"{service}\"}}"
        ))
    };
    for service in ["gateway", "ingest"] {
        let append = "runnel.ingest.v1.IngestService/Append";
        assert_eq!(rpcs(service, append, "OK"), (calls + repeats) as f64, "{service}");
        assert_eq!(rpcs(service, append, "INVALID_ARGUMENT"), 1.0, "{service}");
        assert_eq!(after[&format!("runnel_rpc_in_flight{{service=\"{service}\"}}")], 0.0, "{service}");
    }
    assert_eq!(rpcs("gateway", "other", "UNIMPLEMENTED"), 300.0);
    assert_eq!(
        rose(r#"runnel_refusals_total{reason="BATCH_EMPTY"}"#),
        1.0,
        "counted once, where it was made"
    );
    assert_eq!(rose(r#"runnel_refusals_total{reason="UNSUPPORTED"}"#), 300.0);
    for verdict in ["accepted", "duplicate", "rejected"] {
        assert_eq!(rose(&format!("runnel_ingest_events_total{{verdict=\"{verdict}\"}}")), calls as f64);
    }
    assert_eq!(rose(r#"runnel_commits_total{outcome="committed"}"#), (calls + repeats) as f64);
    assert_eq!(rose("runnel_commit_duration_seconds_count"), (calls + repeats) as f64);
    assert!(rose("runnel_ingest_bytes_total") > 0.0 && after["runnel_journeys_loads_total"] >= 1.0);
    assert!(after["process_resident_memory_bytes"] > 1e6);

    // No value of a label came from outside.
    let methods = after.keys().filter(|series| series.contains("made.up")).count();
    assert_eq!(methods, 0);
    let values: BTreeMap<&str, usize> = [metrics::METHOD, metrics::REASON, metrics::CODE]
        .map(|label| {
            let values = after
                .keys()
                .filter_map(|series| series.split_once(&format!("{label}=\""))?.1.split('"').next());
            (label, values.collect::<std::collections::BTreeSet<_>>().len())
        })
        .into();
    assert!(
        values[metrics::METHOD] <= 25 && values[metrics::REASON] <= 44 && values[metrics::CODE] <= 17,
        "{values:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_move_by_what_was_done_in_one_process() {
    numbers_move_by_what_was_done(Placement::Folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_move_by_what_was_done_in_a_process_for_each_service() {
    numbers_move_by_what_was_done(Placement::Split).await;
}
