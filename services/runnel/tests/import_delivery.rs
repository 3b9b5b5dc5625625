//! An import over a client: everything is acknowledged once, verdicts find their lines, and what stops an import says so.
#![cfg(test)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::Message;
use runnel::import::{ImportArgs, ImportError, Summary, run};
use runnel_client::{
    Client, RetryPolicy,
    proto::ingest::v1::{
        AppendRequest, AppendResponse, AppendStreamRequest, AppendStreamResponse, GetIngestReportRequest,
        GetIngestReportResponse, Verdict,
        ingest_service_server::{IngestService, IngestServiceServer},
    },
};
use runnel_contracts::{
    receive::{Terms, receive_append},
    refusal::{Reason, Refusal},
};
use tonic::{Request, Response, Status, Streaming, codegen::tokio_stream::Stream};

const NOW: i64 = 1_714_557_600_000;

/// Receives as a server does, and keeps identities and receipts in memory. Every third call fails, before or after it has stored.
#[derive(Clone, Default)]
struct Server {
    identities: Arc<Mutex<HashSet<(String, i64, String)>>>,
    receipts: Arc<Mutex<HashMap<String, AppendResponse>>>,
    calls: Arc<AtomicU64>,
    flaky: bool,
    /// Refuses everything after so many calls.
    full_after: Option<u64>,
}

impl Server {
    fn client(&self) -> Client<IngestServiceServer<Server>> {
        let policy = RetryPolicy { first_wait: Duration::from_millis(1), ..RetryPolicy::default() };
        let server = IngestServiceServer::new(self.clone()).max_decoding_message_size(4 * 1024 * 1024);
        Client::over(server, "rk_write_test").unwrap().with_policy(policy)
    }

    fn stored(&self) -> usize {
        self.identities.lock().unwrap().len()
    }

    fn receive(&self, message: &AppendRequest) -> Result<AppendResponse, Status> {
        if let Some(outcome) = self.receipts.lock().unwrap().get(&message.request_id) {
            return Ok(AppendResponse { repeated: true, ..outcome.clone() });
        }
        let received = receive_append(&message.encode_to_vec(), NOW, &Terms::default())?;
        let batch = &received.batch;
        let outcome = AppendResponse {
            accepted: batch.len() as u32,
            duplicate: received.count(Verdict::Duplicate),
            conflict: received.count(Verdict::Conflict),
            rejected: received.count(Verdict::Rejected),
            verdicts: received.verdicts.clone(),
            ..AppendResponse::default()
        };
        if !message.validate_only {
            let mut identities = self.identities.lock().unwrap();
            for row in 0..batch.len() {
                let visitor = batch.strings.get(batch.visitors[row]).to_owned();
                let id = String::from_utf8(batch.event_ids.get(row).to_vec()).unwrap();
                identities.insert((visitor, batch.times[row], id));
            }
            assert_eq!(message.request_id.len(), 32);
            self.receipts.lock().unwrap().insert(message.request_id.clone(), outcome.clone());
        }
        Ok(outcome)
    }
}

