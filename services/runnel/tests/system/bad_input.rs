//! What is wrong gets a typed refusal that says what to do, and nothing else is lost.

use std::io::Write;

use runnel_client::{
    Client,
    proto::{
        event::v1::{Event, Value, value::Kind},
        funnel::v1::{
            DefineFunnelRequest, FunnelDefinition, GetFunnelRequest, QueryFunnelRequest, Step,
            query_funnel_request,
        },
        ingest::v1::{
            AppendRequest, GetIngestReportRequest, Verdict, ingest_service_client::IngestServiceClient,
        },
        query::v1::EventMatch,
    },
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::{
    command::{ask, import, json, number, reached, runnel},
    server::{Server, keys},
};

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn event(at: usize) -> Event {
    Event {
        visitor_id: format!("v{at}"),
        name: "a".into(),
        time_ms: Some(1_700_000_000_000),
        ..Event::default()
    }
}

fn funnel(steps: usize, window_ms: i64) -> QueryFunnelRequest {
    let step = || Step {
        any_of: vec![EventMatch { event: "a".into(), ..EventMatch::default() }],
        ..Step::default()
    };
    let definition = FunnelDefinition {
        steps: (0..steps).map(|_| step()).collect(),
        window_ms: Some(window_ms),
        ..FunnelDefinition::default()
    };
    QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        ..QueryFunnelRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (write, read) = keys(folder.path(), "shop");
    let (_, stranger) = keys(folder.path(), "other");
    let server = Server::start(folder.path());
    let client = Client::connect(&server.endpoint, &write).await.unwrap();
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    let append = |events: Vec<Event>| {
        let mut ingest = client.ingest();
        async move {
            ingest.append(AppendRequest { request_id: String::new(), events, validate_only: false }).await
        }
    };

    let refused = append(vec![]).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "BATCH_EMPTY"));
    let refused = append((0..10_001).map(event).collect()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "BATCH_TOO_LONG"));
    assert!(refused.message().contains("10001"), "{}", refused.message());
    // A bomb: many empty events in a message that is small.
    let refused = append(vec![Event::default(); 1_500_000]).await.unwrap_err();
    assert_eq!(reason(&refused), "BATCH_TOO_LONG");

    // 1,024 property names are in use; of what comes then, only the event with one more is refused.
    let with = |at: usize| {
        let mut event = event(at);
        let value = Value { kind: Some(Kind::BoolValue(true)) };
        event.properties = std::iter::once((format!("p{at}"), value)).collect();
        event
    };
    let taken = append((0..1_024).map(with).collect()).await.unwrap().into_inner();
    assert_eq!((taken.accepted, taken.rejected), (1_024, 0));
    let taken = append(vec![with(2_000), with(3), event(2_001)]).await.unwrap().into_inner();
    assert_eq!((taken.accepted, taken.rejected), (2, 1));
    let verdict = &taken.verdicts[0];
    assert_eq!((verdict.reason.as_str(), verdict.field.as_str()), ("NAMES_TOO_MANY", "properties[p2000]"));
    assert!(verdict.message.contains("1024 property names"), "{}", verdict.message);

    let mut late = event(1);
    late.time_ms = Some(i64::MAX / 4);
    let taken = append(vec![event(0), Event::default(), late]).await.unwrap().into_inner();
    assert_eq!((taken.accepted, taken.rejected), (1, 2));
    assert!(
        taken.verdicts.iter().all(|one| one.verdict() == Verdict::Rejected && !one.field.is_empty()),
        "{:?}",
        taken.verdicts
    );
    let dry = AppendRequest { request_id: String::new(), events: vec![event(9)], validate_only: true };
    assert_eq!(client.ingest().append(dry).await.unwrap().into_inner().sequence, 0);

    let named = |events| AppendRequest { request_id: "r".into(), events, validate_only: false };
    assert!(!client.ingest().append(named(vec![event(2)])).await.unwrap().into_inner().repeated);
    assert!(client.ingest().append(named(vec![event(2)])).await.unwrap().into_inner().repeated);
    let refused = client.ingest().append(named(vec![event(3)])).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "REQUEST_REUSED"));

    for (question, why) in [
        (funnel(33, 1), "FUNNEL_INVALID"),
        (funnel(1, 1), "FUNNEL_INVALID"),
        (funnel(2, -1), "FUNNEL_INVALID"),
    ] {
        let refused = reader.funnel().query_funnel(question).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, why),
            "{}",
            refused.message()
        );
        assert!(!refused.get_error_details().bad_request().unwrap().field_violations.is_empty());
    }

    let saved = DefineFunnelRequest {
        name: "mine".into(),
        definition: match funnel(2, 1).funnel {
            Some(query_funnel_request::Funnel::Inline(inline)) => Some(inline),
            _ => None,
        },
        expected_version: Some(0),
    };
    assert_eq!(
        reader.funnel().define_funnel(saved.clone()).await.unwrap().into_inner().funnel.unwrap().version,
        1
    );
    let refused = reader.funnel().define_funnel(saved).await.unwrap_err();
    assert_eq!(reason(&refused), "VERSION_CONFLICT");
    let other = Client::connect(&server.endpoint, &stranger).await.unwrap();
    let refused =
        other.funnel().get_funnel(GetFunnelRequest { name: "mine".into(), version: 0 }).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "NOT_FOUND"));

    for (key, code, why) in [
        (
            "rk_read_000000000000_0000000000000000000000000000000000000000abcdef",
            Code::Unauthenticated,
            "KEY_INVALID",
        ),
        (write.as_str(), Code::PermissionDenied, "SCOPE_MISSING"),
    ] {
        let stranger = Client::connect(&server.endpoint, key).await.unwrap();
        let refused = stranger.funnel().query_funnel(funnel(2, 1)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, why));
    }
    let channel =
        tonic::transport::Endpoint::from_shared(server.endpoint.clone()).unwrap().connect().await.unwrap();
    let refused =
        IngestServiceClient::new(channel).append(Request::new(AppendRequest::default())).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "KEY_MISSING"));

    let report =
        client.ingest().get_ingest_report(GetIngestReportRequest::default()).await.unwrap().into_inner();
    assert_eq!(report.counted, 1_024 + 1 + 2, "only what was good is stored, and all of it");
}

