//! A service behind the gateway, in this process or another: the same type, so that placement is wiring. And layers around it, written as functions.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};

/// An answer on its way.
pub type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Takes calls and gives answers. Clones are cheap and share one service.
#[derive(Clone)]
pub struct Upstream(Arc<dyn Fn(Request<Body>) -> Answering + Send + Sync>);

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream(..)")
    }
}

impl Upstream {
    /// A generated server, or anything that behaves like one.
    pub fn new<S>(service: S) -> Upstream
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Upstream::from_fn(move |request| {
            let service = service.clone();
            async move {
                match service.oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
        })
    }

    /// A function that answers.
    pub fn from_fn<F, A>(answer: F) -> Upstream
    where
        F: Fn(Request<Body>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Upstream(Arc::new(move |request| Box::pin(answer(request))))
    }

    /// Answers a call.
    pub fn answer(&self, request: Request<Body>) -> Answering {
        (self.0)(request)
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answering = self.answer(request);
        Box::pin(async move { Ok(answering.await) })
    }
}

/// A layer that is a function of its state, the request, and what lies behind it. It may answer itself, change the request, or look at the answer.
pub fn around<S, F, A>(state: S, layer: F) -> Around<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Request<Body>, Upstream) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    Around { state, layer }
}

/// See [`around`].
#[derive(Clone, Debug)]
pub struct Around<S, F> {
    state: S,
    layer: F,
}

impl<S, F, A> Layer<Upstream> for Around<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Request<Body>, Upstream) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    type Service = Upstream;

    fn layer(&self, inner: Upstream) -> Upstream {
        let Around { state, layer } = self.clone();
        Upstream::from_fn(move |request| layer(state.clone(), request, inner.clone()))
    }
}
