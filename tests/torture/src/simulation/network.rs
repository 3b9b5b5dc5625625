//! The network: every call takes its time, and may get lost, arrive twice, overtake others, or be given up at any point.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use runnel_contracts::refusal::{Reason, Refusal};
use tokio::{
    sync::oneshot,
    task::{AbortHandle, spawn},
    time::sleep,
};
use tonic::{Code, Status, body::Body};
use tower::{Service, ServiceExt};

use super::{
    cluster::{Cluster, Instance, Role},
    trace::Trace,
};
use crate::checker::Random;

/// How often what goes wrong, in one of a thousand calls each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    /// Most milliseconds that a message takes.
    pub(super) delay_ms: u64,
    pub(super) request_lost: u64,
    pub(super) response_lost: u64,
    pub(super) doubled: u64,
    /// The server gives up what it does for a call.
    pub(super) dropped: u64,
    /// A stream breaks off some time after it began.
    pub(super) cut: u64,
}

/// The network.
#[derive(Debug)]
pub(super) struct Network {
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    weather: Weather,
    /// Instances of this role cannot be reached.
    parted: Option<Role>,
    sent: u64,
    /// The highest number that arrived.
    arrived: u64,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy)]
struct Trip {
    number: u64,
    there: Duration,
    back: Duration,
    request_lost: bool,
    response_lost: bool,
    /// After how long the server gives up.
    dropped: Option<Duration>,
    /// Nobody says that something is lost.
    silent: bool,
}

/// How a lost connection shows.
const CODES: [Code; 4] = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Unavailable];

type Answer = Result<Response<Body>, Status>;

impl Network {
    pub(super) fn new(seed: u64, trace: Arc<Trace>) -> Network {
        let state =
            State { random: Random(seed), weather: Weather::default(), parted: None, sent: 0, arrived: 0 };
        Network { trace, state: Mutex::new(state) }
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.state.lock().unwrap().weather = weather;
    }

    /// Lets nobody reach the instances of a role, or everybody all of them.
    pub(super) fn part(&self, parted: Option<Role>) {
        self.state.lock().unwrap().parted = parted;
    }

    fn draw(&self) -> Trip {
        let State { random, weather, sent, .. } = &mut *self.state.lock().unwrap();
        *sent += 1;
        let mut delay = || Duration::from_millis(random.below(weather.delay_ms + 1));
        let (there, back) = (delay(), delay());
        let mut falls = |share: u64| random.below(1_000) < share;
        let (request_lost, response_lost) = (falls(weather.request_lost), falls(weather.response_lost));
        let (dropped, silent) = (falls(weather.dropped), falls(500));
        let dropped = dropped.then(|| Duration::from_millis(random.below(60)));
        Trip { number: *sent, there, back, request_lost, response_lost, dropped, silent }
    }

    fn falls(&self, share: impl Fn(&Weather) -> u64) -> bool {
        let State { random, weather, .. } = &mut *self.state.lock().unwrap();
        random.below(1_000) < share(weather)
    }

    fn below(&self, end: u64) -> u64 {
        self.state.lock().unwrap().random.below(end)
    }

    fn is_parted(&self, role: Role) -> bool {
        self.state.lock().unwrap().parted == Some(role)
    }

    /// Notes that a message arrived, and whether it was overtaken.
    fn arrives(&self, number: u64) {
        let mut state = self.state.lock().unwrap();
        if number < state.arrived {
            self.trace.count("messages overtaken");
        }
        state.arrived = state.arrived.max(number);
    }

    /// A connection is lost: that shows soon, or never.
    async fn lose(&self, answer: Option<oneshot::Sender<Answer>>, silent: bool) {
        let Some(mut answer) = answer else { return };
        if silent {
            answer.closed().await;
        } else {
            let code = CODES[self.below(CODES.len() as u64) as usize];
            sleep(Duration::from_millis(self.below(20))).await;
            // Whoever asked may be gone.
            let _ = answer.send(Err(Status::new(code, "the connection broke")));
        }
    }
}

