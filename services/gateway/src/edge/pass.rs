//! Passes a call's messages on: each is read whole and checked, and the tenant is charged for it, before the service behind sees a byte of it.

use std::time::Duration;

use http::{
    Request, Response,
    header::{CONTENT_LENGTH, HeaderName},
};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use runnel_chassis::{Caller, Clock, Upstream};
use runnel_contracts::refusal::Refusal;
use tokio::time::Instant;
use tonic::{Status, body::Body};

use super::{
    ByKey,
    body::{Fault, hold, told, trailers},
    budget::Charger,
    gate::Passed,
    message::{Encoding, Message, Messages, Pieces, Room},
    method_of, refuse,
};
use crate::{
    keys::Keys,
    methods::{Load, Method},
};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How often the key of a stream is looked at again. A stream may be open for long after its key was revoked.
const KEY_AGAIN: Duration = Duration::from_secs(15);

/// What checking and charging needs.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    pub(super) room: Room,
    pub(super) charger: Charger,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
}

/// The message of a call that has only one, for who wants to send it again.
#[derive(Clone, Debug)]
pub(super) struct Whole(pub(super) Pieces);

/// Reads, checks and charges messages.
pub(super) async fn pass(passing: Passing, mut request: Request<Body>, next: Upstream) -> Response<Body> {
    let Some(method) = method_of(&request) else { return next.answer(request).await };
    let encoding = match Encoding::parse(request.headers().get(ENCODING).map(|name| name.as_bytes())) {
        Ok(encoding) => encoding,
        Err(refusal) => return refuse(refusal),
    };
    // What is passed on is not compressed, and so may be longer.
    request.headers_mut().remove(ENCODING);
    request.headers_mut().remove(CONTENT_LENGTH);
    let (mut parts, body) = request.into_parts();
    let caller = parts.extensions.get::<Caller>().cloned();
    let tenant = caller.as_ref().map(|caller| caller.tenant.clone());
    let messages = Messages::new(body, method, encoding, passing.room.clone(), tenant);
    if streams(method) {
        return stream(passing, Request::from_parts(parts, messages), caller, next).await;
    }
    let checked = async {
        let message = messages.only().await?;
        if let Some(caller) = &caller {
            passing.charger.charge(caller, method, &message).await?;
        }
        Ok::<Message, Refusal>(message)
    };
    match checked.await {
        Ok(Message { pieces, room, .. }) => {
            if let Some(passed) = parts.extensions.get::<Passed>() {
                passed.note();
            }
            parts.extensions.insert(Whole(pieces.clone()));
            let followed = method.load == Load::Follow && parts.extensions.get::<ByKey>().is_some();
            let response = next.answer(Request::from_parts(parts, Body::new(pieces))).await;
            match caller.filter(|_| followed && !response.body().is_end_stream()) {
                // What was asked is small and takes no room while the answer goes on.
                Some(caller) => while_alive(response, passing, caller),
                None => hold(response, room),
            }
        }
        Err(refusal) => refuse(refusal),
    }
}

/// An answer that goes on for as long as its caller's key is alive.
fn while_alive(
    response: Response<Body>,
    Passing { keys, clock, .. }: Passing,
    caller: Caller,
) -> Response<Body> {
    let next = move |(mut body, mut again): (Option<Body>, Instant)| {
        let (keys, clock, caller) = (keys.clone(), clock.clone(), caller.clone());
        async move {
            let mut rest = body.take()?;
            loop {
                tokio::select! {
                    // The key first: whoever always has something to send is looked at as well.
                    biased;
                    () = tokio::time::sleep_until(again) => {}
                    frame = rest.frame() => return frame.map(|frame| (frame, (Some(rest), again))),
                }
                if let Err(refusal) = keys.still(&caller, clock.now_ms()).await {
                    return Some((Ok(Frame::trailers(trailers(refusal))), (None, again)));
                }
                again = Instant::now() + KEY_AGAIN;
            }
        }
    };
    response.map(|body| {
        let begun = (Some(body), Instant::now() + KEY_AGAIN);
        Body::new(StreamBody::new(futures_util::stream::unfold(begun, next)))
    })
}

/// Whether a client may send more than one message.
fn streams(method: &Method) -> bool {
    method.load == Load::Stream || method.owner == crate::methods::Owner::Reflection
}

/// What a stream is at.
struct Flow {
    messages: Messages,
    /// The rest of the message that is being passed on.
    message: Option<Message>,
    passing: Passing,
    caller: Option<Caller>,
    /// When the caller's key was last looked at, of a caller who has one.
    known: Option<Instant>,
    method: &'static Method,
    fault: Fault,
}

impl Flow {
    /// The next message. A tenant whose budget is used up waits, and its client with it, by flow control.
    async fn next(&mut self) -> Result<Option<Message>, Refusal> {
        let Some(message) = self.messages.next().await? else { return Ok(None) };
        if let Some(caller) = &self.caller {
            let Passing { charger, keys, clock, .. } = &self.passing;
            charger.wait(caller, self.method, &message).await;
            if self.known.is_some_and(|known| known.elapsed() >= KEY_AGAIN) {
                keys.still(caller, clock.now_ms()).await?;
                self.known = Some(Instant::now());
            }
        }
        Ok(Some(message))
    }

    /// The next piece.
    async fn step(mut self) -> Option<(Result<Frame<bytes::Bytes>, Status>, Flow)> {
        if self.fault.get().is_some() {
            return None;
        }
        loop {
            if let Some(piece) = self.message.as_mut().and_then(|message| message.pieces.pop()) {
                return Some((Ok(Frame::data(piece)), self));
            }
            // What was passed on takes no room any more, however long the next message is in coming.
            self.message = None;
            match self.next().await {
                Ok(None) => return None,
                Ok(message) => self.message = message,
                Err(refusal) => {
                    let status = Status::from(refusal.clone());
                    drop(self.fault.set(refusal));
                    return Some((Err(status), self));
                }
            }
        }
    }
}

async fn stream(
    passing: Passing,
    request: Request<Messages>,
    caller: Option<Caller>,
    next: Upstream,
) -> Response<Body> {
    let fault = Fault::default();
    let Some(method) = request.extensions().get::<&'static Method>().copied() else {
        return refuse(super::unknown());
    };
    let known = request.extensions().get::<ByKey>().map(|_| Instant::now());
    let request = request.map(|messages| {
        let fault = Fault::clone(&fault);
        let flow = Flow { messages, message: None, passing, caller, known, method, fault };
        Body::new(StreamBody::new(futures_util::stream::unfold(flow, Flow::step)))
    });
    let response = next.answer(request).await;
    match fault.get() {
        Some(refusal) => refuse(refusal.clone()),
        None => told(response, fault),
    }
}
