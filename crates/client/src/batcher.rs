//! Makes batches of single events and sends them, several at a time, within bounds.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use prost::Message;
use runnel_contracts::proto::event::v1::Event;
use runnel_model::limits;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use crate::{AppendError, Appended, Client, Transport, append::new_id};

mod worker;

/// Makes ids for events and requests.
pub type IdSource = Arc<dyn Fn() -> String + Send + Sync>;

/// Called once for every batch, with its final outcome.
pub type OutcomeHook = Arc<dyn Fn(BatchOutcome) + Send + Sync>;

/// How events are batched. Values outside their bounds are moved to the nearest bound.
#[derive(Clone)]
pub struct BatcherSettings {
    /// A batch is sent when it has this many events; 1 to 10,000.
    pub batch_events: usize,
    /// A batch is sent before it grows over this many bytes; 64 KiB to 3.5 MiB.
    pub batch_bytes: usize,
    /// A batch is sent when its first event has waited this long.
    pub linger: Duration,
    /// Batches that may be under way at a time; 1 to 64.
    pub in_flight: usize,
    /// Events that may wait, those under way included; at least 1.
    pub queue_events: usize,
    /// Encoded bytes that may wait, those under way included; at least 64 KiB.
    pub queue_bytes: usize,
    /// Called with the outcome of every batch. It runs on the batcher's task and must not block.
    pub on_outcome: Option<OutcomeHook>,
    /// Makes the id of an event that has none, and of each request: UUIDv7 by default.
    pub ids: IdSource,
}

impl Default for BatcherSettings {
    fn default() -> BatcherSettings {
        BatcherSettings {
            batch_events: 1_000,
            batch_bytes: 1024 * 1024,
            linger: Duration::from_millis(100),
            in_flight: 4,
            queue_events: 50_000,
            queue_bytes: 32 * 1024 * 1024,
            on_outcome: None,
            ids: Arc::new(new_id),
        }
    }
}

impl fmt::Debug for BatcherSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatcherSettings")
            .field("batch_events", &self.batch_events)
            .field("batch_bytes", &self.batch_bytes)
            .field("linger", &self.linger)
            .field("in_flight", &self.in_flight)
            .field("queue_events", &self.queue_events)
            .field("queue_bytes", &self.queue_bytes)
            .finish_non_exhaustive()
    }
}

impl BatcherSettings {
    fn within_bounds(mut self) -> BatcherSettings {
        self.batch_events = self.batch_events.clamp(1, limits::BATCH_EVENTS);
        self.batch_bytes = self.batch_bytes.clamp(limits::EVENT_BYTES, limits::MESSAGE_BYTES - 512 * 1024);
        self.in_flight = self.in_flight.clamp(1, 64);
        self.queue_events = self.queue_events.clamp(1, u32::MAX as usize / 2);
        self.queue_bytes = self.queue_bytes.clamp(limits::EVENT_BYTES, u32::MAX as usize / 2);
        self
    }
}

/// What became of one batch.
#[derive(Clone, Debug)]
pub struct BatchOutcome {
    /// The id of the request.
    pub request_id: String,
    /// The ids of its events, in the order of the verdicts' indices.
    pub event_ids: Vec<String>,
    /// The encoded request. After an error it can be kept, and sent later with [`Client::append_encoded`]; its events still count once.
    pub request: Bytes,
    /// The outcome, or why there is none.
    pub result: Result<Appended, AppendError>,
}

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnqueueError {
    /// As much as may wait is waiting. The event comes back.
    #[error("the queue is full: it holds as many events or bytes as it may; wait, or use `send`, which does")]
    Full(Box<Event>),
    /// The event is larger than the server takes.
    #[error("an event has at most {most} bytes; this one has {0}", most = limits::EVENT_BYTES)]
    TooLarge(usize),
    /// The batcher is closed.
    #[error("the batcher is closed")]
    Closed,
}

/// The time given to [`Batcher::close`] was not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{events} events have no outcome yet; their batches were abandoned, and whether they are stored is unknown"
)]
pub struct Unfinished {
    /// Events without an outcome.
    pub events: u64,
}

/// An event on its way to a batch.
struct Queued {
    event_id: String,
    encoded: Bytes,
}

enum Command {
    Event(Queued),
    Flush(oneshot::Sender<()>),
}

/// What may still be taken, and what is under way.
struct Room {
    events: Semaphore,
    bytes: Semaphore,
    waiting: AtomicU64,
}

impl Room {
    fn release(&self, events: usize, bytes: usize) {
        self.events.add_permits(events);
        self.bytes.add_permits(bytes);
        self.waiting.fetch_sub(events as u64, Ordering::AcqRel);
    }
}

/// A bounded queue of events in front of a client.
///
/// Event ids are made when an event is taken, so that a batch that is sent again, or an event that the caller writes down and sends again, counts once. Dropping the batcher
/// sends what waits, as long as the runtime lives; [`close`](Batcher::close) also waits for it.
pub struct Batcher {
    commands: mpsc::Sender<Command>,
    room: Arc<Room>,
    ids: IdSource,
    worker: tokio::task::JoinHandle<()>,
}

