//! Secrets and personal data never leave through telemetry: keys, visitors and values of properties are planted everywhere and looked for in every span, log
//! line, metric and error.

use std::{path::Path, sync::Arc, time::Duration};

use runnel_client::{
    Client,
    proto::{
        admin::v1::{ListKeysRequest, RevokeKeyRequest},
        event::v1::{Event, Value, value::Kind},
        funnel::v1::{BreakDown, ExplainVisitorRequest, explain_visitor_request, query_funnel_request},
        ingest::v1::{
            AppendStreamRequest, GetIngestReportRequest,
            append_stream_request::{Batch, Message, Open},
        },
        query::v1::{Selector, selector::Column},
    },
};
use runnel_harness::{Collector, Deployment, Extra, Placement, Postgres};
use tokio_stream::StreamExt;

use crate::{
    isolation::every_method_about,
    measured::{call, question},
    scrape::get,
    server::once,
};

const VISITOR: &str = "canary-visitor-51c2";
const VALUE: &str = "canary-value-9e07";
const ID: &str = "canary-event-id-3d44";

fn event(name: &str) -> Event {
    let value = Value { kind: Some(Kind::StringValue(VALUE.into())) };
    Event {
        event_id: ID.into(),
        visitor_id: VISITOR.into(),
        time_ms: Some(1_700_000_000_000),
        name: name.into(),
        properties: [("plan".to_owned(), value)].into(),
        ..Event::default()
    }
}

/// Calls of every kind, good and bad, each with canaries. Gives what errors said.
async fn sing(all: &Deployment, write: &str, read: &str) -> Vec<String> {
    let mut said = Vec::new();
    let writer = Client::connect(&all.endpoint, write).await.unwrap().with_policy(once());
    let reader = Client::connect(&all.endpoint, read).await.unwrap();
    writer.append(vec![event("seen"), event("bought")], Some("r".into())).await.unwrap();
    // Another content under the same request, an event that is refused, a conflict, an empty batch.
    said.push(format!("{:?}", writer.append(vec![event("bought")], Some("r".into())).await.unwrap_err()));
    let long = Event { name: "x".repeat(2_000), ..event("seen") };
    let twice = Event { properties: Default::default(), ..event("seen") };
    writer.append(vec![long, event("seen"), twice], None).await.unwrap();
    said.push(format!("{:?}", writer.append(Vec::new(), None).await.unwrap_err()));
    let open = Message::Open(Open { stream_id: "s".into() });
    let batch = |sequence| Message::Batch(Batch { sequence, events: vec![event("seen")] });
    let messages = [open, batch(1), batch(7)].map(|message| AppendStreamRequest { message: Some(message) });
    let answers = writer.ingest().append_stream(tokio_stream::iter(messages)).await.unwrap();
    let answers: Vec<_> = answers.into_inner().collect().await;
    said.push(format!("{:?}", answers.last().unwrap().as_ref().unwrap_err()));

    let mut by = question();
    let column = Some(Selector { column: Some(Column::Property("plan".into())) });
    by.break_down = Some(BreakDown { column, ..BreakDown::default() });
    reader.funnel().query_funnel(by).await.unwrap();
    let Some(query_funnel_request::Funnel::Inline(inline)) = question().funnel else { unreachable!() };
    for visitor in [VISITOR, "canary-visitor-51c2-unknown"] {
        let asked = ExplainVisitorRequest {
            funnel: Some(explain_visitor_request::Funnel::Inline(inline.clone())),
            visitor_id: visitor.into(),
            ..ExplainVisitorRequest::default()
        };
        if let Err(status) = reader.funnel().explain_visitor(asked).await {
            said.push(format!("{status:?}"));
        }
    }
    // The wrong key for the method, a key that is damaged, and a key where it does not belong.
    said.push(format!(
        "{:?}",
        reader.ingest().get_ingest_report(GetIngestReportRequest::default()).await.unwrap_err()
    ));
    let damaged = format!("{write}0");
    let stranger = Client::connect(&all.endpoint, &damaged).await.unwrap().with_policy(once());
    said.push(format!("{:?}", stranger.append(vec![event("seen")], None).await.unwrap_err()));
    said.push(format!("{:?}", call(&all.endpoint, &format!("/{write}/{VISITOR}"), write).await.unwrap_err()));
    let operator = all.operator().await.unwrap();
    let keys =
        operator.admin().list_keys(ListKeysRequest { tenant: "shop".into() }).await.unwrap().into_inner();
    let id = keys.keys.iter().find(|key| write.contains(&key.id)).unwrap().id.clone();
    operator.admin().revoke_key(RevokeKeyRequest { tenant: "shop".into(), id }).await.unwrap();
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn no_canary_leaves_through_telemetry() {
    let collector = Collector::start().await.unwrap();
    let database = Arc::new(Postgres::start("").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut variables = collector.variables();
    // Everything that this program and all it is made of can say.
    variables.push(("RUNNEL_LOG".into(), "trace".into()));
    let extra = Extra {
        arguments: ["--ops-listen", "127.0.0.1:0"].map(str::to_owned).into(),
        variables,
        log: Some(log.clone()),
    };
    let binary = Path::new(env!("CARGO_BIN_EXE_runnel"));
    let mut all = Deployment::start_with(binary, Placement::Split, Some(database.clone()), &extra).unwrap();
    let (write, read) = all.tenant("shop").await.unwrap();
    let mut told = sing(&all, &write, &read).await;
    let refused = every_method_about(&all, "shop", VISITOR).await;
    assert!(refused.iter().any(|said| said.contains("IDENTITY_ANONYMOUS")), "{refused:?}");
    told.extend(refused);
    // The same without the database, when everything fails.
    database.stop_at_once().unwrap();
    let reader = Client::connect(&all.endpoint, &read).await.unwrap();
    told.push(format!("{:?}", reader.funnel().query_funnel(question()).await.unwrap_err()));
    let ops: Vec<String> = all.processes.values().map(|process| process.ops.clone().unwrap()).collect();
    told.extend(ops.iter().map(|ops| get(ops, "/metrics").1));
    tokio::time::sleep(Duration::from_millis(500)).await;
    for process in all.processes.values_mut() {
        process.signal("TERM").unwrap();
    }
    for process in all.processes.values_mut() {
        assert!(process.wait().unwrap());
    }
    let logged = std::fs::read_to_string(&log).unwrap();
    let exported = collector.everything();
    assert!(logged.contains("a call was refused") && logged.contains("a call failed"), "the log is one");
    assert!(exported.contains("ingest append") && exported.contains("runnel_commits_total"));

    let secret = |key: &str| key.rsplit('_').next().unwrap().to_owned();
    let canaries = [VISITOR.to_owned(), VALUE.to_owned(), ID.to_owned(), secret(&write), secret(&read)];
    for canary in canaries {
        for (place, text) in
            [("the log", &logged), ("what was exported", &exported), ("errors and metrics", &told.concat())]
        {
            if let Some(at) = text.find(&canary) {
                let from = text.floor_char_boundary(at.saturating_sub(300));
                let until = text.floor_char_boundary((at + 100).min(text.len()));
                panic!("{canary} is in {place}: …{}…", &text[from..until]);
            }
        }
    }
}
