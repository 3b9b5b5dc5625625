//! One server: one connection that all calls share, a deadline for each call, and a circuit that opens when it does not answer.
//!
//! The connection is multiplexed: answers come in the order of the commands, and the answer to a command whose caller has gone is dropped where it arrives. A
//! connection is never lent to one caller after another, so no answer can reach a caller that did not ask for it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::{sync::watch, time::Instant};

use super::{
    address::Host,
    breaker::{Admission, Breaker},
    error::{HotError, Unsuitable},
};

/// How long connecting may take. Calls do not wait that long; they find the connection when it is there.
const CONNECT: Duration = Duration::from_secs(2);
/// Commands that may wait to be written.
const UNWRITTEN: usize = 256;
/// The oldest version that knows all commands that are used.
const OLDEST: (u32, u32) = (6, 2);

/// What is asked of a server beside an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// It may throw away what it holds when its memory is full.
    pub(crate) allow_eviction: bool,
    /// It is a node of a cluster.
    pub(crate) cluster: bool,
}

/// A server.
pub(crate) struct Node {
    pub(crate) host: Host,
    client: Client,
    rules: Rules,
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    breaker: Breaker,
    link: Link,
    /// Connections that there were.
    links: u64,
}

/// What became of connecting; `None` while it is not known.
type Opened = Option<Result<(u64, MultiplexedConnection), HotError>>;

#[derive(Default)]
enum Link {
    #[default]
    Absent,
    Opening(watch::Receiver<Opened>),
    Open(u64, MultiplexedConnection),
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Node {
    /// A server that is connected to by its first call.
    pub(crate) fn new(host: Host, client: Client, rules: Rules) -> Node {
        Node { host, client, rules, origin: Instant::now(), state: Mutex::default() }
    }

    /// Sends a command and waits for its answer. With `asking`, a node takes it though the slot is only just moving to it.
    pub(crate) async fn call(
        self: &Arc<Node>,
        command: &Cmd,
        asking: bool,
        until: Instant,
    ) -> Result<Value, HotError> {
        let mut attempt = self.admit()?;
        let work = async {
            let (number, mut connection) = self.link().await?;
            attempt.link = Some(number);
            let answer = if asking {
                let mut both = redis::pipe();
                both.cmd("ASKING").ignore().add_command(command.clone());
                both.query_async(&mut connection).await.map(|(answer,)| answer)
            } else {
                command.query_async(&mut connection).await
            };
            answer.map_err(|source| self.fault(source))
        };
        let answer = tokio::time::timeout_at(until, work).await;
        let answer = answer.unwrap_or_else(|_| Err(HotError::TimedOut { at: self.host.to_string() }));
        attempt.ended(&answer);
        answer
    }

    /// Connects if it is not connected, and waits for that until a deadline. The circuit is not asked.
    pub(crate) async fn connect(self: &Arc<Node>, until: Instant) -> Result<(), HotError> {
        match tokio::time::timeout_at(until, self.link()).await {
            Ok(opened) => opened.map(|_| ()),
            Err(_) => Err(HotError::TimedOut { at: self.host.to_string() }),
        }
    }

    /// Whether calls are turned away at the moment.
    pub(crate) fn is_away(&self) -> bool {
        self.state().breaker.is_open(self.origin.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Node>) -> Result<Attempt<'_>, HotError> {
        let admission = self.state().breaker.admit(self.origin.elapsed());
        let admission = admission.ok_or_else(|| HotError::CircuitOpen { at: self.host.to_string() })?;
        Ok(Attempt { node: self, admission: Some(admission), link: None })
    }

    /// The connection and its number. Whoever finds none starts connecting; everybody waits for the same attempt.
    async fn link(self: &Arc<Node>) -> Result<(u64, MultiplexedConnection), HotError> {
        let mut opening = {
            let mut state = self.state();
            match &state.link {
                Link::Open(number, connection) => return Ok((*number, connection.clone())),
                Link::Opening(opening) => opening.clone(),
                Link::Absent => {
                    let (tell, opening) = watch::channel(None);
                    state.link = Link::Opening(opening.clone());
                    tokio::spawn(open(self.clone(), tell));
                    opening
                }
            }
        };
        let opened = opening.wait_for(Option::is_some).await.ok().and_then(|opened| opened.clone());
        opened.unwrap_or_else(|| {
            // Whoever connected was stopped.
            self.state().link = Link::Absent;
            Err(HotError::TimedOut { at: self.host.to_string() })
        })
    }

    fn fault(&self, source: RedisError) -> HotError {
        let at = self.host.to_string();
        match source.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
                HotError::Refused { at, source }
            }
            _ => HotError::Unreachable { at, source },
        }
    }

    async fn open(&self) -> Result<MultiplexedConnection, HotError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(UNWRITTEN);
        let opened = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = opened.map_err(|source| self.fault(source))?;
        let told: Result<String, RedisError> = redis::cmd("INFO").query_async(&mut connection).await;
        judge(&self.host, self.rules, &told.map_err(|source| self.fault(source))?)?;
        Ok(connection)
    }
}

