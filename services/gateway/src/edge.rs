//! The edge: every layer that a call passes, in one list, on the service value itself, so that calls in the same process pass the same layers as calls over sockets.

mod body;
mod budget;
mod deadline;
mod gate;
mod message;
mod pass;
mod repeat;
mod web;

use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, Response, header};
use runnel_chassis::{
    Caller, Clock, ContextSigner, Metrics, Upstream, context::CONTEXT_HEADER, upstream::around,
};
use runnel_contracts::refusal::{Reason, Refusal};
use runnel_failpoints::hit;
use runnel_storage::{Hot, hot::Budgets};
use tonic::{Status, body::Body};
use tower::ServiceBuilder;

pub use budget::Allowances;
pub use web::{OriginError, Origins};

use crate::{
    keys::Keys,
    methods::{self, Method, Needs, Owner},
};

/// Where calls go.
#[derive(Clone, Debug)]
pub struct Routes {
    /// The ingest service.
    pub ingest: Upstream,
    /// The funnel service, with the catalogue.
    pub funnel: Upstream,
    /// The segmentation service.
    pub segmentation: Upstream,
    /// What answers with effects.
    pub effects: Upstream,
    /// The control plane.
    pub admin: Upstream,
    /// Health.
    pub health: Upstream,
    /// Reflection; absent unless it is switched on.
    pub reflection: Option<Upstream>,
}

/// The edge's settings.
#[derive(Clone, Debug)]
pub struct EdgeOptions {
    /// The origins whose pages may call by gRPC-Web.
    pub origins: Origins,
    /// What each tenant may use in a second.
    pub allowances: Allowances,
    /// Where what was used is counted.
    pub hot: Hot,
    /// Bytes of messages that may be on their way through at a time.
    pub room_bytes: usize,
}

impl Default for EdgeOptions {
    fn default() -> EdgeOptions {
        EdgeOptions {
            origins: Origins::default(),
            allowances: Allowances::default(),
            hot: Hot::process(),
            room_bytes: 256 << 20,
        }
    }
}

/// The edge as a service: what listens on the socket, and what clients in the same process call.
#[derive(Clone, Debug)]
pub struct Edge {
    outer: Upstream,
    inner: Upstream,
}

impl Edge {
    /// An edge in front of services.
    #[must_use]
    pub fn new(
        routes: Routes,
        keys: Keys,
        signer: ContextSigner,
        clock: Clock,
        metrics: &Metrics,
        options: EdgeOptions,
    ) -> Edge {
        let gates = gate::Gates::new(metrics.clone());
        let passing = pass::Passing {
            room: message::Room::new(options.room_bytes),
            charger: budget::Charger::new(
                Budgets::new(options.hot),
                options.allowances,
                clock.clone(),
                metrics.clone(),
            ),
            keys: keys.clone(),
            clock: clock.clone(),
        };
        let dispatch = Upstream::from_fn({
            let clock = clock.clone();
            move |request| dispatch(routes.clone(), signer.clone(), clock.now_ms(), request)
        });
        let inner = ServiceBuilder::new()
            // The message is whole, in time, small enough, and within the tenant's budgets.
            .layer(around(passing, pass::pass))
            // Reads are sent again when a process behind is lost.
            .layer(around(repeat::Allowance::default(), repeat::reads))
            .service(dispatch);
        let outer = ServiceBuilder::new()
            // Only gRPC, and browsers only from named origins.
            .layer(around(options.origins, web::only_grpc))
            // The method is in the table.
            .layer(around((), known))
            // There is an end to the time that the call may take.
            .layer(around((), deadline::keep))
            // The server has room for one more call of this kind.
            .layer(around(gates.clone(), gate::shed))
            // The key is genuine, alive and of the kind that the method needs, and so is a second one where it needs two.
            .layer(around((keys, clock), authenticated))
            // The tenant has not more calls under way than its share.
            .layer(around(gates, gate::share))
            .service(inner.clone());
        Edge { outer, inner }
    }

    /// What calls from anywhere go to.
    #[must_use]
    pub fn service(&self) -> Upstream {
        self.outer.clone()
    }

    /// The same services for a caller who is known already, such as a command in the same process that opened the store itself.
    #[must_use]
    pub fn trusting(&self, caller: Caller) -> Upstream {
        let known_caller = |caller: Caller, mut request: Request<Body>, next: Upstream| async move {
            request.extensions_mut().insert(caller);
            next.answer(request).await
        };
        ServiceBuilder::new()
            .layer(around((), known))
            .layer(around((), deadline::keep))
            .layer(around(caller, known_caller))
            .service(self.inner.clone())
    }
}

/// Answers with a refusal.
fn refuse(refusal: Refusal) -> Response<Body> {
    Status::from(refusal).into_http()
}

