//! Messages as they come in: whole, in time, no larger and with no more elements than allowed, and not more bytes of them in memory than the server has room for.
//! Nothing is decoded: a message's bytes are walked over as they arrive and passed on as they are, or, when they were compressed, decompressed.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io::Read,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use runnel_contracts::{
    protobuf::{ElementCounter, Malformed},
    refusal::{Reason, Refusal},
    weigh::{self, WeighError},
};
use runnel_model::{TenantName, limits};
use tonic::body::Body;

use crate::methods::{Load, Method, Needs};

/// A message must have arrived this long after its first byte, or after the call when it is the call's only one.
const ARRIVES: Duration = Duration::from_secs(10);
/// The longest message of a call without a key.
const STRANGERS_BYTES: usize = 4 * 1024;
/// A flag and a length.
const PREFIX: usize = 5;
/// What a piece takes beside its bytes, so that many small ones are not free.
const PIECE: usize = 64;
/// The largest window that a compressed message may ask for, as a power of two; no message is larger than that.
const WINDOW_LOG: u32 = 22;
const _: () = assert!(limits::MESSAGE_BYTES <= 1 << WINDOW_LOG);

/// Room for the bytes of messages that are on their way through, for all calls together; one tenant can have half of it.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<RoomInner>);

#[derive(Debug)]
struct RoomInner {
    bytes: usize,
    taken: Mutex<Taken>,
}

/// Bytes that are taken: in all, and by each tenant that has any. Strangers are together what one tenant is.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    tenants: HashMap<Option<TenantName>, usize>,
}

impl Room {
    /// Room for so many bytes.
    pub(super) fn new(bytes: usize) -> Room {
        Room(Arc::new(RoomInner { bytes, taken: Mutex::default() }))
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part of the room for a message of a tenant, without a byte yet.
    fn part(&self, tenant: Option<TenantName>) -> Part {
        Part { room: self.clone(), tenant, bytes: 0 }
    }
}

/// Bytes of the room that a message has until this is dropped.
#[derive(Debug)]
pub(super) struct Part {
    room: Room,
    tenant: Option<TenantName>,
    bytes: usize,
}

impl Part {
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let most = self.room.0.bytes;
        let mut taken = self.room.taken();
        let own = taken.tenants.get(&self.tenant).copied().unwrap_or(0) + bytes;
        let (reason, text) = if taken.all + bytes > most {
            let text =
                format!("The server has room for {most} bytes of messages, and the message does not fit.");
            (Reason::Overloaded, text)
        } else if own > most / 2 {
            let text =
                format!("The tenant's messages take all of the {} bytes that one tenant can have.", most / 2);
            (Reason::CallsTooMany, text)
        } else {
            taken.all += bytes;
            taken.tenants.insert(self.tenant.clone(), own);
            self.bytes += bytes;
            return Ok(());
        };
        Err(Refusal::new(reason, text).retry_after(Duration::from_millis(500)))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all -= self.bytes;
        if let Some(own) = taken.tenants.get_mut(&self.tenant) {
            *own -= self.bytes;
            if *own == 0 {
                taken.tenants.remove(&self.tenant);
            }
        }
    }
}

/// How messages of a call are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// Reads the header `grpc-encoding`.
    pub(super) fn parse(name: Option<&[u8]>) -> Result<Encoding, Refusal> {
        match name {
            None | Some(b"identity") => Ok(Encoding::Identity),
            Some(b"gzip") => Ok(Encoding::Gzip),
            Some(b"zstd") => Ok(Encoding::Zstd),
            Some(_) => {
                Err(Refusal::new(Reason::EncodingUnsupported, "The header grpc-encoding is not known."))
            }
        }
    }
}

/// One message with its prefix, in the pieces in which it came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) pieces: Pieces,
    /// Bytes of the message, without prefix and after decompression.
    pub(super) bytes: usize,
    /// Events in it, of methods that take events.
    pub(super) events: usize,
    /// Kept until the message was passed on; of a call with one message, until it was answered.
    pub(super) room: Part,
}

/// Reads the messages of a request's body.
#[derive(Debug)]
pub(super) struct Messages {
    body: Body,
    /// What came behind the last message.
    rest: Bytes,
    method: &'static Method,
    encoding: Encoding,
    room: Room,
    tenant: Option<TenantName>,
}

