//! The listener for those who run a server: is it alive, has it started, may calls be sent to it, and its numbers. Plain HTTP, off unless asked for.
//!
//! | path | 200 when | looks at |
//! |---|---|---|
//! | `/livez` | the process answers | nothing, so that no fault elsewhere makes anybody kill it |
//! | `/startupz` | the start is over | a flag |
//! | `/readyz` | calls may be sent here: started, not draining, and all that it needs is there | flags that the work itself keeps up to date; no probe asks the database |
//! | `/metrics` | always | the server's [`Metrics`] |
//!
//! It listens from before the start until the process ends, so it also answers while the server waits for its database or drains.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, response::IntoResponse, routing::get};
use http::{StatusCode, header};

use crate::{
    Metrics,
    metrics::MEDIA_TYPE,
    serve::{ServeError, listen},
};

/// Whether calls may be sent to a server. Clones are about the same server.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    started: AtomicBool,
    draining: AtomicBool,
    needs: Mutex<Vec<Need>>,
}

/// Something that a server needs, and whether it is there.
struct Need {
    what: &'static str,
    there: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl Readiness {
    /// The server needs something. `there` is asked at every probe, so it only looks at what is known.
    pub fn needs(&self, what: &'static str, there: impl Fn() -> bool + Send + Sync + 'static) {
        let mut needs = self.state.needs.lock().unwrap_or_else(PoisonError::into_inner);
        needs.push(Need { what, there: Box::new(there) });
    }

    /// The start is over.
    pub fn started(&self) {
        self.state.started.store(true, Ordering::Release);
    }

    /// From now on no more calls should be sent here.
    pub fn drain(&self) {
        self.state.draining.store(true, Ordering::Release);
    }

    /// Whether the start is over.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.state.started.load(Ordering::Acquire)
    }

    /// What keeps calls from being sent here; nothing when they may be.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let needs = self.state.needs.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = [
            (!self.is_started()).then_some("starting"),
            self.state.draining.load(Ordering::Acquire).then_some("draining"),
        ];
        let absent = needs.iter().filter(|need| !(need.there)()).map(|need| need.what);
        flags.into_iter().flatten().chain(absent).collect()
    }
}

/// Listens until the process ends, and says where.
pub async fn open(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Metrics,
) -> Result<SocketAddr, ServeError> {
    let listener = listen(address).await?;
    let bound = listener.local_addr().map_err(|source| ServeError::Listen { address, source })?;
    let started = readiness.clone();
    let routes = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/startupz", get(async move || verdict(!started.is_started(), &["starting"])))
        .route(
            "/readyz",
            get(async move || {
                let missing = readiness.missing();
                verdict(!missing.is_empty(), &missing)
            }),
        )
        .route("/metrics", get(async move || ([(header::CONTENT_TYPE, MEDIA_TYPE)], metrics.text())));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(bound)
}

fn verdict(not: bool, why: &[&str]) -> impl IntoResponse + use<> {
    match not {
        true => (StatusCode::SERVICE_UNAVAILABLE, format!("not yet or not any more: {}\n", why.join(", "))),
        false => (StatusCode::OK, "ok\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_between_its_start_and_its_drain_while_it_has_what_it_needs() {
        let readiness = Readiness::default();
        let there = Arc::new(AtomicBool::new(false));
        readiness.needs("store", {
            let there = there.clone();
            move || there.load(Ordering::Relaxed)
        });
        assert_eq!(readiness.missing(), ["starting", "store"]);
        readiness.started();
        assert_eq!(readiness.missing(), ["store"]);
        there.store(true, Ordering::Relaxed);
        assert!(readiness.missing().is_empty());
        readiness.drain();
        assert_eq!(readiness.missing(), ["draining"]);
    }
}
