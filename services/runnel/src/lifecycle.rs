//! From the start of a server to its end: the listener for those who run it, what it says of itself meanwhile, and the pause before it stops.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use runnel_chassis::{
    Metrics, Upstream,
    ops::{self, Readiness},
    serve::asked_to_stop,
};
use runnel_storage::Store;
use tokio::task::AbortHandle;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::parts;

/// How long a database may be silent before calls should go elsewhere: a restart of it is shorter than taking every process out and in again.
const SILENCE: Duration = Duration::from_secs(5);
/// How often a silent database is asked again, since nobody else may.
const ASK: Duration = Duration::from_secs(1);

/// Options of every server.
#[derive(Debug, Args)]
pub(crate) struct OpsArgs {
    /// Where to answer /livez, /startupz, /readyz and /metrics over plain HTTP; nowhere unless it is said. Port 0 takes a free one.
    #[arg(long, env = "RUNNEL_OPS_LISTEN", value_name = "ADDR")]
    ops_listen: Option<SocketAddr>,
    /// How long to go on serving when asked to stop, while /readyz and gRPC health say that no more calls should come: as long as balancers take to notice.
    /// A number with s or ms.
    #[arg(long, env = "RUNNEL_DRAIN_DELAY", default_value = "0s", value_parser = seconds)]
    drain_delay: Duration,
}

/// `5s`, `500ms`.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) =
        text.split_at(text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len()));
    let made = match unit {
        "s" => number.parse().map(Duration::from_secs).ok(),
        "ms" => number.parse().map(Duration::from_millis).ok(),
        _ => None,
    };
    made.filter(|delay| *delay <= Duration::from_secs(600))
        .ok_or_else(|| "write 5s or 500ms, at most 600s".to_owned())
}

/// What a server says of itself.
pub(crate) struct Lifecycle {
    readiness: Readiness,
    health: (HealthReporter, Upstream),
    /// Where those who run the server are answered.
    pub(crate) ops: Option<SocketAddr>,
    drain_delay: Duration,
    asking: Option<AbortHandle>,
}

impl Lifecycle {
    /// The start begins.
    pub(crate) async fn begin(args: &OpsArgs, metrics: &Metrics) -> anyhow::Result<Lifecycle> {
        let readiness = Readiness::default();
        let ops = match args.ops_listen {
            Some(address) => Some(ops::open(address, readiness.clone(), metrics.clone()).await?),
            None => None,
        };
        let health = parts::health().await;
        Ok(Lifecycle { readiness, health, ops, drain_delay: args.drain_delay, asking: None })
    }

    /// gRPC's own health service.
    pub(crate) fn health(&self) -> Upstream {
        self.health.1.clone()
    }

    /// Whether calls may be sent here.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The server is not ready while the database is silent. What the work itself meets is what counts; only a silent one is asked for its own sake.
    pub(crate) fn needs_store(&mut self, store: &Store) {
        let known = store.clone();
        self.readiness.needs("store", move || known.silent_for().is_none_or(|silent| silent < SILENCE));
        let store = store.clone();
        let asking = async move {
            loop {
                tokio::time::sleep(ASK).await;
                if store.silent_for().is_some() {
                    drop(store.ping().await);
                }
            }
        };
        self.asking = Some(tokio::spawn(asking).abort_handle());
    }

    /// The start is over. Done when the process was asked to stop and those who send calls had the time to notice.
    pub(crate) fn serving(&self) -> impl Future<Output = ()> + use<> {
        let (stop, readiness, reporter) = (asked_to_stop(), self.readiness.clone(), self.health.0.clone());
        let delay = self.drain_delay;
        readiness.started();
        async move {
            stop.await;
            readiness.drain();
            reporter.set_service_status("", ServingStatus::NotServing).await;
            tokio::time::sleep(delay).await;
        }
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_read() {
        assert_eq!(seconds("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(seconds("0s"), Ok(Duration::ZERO));
        assert_eq!(seconds("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "5", "s", "5m", "-1s", "1.5s", "601s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