#[test]
fn files_are_refused_in_sentences() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let run = |file: &std::path::Path| {
        runnel(&[
            "import",
            file.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
            "--tenant",
            "shop",
            "--output",
            "json",
        ])
    };
    let wrong = write("wrong.csv", b"id,who,when\n1,2,3\n");
    let said = run(&wrong);
    assert!(!said.success && (said.err + &said.out).contains("visitor_id"), "the missing column is named");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut rows = String::from("event_id,visitor_id,occurred_at,name\n");
    (0..20_000).for_each(|row| rows.push_str(&format!("e{row},v{row},2026-01-01T00:00:00.000Z,a\n")));
    gz.write_all(rows.as_bytes()).unwrap();
    let whole = gz.finish().unwrap();
    let cut = write("cut.csv.gz", &whole[..whole.len() / 2]);
    let said = run(&cut);
    assert!(!said.success, "a truncated file fails the import");
    import(&write("whole.csv.gz", &whole), &data, "shop", &[]);
    let events = json(&["catalog", "events", "--data-dir", data.to_str().unwrap(), "--tenant", "shop"]);
    assert_eq!(number(&events["eventNames"][0]["events"]), 20_000, "what the cut file brought counts once");
    let ragged = write("ragged.csv", b"event_id,visitor_id,occurred_at,name\n1,a,2026-01-01T00:00:00Z,a\n2,b\n3,c,2026-01-01T00:00:01Z,b\n4,,2026-01-01T00:00:01Z,b\n");
    let summary = import(&ragged, &data, "ragged", &[]);
    assert_eq!(number(&summary["accepted"]), 2, "{summary}");
    assert_eq!(reached(&ask(&data, "ragged", &["--steps", "a,b"])), [1, 0]);
    let parquet = write("other.parquet", b"PAR1 this is none PAR1");
    assert!(!run(&parquet).success);
}

#[test]
fn a_data_folder_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    drop(keys(folder.path(), "shop"));
    let server = Server::start(folder.path());
    let said =
        runnel(&["catalog", "events", "--tenant", "shop", "--data-dir", folder.path().to_str().unwrap()]);
    assert!(!said.success);
    assert!(said.err.contains("open") || said.err.contains("use"), "{}", said.err);
    drop(server);
}

#[test]
fn a_question_that_can_match_nothing_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("events.csv"), folder.path().join("data"));
    let nowhere = data.to_str().unwrap();
    let said = runnel(&["ask", "funnel", "--data-dir", nowhere, "--tenant", "shop", "--steps", "a,b"]);
    assert!(!said.success && said.err.contains("no data"), "{}", said.err);
    assert!(!data.exists(), "a question makes no data folder");
    std::fs::write(
        &file,
        "visitor_id,occurred_at,name,price\nv,2026-01-01T00:00:00Z,a,5\nv,2026-01-01T00:00:01Z,b,7\n",
    )
    .unwrap();
    import(&file, &data, "texts", &[]);
    import(&file, &data, "numbers", &["--property-type", "price=double"]);
    let notes = |tenant: &str, steps: &str| {
        let answer = ask(&data, tenant, &["--steps", steps]);
        (reached(&answer), answer["provenance"]["notes"].to_string())
    };
    let (counts, said) = notes("texts", "a,b[price>=6]");
    assert!(counts == [1, 0] && said.contains("only numbers compare by size"), "{said}");
    assert_eq!(notes("numbers", "a,b[price>=6]"), (vec![1, 1], "[]".to_owned()));
    let (counts, said) = notes("numbers", "a,bought[cost=1]");
    assert!(counts == [1, 0] && said.contains("bought") && said.contains("cost"), "{said}");
    let answer = ask(&data, "numbers", &["--steps", "a,b", "--by", "colour"]);
    let said = answer["provenance"]["notes"].to_string();
    assert!(said.contains("No event has the property") && said.contains("colour"), "{said}");
    let said = runnel(&[
        "ask",
        "funnel",
        "--data-dir",
        nowhere,
        "--tenant",
        "numbers",
        "--steps",
        "a,b",
        "--window",
        "-1h",
    ]);
    assert!(!said.success && said.err.contains("window_ms") && said.err.contains("-3600000"), "{}", said.err);
}
