//! How the services of this crate let calls in, and how they answer with streams.

use std::pin::Pin;

use runnel_chassis::{Caller, Clock, ContextSigner};
use runnel_contracts::refusal::Refusal;
use runnel_model::TenantName;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

/// What a stream tells.
pub(crate) type Told<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages of a stream that wait for their reader.
const PARTS: usize = 4;

/// Who calls is what the gateway has signed, and now is what the clock shows. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    signer: ContextSigner,
    clock: Clock,
}

impl Door {
    pub(crate) fn new(signer: ContextSigner, clock: Clock) -> Door {
        Door { signer, clock }
    }

    /// The caller's tenant, the request, and the time.
    pub(crate) fn opened<T>(&self, request: Request<T>) -> Result<(TenantName, T, i64), Refusal> {
        let now_ms = self.clock.now_ms();
        let Caller { tenant, .. } = self.signer.caller(request.metadata(), now_ms)?;
        Ok((tenant, request.into_inner(), now_ms))
    }
}

/// A stream of what some work sends. A refusal ends it.
pub(crate) fn streamed<T, F>(work: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F) -> Response<Told<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let (parts, answer) = mpsc::channel(PARTS);
    let working = work(parts.clone());
    let working = async move {
        if let Err(refusal) = working.await {
            drop(parts.send(Err(refusal.into())).await);
        }
    };
    tokio::spawn(working.in_current_span());
    Response::new(Box::pin(ReceiverStream::new(answer)))
}
