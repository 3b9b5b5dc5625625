//! The task that fills batches and keeps them under way.

use std::{pin::pin, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{BatchOutcome, BatcherSettings, Command, Queued, Room, Underway};
use crate::{Client, Transport};

/// The tag of `AppendRequest.request_id`.
const REQUEST_ID: u8 = 0x0a;
/// The tag of `AppendRequest.events`.
const EVENTS: u8 = 0x12;

/// A batch that is being filled.
struct Filling {
    request_id: String,
    event_ids: Vec<String>,
    request: BytesMut,
    /// Bytes of events, as they are counted in the room.
    bytes: usize,
    due: Instant,
}

impl Filling {
    fn new(settings: &BatcherSettings) -> Filling {
        let request_id = (settings.ids)();
        let mut request = BytesMut::with_capacity(16 * 1024);
        request.put_u8(REQUEST_ID);
        put_length(&mut request, request_id.len());
        request.extend_from_slice(request_id.as_bytes());
        Filling {
            request_id,
            event_ids: Vec::new(),
            request,
            bytes: 0,
            due: Instant::now() + settings.linger,
        }
    }

    fn push(&mut self, queued: Queued) {
        self.request.put_u8(EVENTS);
        put_length(&mut self.request, queued.encoded.len());
        self.request.extend_from_slice(&queued.encoded);
        self.bytes += queued.encoded.len();
        self.event_ids.push(queued.event_id);
    }
}

fn put_length(buffer: &mut BytesMut, mut length: usize) {
    while length >= 0x80 {
        buffer.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    buffer.put_u8(length as u8);
}

/// A batch that is final.
struct Final {
    number: u64,
    bytes: usize,
    outcome: BatchOutcome,
}

/// Runs until all batchers are gone and all batches are final.
pub(super) async fn run<S: Transport>(
    client: Client<S>,
    settings: BatcherSettings,
    mut inbox: mpsc::Receiver<Command>,
    room: Arc<Room>,
) {
    let mut worker = Worker {
        client,
        settings,
        room,
        filling: None,
        sending: JoinSet::new(),
        underway: Underway::default(),
    };
    let mut alarm = pin!(sleep_until(Instant::now()));
    loop {
        let may_take = worker.sending.len() < worker.settings.in_flight;
        let due = worker.filling.as_ref().map(|filling| filling.due);
        if let Some(due) = due.filter(|due| *due != alarm.deadline()) {
            alarm.as_mut().reset(due);
        }
        tokio::select! {
            // In this order, so that the same events at the same times make the same batches. None can starve another: every one of them makes itself unready.
            biased;
            Some(done) = worker.sending.join_next() => worker.finish(done),
            () = &mut alarm, if may_take && due.is_some() => worker.seal(),
            command = inbox.recv(), if may_take => match command {
                Some(Command::Event(queued)) => worker.add(queued),
                Some(Command::Flush(waiter)) => {
                    worker.seal();
                    worker.underway.wait(waiter);
                }
                None => break,
            },
        }
    }
    worker.seal();
    while let Some(done) = worker.sending.join_next().await {
        worker.finish(done);
    }
}

struct Worker<S> {
    client: Client<S>,
    settings: BatcherSettings,
    room: Arc<Room>,
    filling: Option<Filling>,
    sending: JoinSet<Final>,
    underway: Underway,
}

impl<S: Transport> Worker<S> {
    /// Adds an event to the batch that is being filled. Called only while one more batch may be sent, so that at most one batch is over the number in flight.
    fn add(&mut self, queued: Queued) {
        let grown =
            self.filling.as_ref().map_or(0, |filling| filling.request.len()) + queued.encoded.len() + 8;
        if grown > self.settings.batch_bytes {
            self.seal();
        }
        let filling = self.filling.get_or_insert_with(|| Filling::new(&self.settings));
        filling.push(queued);
        if filling.event_ids.len() >= self.settings.batch_events {
            self.seal();
        }
    }

    /// Sends what is filled.
    fn seal(&mut self) {
        let Some(Filling { request_id, event_ids, request, bytes, .. }) = self.filling.take() else { return };
        let number = self.underway.start();
        let request: Bytes = request.freeze();
        let answer = self.client.append_encoded(request.clone(), &request_id);
        self.sending.spawn(async move {
            let result = answer.await;
            Final { number, bytes, outcome: BatchOutcome { request_id, event_ids, request, result } }
        });
    }

    fn finish(&mut self, done: Result<Final, tokio::task::JoinError>) {
        // Tasks are neither cancelled nor do they panic; were one to, its events would stay counted as waiting, and `close` would name them.
        let Ok(Final { number, bytes, outcome }) = done else { return };
        let events = outcome.event_ids.len();
        if let Some(hook) = &self.settings.on_outcome {
            hook(outcome);
        }
        self.room.release(events, bytes);
        self.underway.finish(number);
    }
}