impl Messages {
    pub(super) fn new(
        body: Body,
        method: &'static Method,
        encoding: Encoding,
        room: Room,
        tenant: Option<TenantName>,
    ) -> Messages {
        Messages { body, rest: Bytes::new(), method, encoding, room, tenant }
    }

    /// The longest message that the method takes.
    fn longest(&self) -> usize {
        match self.method.needs {
            Needs::Nothing => STRANGERS_BYTES,
            Needs::Key(_) | Needs::Both(..) => limits::MESSAGE_BYTES,
        }
    }

    /// The call's only message.
    pub(super) async fn only(mut self) -> Result<Message, Refusal> {
        let late = |_| stalled();
        let message = tokio::time::timeout(ARRIVES, self.read()).await.map_err(late)??;
        let message = message.ok_or_else(|| malformed("The call has no message."))?;
        // The end comes with the last piece, or right behind it.
        match tokio::time::timeout(ARRIVES, self.piece()).await.map_err(late)?? {
            None => Ok(message),
            Some(_) => Err(malformed("The call has more than one message.")),
        }
    }

    /// The next message of a stream, however long it is until it begins; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, Refusal> {
        if self.rest.is_empty() {
            let Some(first) = self.piece().await? else { return Ok(None) };
            self.rest = first;
        }
        tokio::time::timeout(ARRIVES, self.read()).await.map_err(|_| stalled())?
    }

    /// The next bytes of the body.
    async fn piece(&mut self) -> Result<Option<Bytes>, Refusal> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|_| malformed("The request was cut off."))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    async fn read(&mut self) -> Result<Option<Message>, Refusal> {
        let (mut prefix, mut held) = (BytesMut::with_capacity(PREFIX), self.room.part(self.tenant.clone()));
        while prefix.len() < PREFIX {
            let Some(mut piece) = self.piece().await? else {
                let cut = || malformed("The request ends inside a message.");
                return if prefix.is_empty() { Ok(None) } else { Err(cut()) };
            };
            prefix.extend_from_slice(&piece.split_to(piece.len().min(PREFIX - prefix.len())));
            self.rest = piece;
        }
        let prefix = prefix.freeze();
        let (flag, length) = (prefix[0], (&prefix[1..]).get_u32() as usize);
        if length > self.longest() {
            return Err(too_large(length, self.longest()));
        }
        let mut counter = Counter::new(self.method);
        let (mut pieces, mut missing) = (VecDeque::from([prefix]), length);
        while missing > 0 {
            let Some(mut piece) = self.piece().await? else {
                return Err(malformed("The request ends inside a message."));
            };
            let own = piece.split_to(piece.len().min(missing));
            self.rest = piece;
            held.grow(own.len() + PIECE)?;
            missing -= own.len();
            if flag == 0 {
                counter.feed(&own)?;
            }
            pieces.push_back(own);
        }
        let mut pieces = Pieces(pieces);
        let bytes = match flag {
            0 => length,
            1 => {
                let whole = self.decompress(pieces, &mut held, &mut counter)?;
                let length = whole.len();
                let mut prefix = BytesMut::with_capacity(PREFIX);
                prefix.extend_from_slice(&[0]);
                prefix.extend_from_slice(&(length as u32).to_be_bytes());
                pieces = Pieces(VecDeque::from([prefix.freeze(), whole]));
                length
            }
            _ => return Err(malformed("A message begins with a flag that gRPC does not have.")),
        };
        let events = counter.finish(self.method, &pieces)?;
        Ok(Some(Message { pieces, bytes, events, room: held }))
    }

    /// Decompresses a message, as far as the limits, and counts what it would become.
    fn decompress(
        &self,
        mut pieces: Pieces,
        held: &mut Part,
        counter: &mut Counter,
    ) -> Result<Bytes, Refusal> {
        pieces.0.pop_front();
        let damaged = |_| Refusal::new(Reason::EncodingUnsupported, "The compressed message is damaged.");
        let compressed = pieces.reader();
        let mut reader: Box<dyn Read> = match self.encoding {
            Encoding::Identity => {
                return Err(malformed("A message is compressed, but grpc-encoding is not set."));
            }
            Encoding::Gzip => Box::new(flate2::read::GzDecoder::new(compressed)),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(compressed).map_err(damaged)?;
                decoder.window_log_max(WINDOW_LOG).map_err(damaged)?;
                Box::new(decoder)
            }
        };
        let (mut whole, mut fault) = (Vec::new(), Ok(()));
        loop {
            let (before, step) = (whole.len(), 64 * 1024);
            held.grow(step)?;
            let read = reader.by_ref().take(step as u64).read_to_end(&mut whole).map_err(damaged)?;
            if whole.len() > self.longest() {
                let text = format!(
                    "A message has at most {} bytes; this one has more when it is decompressed.",
                    self.longest()
                );
                return Err(Refusal::new(Reason::MessageTooLarge, text));
            }
            // What is no message is said when it is known not to be too large.
            fault = fault.and_then(|()| counter.feed(&whole[before..]));
            if let Counter::Events(counter) = counter {
                few_enough(counter.count(), "more")?;
            }
            if read == 0 || whole.len() - before < step {
                return fault.map(|()| whole.into());
            }
        }
    }
}

