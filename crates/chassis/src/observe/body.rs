//! An answer's body whose end tells how the call ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{ending::Ending, layer::Call};

/// A body that ends its call.
pub(super) struct Watched {
    body: Body,
    call: Call,
}

impl Watched {
    pub(super) fn new(body: Body, call: Call) -> Watched {
        Watched { body, call }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Watched { body, call } = self.get_mut();
        let span = call.span.clone();
        let _in = span.enter();
        let mut frame = ready!(Pin::new(body).poll_frame(cx));
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    call.ended_by(trailers);
                }
            }
            Some(Err(_)) | None => call.ended(Ending::BROKEN),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