fn unknown() -> Refusal {
    Refusal::new(Reason::Unsupported, "There is no such method.")
}

/// The method of a call that [`known`] let through.
fn method_of(request: &Request<Body>) -> Option<&'static Method> {
    request.extensions().get::<&'static Method>().copied()
}

/// Finds the method, and takes away what only the gateway may say.
async fn known(_: (), mut request: Request<Body>, next: Upstream) -> Response<Body> {
    let Some(method) = methods::find(request.uri().path()) else { return refuse(unknown()) };
    request.headers_mut().remove(CONTEXT_HEADER);
    request.extensions_mut().insert(method);
    next.answer(request).await
}

/// Where a second key lies, of a method that needs one to read beside one to write.
const READ_AUTHORIZATION: HeaderName = HeaderName::from_static("read-authorization");

/// Marks a call whose caller was let in for a key, which may be revoked while the call goes on.
#[derive(Clone, Copy, Debug)]
struct ByKey;

/// Finds out who calls.
async fn authenticated(
    (keys, clock): (Keys, Clock),
    mut request: Request<Body>,
    next: Upstream,
) -> Response<Body> {
    let Some(method) = method_of(&request) else { return refuse(unknown()) };
    let (kind, second) = match method.needs {
        Needs::Nothing => return next.answer(request).await,
        Needs::Key(kind) => (kind, None),
        Needs::Both(kind, second) => (kind, Some(second)),
    };
    // What is awaited may not hold the request.
    let [first, other] =
        [header::AUTHORIZATION, READ_AUTHORIZATION].map(|name| key_in(request.headers(), &name));
    let known = async {
        let now_ms = clock.now_ms();
        let caller = keys.authenticate(&first?, kind, now_ms).await?;
        let Some(second) = second else { return Ok(caller) };
        let blamed = |refusal: Refusal| {
            let message = format!("In {READ_AUTHORIZATION}: {}", refusal.message);
            Refusal { field: READ_AUTHORIZATION.to_string(), message, ..refusal }
        };
        let reader = keys.authenticate(&other?, second, now_ms).await.map_err(blamed)?;
        // A key of another tenant is as good as none.
        if reader.tenant != caller.tenant {
            return Err(blamed(Refusal::new(Reason::KeyInvalid, "The key is not valid.")));
        }
        Ok(caller)
    };
    match known.await {
        Ok(caller) => {
            if method.load == methods::Load::Append && hit("ing.after_auth").await.is_err() {
                return refuse(
                    Refusal::new(Reason::Overloaded, "A test made this fail.")
                        .retry_after(Duration::from_millis(100)),
                );
            }
            for name in [header::AUTHORIZATION, READ_AUTHORIZATION] {
                request.headers_mut().remove(name);
            }
            request.extensions_mut().insert(ByKey);
            request.extensions_mut().insert(caller);
            next.answer(request).await
        }
        Err(refusal) => refuse(refusal),
    }
}

/// The key that a header has, of which there has to be one.
fn key_in(headers: &HeaderMap, name: &HeaderName) -> Result<String, Refusal> {
    let mut sent = headers.get_all(name).iter();
    match (sent.next(), sent.next()) {
        (Some(key), None) => Ok(key.to_str().unwrap_or_default().to_owned()),
        (None, _) => {
            let text = format!("The call has no key in the metadata {name}.");
            Err(Refusal::field(Reason::KeyMissing, name.as_str(), text))
        }
        (Some(_), Some(_)) => {
            let text = format!("The call has more than one key in the metadata {name}.");
            Err(Refusal::field(Reason::KeyInvalid, name.as_str(), text))
        }
    }
}

/// Signs who calls and hands the call to the service that owns the method.
async fn dispatch(
    routes: Routes,
    signer: ContextSigner,
    now_ms: i64,
    mut request: Request<Body>,
) -> Response<Body> {
    let Some(method) = method_of(&request) else { return refuse(unknown()) };
    if let Some(caller) = request.extensions_mut().remove::<Caller>() {
        signer.sign(&caller, now_ms, request.headers_mut());
    }
    if let Some(left) = request.extensions().get::<deadline::Deadline>().copied() {
        deadline::propagate(left, request.headers_mut());
    }
    let owner = match method.owner {
        Owner::Ingest => Some(routes.ingest),
        Owner::Funnel => Some(routes.funnel),
        Owner::Segmentation => Some(routes.segmentation),
        Owner::Effects => Some(routes.effects),
        Owner::Admin => Some(routes.admin),
        Owner::Health => Some(routes.health),
        Owner::Reflection => routes.reflection,
    };
    match owner {
        Some(owner) => owner.answer(request).await,
        None => refuse(unknown()),
    }
}