/// What is counted of a message while it arrives.
enum Counter {
    /// Events: only they come in numbers that are worth the while.
    Events(ElementCounter),
    /// Nothing.
    Nothing,
}

impl Counter {
    fn new(method: &Method) -> Counter {
        match method.load {
            // AppendRequest.events
            Load::Append => Counter::Events(ElementCounter::new(None, 2)),
            // AppendRequest.batch.events
            Load::Effects => Counter::Events(ElementCounter::new(Some(1), 2)),
            // AppendStreamRequest.batch.events
            Load::Stream => Counter::Events(ElementCounter::new(Some(2), 2)),
            Load::Question | Load::Control | Load::Probe | Load::Watch | Load::Follow => Counter::Nothing,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match self {
            Counter::Events(counter) => counter.feed(bytes).map_err(no_message),
            Counter::Nothing => Ok(()),
        }
    }

    fn finish(self, method: &Method, pieces: &Pieces) -> Result<usize, Refusal> {
        let events = match self {
            Counter::Events(counter) => {
                let events = counter.finish().map_err(no_message)?;
                few_enough(events, &events.to_string())?;
                events
            }
            Counter::Nothing => 0,
        };
        // Ingest walks over what it takes; whatever else is decoded becomes as many messages as it has elements.
        if !matches!(method.load, Load::Append | Load::Stream) {
            few_elements(method, pieces)?;
        }
        Ok(events)
    }
}

/// Refuses a message that would become too many elements.
fn few_elements(method: &Method, pieces: &Pieces) -> Result<(), Refusal> {
    let mut whole = pieces.clone();
    whole.0.pop_front();
    let whole = whole.copy_to_bytes(whole.remaining());
    match weigh::elements(method.path, &whole, limits::MESSAGE_ELEMENTS) {
        Ok(_) => Ok(()),
        Err(WeighError::Malformed(fault)) => Err(no_message(fault)),
        Err(WeighError::TooMany) => {
            let text =
                format!("A message has at most {} elements; this one has more.", limits::MESSAGE_ELEMENTS);
            Err(Refusal::new(Reason::ElementsTooMany, text))
        }
    }
}

/// Refuses a batch of too many events, of which it says how many they are.
fn few_enough(events: usize, shown: &str) -> Result<(), Refusal> {
    if events <= limits::BATCH_EVENTS {
        return Ok(());
    }
    let text = format!("A batch has at most {} events; this one has {shown}.", limits::BATCH_EVENTS);
    Err(Refusal::field(Reason::BatchTooLong, "events", text))
}

fn malformed(text: &str) -> Refusal {
    Refusal::new(Reason::MessageMalformed, text)
}

fn no_message(_: Malformed) -> Refusal {
    malformed("The bytes are not a protobuf message.")
}

fn stalled() -> Refusal {
    Refusal::new(Reason::RequestStalled, format!("A message must arrive within {} s.", ARRIVES.as_secs()))
}

fn too_large(length: usize, most: usize) -> Refusal {
    let text = format!("A message has at most {most} bytes; this one has {length}.");
    Refusal::new(Reason::MessageTooLarge, text)
}

/// Bytes in pieces, as a body and as a buffer. Clones share the bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces(VecDeque<Bytes>);

impl Pieces {
    /// The next piece.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.0.pop_front()
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.iter().find(|piece| !piece.is_empty()).map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.0.front_mut() {
            let own = count.min(piece.len());
            piece.advance(own);
            count -= own;
            if !piece.is_empty() {
                return;
            }
            self.0.pop_front();
        }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining() as u64)
    }
}
