//! One batch, sent until it is answered.

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use runnel_contracts::{
    frame::{Frame, FrameOut},
    proto::{
        event::v1::Event,
        ingest::v1::{AppendRequest, AppendResponse},
    },
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, client::Grpc};

use crate::{AppendError, Client, Keyed, Refusal, RetryPolicy, Transport, client::ANSWER_BYTES};

const PATH: &str = "/runnel.ingest.v1.IngestService/Append";

/// The outcome of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Appended {
    /// What the server says about the batch and its events.
    pub response: AppendResponse,
    /// How often the batch was sent.
    pub attempts: u32,
}

impl Appended {
    /// Whether the batch was stored by an earlier call, not by this one. After a lost answer the server repeats the outcome of this very call; that does not count.
    #[must_use]
    pub fn stored_before(&self) -> bool {
        self.response.repeated && self.attempts == 1
    }
}

impl<S: Transport> Client<S> {
    /// Appends a batch of 1 to 10,000 events, and sends it again under the same id when the answer is lost or the server asks for patience.
    ///
    /// With `request_id` the batch can also be repeated by a later call: the server keeps its outcome for 7 days. Without, one is made for this call. Success means that all
    /// accepted events are durable; the response holds a verdict on every other one.
    pub fn append(
        &self,
        events: Vec<Event>,
        request_id: Option<String>,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send + use<S> {
        let request_id = request_id.unwrap_or_else(new_id);
        let request = AppendRequest { request_id: request_id.clone(), events, validate_only: false };
        deliver(self.transport.clone(), self.policy.clone(), Bytes::from(request.encode_to_vec()), request_id)
    }

    /// As [`append`](Client::append), for an `AppendRequest` that is encoded already. `request_id` is the one inside; it only spreads the waits.
    pub fn append_encoded(
        &self,
        request: Bytes,
        request_id: &str,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send + use<S> {
        deliver(self.transport.clone(), self.policy.clone(), request, request_id.to_owned())
    }
}

/// A fresh id that sorts by time.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

async fn deliver<S: Transport>(
    transport: Keyed<S>,
    policy: RetryPolicy,
    request: Bytes,
    request_id: String,
) -> Result<Appended, AppendError> {
    let mut grpc = Grpc::new(transport).max_decoding_message_size(ANSWER_BYTES);
    let started = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let answer = timeout(policy.attempt_timeout, attempt(&mut grpc, &policy, request.clone())).await;
        let refusal = match answer {
            Ok(Ok(response)) => return Ok(Appended { response, attempts }),
            Ok(Err(refusal)) => refusal,
            Err(_) => Refusal::timed_out(policy.attempt_timeout),
        };
        match policy.wait(&request_id, attempts, &refusal, started.elapsed()) {
            Some(wait) => sleep(wait).await,
            None if refusal.may_be_repeated() => {
                return Err(AppendError::Unanswered { attempts, last: refusal });
            }
            None => return Err(AppendError::Refused(refusal)),
        }
    }
}

async fn attempt<S: Transport>(
    grpc: &mut Grpc<Keyed<S>>,
    policy: &RetryPolicy,
    bytes: Bytes,
) -> Result<AppendResponse, Refusal> {
    grpc.ready().await.map_err(|source| {
        let source: Box<dyn std::error::Error + Send + Sync> = source.into();
        Refusal::unavailable(format!("the server cannot be reached: {source}"))
    })?;
    let mut request = Request::new(Frame(bytes));
    request.set_timeout(policy.attempt_timeout);
    let codec = FrameOut::<AppendResponse>::default();
    let response = grpc.unary(request, PathAndQuery::from_static(PATH), codec).await;
    response.map(Response::into_inner).map_err(Refusal::from)
}
