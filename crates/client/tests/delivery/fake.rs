//! An ingest service that fails by script and remembers what it stored.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use runnel_client::{
    Client, RetryPolicy,
    proto::ingest::v1::{
        AppendRequest, AppendResponse, AppendStreamRequest, AppendStreamResponse, GetIngestReportRequest,
        GetIngestReportResponse,
        ingest_service_server::{IngestService, IngestServiceServer},
    },
};
use runnel_contracts::refusal::{Reason, Refusal};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};

/// What the fake does with a call.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Does what it should.
    Answer,
    /// Fails without storing.
    Fail(Code),
    /// Stores, and loses the answer.
    LoseAnswer(Code),
    /// Stores, and answers after this time.
    Slow(Duration),
    /// Refuses; may say when to come back.
    Refuse(Reason, Option<Duration>),
}

#[derive(Default)]
pub(crate) struct Stored {
    /// Outcome and content by request id.
    receipts: HashMap<String, (String, AppendResponse)>,
    /// How often each event was stored.
    pub(crate) events: HashMap<String, usize>,
    /// The request id of each call, in order.
    pub(crate) calls: Vec<String>,
    /// When each call came.
    pub(crate) times: Vec<tokio::time::Instant>,
    /// Sizes of stored batches.
    pub(crate) batches: Vec<usize>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) stored: Arc<Mutex<Stored>>,
    pub(crate) script: Arc<Mutex<VecDeque<Act>>>,
    pub(crate) now: Arc<AtomicUsize>,
    pub(crate) most_at_a_time: Arc<AtomicUsize>,
    pub(crate) pause: Duration,
}

impl Fake {
    pub(crate) fn with(script: impl IntoIterator<Item = Act>) -> Fake {
        Fake { script: Arc::new(Mutex::new(script.into_iter().collect())), ..Fake::default() }
    }

    pub(crate) fn client(&self) -> Client<IngestServiceServer<Fake>> {
        let policy = RetryPolicy { attempt_timeout: Duration::from_secs(5), ..RetryPolicy::default() };
        Client::over(IngestServiceServer::new(self.clone()), "rk_write_test").unwrap().with_policy(policy)
    }

    /// Every event of `expected` is stored once, and no other is.
    pub(crate) fn assert_stored_once<'a>(&self, expected: impl IntoIterator<Item = &'a str>) {
        let stored = self.stored.lock().unwrap();
        let mut left = stored.events.clone();
        for id in expected {
            assert_eq!(left.remove(id), Some(1), "event {id}");
        }
        assert!(left.is_empty(), "more than was sent: {left:?}");
    }

    fn store(&self, request: &AppendRequest) -> Result<AppendResponse, Status> {
        let mut stored = self.stored.lock().unwrap();
        let content = format!("{:?}", request.events);
        if let Some((before, outcome)) = stored.receipts.get(&request.request_id) {
            if *before != content {
                return Err(Refusal::new(Reason::RequestReused, "The id was used with other content.").into());
            }
            return Ok(AppendResponse { repeated: true, ..outcome.clone() });
        }
        for event in &request.events {
            *stored.events.entry(event.event_id.clone()).or_default() += 1;
        }
        stored.batches.push(request.events.len());
        let outcome = AppendResponse {
            accepted: request.events.len() as u32,
            sequence: stored.batches.len() as u64,
            ..Default::default()
        };
        stored.receipts.insert(request.request_id.clone(), (content, outcome.clone()));
        Ok(outcome)
    }
}

#[tonic::async_trait]
impl IngestService for Fake {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let key =
            request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if key != "Bearer rk_write_test" {
            return Err(Refusal::new(Reason::KeyMissing, "There is no key.").into());
        }
        let request = request.into_inner();
        {
            let mut stored = self.stored.lock().unwrap();
            stored.calls.push(request.request_id.clone());
            stored.times.push(tokio::time::Instant::now());
        }
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_a_time.fetch_max(now, Ordering::SeqCst);
        let _leave = Leave(&self.now);
        tokio::time::sleep(self.pause).await;
        let act = self.script.lock().unwrap().pop_front();
        match act {
            None | Some(Act::Answer) => self.store(&request).map(Response::new),
            Some(Act::Fail(code)) => Err(Status::new(code, "by script")),
            Some(Act::LoseAnswer(code)) => {
                self.store(&request)?;
                Err(Status::new(code, "by script"))
            }
            Some(Act::Slow(time)) => {
                let answer = self.store(&request).map(Response::new);
                tokio::time::sleep(time).await;
                answer
            }
            Some(Act::Refuse(reason, wait)) => {
                let mut refusal = Refusal::field(reason, "events", "By script.");
                refusal.retry_after = wait;
                Err(refusal.into())
            }
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
        let counted = self.stored.lock().unwrap().events.len() as u64;
        Ok(Response::new(GetIngestReportResponse { counted, ..Default::default() }))
    }
}

/// Counts a call as over, also when its future is dropped.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
