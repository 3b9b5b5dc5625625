//! Bodies that carry something along until they are done.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body::{Frame, SizeHint};
use runnel_contracts::refusal::Refusal;
use tonic::{Status, body::Body};

/// A response that keeps something until its body is done or dropped.
pub(super) fn hold<H: Send + Unpin + 'static>(response: Response<Body>, held: H) -> Response<Body> {
    response.map(|body| Body::new(Held { body, _held: held }))
}

struct Held<H> {
    body: Body,
    _held: H,
}

impl<H: Unpin> http_body::Body for Held<H> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a stream of requests was cut off, once it was.
pub(super) type Fault = Arc<OnceLock<Refusal>>;

/// A response whose end says why the requests were cut off, instead of what the service behind made of that.
pub(super) fn told(response: Response<Body>, fault: Fault) -> Response<Body> {
    response.map(|body| Body::new(Told { body, fault, over: false }))
}

/// The end of an answer that is a refusal.
pub(super) fn trailers(refusal: Refusal) -> HeaderMap {
    let mut trailers = Status::from(refusal).into_http::<Body>().into_parts().0.headers;
    trailers.remove(header::CONTENT_TYPE);
    trailers
}

struct Told {
    body: Body,
    fault: Fault,
    over: bool,
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let ends = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        self.over = ends;
        match self.fault.get() {
            Some(refusal) if ends => Poll::Ready(Some(Ok(Frame::trailers(trailers(refusal.clone()))))),
            _ => polled,
        }
    }

    /// An answer that is all headers stays one.
    fn is_end_stream(&self) -> bool {
        self.over || (self.body.is_end_stream() && self.fault.get().is_none())
    }
}
