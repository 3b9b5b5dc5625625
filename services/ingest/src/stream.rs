//! Append streams: batches numbered by the client, acknowledged in order, a bounded number of them under way.

use runnel_contracts::{
    frame::Frame,
    proto::ingest::v1::{
        AppendResponse, AppendStreamResponse,
        append_stream_response::{Ack, Fault, Message as Answer, Opened},
    },
    protobuf::{Fields, Malformed, Wire},
    receive::{Received, Terms, receive_events},
    refusal::{Reason, Refusal},
};
use runnel_model::{TenantName, limits};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinHandle,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Status, Streaming};
use tracing::Instrument;

use crate::{
    append::{stopped, store_received},
    service::{Ingest, STREAMED_BYTES},
};

/// A batch under way, in the order of the stream.
struct Underway {
    sequence: u64,
    work: JoinHandle<Result<AppendResponse, Refusal>>,
}

/// What one message of the client says.
enum Asked {
    Open { stream_id: String },
    Batch { sequence: u64, batch: bytes::Bytes },
}

/// Number of `AppendStreamRequest.Batch.events`.
const EVENTS: u32 = 2;

/// Serves a stream. The answers end after the last acknowledgement, or with a status when the client breaks the protocol.
pub(crate) fn run(
    ingest: Ingest,
    tenant: TenantName,
    requests: Streaming<Frame>,
) -> impl Stream<Item = Result<AppendStreamResponse, Status>> + Send + 'static {
    let (answers, stream) = mpsc::channel(limits::STREAM_CREDITS as usize);
    let (started, underway) = mpsc::channel(limits::STREAM_CREDITS as usize);
    // What happens behind this call belongs to it: log lines say so, and batches are children of the stream's span.
    tokio::spawn(acknowledge(ingest.clone(), underway, answers.clone()).in_current_span());
    let reading = async move {
        if let Err(status) = read(ingest, tenant, requests, started, &answers).await {
            drop(answers.send(Err(status)).await);
        }
    };
    tokio::spawn(reading.in_current_span());
    ReceiverStream::new(stream)
}

/// Starts batches as they come. Waits when as many are under way as there are credits, so that a fast client is held back by flow control.
async fn read(
    ingest: Ingest,
    tenant: TenantName,
    mut requests: Streaming<Frame>,
    started: mpsc::Sender<Underway>,
    answers: &mpsc::Sender<Result<AppendStreamResponse, Status>>,
) -> Result<(), Status> {
    let mut stream_id = None;
    let mut last: Option<u64> = None;
    while let Some(frame) = requests.next().await {
        match (parse(&frame?.0)?, &stream_id) {
            (Asked::Open { stream_id: id }, None) => {
                stream_id = Some(id);
                let opened = Answer::Opened(Opened { credits: limits::STREAM_CREDITS });
                if answers.send(Ok(AppendStreamResponse { message: Some(opened) })).await.is_err() {
                    return Ok(());
                }
            }
            (Asked::Batch { sequence, batch }, Some(id)) => {
                if last.is_some_and(|last| sequence != last + 1) || sequence == 0 {
                    return Err(protocol(
                        "A batch's sequence is one more than the one before, from 1 or from where the stream was left.",
                    ));
                }
                last = Some(sequence);
                let share = batch.len().min(STREAMED_BYTES) as u32;
                let share = ingest.streamed.clone().acquire_many_owned(share).await.map_err(|_| stopped())?;
                let work = start(&ingest, &tenant, format!("{id}#{sequence}"), batch, share);
                if started.send(Underway { sequence, work }).await.is_err() {
                    return Ok(());
                }
            }
            (Asked::Open { .. }, Some(_)) => return Err(protocol("The stream is open already.")),
            (Asked::Batch { .. }, None) => return Err(protocol("The first message must be open.")),
        }
    }
    Ok(())
}