impl Cluster {
    /// A call to some instance of a role.
    async fn call(self: Arc<Cluster>, role: Role, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Status::internal("no body"))?.to_bytes();
        let (answer, wait) = oneshot::channel();
        let trip = self.network.draw();
        if self.network.falls(|weather| weather.doubled) {
            self.trace.count("requests doubled");
            let again = Trip { request_lost: false, ..self.network.draw() };
            spawn(self.clone().deliver(role, parts.clone(), body.clone(), again, None));
        }
        let delivery = spawn(self.clone().deliver(role, parts, body, trip, Some(answer)));
        let mut asking = Asking { cluster: self, delivery: Some(delivery.abort_handle()) };
        let answer = wait.await.unwrap_or_else(|_| Err(Status::unavailable("the connection broke")));
        asking.delivery = None;
        answer
    }

    async fn deliver(
        self: Arc<Cluster>,
        role: Role,
        parts: Parts,
        body: Bytes,
        trip: Trip,
        answer: Option<oneshot::Sender<Answer>>,
    ) {
        let (network, trace) = (&self.network, &self.trace);
        sleep(trip.there).await;
        network.arrives(trip.number);
        if trip.request_lost || network.is_parted(role) {
            trace.counted("requests lost", format_args!("call {} is lost", trip.number));
            return network.lose(answer, trip.silent).await;
        }
        let Some(instance) = self.choose(role) else {
            trace.counted("nobody there", format_args!("call {} finds no {role:?}", trip.number));
            return network.lose(answer, false).await;
        };
        trace.step(format_args!("call {} to {}: {}", trip.number, instance.name, parts.uri.path()));
        let streams = parts.uri.path().contains("/Watch");
        let call = instance.service.clone().oneshot(Request::from_parts(parts, Body::new(Full::from(body))));
        let given_up = async {
            match trip.dropped {
                Some(after) => sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let response = tokio::select! {
            biased;
            () = instance.died.cancelled() => None,
            () = given_up => {
                trace.counted("handlers dropped", format_args!("call {} is dropped by its server", trip.number));
                None
            }
            Ok(response) = call => Some(response),
        };
        let Some(response) = response else { return network.lose(answer, trip.silent).await };
        trace.step(format_args!("call {} is answered", trip.number));
        let breaks = breaks(self.clone(), instance.clone(), streams);
        let response = response
            .map(|body| Body::new(Breaking { body: Some(body), breaks: Box::pin(breaks), silent: false }));
        sleep(trip.back).await;
        if trip.response_lost || network.is_parted(role) {
            trace.counted("responses lost", format_args!("the answer of call {} is lost", trip.number));
            return network.lose(answer, trip.silent).await;
        }
        if let Some(answer) = answer {
            let _ = answer.send(Ok(response));
        }
    }
}

/// Waits until a body breaks off: its process is gone, or, of a stream, the connection is. Whether that shows.
async fn breaks(cluster: Arc<Cluster>, instance: Arc<Instance>, streams: bool) -> bool {
    let network = &cluster.network;
    let cut = async {
        if streams && network.falls(|weather| weather.cut) {
            sleep(Duration::from_millis(network.below(8_000))).await;
            cluster.trace.counted("streams cut", format_args!("a stream of {} is cut", instance.name));
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        biased;
        () = instance.died.cancelled() => {}
        () = cut => {}
    }
    !streams || network.below(2) == 0
}

/// The body of an answer, for as long as there is a connection.
struct Breaking {
    /// `None` once it broke off.
    body: Option<Body>,
    breaks: Pin<Box<dyn Future<Output = bool> + Send>>,
    /// It broke off, and nobody says so.
    silent: bool,
}

impl http_body::Body for Breaking {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return if self.silent { Poll::Pending } else { Poll::Ready(None) };
        };
        // What has arrived is read before it shows that nothing comes any more.
        match http_body::Body::poll_frame(Pin::new(body), context) {
            Poll::Pending => {}
            ready => return ready,
        }
        let Poll::Ready(shows) = self.breaks.as_mut().poll(context) else { return Poll::Pending };
        (self.body, self.silent) = (None, !shows);
        match shows {
            true => Poll::Ready(Some(Err(Status::unavailable("the connection broke")))),
            false => Poll::Pending,
        }
    }
}

/// Somebody waits for an answer. When they do not any more, the server hears of it after a while, and drops what it does for them.
struct Asking {
    cluster: Arc<Cluster>,
    delivery: Option<AbortHandle>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Some(delivery) = self.delivery.take() else { return };
        let heard = Duration::from_millis(self.cluster.network.below(40));
        self.cluster.trace.counted("callers gone", format_args!("a caller is gone"));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                sleep(heard).await;
                delivery.abort();
            });
        }
    }
}

/// The way to the instances of a role, from outside: a broken connection is an error of the transport.
#[derive(Debug, Clone)]
pub(super) struct Outside(pub(super) Weak<Cluster>);

impl Service<Request<Body>> for Outside {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let cluster = self.0.upgrade();
        Box::pin(async move {
            match cluster {
                Some(cluster) => cluster.call(Role::Gateway, request).await,
                None => Err(Status::unavailable("there is no cluster any more")),
            }
        })
    }
}

/// The way from one service to another: a broken connection is a refusal, as the product's own network has it.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub(super) cluster: Weak<Cluster>,
    pub(super) role: Role,
}

impl Service<Request<Body>> for Inside {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (cluster, role) = (self.cluster.upgrade(), self.role);
        Box::pin(async move {
            let answer = match cluster {
                Some(cluster) => cluster.call(role, request).await,
                None => Err(Status::unavailable("there is no cluster any more")),
            };
            Ok(answer.unwrap_or_else(|_| {
                let text = "The service does not answer; whether the call was carried out is unknown.";
                let refusal =
                    Refusal::new(Reason::ServiceUnavailable, text).retry_after(Duration::from_secs(1));
                Status::from(refusal).into_http()
            }))
        })
    }
}
