//! Connections that can be closed from outside, because a peer that takes nothing would otherwise hold what it was sent for ever.
//!
//! HTTP/2 lets a peer leave its window closed; the answer then lies in memory and nobody is told. So answers are handed to the connection in small pieces. The
//! next piece is asked for when the peer has room for it; a client's connection that asked for none for half a minute, though there is more, is closed. A gateway's is
//! not: it carries the calls of all its clients, of whom one may take nothing. Its gateway ends that one's call, and keeping alive ends one that stands still.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::Instant,
};
use tonic::{Status, body::Body, transport::server::Connected};

use crate::Upstream;

/// How long a piece of an answer may wait for a client.
pub(crate) const TAKEN: Duration = Duration::from_secs(30);
/// How long a peer may say nothing after it connected.
const SILENT: Duration = Duration::from_secs(10);
/// Bytes of a piece: as much may lie in the connection unseen.
const PIECE: usize = 16 * 1024;
/// How often connections are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What is known of a connection. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<State>);

#[derive(Debug)]
struct State {
    since: Instant,
    /// Whether the peer has said anything.
    heard: AtomicBool,
    closed: AtomicBool,
    waker: AtomicWaker,
    next: AtomicU64,
    /// Answers of which the peer has a piece to take, and since when.
    untaken: Mutex<BTreeMap<u64, Instant>>,
}

impl State {
    fn untaken(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the connection has to end, if it has to; it may get as old as the `oldest`, and pieces may wait as long as is `taken`.
    fn is_over(
        &self,
        now: Instant,
        oldest: Option<Duration>,
        taken: Option<Duration>,
    ) -> Option<&'static str> {
        let age = now.duration_since(self.since);
        if oldest.is_some_and(|oldest| age > oldest) {
            return Some("is too old");
        }
        let silent = !self.heard.load(Ordering::Relaxed) && age > SILENT;
        let waits = |most| self.untaken().values().any(|since| now.duration_since(*since) > most);
        (silent || taken.is_some_and(waits)).then_some("has a peer that says or takes nothing")
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// The open connections of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Vec<Weak<State>>>>);

impl Connections {
    /// Takes a connection in. `slot` is given back when it is closed.
    pub(crate) fn open<I>(&self, io: I, slot: OwnedSemaphorePermit) -> Connection<I> {
        let state = Arc::new(State {
            since: Instant::now(),
            heard: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            next: AtomicU64::new(0),
            untaken: Mutex::default(),
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&state));
        Connection { io, handle: Handle(state), _slot: slot }
    }

    /// Closes connections that are stalled or older than the `oldest` may be, for as long as it is polled. A piece of an answer may wait as long as is `taken`. Without
    /// an age or a time, for ever.
    pub(crate) async fn watch(self, oldest: Option<Duration>, taken: Option<Duration>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = Instant::now();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|state| {
                let Some(state) = state.upgrade() else { return false };
                if let Some(why) = state.is_over(now, oldest, taken) {
                    tracing::debug!(why, "a connection is closed");
                    state.close();
                }
                true
            });
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection<I> {
    io: I,
    handle: Handle,
    _slot: OwnedSemaphorePermit,
}

impl<I> Connection<I> {
    /// An error once the connection was closed from outside; wakes the task when it is.
    fn open(&self, cx: &Context<'_>) -> io::Result<()> {
        let state = &self.handle.0;
        state.waker.register(cx.waker());
        if state.closed.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl<I> Connected for Connection<I> {
    type ConnectInfo = Handle;

    fn connect_info(&self) -> Handle {
        self.handle.clone()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.open(cx)?;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.handle.0.heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Connection<I> {
    // A connection that cannot be written to is not read from either, so that each of these has to notice that it was closed.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.open(cx)?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.handle.0.closed.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// A layer that notes which answers have a piece that the peer did not take yet. Calls that came over no connection pass as they are.
pub(crate) async fn watched(_: (), mut request: Request<Body>, next: Upstream) -> Response<Body> {
    let Some(Handle(state)) = request.extensions_mut().remove::<Handle>() else {
        return next.answer(request).await;
    };
    let response = next.answer(request).await;
    let id = state.next.fetch_add(1, Ordering::Relaxed);
    response.map(|body| Body::new(Watched { body, rest: Bytes::new(), state, id, noted: false }))
}

struct Watched {
    body: Body,
    /// What the connection did not ask for yet.
    rest: Bytes,
    state: Arc<State>,
    id: u64,
    /// Whether a piece is noted.
    noted: bool,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = if self.rest.is_empty() {
            Pin::new(&mut self.body).poll_frame(cx)
        } else {
            Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))))
        };
        let polled = polled.map_ok(|frame| match frame.into_data() {
            Ok(mut data) => {
                let piece = data.split_to(data.len().min(PIECE));
                self.rest = data;
                Frame::data(piece)
            }
            Err(other) => other,
        });
        let yielded = matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_data());
        if yielded {
            self.state.untaken().insert(self.id, Instant::now());
        } else if self.noted {
            self.state.untaken().remove(&self.id);
        }
        self.noted = yielded;
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.noted {
            self.state.untaken().remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_piece_that_is_not_taken_ends_a_clients_connection_and_no_gateways() {
        let slot = || Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let Connection { handle: Handle(state), .. } = Connections::default().open((), slot());
        state.heard.store(true, Ordering::Relaxed);
        let now = state.since + TAKEN + LOOK;
        let over = |taken| state.is_over(now, Some(Duration::from_secs(600)), taken).is_some();
        assert!(!over(Some(TAKEN)), "nothing is to be taken");
        state.untaken().insert(0, state.since);
        assert!(over(Some(TAKEN)));
        assert!(!over(None), "others are on it");
        assert!(state.is_over(now, Some(Duration::from_secs(1)), None).is_some(), "it is old");
        assert!(state.is_over(now, None, None).is_none(), "it may get as old as it likes");
    }
}