#[tonic::async_trait]
impl IngestService for Server {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.full_after.is_some_and(|calls| call >= calls) {
            return Err(Refusal::new(Reason::StoreFull, "The disk is full.").into());
        }
        match (self.flaky, call % 6) {
            (true, 1) => Err(Status::unavailable("not now")),
            (true, 4) => {
                self.receive(&request.into_inner()).and_then(|_| Err(Status::unknown("answer lost")))
            }
            _ => self.receive(&request.into_inner()).map(Response::new),
        }
    }

    type AppendStreamStream = Pin<Box<dyn Stream<Item = Result<AppendStreamResponse, Status>> + Send>>;

    async fn append_stream(
        &self,
        _: Request<Streaming<AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_ingest_report(
        &self,
        _: Request<GetIngestReportRequest>,
    ) -> Result<Response<GetIngestReportResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

fn rows(count: usize) -> String {
    let mut text = "event_id,visitor_id,occurred_at,name,page\n".to_owned();
    (0..count).for_each(|n| text.push_str(&format!("e{n},v{},{},view,/p{n}\n", n % 7, NOW - n as i64)));
    text
}

async fn import(server: &Server, args: &ImportArgs) -> Summary {
    run(args, &server.client(), false).await.unwrap_or_else(|fault| panic!("{fault}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_acknowledged_once_and_repeating_adds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    std::fs::write(&path, rows(20_000)).unwrap();
    let server = Server { flaky: true, ..Server::default() };
    let mut args = ImportArgs::new(vec![path.clone()]);
    args.batch = 300;
    let summary = import(&server, &args).await;
    assert_eq!((summary.rows, summary.accepted, summary.stored_before), (20_000, 20_000, 0));
    assert_eq!((server.stored(), summary.succeeded(), summary.rejects_files.len()), (20_000, true, 0));
    let again = import(&server, &args).await;
    assert_eq!(again.accepted + again.stored_before, 20_000);
    assert!(again.stored_before > 10_000, "{again}");
    args.batch = 1_234;
    import(&server, &args).await;
    assert_eq!(server.stored(), 20_000);
    assert!(!folder.path().join("events.csv.rejects").exists());
}

#[tokio::test]
async fn verdicts_find_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    let future = NOW + 48 * 3_600_000;
    let ahead = NOW + 2 * 3_600_000;
    let mut text = rows(10);
    text.push_str("ragged,v\n");
    text.push_str(&format!("future,v,{future},view,\"a\nb\"\n"));
    text.push_str(&format!(
        "ahead,v,{ahead},view,p\ntwice,v,{NOW},view,p\ntwice,v,{NOW},view,p\ntwice,v,{NOW},view,q\n"
    ));
    std::fs::write(&path, &text).unwrap();
    let summary = import(&Server::default(), &ImportArgs::new(vec![path.clone()])).await;
    assert_eq!(
        (summary.rows, summary.accepted, summary.duplicate, summary.conflict, summary.ahead),
        (16, 12, 1, 1, 1)
    );
    let expected: BTreeMap<String, u64> =
        [("EVENT_TIME_IN_FUTURE".into(), 1), ("ROW_RAGGED".into(), 1)].into();
    assert_eq!(summary.rejected, expected);
    assert!(summary.succeeded());
    let rejects = std::fs::read_to_string(folder.path().join("events.csv.rejects")).unwrap();
    let lines: Vec<Vec<&str>> = rejects.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((lines[0][0], lines[0][2]), ("12", "ragged,v"));
    assert!(lines[0][1].starts_with("ROW_RAGGED: "));
    assert_eq!((lines[1][0], lines[1][2]), ("13", format!("future,v,{future},view,\"a\\nb\"").as_str()));
    assert!(lines[1][1].starts_with("EVENT_TIME_IN_FUTURE: "));
    let mut strict = ImportArgs::new(vec![path]);
    strict.strict = true;
    strict.rejects = Some(folder.path().join("elsewhere"));
    let summary = import(&Server::default(), &strict).await;
    assert!(!summary.succeeded());
    assert_eq!(summary.rejects_files, [folder.path().join("elsewhere")]);
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!((&json["rejected"], &json["accepted"]), (&2.into(), &12.into()));
}

#[tokio::test]
async fn a_dry_run_checks_and_stores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    std::fs::write(&path, rows(1_000)).unwrap();
    let mut args = ImportArgs::new(vec![path]);
    args.dry_run = true;
    let server = Server::default();
    let summary = import(&server, &args).await;
    assert_eq!((summary.accepted, server.stored()), (1_000, 0));
    assert!(summary.to_string().contains("would be accepted"));
    args.dry_run = false;
    assert_eq!(import(&server, &args).await.accepted, 1_000, "a dry run leaves no receipt");
}

#[tokio::test]
async fn a_fault_of_one_file_comes_after_what_was_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, rows(30_000).as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    let cut = folder.path().join("cut.csv.gz");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let good = folder.path().join("good.csv");
    std::fs::write(&good, rows(40_000)).unwrap();
    let server = Server::default();
    let summary = import(&server, &ImportArgs::new(vec![cut.clone()])).await;
    assert!(!summary.succeeded() && summary.accepted > 5_000);
    assert_eq!(summary.accepted, server.stored() as u64);
    assert_eq!(summary.faults[0].line, Some(summary.accepted + 2));
    let summary = import(&server, &ImportArgs::new(vec![cut, good, folder.path().join("none.csv")])).await;
    assert_eq!((summary.files, summary.faults.len(), server.stored()), (3, 2, 40_000));
    assert!(summary.to_string().contains("truncated"));
}

#[tokio::test]
async fn a_refused_request_stops_the_import_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    std::fs::write(&path, rows(10_000)).unwrap();
    let server = Server { full_after: Some(3), ..Server::default() };
    let mut args = ImportArgs::new(vec![path]);
    (args.batch, args.in_flight) = (1_000, 1);
    let Err(error) = run(&args, &server.client(), false).await else { panic!("it went through") };
    let text = error.to_string();
    assert!(
        text.contains("lines 3002 to 4001") && text.contains("STORE_FULL") && text.contains("3000 events"),
        "{text}"
    );
    let ImportError::Append { summary, .. } = error else { panic!("{text}") };
    assert_eq!((summary.accepted, server.stored()), (3_000, 3_000));
    let mended = Server { full_after: None, ..server };
    let summary = import(&mended, &args).await;
    assert_eq!((summary.accepted, summary.stored_before, mended.stored()), (7_000, 3_000, 10_000));
}

#[tokio::test]
async fn files_without_ids_are_imported_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    std::fs::write(&path, format!("visitor_id,occurred_at,name\na,{NOW},view\nb,{NOW},view\n")).unwrap();
    let server = Server::default();
    let summary = import(&server, &ImportArgs::new(vec![path])).await;
    assert_eq!((summary.accepted, server.stored()), (2, 2));
    assert!(summary.notes[0].contains("whole content"), "{:?}", summary.notes);
}