impl fmt::Debug for Batcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl Batcher {
    /// Starts a batcher on the current tokio runtime. The client's policy says how long a batch is sent again.
    #[must_use]
    pub fn start<S: Transport>(client: Client<S>, settings: BatcherSettings) -> Batcher {
        let settings = settings.within_bounds();
        let room = Arc::new(Room {
            events: Semaphore::new(settings.queue_events),
            bytes: Semaphore::new(settings.queue_bytes),
            waiting: AtomicU64::new(0),
        });
        // The room bounds what waits; the channel itself only hands over.
        let (commands, inbox) = mpsc::channel(settings.queue_events.min(1_024));
        let ids = Arc::clone(&settings.ids);
        let worker = tokio::spawn(worker::run(client, settings, inbox, Arc::clone(&room)));
        Batcher { commands, room, ids, worker }
    }

    /// Takes an event; waits while the queue is full.
    pub async fn send(&self, event: Event) -> Result<(), EnqueueError> {
        let queued = self.prepare(event)?;
        let bytes = queued.encoded.len() as u32;
        let events = self.room.events.acquire().await.map_err(|_| EnqueueError::Closed)?;
        let room = self.room.bytes.acquire_many(bytes).await.map_err(|_| EnqueueError::Closed)?;
        let place = self.commands.reserve().await.map_err(|_| EnqueueError::Closed)?;
        events.forget();
        room.forget();
        self.room.waiting.fetch_add(1, Ordering::AcqRel);
        place.send(Command::Event(queued));
        Ok(())
    }

    /// Takes an event if there is room.
    pub fn try_send(&self, event: Event) -> Result<(), EnqueueError> {
        let full = event.clone();
        let queued = self.prepare(event)?;
        let bytes = queued.encoded.len() as u32;
        let (Ok(events), Ok(room)) =
            (self.room.events.try_acquire(), self.room.bytes.try_acquire_many(bytes))
        else {
            return Err(EnqueueError::Full(Box::new(full)));
        };
        match self.commands.try_reserve() {
            Ok(place) => {
                events.forget();
                room.forget();
                self.room.waiting.fetch_add(1, Ordering::AcqRel);
                place.send(Command::Event(queued));
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(EnqueueError::Full(Box::new(full))),
            Err(mpsc::error::TrySendError::Closed(())) => Err(EnqueueError::Closed),
        }
    }

    /// Sends what waits without lingering, and returns when every event taken before has its final outcome.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Flush(done)).await.is_ok() {
            // An error means that the worker has ended, which it does only after everything is final.
            let _ = wait.await;
        }
    }

    /// Takes no more events, sends what waits and returns when all is final. After `deadline` it abandons what is left.
    pub async fn close(self, deadline: Duration) -> Result<(), Unfinished> {
        let Batcher { commands, room, mut worker, .. } = self;
        drop(commands);
        if timeout(deadline, &mut worker).await.is_err() {
            worker.abort();
        }
        match room.waiting.load(Ordering::Acquire) {
            0 => Ok(()),
            events => Err(Unfinished { events }),
        }
    }

    /// Events that have no final outcome yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.room.waiting.load(Ordering::Acquire)
    }

    fn prepare(&self, mut event: Event) -> Result<Queued, EnqueueError> {
        if event.event_id.is_empty() {
            event.event_id = (self.ids)();
        }
        let mut encoded = BytesMut::with_capacity(event.encoded_len());
        // A BytesMut grows as needed; encoding into it cannot fail.
        let _ = event.encode(&mut encoded);
        if encoded.len() > limits::EVENT_BYTES {
            return Err(EnqueueError::TooLarge(encoded.len()));
        }
        Ok(Queued { event_id: event.event_id, encoded: encoded.freeze() })
    }
}

/// Batches under way, by the order in which they were sealed, and who waits for them.
#[derive(Default)]
struct Underway {
    sealed: u64,
    open: BTreeSet<u64>,
    waiters: Vec<(u64, oneshot::Sender<()>)>,
}

impl Underway {
    /// A batch starts; its number.
    fn start(&mut self) -> u64 {
        self.sealed += 1;
        self.open.insert(self.sealed);
        self.sealed
    }

    /// A batch is final: wakes whoever waited for it and nothing else.
    fn finish(&mut self, number: u64) {
        self.open.remove(&number);
        self.wake();
    }

    /// Wakes `waiter` when everything sealed so far is final.
    fn wait(&mut self, waiter: oneshot::Sender<()>) {
        self.waiters.push((self.sealed, waiter));
        self.wake();
    }

    fn wake(&mut self) {
        let oldest = self.open.first().copied().unwrap_or(u64::MAX);
        let (ready, rest) =
            std::mem::take(&mut self.waiters).into_iter().partition(|(until, _)| *until < oldest);
        self.waiters = rest;
        let ready: Vec<(u64, oneshot::Sender<()>)> = ready;
        for (_, waiter) in ready {
            // Who gave up waiting needs no answer.
            let _ = waiter.send(());
        }
    }
}