async fn open(node: Arc<Node>, tell: watch::Sender<Opened>) {
    let opened = tokio::time::timeout(CONNECT, node.open()).await;
    let opened = opened.unwrap_or_else(|_| Err(HotError::TimedOut { at: node.host.to_string() }));
    let opened = {
        let mut state = node.state();
        state.links += 1;
        let opened = opened.map(|connection| (state.links, connection));
        state.link = match &opened {
            Ok((number, connection)) => Link::Open(*number, connection.clone()),
            Err(_) => Link::Absent,
        };
        opened
    };
    tell.send_replace(Some(opened));
}

/// A call on its way. The circuit learns what became of it, whatever its caller does.
struct Attempt<'a> {
    node: &'a Node,
    admission: Option<Admission>,
    link: Option<u64>,
}

impl Attempt<'_> {
    fn ended(&mut self, answer: &Result<Value, HotError>) {
        let Some(admission) = self.admission.take() else { return };
        let (node, now) = (self.node, self.node.origin.elapsed());
        let mut state = node.state();
        // A connection that broke is no use; one that a silent server hangs on may never be answered; a server that is no primary any more will stay so.
        let renew = match answer {
            Ok(_) => {
                if state.breaker.succeeded(admission, now) {
                    tracing::info!(at = %node.host, "the hot store answers again");
                }
                false
            }
            // Who refuses over a connection answers. Who refuses to connect would be connected to anew by every call.
            Err(HotError::Refused { source, .. }) if self.link.is_some() => {
                state.breaker.succeeded(admission, now);
                source.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
            }
            Err(error) => {
                let opened = state.breaker.failed(admission, now);
                if opened {
                    tracing::warn!(at = %node.host, %error, "the hot store cannot be used; going on without it");
                }
                opened || matches!(error, HotError::Unreachable { .. })
            }
        };
        if renew && matches!((&state.link, self.link), (Link::Open(open, _), Some(used)) if *open == used) {
            state.link = Link::Absent;
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.node.state().breaker.abandoned(admission, self.node.origin.elapsed());
        }
    }
}

/// Whether a server that tells this of itself is fit to keep hot state.
fn judge(host: &Host, rules: Rules, told: &str) -> Result<(), Unsuitable> {
    let value = |name: &str| {
        told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
    };
    let at = host.to_string();
    if let Some(found) = value("redis_version") {
        let mut parts = found.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST {
            return Err(Unsuitable::TooOld { at, found: found.to_owned() });
        }
    }
    match value("cluster_enabled") {
        Some("1") if !rules.cluster => return Err(Unsuitable::Cluster { at }),
        Some("0") if rules.cluster => return Err(Unsuitable::NoCluster { at }),
        _ => {}
    }
    match value("maxmemory_policy") {
        Some(policy) if policy != "noeviction" && !rules.allow_eviction => {
            Err(Unsuitable::Evicts { at, policy: policy.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_judged_by_what_they_tell() {
        let host = Host { name: "h".into(), port: 1 };
        let told = |version: &str, policy: &str, cluster: u8| {
            format!(
                "# Server\r\nredis_version:{version}\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:{policy}\r\n# Cluster\r\ncluster_enabled:{cluster}\r\n"
            )
        };
        let strict = Rules { allow_eviction: false, cluster: false };
        assert_eq!(judge(&host, strict, &told("7.0.15", "noeviction", 0)), Ok(()));
        assert_eq!(judge(&host, strict, ""), Ok(()));
        let refused = |rules, told: String| judge(&host, rules, &told).unwrap_err().to_string();
        assert!(refused(strict, told("7.0.15", "allkeys-lru", 0)).contains("maxmemory-policy noeviction"));
        assert!(refused(strict, told("6.0.16", "noeviction", 0)).contains("6.2"));
        assert!(refused(strict, told("7.0.15", "noeviction", 1)).contains("redis+cluster://"));
        let cluster = Rules { allow_eviction: true, cluster: true };
        assert!(refused(cluster, told("7.0.15", "noeviction", 0)).contains("no cluster"));
        assert_eq!(judge(&host, cluster, &told("7.2.4", "volatile-ttl", 1)), Ok(()));
    }
}