fn start(
    ingest: &Ingest,
    tenant: &TenantName,
    request_id: String,
    batch: bytes::Bytes,
    share: OwnedSemaphorePermit,
) -> JoinHandle<Result<AppendResponse, Refusal>> {
    let (ingest, tenant, now_ms) = (ingest.clone(), tenant.clone(), ingest.clock.now_ms());
    let bytes = batch.len();
    let work = async move {
        let receive = move |terms: &Terms| {
            let mut received = Received::named(request_id.clone());
            receive_events(&batch, EVENTS, now_ms, terms, &mut received)?;
            Ok(received)
        };
        let outcome = store_received(&ingest, &tenant, now_ms, bytes, receive).await;
        drop(share);
        outcome
    };
    tokio::spawn(work.in_current_span())
}

/// Answers batches in the order in which they came.
async fn acknowledge(
    ingest: Ingest,
    mut underway: mpsc::Receiver<Underway>,
    answers: mpsc::Sender<Result<AppendStreamResponse, Status>>,
) {
    while let Some(Underway { sequence, work }) = underway.recv().await {
        let result =
            work.await.unwrap_or_else(|_| Err(Refusal::new(Reason::ShuttingDown, "The server is stopping.")));
        let message = match result {
            Ok(outcome) => {
                Answer::Ack(Ack { sequence, outcome: Some(outcome), credits: limits::STREAM_CREDITS })
            }
            Err(refusal) => {
                ingest.metrics.refused(Some(refusal.reason));
                Answer::Fault(Fault {
                    sequence,
                    reason: refusal.reason.name().to_owned(),
                    message: refusal.to_string(),
                    retry_after_ms: refusal.retry_after.map_or(0, |wait| wait.as_millis() as u32),
                })
            }
        };
        if answers.send(Ok(AppendStreamResponse { message: Some(message) })).await.is_err() {
            return;
        }
    }
}

/// Reads one message without its events.
fn parse(message: &bytes::Bytes) -> Result<Asked, Status> {
    let malformed =
        |_: Malformed| Refusal::new(Reason::MessageMalformed, "The message is not an AppendStreamRequest.");
    let mut fields = Fields::new(message);
    let mut asked = None;
    while let Some((number, value)) = fields.next_field().map_err(malformed)? {
        match (number, value) {
            (1, Wire::Bytes(open)) => {
                asked = Some(Asked::Open { stream_id: stream_id(open).map_err(malformed)? })
            }
            (2, Wire::Bytes(batch)) => {
                let sequence = sequence(batch).map_err(malformed)?;
                asked = Some(Asked::Batch { sequence, batch: message.slice_ref(batch) });
            }
            _ => {}
        }
    }
    match asked {
        Some(Asked::Open { stream_id })
            if stream_id.is_empty() || stream_id.len() > limits::STREAM_ID_BYTES =>
        {
            let text =
                format!("stream_id has 1 to {} bytes; it has {}.", limits::STREAM_ID_BYTES, stream_id.len());
            Err(Refusal::field(Reason::StreamProtocol, "open.stream_id", text).into())
        }
        Some(asked) => Ok(asked),
        None => Err(protocol("The message is neither open nor a batch.")),
    }
}

fn stream_id(open: &[u8]) -> Result<String, Malformed> {
    let (mut fields, mut id) = (Fields::new(open), String::new());
    while let Some((number, value)) = fields.next_field()? {
        if let (1, Wire::Bytes(text)) = (number, value) {
            id = String::from_utf8(text.to_vec()).map_err(|_| Malformed)?;
        }
    }
    Ok(id)
}

fn sequence(batch: &[u8]) -> Result<u64, Malformed> {
    let (mut fields, mut sequence) = (Fields::new(batch), 0);
    while let Some((number, value)) = fields.next_field()? {
        if let (1, Wire::Varint(value)) = (number, value) {
            sequence = value;
        }
    }
    Ok(sequence)
}

fn protocol(text: &str) -> Status {
    Refusal::new(Reason::StreamProtocol, text).into()
}
