//! A service behind the gateway, in this process or another: the same type, so that placement is wiring.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Service, util::BoxCloneSyncService};

/// Takes calls and gives answers.
#[derive(Clone, Debug)]
pub struct Upstream(BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>);

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
        Upstream(BoxCloneSyncService::new(service))
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        <BoxCloneSyncService<Request<Body>, Response<Body>, Infallible> as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}
