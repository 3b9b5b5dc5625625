//! The first thing a call meets: content type, method, key; then it goes on to the service that owns the method.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode, header};
use runnel_chassis::{Caller, Clock, ContextSigner, Upstream, context::CONTEXT_HEADER};
use runnel_contracts::refusal::{Reason, Refusal};
use tonic::{Status, body::Body};
use tower::Service;

use crate::{
    keys::Keys,
    methods::{self, Needs, Owner},
};

/// Where calls go.
#[derive(Clone, Debug)]
pub struct Routes {
    /// The ingest service.
    pub ingest: Upstream,
    /// The funnel service, with the catalogue.
    pub funnel: Upstream,
    /// The control plane.
    pub admin: Upstream,
    /// Health.
    pub health: Upstream,
    /// Reflection; absent unless it is switched on.
    pub reflection: Option<Upstream>,
}

/// The edge as a service: what listens on the socket, and what clients in the same process call.
#[derive(Clone, Debug)]
pub struct Edge {
    routes: Routes,
    keys: Keys,
    signer: ContextSigner,
    clock: Clock,
}

impl Edge {
    /// An edge in front of services.
    #[must_use]
    pub fn new(routes: Routes, keys: Keys, signer: ContextSigner, clock: Clock) -> Edge {
        Edge { routes, keys, signer, clock }
    }

    /// The same services for a caller who is known already, such as a command in the same process that opened the store itself.
    #[must_use]
    pub fn trusting(&self, caller: Caller) -> Trusting {
        Trusting { edge: self.clone(), caller }
    }

    async fn answer(mut self, mut request: Request<Body>) -> Response<Body> {
        let grpc = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes();
            kind == b"application/grpc"
                || kind.starts_with(b"application/grpc+")
                || kind.starts_with(b"application/grpc;")
        });
        if !grpc {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        match self.admit(&mut request).await {
            Ok(mut upstream) => match upstream.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Err(refusal) => Status::from(refusal).into_http(),
        }
    }

    /// Finds out who calls and who answers.
    async fn admit(&mut self, request: &mut Request<Body>) -> Result<Upstream, Refusal> {
        let (owner, needs) = methods::find(request.uri().path()).ok_or_else(unknown)?;
        request.headers_mut().remove(CONTEXT_HEADER);
        if needs != Needs::Nothing {
            let mut sent = request.headers().get_all(header::AUTHORIZATION).iter();
            let (first, second) = (sent.next(), sent.next());
            if second.is_some() {
                return Err(Refusal::new(Reason::KeyInvalid, "The call has more than one key."));
            }
            let text = first.map(|value| value.to_str().unwrap_or_default());
            let now_ms = self.clock.now_ms();
            let caller = self.keys.authenticate(text, needs, now_ms).await?;
            request.headers_mut().remove(header::AUTHORIZATION);
            self.signer.sign(&caller, now_ms, request.headers_mut());
        }
        self.owner(owner)
    }

    fn owner(&self, owner: Owner) -> Result<Upstream, Refusal> {
        match owner {
            Owner::Ingest => Ok(self.routes.ingest.clone()),
            Owner::Funnel => Ok(self.routes.funnel.clone()),
            Owner::Admin => Ok(self.routes.admin.clone()),
            Owner::Health => Ok(self.routes.health.clone()),
            Owner::Reflection => self.routes.reflection.clone().ok_or_else(unknown),
        }
    }
}

fn unknown() -> Refusal {
    Refusal::new(Reason::Unsupported, "There is no such method.")
}

/// Services for one caller, without keys.
#[derive(Clone, Debug)]
pub struct Trusting {
    edge: Edge,
    caller: Caller,
}

impl Service<Request<Body>> for Trusting {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Trusting { edge, caller } = self.clone();
        Box::pin(async move {
            edge.signer.sign(&caller, edge.clock.now_ms(), request.headers_mut());
            let owner = methods::find(request.uri().path()).ok_or_else(unknown);
            match owner.and_then(|(owner, _)| edge.owner(owner)) {
                Ok(mut upstream) => upstream.call(request).await,
                Err(refusal) => Ok(Status::from(refusal).into_http()),
            }
        })
    }
}

impl Service<Request<Body>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let edge = self.clone();
        Box::pin(async move { Ok(edge.answer(request).await) })
    }
}
