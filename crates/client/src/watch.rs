//! Follows what changes, and goes on where it was when the connection or the server is lost.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use runnel_contracts::proto::segmentation::v1::{
    WatchFunnelRequest, WatchFunnelResponse, WatchSegmentRequest, WatchSegmentResponse,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, Streaming};

use crate::{Client, Refusal, Transport, append::new_id};

/// The longest time between two messages where a request does not say.
const TOTALS_EVERY: Duration = Duration::from_secs(10);

/// A stream that is being opened.
pub type Opening<T> = Pin<Box<dyn Future<Output = Result<Streaming<T>, Status>> + Send>>;

/// What can be watched: a request for a stream of messages with cursors.
pub trait Watched: Clone + Send + Sync {
    /// A message.
    type Told: Send;

    /// Asks to go on from a cursor.
    fn go_on(&mut self, cursor: String);

    /// The longest time between two messages.
    fn totals_every(&self) -> Duration;

    /// Opens the stream.
    fn open<S: Transport>(self, client: Client<S>) -> Opening<Self::Told>;

    /// Whether a message begins anew, its cursor, and where to go on from if the stream ends with it.
    fn place(message: &Self::Told) -> (bool, &str, Option<&str>);
}

macro_rules! watched {
    ($request:ty, $told:ty, $method:ident) => {
        impl Watched for $request {
            type Told = $told;

            fn go_on(&mut self, cursor: String) {
                self.cursor = cursor;
            }

            fn totals_every(&self) -> Duration {
                self.totals_every_ms
                    .map_or(TOTALS_EVERY, |every_ms| Duration::from_millis(every_ms.max(0).unsigned_abs()))
            }

            fn open<S: Transport>(self, client: Client<S>) -> Opening<$told> {
                Box::pin(async move { Ok(client.segmentation().$method(self).await?.into_inner()) })
            }

            fn place(message: &$told) -> (bool, &str, Option<&str>) {
                let lagged = message.lagged.as_ref().map(|lagged| &*lagged.resync_from);
                (message.reset, &message.cursor, lagged)
            }
        }
    };
}

watched!(WatchSegmentRequest, WatchSegmentResponse, watch_segment);
watched!(WatchFunnelRequest, WatchFunnelResponse, watch_funnel);

/// Changes as they come. Every change is told once, in order, unless a message with `reset` says that everything begins anew.
#[derive(Debug)]
pub struct Watch<S, R: Watched> {
    client: Client<S>,
    request: R,
    stream: Option<Streaming<R::Told>>,
    /// Messages about an instant of which not everything is told yet.
    held: VecDeque<R::Told>,
    /// Messages that are ready.
    ready: VecDeque<R::Told>,
    /// Whether a message began anew and not everything is told yet.
    anew: bool,
    id: String,
}

impl<S: Transport> Client<S> {
    /// Follows who comes into a segment and who leaves it. A request with the cursor of an earlier message goes on behind that.
    pub fn watch_segment(&self, request: WatchSegmentRequest) -> Watch<S, WatchSegmentRequest> {
        Watch::new(self.clone(), request)
    }

    /// Follows how visitors move through a funnel. A request with the cursor of an earlier message goes on behind that.
    pub fn watch_funnel(&self, request: WatchFunnelRequest) -> Watch<S, WatchFunnelRequest> {
        Watch::new(self.clone(), request)
    }
}

impl<S: Transport, R: Watched> Watch<S, R> {
    fn new(client: Client<S>, request: R) -> Watch<S, R> {
        let (held, ready) = (VecDeque::new(), VecDeque::new());
        Watch { client, request, stream: None, held, ready, anew: false, id: new_id() }
    }

    /// The next message. Waits and connects again, as the client's policy says, when the connection or the server is lost; fails when it is refused, or for longer than
    /// the policy has patience.
    pub async fn next(&mut self) -> Result<R::Told, Refusal> {
        let (mut lost, mut attempts) = (None, 0);
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(message);
            }
            let refusal = match self.receive().await {
                Ok(()) => {
                    (lost, attempts) = (None, 0);
                    continue;
                }
                Err(refusal) => refusal,
            };
            self.stream = None;
            self.held.clear();
            if std::mem::take(&mut self.anew) {
                self.request.go_on(String::new());
            }
            attempts += 1;
            let spent = lost.get_or_insert_with(Instant::now).elapsed();
            match self.client.policy().wait(&self.id, attempts, &refusal, spent) {
                Some(wait) => sleep(wait).await,
                None => return Err(refusal),
            }
        }
    }

    /// Takes in one message. A connection over which nothing comes for much longer than it should is lost, whatever it says of itself. Until its first message a server may
    /// have to read much.
    async fn receive(&mut self) -> Result<(), Refusal> {
        let (begins, patience) = (self.stream.is_none(), self.client.policy().patience);
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let opening = timeout(patience, self.request.clone().open(self.client.clone())).await;
                self.stream.insert(opening.map_err(|_| silent())?.map_err(Refusal::from)?)
            }
        };
        let silence = self.request.totals_every() + self.client.policy().attempt_timeout;
        let message = timeout(if begins { patience } else { silence }, stream.message()).await;
        let message = message.map_err(|_| silent())?.map_err(Refusal::from)?;
        let message = message.ok_or_else(|| Refusal::unavailable("the server ended the stream".into()))?;
        let (reset, cursor, lagged) = R::place(&message);
        if let Some(from) = lagged {
            let from = from.to_owned();
            self.request.go_on(from);
            self.stream = None;
            return Ok(());
        }
        self.anew |= reset;
        if cursor.is_empty() {
            // What begins anew may be long and is told as it comes; should it break off, it begins anew once more.
            if self.anew { &mut self.ready } else { &mut self.held }.push_back(message);
            return Ok(());
        }
        let cursor = cursor.to_owned();
        self.request.go_on(cursor);
        self.anew = false;
        self.ready.append(&mut self.held);
        self.ready.push_back(message);
        Ok(())
    }
}

fn silent() -> Refusal {
    Refusal::unavailable("the server says nothing any more".into())
}
